//! What the IO task of an HTTP/2 connection and the worker that answers on one of its streams share.
//!
//! The worker puts its answer into the outbox of the stream and notes the stream in the list of those that have something to
//! do; the first that is noted wakes the task. The task takes the whole list, after it has registered its waker: so whoever
//! finds the list empty has to wake it, and nobody else has to. Frames, windows and the socket are the task's alone.
//!
//! Who may answer is decided as on a link: see `link::exchange`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::Wake;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::chunks::{Chunks, Piece};
use super::tunnel::Tunnel;
use crate::jitter;
use crate::link::{Exchange, Gone, Link, OUTBOX_HIGH, OUTBOX_LOW, Then, Turn};
use crate::websocket;
use crate::whereabouts::Whereabouts;

/// The streams of one connection that have something to do for its task.
pub(super) struct Agenda {
    pub(super) link: Arc<Link>,
    /// `None` when the task has ended: what is noted then is let go, or the two would keep each other for ever.
    ready: Mutex<Option<Vec<Arc<Stream>>>>,
    /// Streams that somebody has: the task, or a worker, who may be at work for a client that has reset them.
    alive: AtomicUsize,
}

impl Agenda {
    pub(super) fn new(link: Arc<Link>) -> Arc<Self> {
        Arc::new(Self { link, ready: Mutex::new(Some(Vec::new())), alive: AtomicUsize::new(0) })
    }

    /// Exchanges the streams that were noted for `into`, which is empty. IO task.
    pub(super) fn take(&self, into: &mut Vec<Arc<Stream>>) {
        if let Some(ready) = &mut *self.ready.lock() {
            std::mem::swap(ready, into);
        }
    }

    /// Lets go of what is noted, now and later. IO task, at its end.
    pub(super) fn close(&self) {
        let noted = self.ready.lock().take();
        drop(noted);
    }

    /// How many streams somebody has. IO task.
    pub(super) fn alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed)
    }

    fn note(&self, stream: Arc<Stream>) {
        let mut ready = self.ready.lock();
        let Some(noted) = &mut *ready else {
            // Not under the lock: it may be the last that has the stream.
            drop(ready);
            drop(stream);
            return;
        };
        noted.push(stream);
        let is_first = noted.len() == 1;
        drop(ready);
        jitter::point();
        if is_first {
            self.link.call();
        }
    }
}

/// What `h2` wakes the task by.
pub(super) struct Bell {
    /// The socket keeps whom it wakes, so it is not kept.
    link: Weak<Link>,
    /// The task is at it: it asks `h2` again, behind whatever it lets it do. Each answer would wake it once more otherwise, for
    /// nothing.
    pub(super) is_muted: AtomicBool,
}

impl Bell {
    pub(super) fn new(link: &Arc<Link>) -> Arc<Self> {
        Arc::new(Self { link: Arc::downgrade(link), is_muted: AtomicBool::new(false) })
    }
}

impl Wake for Bell {
    /// Something has happened to the connection. IO thread.
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_muted.load(Ordering::Relaxed) {
            if let Some(link) = self.link.upgrade() {
                link.call();
            }
        }
    }
}

/// One stream of a client, as the IO task and a worker share it.
pub(crate) struct Stream {
    agenda: Arc<Agenda>,
    /// Its place with the task.
    pub(super) key: usize,
    turn: Turn,
    /// The client has reset it, or the connection has ended: what is written to it is discarded.
    is_gone: AtomicBool,
    outbox: Mutex<Outbox>,
    room: Condvar,
    /// If its request asks for a WebSocket.
    pub(super) tunnel: Option<Box<Tunnel>>,
}

/// What of an answer the task has not taken yet.
#[derive(Default)]
pub(super) struct Outbox {
    /// The first begins with the head.
    pub(super) chunks: Chunks,
    /// Bytes in them, and in what the task has taken and the client's window has no room for.
    pub(super) waiting: usize,
    /// How the exchange ends with them; `None` while more may follow.
    pub(super) end: Option<bool>,
    /// They agree to a WebSocket, of which the frames follow.
    pub(super) agrees: bool,
    /// The number of the exchange whose answer has begun.
    answering: u32,
    /// It stands in the list.
    is_noted: bool,
}

