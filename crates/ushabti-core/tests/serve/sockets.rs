//! What the workers of a test do with WebSockets, and the books that they keep of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ushabti_core::Shared;
use ushabti_core::reply::{Responder, UpgradeProblem};
use ushabti_core::request::Request;
use ushabti_core::websocket::{Closing, Event, Outgoing, Socket, Style};

use crate::running::PATIENCE;

/// Makes a WebSocket of a request, or refuses it.
pub(crate) fn upgrade(request: &Arc<Request>, responder: Responder) {
    let handshake = match responder.check_upgrade(request) {
        Ok(handshake) => handshake,
        Err(refusal) => {
            responder.refuse(request, refusal.status, &[], &refusal.detail);
            return;
        }
    };
    match responder.upgrade(request, &handshake, Style::Events, None, std::iter::empty()) {
        Ok(upgraded) => {
            upgraded.socket().send(&text(b"before"), None);
            upgraded.finish();
        }
        Err(UpgradeProblem::Field(..)) => unreachable!("there are no fields"),
        Err(UpgradeProblem::Gone) => {}
    }
}

pub(crate) fn text(data: &[u8]) -> Outgoing<'_> {
    Outgoing::new(ushabti_core::websocket::MessageKind::Text, data)
}

/// What has happened to one socket.
#[derive(Debug, Default, Clone)]
pub(crate) struct Life {
    pub(crate) events: Vec<String>,
    pub(crate) closing: Option<Closing>,
    pub(crate) discarded: bool,
    is_busy: bool,
}

/// The books of all sockets, which every event is checked against.
#[derive(Default)]
pub(crate) struct Ledger {
    lives: Mutex<HashMap<u64, Life>>,
}

impl Ledger {
    /// Tells the events of a socket: a text is echoed, and some are orders.
    pub(crate) fn tell(&self, shared: &Shared, socket: &Arc<Socket>) {
        // As many as a turn would have.
        for _ in 0..3 {
            let Some((event, _)) = socket.next_event() else { return };
            let is_last = matches!(event, Event::Close(_) | Event::Discarded);
            self.check(socket, event);
            if is_last {
                return socket.told();
            }
        }
        shared.schedule(Arc::clone(socket), Instant::now());
    }

    fn note<T>(&self, socket: &Socket, change: impl FnOnce(&mut Life) -> T) -> T {
        let mut lives = self.lives.lock().expect("no thread panics with this lock");
        change(lives.entry(socket.id()).or_default())
    }

    fn check(&self, socket: &Arc<Socket>, event: Event) {
        let name = match &event {
            Event::Open => "open".to_owned(),
            Event::Message(message) => String::from_utf8_lossy(&message.data).into_owned(),
            Event::Fault(fault) => format!("fault {}", fault.code),
            Event::Close(_) => "close".to_owned(),
            Event::Discarded => "discarded".to_owned(),
        };
        self.note(socket, |life| {
            assert!(life.closing.is_none() && !life.discarded, "{name} after the last event: {life:?}");
            let is_first = matches!(event, Event::Open | Event::Discarded);
            assert_eq!(is_first, life.events.is_empty(), "{name} is in the wrong place: {life:?}");
            assert!(!std::mem::replace(&mut life.is_busy, true), "two workers have a socket: {life:?}");
            life.events.push(name.clone());
        });
        match event {
            Event::Message(message) => match &message.data[..] {
                b"close" => {
                    socket.close(1000, "as told").expect("the code fits");
                }
                b"subscribe" => {
                    socket.subscribe("all");
                    socket.send(&text(b"subscribe"), None);
                }
                b"slow" => std::thread::sleep(Duration::from_millis(1)),
                b"fail" => socket.fail(),
                data => {
                    socket.send(&text(data), None);
                }
            },
            Event::Close(closing) => self.note(socket, |life| life.closing = Some(closing)),
            Event::Discarded => self.note(socket, |life| life.discarded = true),
            Event::Open | Event::Fault(_) => {}
        }
        self.note(socket, |life| life.is_busy = false);
    }

    pub(crate) fn lives(&self) -> Vec<Life> {
        self.lives.lock().expect("no thread panics with this lock").values().cloned().collect()
    }

    /// Every socket has had its last event.
    pub(crate) fn assert_ended(&self) {
        for life in self.lives() {
            assert!(life.closing.is_some() || life.discarded, "a socket has no end: {life:?}");
        }
    }

    /// The number of the socket that came first.
    pub(crate) fn first_id(&self) -> u64 {
        *self.lives.lock().expect("no thread panics with this lock").keys().min().expect("there is a socket")
    }

    /// Waits for the end of the only socket there is, and tells its life.
    pub(crate) fn only(&self) -> Life {
        let until = Instant::now() + PATIENCE;
        loop {
            let lives = self.lives();
            assert!(lives.len() <= 1 && Instant::now() < until, "{lives:?}");
            if let Some(life) = lives.into_iter().find(|life| life.closing.is_some() || life.discarded) {
                return life;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
