//! What comes before the first request: the handshake of TLS, and the word to clients for whom there is no room.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Connection, Flow};
use crate::clock::{Tick, ticks};
use crate::http2;
use crate::io_thread::Io;
use crate::link::{Bound, Interest, Link, Wake};
use crate::listener::Kind;
use crate::reply::Asked;
use crate::stats::Reason;
use crate::tls::{self, Session, TlsInfo};

/// For so long a handshake is not cut.
const MERCY: Duration = Duration::from_secs(1);
/// How long a stopping server waits for a handshake that has begun.
const DRAIN_GRACE: Duration = Duration::from_secs(1);
/// Says in place of an alert that the time is up (RFC 8446 section 6): `user_canceled` and `close_notify`, not encrypted.
const GIVEN_UP: &[u8] = &[21, 3, 3, 0, 2, 1, 90, 21, 3, 3, 0, 2, 1, 0];

/// What has as many connections as it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    Server,
    Client,
}

/// The connections of one IO thread whose handshake has not ended, oldest first.
#[derive(Default)]
pub(crate) struct Unfinished {
    next: u64,
    links: BTreeMap<u64, (Tick, Arc<Link>)>,
}

/// A place among them, until it is dropped.
struct HandshakeSlot {
    io: Arc<Io>,
    number: u64,
}

impl HandshakeSlot {
    /// Takes a place. Where there is none left the oldest have to go: who means to shake hands has mostly done so by then, and
    /// who does not shall not keep the others out. Those who came just now stay, however many they are: in a rush of honest clients
    /// nobody would get through otherwise.
    fn take(io: &Arc<Io>, link: &Arc<Link>) -> Self {
        let now = io.clock.now();
        let mut unfinished = io.unfinished.lock();
        let number = unfinished.next;
        unfinished.next += 1;
        unfinished.links.insert(number, (now, Arc::clone(link)));
        let surplus = unfinished.links.len().saturating_sub(io.server.config.handshakes_max);
        let old = unfinished.links.iter().take_while(|(_, (since, _))| now >= since + ticks(MERCY)).take(surplus);
        let last = old.last().map(|(&number, _)| number);
        let stay = last.map(|last| unfinished.links.split_off(&(last + 1)));
        let oldest = stay.map(|stay| std::mem::replace(&mut unfinished.links, stay));
        drop(unfinished);
        for (_, (_, oldest)) in oldest.into_iter().flatten() {
            io.server.counters.count_refusal(Reason::Handshake);
            let peer = oldest.peer();
            io.server.journal.peer_notice(|| format!("{peer}: too many TLS handshakes at once; the oldest was cut"));
            oldest.cut();
        }
        Self { io: Arc::clone(io), number }
    }
}

impl Drop for HandshakeSlot {
    fn drop(&mut self) {
        self.io.unfinished.lock().links.remove(&self.number);
    }
}

impl Connection {
    /// Tells a client for which there is no room so, and ends the connection.
    pub(crate) async fn turn_away(mut self, full: Full) {
        let fields: &[(&[u8], &[u8])] = &[(b"retry-after", b"1")];
        let (status, reason, detail) = match full {
            Full::Server => (503, Reason::Connections, "the server has as many connections as it can take"),
            Full::Client => (429, Reason::Client, "this client has as many connections as it may have"),
        };
        self.io.server.journal.peer_notice(|| format!("{}: {detail}; answered {status}", self.link.peer()));
        let flow = match self.greet().await {
            Ok(()) if self.first() == Flow::Http2 => {
                self.io.server.counters.count_refusal(reason);
                // If the connection is lost the next wait says so.
                let _ = self.link.send_frame(&http2::turned_away(detail), &[], Bound::None);
                Flow::Linger
            }
            Ok(()) => self.answer_now(Asked::NOTHING, false, status, fields, detail, Instant::now()),
            Err(flow) => flow,
        };
        self.serve(flow).await;
    }