impl Stream {
    /// A stream whose request has begun to come. IO task.
    pub(super) fn new(agenda: &Arc<Agenda>, key: usize, asks_for_tunnel: bool) -> Arc<Self> {
        agenda.alive.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            agenda: Arc::clone(agenda),
            key,
            turn: Turn::default(),
            is_gone: AtomicBool::new(false),
            outbox: Mutex::default(),
            room: Condvar::new(),
            tunnel: asks_for_tunnel.then(Box::default),
        })
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.agenda.link
    }

    /// Any thread; no system call.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }

    // ---- the side of the IO task

    /// Begins its exchange. Before the request is given away.
    pub(super) fn begin_exchange(&self) -> Exchange {
        self.turn.begin(&self.link().server().alerts)
    }

    /// See [`Link::whereabouts`].
    pub(crate) fn whereabouts(&self) -> &Whereabouts {
        &self.turn.whereabouts
    }

    /// See [`Link::take_back`].
    pub(crate) fn take_back(&self) -> Option<Exchange> {
        jitter::point();
        let outbox = self.outbox.lock();
        jitter::point();
        (!self.turn.is_of(Exchange(outbox.answering))).then(|| self.turn.next())
    }

    /// Notes that the client has reset it, or that the connection has ended; what waits is thrown away.
    pub(super) fn abandon(&self) {
        jitter::point();
        self.is_gone.store(true, Ordering::Release);
        self.tell_watcher();
        let mut outbox = self.outbox.lock();
        let chunks = outbox.chunks.take();
        outbox.waiting = 0;
        drop(outbox);
        drop(chunks);
        self.room.notify_all();
        if let Some(tunnel) = &self.tunnel {
            tunnel.abandon();
            if let Some(socket) = self.take_upgrade() {
                websocket::discard(socket, self.link().server());
            }
        }
        self.link().server().client_left(self.whereabouts());
    }

    /// Notes that there is something to do for it. Any thread.
    pub(super) fn note(self: &Arc<Self>) {
        jitter::point();
        let is_noted = std::mem::replace(&mut self.outbox.lock().is_noted, true);
        if !is_noted {
            self.agenda.note(Arc::clone(self));
        }
    }

    /// Takes it off the list, and lets the task look at what is to be sent.
    pub(super) fn look<T>(&self, look: impl FnOnce(&mut Outbox) -> T) -> T {
        let mut outbox = self.outbox.lock();
        outbox.is_noted = false;
        look(&mut outbox)
    }

    /// The client's window, or that of the connection, had room for so many bytes.
    pub(super) fn taken(&self, count: usize) {
        let mut outbox = self.outbox.lock();
        let before = outbox.waiting;
        outbox.waiting = before.saturating_sub(count);
        let has_room = before >= OUTBOX_LOW && outbox.waiting < OUTBOX_LOW;
        drop(outbox);
        if has_room {
            self.room.notify_all();
        }
    }

    // ---- the side of whoever owns the exchange

    /// Puts the next bytes of the answer down for the task. `head` is not empty for the first of them alone, and begins with what
    /// [`ushabti_proto::http2::encode_head`] wrote. `close` in [`Then::Finish`] resets the stream instead of ending it.
    ///
    /// Called by the owner of the exchange, on any thread. Never blocks.
    ///
    /// # Errors
    ///
    /// [`Gone`], and the exchange is over, or is not the caller's any more.
    pub(crate) fn send(self: &Arc<Self>, exchange: Exchange, head: &[u8], body: &[u8], then: Then) -> Result<(), Gone> {
        if self.link().server().is_forked() {
            return Err(Gone::Left);
        }
        let piece = Piece::of(head, body);
        jitter::point();
        let mut outbox = self.outbox.lock();
        jitter::point();
        if !self.turn.is_of(exchange) {
            return Err(Gone::Late);
        }
        if self.is_lost() {
            return Err(Gone::Left);
        }
        outbox.answering = exchange.0;
        outbox.waiting += piece.len();
        outbox.chunks.add(piece);
        match then {
            Then::More => {}
            Then::Upgrade => outbox.agrees = true,
            Then::Finish { close } => outbox.end = Some(close),
        }
        let is_noted = std::mem::replace(&mut outbox.is_noted, true);
        drop(outbox);
        jitter::point();
        if !is_noted {
            self.agenda.note(Arc::clone(self));
        }
        Ok(())
    }

    /// Waits until the client has taken enough for more to be queued. A worker, detached from the interpreter.
    ///
    /// # Errors
    ///
    /// [`Gone`] when the stream is lost, which the write timeout also leads to: the wait is bounded by it.
    pub(crate) fn wait_for_room(&self) -> Result<(), Gone> {
        let mut outbox = self.outbox.lock();
        if outbox.waiting >= OUTBOX_HIGH {
            while outbox.waiting >= OUTBOX_LOW && !self.is_lost() {
                // The bound is a safety net: whoever notes that it is lost notifies.
                self.room.wait_for(&mut outbox, Duration::from_secs(1));
            }
        }
        if self.is_lost() { Err(Gone::Left) } else { Ok(()) }
    }

    /// See [`Link::watch_client`].
    pub(crate) fn watch_client(&self, exchange: Exchange, number: u32) {
        self.turn.watch_client(exchange, number, &self.link().server().alerts, || self.is_lost());
    }

    /// Nobody waits for the answer any more, which the state or the number of the exchange says already. Any thread.
    pub(crate) fn tell_watcher(&self) {
        self.turn.tell_watcher(&self.link().server().alerts);
    }
}

impl Wake for Stream {
    /// Something has happened to it that the frames' code was asked to tell: bytes of a body, room in a window, a reset. IO
    /// thread.
    fn wake(self: Arc<Self>) {
        self.note();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.note();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.agenda.alive.fetch_sub(1, Ordering::Relaxed);
    }
}
