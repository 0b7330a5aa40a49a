//! How much a client may ask of a connection without taking anything.
//!
//! Frames that have no use of their own, and requests that are reset before they are answered, cost the server work and the client
//! next to nothing: floods of them are attacks (CVE-2019-9512 to 9518, CVE-2023-44487). Each takes from a budget; what an
//! honest client gets for its frames gives back to it, and so does the time. The frames' code has bounds of its own on what it
//! keeps in memory.

use crate::clock::Tick;

/// A page with some hundred requests that are all reset, as when its reader goes elsewhere, is within it.
const MOST: u32 = 1024;
/// A hundred frames a second, for ever. A client that asks each second whether the server is there needs one.
const PER_TICK: u64 = 1;
/// What a request costs that is reset before its answer has ended, beside the frame that resets it. A worker may have it.
const RESET: u32 = 3;
/// What an answer gives back that has gone out whole.
const ANSWER: u32 = 4;
/// Clients tell that they have taken something, with one frame or two for each 16 KiB as a rule, and some for less.
const BYTES_PER_FRAME: u64 = 512;

/// What a part of an answer gives back that has gone out whole: a client may tell at once that it has taken it, for the stream
/// and for the connection. Of what its windows cut small only the last piece counts: that is its own doing.
const PART: u32 = 2;

/// What is left for one connection.
pub(super) struct Budget {
    left: u32,
    seen: Tick,
    /// Bytes that the client has taken, as far as they have given back.
    taken: u64,
}

impl Budget {
    pub(super) fn new(now: Tick) -> Self {
        Self { left: MOST, seen: now, taken: 0 }
    }

    fn earn(&mut self, count: u64) {
        self.left = u64::from(self.left).saturating_add(count).min(u64::from(MOST)) as u32;
    }

    /// The client has sent so many frames of no use by `now`, and taken so many bytes in all. False: that is too much.
    pub(super) fn spend(&mut self, frames: u32, taken: u64, now: Tick) -> bool {
        self.earn((now - self.seen).saturating_mul(PER_TICK));
        self.seen = now;
        let earned = (taken - self.taken) / BYTES_PER_FRAME;
        self.taken += earned * BYTES_PER_FRAME;
        self.earn(earned);
        self.take(frames)
    }

    fn take(&mut self, count: u32) -> bool {
        let left = self.left.checked_sub(count);
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    /// A request was reset before its answer had ended. False: that is too much.
    pub(super) fn reset(&mut self) -> bool {
        self.take(RESET)
    }

    /// So many parts of answers have gone out whole.
    pub(super) fn delivered(&mut self, parts: u32) {
        self.earn(u64::from(parts) * u64::from(PART));
    }

    /// An answer has gone out whole.
    pub(super) fn answered(&mut self) {
        self.earn(u64::from(ANSWER));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_soon_too_much() {
        let mut budget = Budget::new(0);
        assert!(budget.spend(MOST, 0, 0));
        assert!(!budget.spend(1, 0, 0));
        assert!(!budget.reset());
    }

    #[test]
    fn time_gives_back() {
        let mut budget = Budget::new(0);
        for now in 0..100_000 {
            assert!(budget.spend(1, 0, now), "a hundred frames a second are no flood");
        }
    }

    #[test]
    fn who_takes_what_it_asks_for_may_go_on() {
        let mut budget = Budget::new(0);
        for number in 1..100_000 {
            assert!(budget.spend(2, number * 1024, 0), "two frames for a kilobyte");
        }
        for _ in 0..100_000 {
            assert!(budget.spend(1, 0x1000_0000, 0) && budget.reset(), "who resets every other request");
            budget.answered();
        }
    }

    #[test]
    fn who_takes_small_messages_may_say_so_for_each() {
        let mut budget = Budget::new(0);
        for number in 1..100_000 {
            budget.delivered(1);
            assert!(budget.spend(2, number * 10, 0), "two frames for a message");
        }
    }
}
