//! The clock of an HTTP/2 connection. It is set to what is due first; what that is, is looked at when it comes due, so that what a
//! stream has no use for any more need not be taken back.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ushabti_proto::error::ProtocolError;

use super::{Phase, Task};
use crate::clock::{Deadline, Tick, ticks};
use crate::connection::{DRAIN_GRACE, LINGER, Progress};

/// How a client takes what waits for it.
pub(super) struct Writing {
    progress: Progress,
    /// What was written up to now, of all that the gauge counts.
    written: u64,
    /// What was written since some began to wait, and what the client's system had not confirmed then.
    flushed: u64,
}

impl Task {
    /// Has the clock look at the task at the end of `due`. `time` is how long that was away when it was set.
    pub(super) fn arm(&mut self, due: Tick, time: Duration) {
        if due < self.armed {
            self.armed = due;
            self.place.io.clock.set(self.place.key, Deadline::at_end_of(due, time));
        }
    }

    /// Notes what the connection is at, before the task sleeps.
    pub(super) fn settle(&mut self) {
        let now = self.place.io.clock.now();
        let config = &self.server.config;
        let (header_timeout, write_timeout) = (config.header_timeout, config.write_timeout);
        let is_queued = self.place.link.is_queued();
        if is_queued {
            self.note_writing(now);
            if let Some(due) = self.writing_due() {
                self.arm(due, write_timeout);
            }
        } else {
            self.writing = None;
        }
        let is_midway = self.gauge.is_midway.load(Ordering::Relaxed);
        let number = self.gauge.begun.load(Ordering::Relaxed);
        self.midway = match self.midway {
            _ if !is_midway => None,
            Some((before, since)) if before == number => Some((number, since)),
            _ => Some((number, now)),
        };
        if let Some((_, since)) = self.midway {
            self.arm(since.saturating_add(ticks(header_timeout)), header_timeout);
        }
        let is_busy = !self.entries.is_empty() || is_queued;
        if is_busy != self.is_busy {
            self.is_busy = is_busy;
            if is_busy {
                self.place.link.occupy();
            } else {
                self.place.link.vacate();
            }
        }
        if is_busy {
            self.leave_by = Tick::MAX;
        } else if self.is_leaving && self.leave_by == Tick::MAX {
            self.leave_by = now.saturating_add(ticks(DRAIN_GRACE));
            self.arm(self.leave_by, DRAIN_GRACE);
        }
    }

    /// Counts what the client has taken: what was written without what its system has not confirmed.
    fn note_writing(&mut self, now: Tick) {
        let (written, unsent) = (self.gauge.written.load(Ordering::Relaxed), u64::from(self.place.link.unsent()));
        match &mut self.writing {
            None => self.writing = Some(Writing { progress: Progress::from(now), written, flushed: unsent }),
            Some(writing) => {
                writing.flushed += written - std::mem::replace(&mut writing.written, written);
                writing.progress.reach(writing.flushed.saturating_sub(unsent), now);
            }
        }
    }

    fn writing_due(&self) -> Option<Tick> {
        let config = &self.server.config;
        self.writing.as_ref().map(|writing| writing.progress.due(ticks(config.write_timeout), config.rate_min))
    }

    /// Does what is due. `Break`: the connection is to be cut.
    pub(super) fn expired(&mut self) -> ControlFlow<()> {
        let clock = &self.place.io.clock;
        if !clock.is_due(self.place.key) {
            return ControlFlow::Continue(());
        }
        let now = clock.now();
        self.armed = Tick::MAX;
        clock.set(self.place.key, Deadline::WhenQuiet);
        if self.place.link.is_queued() {
            // A client that takes a little at a time makes room that the system does not tell of.
            self.note_writing(now);
            if self.writing_due().is_some_and(|due| due <= now) {
                let (peer, timeout) = (self.place.link.peer(), self.server.config.write_timeout);
                let notice = || format!("{peer}: took too little of its answers for {timeout:?}; connection cut");
                self.server.journal.peer_notice(notice);
                return ControlFlow::Break(());
            }
        }
        let header_timeout = self.server.config.header_timeout;
        if self.midway.is_some_and(|(_, since)| since.saturating_add(ticks(header_timeout)) <= now) {
            self.calm("a frame did not arrive in time");
            return ControlFlow::Continue(());
        }
        let is_slow = self.stalled > 0 && {
            let due = self.taking.due(ticks(self.server.config.write_timeout), self.server.config.rate_min);
            self.arm(due.max(now + 1), self.server.config.write_timeout);
            due <= now
        };
        for key in self.entries.iter().map(|(key, _)| key).collect::<Vec<_>>() {
            self.expire_stream(key, now, is_slow);
        }
        if let Some(due) = self.leftovers.expire(now) {
            self.arm(due, LINGER);
        }
        if self.is_busy || !self.entries.is_empty() {
            return ControlFlow::Continue(());
        }
        if self.leave_by <= now {
            if let Phase::Open(frames) = &mut self.phase {
                frames.abrupt_shutdown(h2::Reason::NO_ERROR);
            }
        } else if self.leave_by != Tick::MAX {
            // What came due now was set for something else, and earlier.
            self.arm(self.leave_by, DRAIN_GRACE);
        } else if !self.is_leaving && self.has_rested(now) {
            self.leave();
            self.leave_by = now.saturating_add(ticks(LINGER));
            self.arm(self.leave_by, LINGER);
        }
        ControlFlow::Continue(())
    }

    fn has_rested(&self, now: Tick) -> bool {
        let rested = now.saturating_sub(self.place.link.quiet_since());
        rested >= ticks(self.server.config.keep_alive)
    }

    /// Does what is due of one stream, and notes what is due next. `is_slow`: the client takes too little of all that waits for
    /// it. Else a stream whose turn at the windows has not come is in no fault: with others beside it, it may rest for as long
    /// as they all together, and owes its share of the rate.
    fn expire_stream(&mut self, key: usize, now: Tick, is_slow: bool) {
        let config = &self.server.config;
        let (body_timeout, write_timeout) = (config.body_timeout, config.write_timeout);
        // The rate is the connection's, of which each stream owes its share.
        let rate = config.rate_min / self.entries.len().max(1) as u64;
        let entry = &mut self.entries[key];
        if let Some(incoming) = &entry.incoming {
            if incoming.waits {
                return;
            }
            let due = incoming.progress.due(ticks(body_timeout), rate);
            if due > now {
                self.arm(due, body_timeout);
                return;
            }
            let subject = entry.stop_reading();
            self.refuse_body(key, &subject, ProtocolError::BodyTimeout);
            return;
        }
        if let Some(stall) = entry.stall() {
            let others = self.stalled.max(1) as u64;
            let due = stall.due(ticks(write_timeout).saturating_mul(others), config.rate_min / others);
            if due > now && !is_slow {
                self.arm(due, write_timeout);
                return;
            }
            let peer = self.place.link.peer();
            let notice =
                || format!("{peer}: HTTP/2: gave too little window to its answer for {write_timeout:?}; stream reset");
            self.server.journal.peer_notice(notice);
            entry.reset(h2::Reason::CANCEL);
            self.remove(key).stream.abandon();
            return;
        }
        let channel = entry.channel();
        if let Some(vigil) = &mut entry.vigil {
            vigil.keep(&channel, true, Instant::now());
            if let Some((at, time)) = vigil.due() {
                self.arm(self.place.io.clock.tick_at(at), time);
            }
        }
    }
}
