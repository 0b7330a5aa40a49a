//! Where a request is between its hand-over and its handler, and who decides what becomes of it.
//!
//! The IO task hands a request over to a gate or a queue and may give it up as long as no handler has it: because it
//! has waited too long, or because its client has left. A worker may come for it at the same moment.
//!
//! # Why each request is run or given up, once
//!
//! One word of the channel says which exchange was handed over last and where its request is. A request leaves each
//! place by one compare-and-swap of that word, so of all who would move it one has its way, and the others see that:
//!
//! - `AtGate` → `Queued`: whoever hands a place behind the gate on, under the lock of the gate.
//! - `Queued` → `Taken`: the worker that has taken it out of the queue.
//! - `Taken` → `Begun` or `Late`: the same worker, when it has the interpreter; or never, if it is given up before.
//! - `AtGate`, `Queued` or `Taken` → `Answered` or `Left`: the IO task, see [`Shared::give_up`](crate::server::Shared).
//!
//! What was given up stays for a while where it was, as a ghost that is passed over (`queue::ghosts`, `admission`). Its
//! client may ask for something else meanwhile on the same connection: so the exchange is a part of the word, and
//! whoever meets the ghost finds that the word is of another.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::jitter;
use crate::link::Exchange;

/// Where a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    /// With the IO task, if there is one.
    Nowhere,
    /// It waits at the gate of its route.
    AtGate,
    /// It waits in the queue of its lane.
    Queued,
    /// A worker has it, and waits for its turn to run it.
    Taken,
    /// A handler has it, or had it.
    Begun,
    /// The worker that had it came too late, and answers so.
    Late,
    /// It was given up: the IO task answers.
    Answered,
    /// It was given up: its client has left.
    Left,
}

const STAGES: [Stage; 8] = [
    Stage::Nowhere,
    Stage::AtGate,
    Stage::Queued,
    Stage::Taken,
    Stage::Begun,
    Stage::Late,
    Stage::Answered,
    Stage::Left,
];

/// Where the request is that was handed over last.
#[derive(Default)]
pub(crate) struct Whereabouts {
    /// The number of its exchange, and its stage.
    word: AtomicU64,
    /// Its route, and what it weighs as a ghost. The IO task's alone.
    route: AtomicU32,
    weight: AtomicU32,
}

impl Whereabouts {
    /// Notes a request that is about to be handed over. IO task.
    pub(crate) fn enter(&self, exchange: Exchange, stage: Stage, route: u32, weight: u32) {
        self.route.store(route, Ordering::Relaxed);
        self.weight.store(weight, Ordering::Relaxed);
        self.word.store(word(exchange, stage), Ordering::Release);
    }

    /// Moves the request of `exchange` on. False: somebody has done so before. Any thread.
    pub(crate) fn go_on(&self, exchange: Exchange, from: Stage, to: Stage) -> bool {
        jitter::point();
        let (from, to) = (word(exchange, from), word(exchange, to));
        let is_moved = self.word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok();
        jitter::point();
        is_moved
    }

    /// The same for the request that was handed over last, whichever that is. IO task, which alone changes it.
    pub(crate) fn give_up(&self, from: Stage, to: Stage) -> bool {
        let exchange = (self.word.load(Ordering::Relaxed) >> 32) as u32;
        self.go_on(Exchange(exchange), from, to)
    }

    /// Whether the request of `exchange` is there. Any thread.
    pub(crate) fn is_at(&self, exchange: Exchange, stage: Stage) -> bool {
        self.word.load(Ordering::Acquire) == word(exchange, stage)
    }

    /// Where the request is that was handed over last. IO task.
    pub(crate) fn stage(&self) -> Stage {
        STAGES[self.word.load(Ordering::Acquire) as u8 as usize]
    }

    /// The route of that request. IO task.
    pub(crate) fn route(&self) -> u32 {
        self.route.load(Ordering::Relaxed)
    }

    /// What it weighs as a ghost. IO task.
    pub(crate) fn weight(&self) -> usize {
        self.weight.load(Ordering::Relaxed) as usize
    }
}

fn word(exchange: Exchange, stage: Stage) -> u64 {
    u64::from(exchange.0) << 32 | stage as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_each_stage_is_read_as_it_was_written() {
        let whereabouts = Whereabouts::default();
        assert_eq!(whereabouts.stage(), Stage::Nowhere);
        for stage in STAGES {
            whereabouts.enter(Exchange(u32::MAX), stage, 7, 3);
            assert_eq!((whereabouts.stage(), whereabouts.route(), whereabouts.weight()), (stage, 7, 3));
            assert!(whereabouts.is_at(Exchange(u32::MAX), stage));
            assert!(!whereabouts.is_at(Exchange(0), stage));
        }
    }

    #[test]
    fn of_two_who_would_move_a_request_the_first_does() {
        let whereabouts = Whereabouts::default();
        whereabouts.enter(Exchange(1), Stage::Queued, 0, 1);
        assert!(whereabouts.give_up(Stage::Queued, Stage::Answered));
        assert!(!whereabouts.go_on(Exchange(1), Stage::Queued, Stage::Taken));
        // The next on the same connection is not taken for it.
        whereabouts.enter(Exchange(3), Stage::Queued, 0, 1);
        assert!(!whereabouts.go_on(Exchange(1), Stage::Queued, Stage::Taken));
        assert!(whereabouts.go_on(Exchange(3), Stage::Queued, Stage::Taken));
        assert!(!whereabouts.give_up(Stage::Queued, Stage::Left));
    }
}
