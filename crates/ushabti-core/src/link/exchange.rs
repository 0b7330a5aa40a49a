//! The side of whoever owns the exchange: a worker, or the IO task for answers of its own.
//!
//! # Who may answer
//!
//! Each exchange of a connection has a number, which the right to answer it carries. The IO task gives the right away
//! with the request; to answer for a worker that is late it takes the exchange back, by giving it another number.
//!
//! Why there are never two answers, nor a mixed one: both sides act under the lock of the outbox. The owner looks at the
//! number before its first byte, and notes with that byte that the answer has begun; the task changes the number only
//! while no answer has begun. So the one that comes first under the lock answers. The other sees it there: the task
//! lets the answer go on, the worker is told that it is late, writes nothing, and ends nothing.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::outbox::Parts;
use super::{BUSY, CLOSE, GONE, Link, MORE, OUTBOX_HIGH, OUTBOX_LOW, QUEUED, SEND_FLAGS, UPGRADED, WAKE};
use crate::clock::tick_of;
use crate::jitter;
use crate::websocket::Socket as WebSocket;
use crate::whereabouts::Whereabouts;

/// What asks a client that has closed its side whether it is there still. One that is skips it (RFC 9110 section 15.2.1);
/// the system of one that is not answers with a reset.
const PROBE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Whether more of the same answer follows, or how the exchange ends with these bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// More bytes of this answer follow.
    More,
    /// It agrees to a WebSocket, and what follows are frames: a stream is one from here on, a link from
    /// [`Link::finish_upgrade`] on.
    Upgrade,
    /// These were the last bytes. `close`: the connection ends with them.
    Finish { close: bool },
}

/// Nobody will read what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// The connection is lost.
    Left,
    /// The client has its answer already: the IO thread has given it, because the worker was late.
    Late,
}

/// The number of an exchange, without which there is no answering it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exchange(pub(crate) u32);

impl Link {
    /// Begins an exchange. With `wake` the task is woken at its end. IO task, before the request is given away.
    pub(crate) fn begin_exchange(&self, wake: bool) -> Exchange {
        let exchange = self.turn.begin(&self.server.alerts);
        jitter::point();
        self.state.fetch_or(if wake { BUSY | WAKE } else { BUSY }, Ordering::AcqRel);
        exchange
    }

    /// The exchange that may be answered now. IO task.
    pub(crate) fn exchange(&self) -> Exchange {
        self.turn.now()
    }

    /// Where the request of the exchange is until a handler has it.
    pub(crate) fn whereabouts(&self) -> &Whereabouts {
        &self.turn.whereabouts
    }

    /// Takes the exchange back from the worker that has it, unless its answer has begun; then `None`. IO task.
    pub(crate) fn take_back(&self) -> Option<Exchange> {
        jitter::point();
        let outbox = self.outbox.lock();
        jitter::point();
        (outbox.answering != self.turn.now().0).then(|| self.turn.next())
    }

    /// Notes that bytes of a following request have been read, until this exchange has ended. IO task.
    pub(crate) fn more_follows(&self) {
        self.state.fetch_or(MORE, Ordering::AcqRel);
    }

    /// Whether bytes of a following request have been read. Any thread.
    pub(crate) fn has_more(&self) -> bool {
        self.has(MORE)
    }

    /// Asks to be woken at the end of the exchange. If that has come already, the next [`Link::poll_wait`] sees it.
    /// IO task.
    pub(crate) fn wake_at_finish(&self) {
        self.state.fetch_or(WAKE, Ordering::AcqRel);
    }

    /// Writes `head` and `body`, at once as far as the socket takes them; the IO task writes the rest.
    ///
    /// Called by the owner of the exchange, on any thread. Never blocks.
    ///
    /// # Errors
    ///
    /// [`Gone`], and the exchange is over, or is not the caller's any more.
    pub(crate) fn send(&self, exchange: Exchange, head: &[u8], body: &[u8], then: Then) -> Result<(), Gone> {
        if self.server.is_forked() {
            return Err(Gone::Left);
        }
        let parts = Parts::new(head, body);
        let total = parts.len();
        jitter::point();
        let mut outbox = self.outbox.lock();
        jitter::point();
        if !self.turn.is_of(exchange) {
            return Err(Gone::Late);
        }
        if self.has(GONE) {
            drop(outbox);
            self.end_exchange(true);
            return Err(Gone::Left);
        }
        outbox.answering = exchange.0;
        let mut sent = 0;
        if outbox.is_clear() && total > 0 {
            sent = match self.write(&mut outbox, head, body) {
                Ok(count) => count,
                Err(problem) if problem.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => {
                    drop(outbox);
                    self.state.fetch_or(GONE, Ordering::AcqRel);
                    self.tell_watcher();
                    self.end_exchange(true);
                    return Err(Gone::Left);
                }
            };
        }
        if sent == total && outbox.is_clear() {
            drop(outbox);
            if let Then::Finish { close } = then {
                self.end_exchange(close);
            }
            return Ok(());
        }
        outbox.append_rest(parts, sent);
        if let Then::Finish { close } = then {
            outbox.end = Some(close);
        }
        self.state.fetch_or(QUEUED, Ordering::AcqRel);
        drop(outbox);
        jitter::point();
        self.task.wake();
        Ok(())
    }

