//! The clock of a connection: what it is set to while the client sends, while it is answered, and between.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use super::progress::Progress;
use super::{Connection, DRAIN_GRACE, LINGER};
use crate::clock::{Deadline, Tick, ticks};
use crate::link::{Interest, Wake};

impl Connection {
    pub(super) async fn wait(&mut self, interest: Interest) -> Wake {
        poll_fn(|cx| self.poll_wait(cx, interest)).await
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>, interest: Interest) -> Poll<Wake> {
        let (mut written, mut wake) = self.poll_link(cx, interest);
        if matches!(wake, Poll::Ready(Wake::Expired)) && !self.is_overdue(interest, &mut written) {
            // What came together with the deadline has moved it on.
            let (more, other) = self.poll_link(cx, interest);
            (written, wake) = (written + more, other);
        }
        if interest.finish {
            self.note_writing(written, wake.is_pending());
        }
        wake
    }

    /// Polls the link, and says how many bytes of the outbox were written.
    fn poll_link(&self, cx: &mut Context<'_>, interest: Interest) -> (u64, Poll<Wake>) {
        let mut written = 0;
        let wake = self.link.poll_wait(cx, interest, &mut self.io.buffer.lock(), |count| written += count as u64);
        (written, wake)
    }

    /// Whether the deadline for which the clock has woken the task has passed indeed. What it counts of `written` is taken from
    /// there.
    fn is_overdue(&mut self, interest: Interest, written: &mut u64) -> bool {
        if interest.finish && self.link.is_queued() {
            if !self.timed {
                // The answer began just now: what was due before is so no more.
                self.rearm();
                return false;
            }
            // A client that takes a little at a time makes room that the system does not tell of.
            self.count_taken(std::mem::take(written));
            self.arm_writing();
            return self.has_stalled();
        }
        self.io.clock.is_due(self.place.key)
    }

    /// While bytes wait for the client it has to take some in time; while none do, the answer has.
    fn note_writing(&mut self, written: u64, is_pending: bool) {
        if self.link.is_queued() {
            if !self.timed {
                self.timed = true;
                self.flushed = u64::from(self.link.unsent());
                self.progress = Progress::from(self.io.clock.now());
            } else if written == 0 {
                return;
            } else {
                self.count_taken(written);
            }
            self.arm_writing();
        } else if self.timed && is_pending {
            self.timed = false;
            self.rest();
        }
    }

    /// What the client has taken is what was written without what its system has not confirmed.
    fn count_taken(&mut self, written: u64) {
        self.flushed += written;
        let taken = self.flushed.saturating_sub(u64::from(self.link.unsent()));
        self.progress.reach(taken, self.io.clock.now());
    }

    /// Whether the client has taken nothing at all for so long.
    pub(super) fn has_rested(&self, time: Duration) -> bool {
        self.progress.due(ticks(time), 0) <= self.io.clock.now()
    }

    fn arm_writing(&self) {
        self.io.clock.set(self.place.key, Deadline::at_end_of(self.writing_due(), self.io.server.config.write_timeout));
    }

    fn writing_due(&self) -> Tick {
        let config = &self.io.server.config;
        self.progress.due(ticks(config.write_timeout), config.rate_min)
    }

    /// Whether the client takes its answer too slowly. A worker may have begun to write since the clock was looked at, so that
    /// the deadline was another's.
    pub(super) fn has_stalled(&self) -> bool {
        self.timed && self.link.is_queued() && self.writing_due() <= self.io.clock.now()
    }

    /// Sets the deadline of what is being read: the whole of a head, or the next bytes of a body.
    pub(super) fn set_read_deadline(&mut self, kept: bool) {
        let config = &self.io.server.config;
        let deadline = if self.incoming.is_some() {
            let due = self.progress.due(ticks(config.body_timeout), config.rate_min);
            Deadline::at_end_of(due, config.body_timeout)
        } else if kept && !self.head_timed {
            self.head_timed = true;
            self.io.clock.after(config.header_timeout)
        } else {
            return;
        };
        self.timed = true;
        self.io.clock.set(self.place.key, deadline);
    }

    /// Back to what is due while the request is with the workers: that bytes are taken, or an answer.
    pub(super) fn rearm(&self) {
        if self.timed {
            self.arm_writing();
        } else {
            self.rest();
        }
    }

    /// Back to what is due while nothing is being read or written.
    fn rest(&self) {
        let deadline = self.vigil.as_ref().and_then(|vigil| vigil.due());
        let deadline = deadline.map_or(Deadline::WhenQuiet, |(at, time)| self.io.clock.while_busy(at, time));
        self.io.clock.set(self.place.key, deadline);
    }

    /// Back to the keep-alive time.
    pub(super) fn quiet(&mut self) {
        self.timed = false;
        self.io.clock.set(self.place.key, Deadline::WhenQuiet);
    }

    /// The server stops: one more request may be on its way, but not for long.
    pub(super) fn grace(&mut self) {
        self.timed = true;
        self.head_timed = false;
        self.io.clock.set(self.place.key, self.io.clock.after(DRAIN_GRACE));
    }

    /// Says that nothing more comes, and reads what the client still sends, for a while.
    pub(super) async fn linger(&mut self) {
        self.pending = Vec::new();
        self.link.shutdown_write();
        self.io.clock.set(self.place.key, self.io.clock.after(LINGER));
        loop {
            match self.wait(Interest { read: true, ..Interest::default() }).await {
                // Its word comes after all bytes.
                Wake::Bytes(_) if self.io.clock.is_due(self.place.key) => return,
                Wake::Bytes(_) | Wake::Drain | Wake::Finished { .. } | Wake::Signal => {}
                Wake::EndOfInput | Wake::Lost | Wake::Expired => return,
            }
        }
    }
}
