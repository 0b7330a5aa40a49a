//! How fast a client sends its body or takes its answer, and until when that will do.

use crate::clock::{TICKS_A_SECOND, Tick};

/// What has come or gone since a transfer began.
///
/// Two rules bound the time that a transfer takes: it never rests for longer than a timeout, and beyond that time it keeps
/// up a rate on average. With the first alone, a client that moves a byte now and then would hold its connection, and
/// what waits for it, for ever.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    since: Tick,
    last: Tick,
    bytes: u64,
}

impl Progress {
    /// A transfer that begins now.
    pub(crate) fn from(now: Tick) -> Self {
        Self { since: now, last: now, bytes: 0 }
    }

    /// So many bytes have been moved in all.
    pub(crate) fn reach(&mut self, bytes: u64, now: Tick) {
        if bytes > self.bytes {
            self.bytes = bytes;
            self.last = now;
        }
    }

    /// More bytes have been moved.
    pub(crate) fn add(&mut self, bytes: u64, now: Tick) {
        self.reach(self.bytes + bytes, now);
    }

    /// Until when more must have been moved: `timeout` in ticks, `rate` in bytes a second, 0 for none.
    pub(crate) fn due(&self, timeout: Tick, rate: u64) -> Tick {
        let rested = self.last.saturating_add(timeout);
        match self.bytes.saturating_mul(TICKS_A_SECOND).checked_div(rate) {
            Some(earned) => rested.min(self.since.saturating_add(timeout).saturating_add(earned)),
            None => rested,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_is_bounded_by_the_timeout() {
        let mut progress = Progress::from(100);
        assert_eq!(progress.due(30, 0), 130);
        progress.reach(1, 120);
        assert_eq!(progress.due(30, 0), 150);
        progress.reach(1, 140);
        assert_eq!(progress.due(30, 0), 150, "nothing has moved");
    }

    #[test]
    fn a_trickle_is_bounded_by_the_rate() {
        let mut progress = Progress::from(0);
        for now in (0..).step_by(25) {
            if now >= progress.due(30, 10 * TICKS_A_SECOND) {
                break;
            }
            assert!(now < 100, "a byte now and then does not go on for ever");
            progress.add(1, now);
        }
    }

    #[test]
    fn who_keeps_up_the_rate_is_never_due() {
        let mut progress = Progress::from(0);
        for now in 1..10_000 {
            assert!(now < progress.due(30, 2 * TICKS_A_SECOND));
            progress.add(2, now);
        }
    }
}