    /// Waits until the client has taken enough for more to be queued. A worker, detached from the interpreter.
    ///
    /// # Errors
    ///
    /// [`Gone`] when the connection is lost, which the write timeout also leads to: the wait is bounded by it.
    pub(crate) fn wait_for_room(&self) -> Result<(), Gone> {
        let mut outbox = self.outbox.lock();
        if outbox.len() >= OUTBOX_HIGH {
            while outbox.len() >= OUTBOX_LOW && !self.has(GONE) {
                // The bound is a safety net: every path that sets GONE notifies.
                self.room.wait_for(&mut outbox, Duration::from_secs(1));
            }
        }
        if self.has(GONE) { Err(Gone::Left) } else { Ok(()) }
    }

    /// Ends the exchange with the answer that makes the connection a WebSocket, which has been sent before by
    /// [`Link::send`]. Returns the socket if the connection is lost, so that nobody else will look for it. The owner of the
    /// exchange.
    ///
    /// Why it is never left lying: the task that gives the connection up sets `GONE` and looks for the socket then; here it
    /// is put down and `GONE` looked at then, each with a read-modify-write of the one word between. So one of the two sees
    /// it, and the lock gives it to one alone.
    pub(crate) fn finish_upgrade(&self, socket: Arc<WebSocket>) -> Option<Arc<WebSocket>> {
        *self.upgrade.lock() = Some(socket);
        jitter::point();
        self.state.fetch_or(UPGRADED | WAKE, Ordering::AcqRel);
        self.end_exchange(false);
        jitter::point();
        if self.has(GONE) { self.take_upgrade() } else { None }
    }

    /// Ends the exchange, and wakes the IO task if it must act or has asked for it.
    pub(super) fn end_exchange(&self, close: bool) {
        self.quiet_since.store(tick_of(self.server.epoch), Ordering::Relaxed);
        if close {
            self.state.fetch_or(CLOSE, Ordering::AcqRel);
        }
        jitter::point();
        let before = self.state.fetch_and(!(BUSY | WAKE), Ordering::AcqRel);
        jitter::point();
        if close || before & WAKE != 0 {
            self.task.wake();
        }
    }

    pub(super) fn send_now(&self, head: &[u8], body: &[u8]) -> io::Result<usize> {
        let socket = self.socket.get_ref();
        loop {
            let result = if body.is_empty() {
                socket.send_with_flags(head, SEND_FLAGS)
            } else if head.is_empty() {
                socket.send_with_flags(body, SEND_FLAGS)
            } else {
                socket.send_vectored_with_flags(&[IoSlice::new(head), IoSlice::new(body)], SEND_FLAGS)
            };
            match result {
                Ok(count) => {
                    self.server.counters.sent(count);
                    return Ok(count);
                }
                Err(problem) if problem.kind() == io::ErrorKind::Interrupted => {}
                Err(problem) => return Err(problem),
            }
        }
    }

    // ---- clients that leave before they have their answer

    /// Asks a client that has closed its side whether it is there still, unless it is being answered. IO task.
    pub(crate) fn probe(&self) {
        let mut outbox = self.outbox.lock();
        if outbox.answering == self.turn.now().0 || !outbox.is_clear() {
            return;
        }
        // An error shows in the next look at the socket.
        let sent = self.write(&mut outbox, PROBE, &[]).unwrap_or(PROBE.len());
        outbox.append(&PROBE[sent..]);
        if !outbox.is_clear() {
            self.state.fetch_or(QUEUED, Ordering::AcqRel);
        }
    }

    /// Whether a client that has closed its side has been found to be gone altogether. IO task.
    pub(crate) fn has_reset(&self) -> bool {
        // A read would go on to say that nothing more comes: the end of the client's side came before the reset.
        !matches!(self.socket.get_ref().take_error(), Ok(None))
    }

    /// Has [`Alert::Left`](crate::alerts::Alert::Left) told with `number` when the client leaves during this exchange, or the
    /// exchange is taken back. Any thread.
    pub(crate) fn watch_client(&self, exchange: Exchange, number: u32) {
        self.turn.watch_client(exchange, number, &self.server.alerts, || self.is_disconnected());
    }

    /// Nobody waits for the answer any more, which the state or the number of the exchange says already. Any thread.
    pub(crate) fn tell_watcher(&self) {
        self.turn.tell_watcher(&self.server.alerts);
    }
}