    /// Does what comes before HTTP.
    ///
    /// # Errors
    ///
    /// How the connection goes on if there comes no HTTP.
    pub(super) async fn greet(&mut self) -> Result<(), Flow> {
        match self.kind {
            // Its state is kept apart: a connection that rests has none of it.
            Kind::Tls => Box::pin(self.shake_hands()).await,
            Kind::Plain | Kind::Redirect => Ok(()),
        }
    }

    /// What comes after the greeting: the handshake of TLS may have agreed on HTTP/2.
    pub(super) fn first(&self) -> Flow {
        let is_http2 = self.link.tls_info().is_some_and(|tls| tls.protocol.as_deref() == Some("h2"));
        if is_http2 { Flow::Http2 } else { Flow::Read }
    }

    /// Shakes hands, if the connection is to speak TLS; what is agreed on is in the link then.
    ///
    /// # Errors
    ///
    /// How the connection goes on if it comes to nothing.
    async fn shake_hands(&mut self) -> Result<(), Flow> {
        let Some(tls) = self.io.server.config.tls.clone() else { return Ok(()) };
        let mut session = match Session::new(tls.config()) {
            Ok(session) => session,
            Err(problem) => return Err(self.handshake_failed(&problem)),
        };
        let _slot = HandshakeSlot::take(&self.io, &self.link);
        let mut server_name = None;
        let mut is_begun = false;
        let mut offered = None;
        while !session.is_open() {
            let input = match self.wait(Interest { read: true, ..Interest::default() }).await {
                Wake::Bytes(count) => self.io.buffer.lock()[..count].to_vec(),
                Wake::Drain => {
                    self.before_drain = Some(0);
                    self.io.clock.set(self.place.key, self.io.clock.after(DRAIN_GRACE));
                    continue;
                }
                Wake::Finished { .. } | Wake::Signal => continue,
                Wake::Expired => {
                    let _ = self.link.send_frame(GIVEN_UP, &[], Bound::None);
                    return Err(self.handshake_failed(&"the client did not finish it in time"));
                }
                // Who says nothing at all looks whether somebody listens.
                Wake::EndOfInput | Wake::Lost if !is_begun => return Err(Flow::End),
                Wake::EndOfInput | Wake::Lost => {
                    self.handshake_failed(&"the client has left");
                    return Err(Flow::End);
                }
            };
            if !is_begun && input[0].is_ascii_alphabetic() {
                return Err(self.refuse_plain());
            }
            if !is_begun {
                offered = tls::too_old(&input);
            }
            is_begun = true;
            // It comes back to nothing if the connection was given up, which the next wait would say as well.
            let Some(step) = self.io.server.handshakes.advance(session, input, &self.link).await else {
                self.handshake_failed(&"it was given up");
                return Err(Flow::End);
            };
            session = step.session;
            server_name = server_name.or(step.server_name);
            if !step.reply.is_empty() {
                // If the connection is lost the next wait says so.
                let _ = self.link.send_frame(&step.reply, &[], Bound::None);
            }
            if let Err(problem) = step.result {
                return Err(self.handshake_failed(&tls::explained(&problem, offered)));
            }
        }
        let info = TlsInfo::of(session.state(), server_name.as_deref());
        self.link.secure(session, Arc::new(info));
        if self.before_drain.is_some() {
            self.grace();
        } else {
            // The first request has as long as that of a connection without TLS.
            self.io.clock.set(self.place.key, self.io.clock.after(self.io.server.config.header_timeout));
        }
        Ok(())
    }

    fn handshake_failed(&mut self, problem: &dyn std::fmt::Display) -> Flow {
        let server = &self.io.server;
        server.counters.count_refusal(Reason::Handshake);
        server.journal.peer_notice(|| format!("{}: TLS handshake failed: {problem}", self.link.peer()));
        Flow::Linger
    }

    /// Tells a client that speaks plain HTTP so, in the words that it understands.
    fn refuse_plain(&mut self) -> Flow {
        let detail = "this port speaks TLS: write https:// in place of http://";
        self.io
            .server
            .journal
            .peer_notice(|| format!("{}: plain HTTP on a port of TLS; answered 400", self.link.peer()));
        self.answer_now(Asked::NOTHING, false, 400, &[], detail, Instant::now())
    }
}
