//! The frames of a WebSocket on their way out: from any thread, each as one write or behind those that wait.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Instant;

use parking_lot::MutexGuard;

use super::outbox::{Outbox, Parts};
use super::{GONE, Link, QUEUED, SIGNAL};

/// So much is gathered at most before it is written.
const GATHER_MAX: usize = 16 * 1024;

/// Why a frame was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// The connection is lost, or a Close frame was sent.
    Closed,
    /// So much waits for the client already that this would pass the bound.
    Full,
}

/// What a frame has to wait for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    /// This many bytes may wait for the client; a single frame may always, if nothing waits before it.
    Bytes(usize),
    /// None: replies of the IO task, which stops reading while they cannot be written.
    None,
    /// None, and it goes behind the seal: the Close frame itself.
    Last,
}

impl Link {
    /// Says to the IO task that there is something to do for its WebSocket. The caller has written before what the task
    /// will find. Any thread.
    pub(crate) fn signal(&self) {
        self.state.fetch_or(SIGNAL, Ordering::AcqRel);
        self.task.wake();
    }

    /// Sends one or more whole frames, given in two parts: at once as far as the socket takes them; the IO task writes the
    /// rest. Any thread; never blocks. Order on the wire is the order of these calls.
    ///
    /// # Errors
    ///
    /// [`Unsent`]; nothing of it was sent then.
    pub(crate) fn send_frame(&self, head: &[u8], payload: &[u8], bound: Bound) -> Result<(), Unsent> {
        if self.server.is_forked() {
            return Err(Unsent::Closed);
        }
        let parts = Parts::new(head, payload);
        let total = parts.len();
        let mut outbox = self.outbox.lock();
        if self.has(GONE) || (outbox.is_sealed && !matches!(bound, Bound::Last)) {
            return Err(Unsent::Closed);
        }
        let waiting = outbox.len();
        // What the IO task sends does not wait for a handler.
        let gathers =
            outbox.is_held && matches!(bound, Bound::Bytes(_)) && waiting + total <= GATHER_MAX && !self.has(QUEUED);
        let mut sent = 0;
        if outbox.is_clear() && !gathers {
            let written = self.write(&mut outbox, head, payload);
            sent = self.look_at(written)?;
            if sent == total && outbox.is_clear() {
                return Ok(());
            }
        } else if self.has(QUEUED) && matches!(bound, Bound::Bytes(most) if waiting > 0 && waiting + total > most) {
            // What is only held does not wait for the client.
            return Err(Unsent::Full);
        }
        outbox.append_rest(parts, sent);
        if !gathers {
            self.leave_to_task(outbox);
        }
        Ok(())
    }

    /// How much was written. An error means that the connection is lost, which the IO task is told.
    fn look_at(&self, written: io::Result<usize>) -> Result<usize, Unsent> {
        match written {
            Ok(count) => Ok(count),
            Err(problem) if problem.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(_) => {
                self.state.fetch_or(GONE, Ordering::AcqRel);
                self.task.wake();
                Err(Unsent::Closed)
            }
        }
    }

    /// Has the IO task write what is in the outbox.
    fn leave_to_task(&self, outbox: MutexGuard<'_, Outbox>) {
        let before = self.state.fetch_or(QUEUED, Ordering::AcqRel);
        drop(outbox);
        if before & QUEUED == 0 {
            // Otherwise the task has been told, and has not flushed since: it clears the bit under the lock.
            self.task.wake();
        }
    }

    /// Gathers the frames that are sent from here on, up to a bound, until [`Link::release`]. Whoever holds sees to it that
    /// it is released soon whatever a handler does: see `websocket::gather`.
    pub(crate) fn hold(&self) {
        self.outbox.lock().is_held = true;
    }

    /// Writes the frames that were gathered, as one. Any thread; never blocks.
    pub(crate) fn release(&self) {
        if self.server.is_forked() {
            return;
        }
        let mut outbox = self.outbox.lock();
        outbox.is_held = false;
        // Otherwise the task is at it.
        if self.has(QUEUED) || !outbox.has_chunks() {
            return;
        }
        let written = self.write_next(&mut outbox);
        match self.look_at(written) {
            Ok(_) => {
                if outbox.is_empty() {
                    outbox.empty();
                } else {
                    self.leave_to_task(outbox);
                }
            }
            Err(_) => outbox.empty(),
        }
        self.room.notify_all();
    }

    /// Waits until `bytes` more fit into the outbox, the connection is closed or the time is over. False: the time is over.
    /// Any thread but the IO thread, detached from the interpreter.
    pub(crate) fn wait_for_space(&self, bytes: usize, most: usize, until: Instant) -> bool {
        let mut outbox = self.outbox.lock();
        outbox.waiting += 1;
        let mut is_late = false;
        while !is_late && !outbox.is_empty() && outbox.len() + bytes > most && !outbox.is_sealed && !self.has(GONE) {
            is_late = self.room.wait_until(&mut outbox, until).timed_out();
        }
        outbox.waiting -= 1;
        !is_late
    }

    /// Lets no more frames in but the Close frame. Any thread.
    pub(crate) fn seal(&self) {
        self.outbox.lock().is_sealed = true;
        self.room.notify_all();
    }

    /// Bytes that wait for the client in the outbox. Any thread.
    pub(crate) fn buffered(&self) -> usize {
        self.outbox.lock().len()
    }
}
