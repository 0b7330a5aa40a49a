//! More workers: when every worker is busy and work waits, the one thread that starts workers is told how many.

use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use super::{Queue, Waiting};
use crate::jitter;

/// How long a job may wait, while every worker is busy, before another worker is started.
///
/// Long enough that handlers which only compute never cause it (a queue of 64 of them drains in less), short against
/// what a blocking handler takes.
const GROWTH_DELAY: Duration = Duration::from_millis(2);

/// How often the thread that starts workers looks in while it is asked to.
const VISIT: Duration = Duration::from_millis(100);

/// What the thread that starts workers is asked for.
#[derive(Default)]
pub(super) struct Growth {
    wanted: bool,
    visited: bool,
    pub(super) closed: bool,
}

/// Why the thread that starts workers comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growing {
    /// So many more workers are wanted.
    More(usize),
    /// It was asked to look in now and then.
    Visit,
    /// The server has stopped.
    Closed,
}

impl<J: Waiting> Queue<J> {
    pub(super) fn ask_for_growth(&self) {
        if self.workers.load(Ordering::Relaxed) >= self.workers_max
            || self.growth_watched.load(Ordering::Relaxed)
            || self.growth_watched.swap(true, Ordering::AcqRel)
        {
            return;
        }
        jitter::point();
        self.growth.lock().wanted = true;
        jitter::point();
        self.grow.notify_one();
    }

    /// Lets the thread that starts workers come back every [`VISIT`] until it is told otherwise. Any thread.
    pub fn visit(&self, on: bool) {
        self.growth.lock().visited = on;
        if on {
            self.grow.notify_one();
        }
    }

    /// How many workers are on their way, and for how many more there is room.
    fn room(&self) -> (usize, usize) {
        // In this order a worker that enters meanwhile is counted twice rather than not at all.
        let starting = self.starting.load(Ordering::Acquire);
        let workers = self.workers.load(Ordering::Acquire);
        (starting, self.workers_max.saturating_sub(workers + starting))
    }

    /// Says that so many of the workers that were asked for are not on their way any more: they have entered, or could not
    /// be started.
    pub fn not_starting(&self, count: usize) {
        let less = |starting: usize| Some(starting.saturating_sub(count));
        let _ = self.starting.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }

    /// Waits until work has waited too long while every worker was busy, and says how many more workers would take all
    /// of it up. The one thread that starts workers, detached.
    pub fn wait_to_grow(&self) -> Growing {
        let mut growth = self.growth.lock();
        loop {
            while !growth.wanted && !growth.closed {
                if !growth.visited {
                    self.grow.wait(&mut growth);
                } else if self.grow.wait_for(&mut growth, VISIT).timed_out() {
                    return Growing::Visit;
                }
            }
            if growth.closed {
                return Growing::Closed;
            }
            let taken = self.taken.load(Ordering::Acquire);
            let waiting = self.living();
            // Only the closing of the queue ends this wait early.
            let until = Instant::now() + GROWTH_DELAY;
            while !growth.closed && !self.grow.wait_until(&mut growth, until).timed_out() {}
            let passed = self.taken.load(Ordering::Acquire).wrapping_sub(taken);
            let (starting, room) = self.room();
            // Jobs leave in order: those beyond the ones taken since have waited through the whole delay. Workers that are
            // on their way will take theirs.
            let late = waiting.saturating_sub(passed).min(self.living()).saturating_sub(starting).min(room);
            if late > 0 && !growth.closed && self.idle_count.load(Ordering::Relaxed) == 0 {
                self.starting.fetch_add(late, Ordering::AcqRel);
                return Growing::More(late);
            }
            if self.jobs.is_empty() || room == 0 {
                growth.wanted = false;
                self.growth_watched.store(false, Ordering::Relaxed);
                fence(Ordering::SeqCst);
                jitter::point();
                // The same order as for S: a push that saw the flag set is seen here, and so is a worker that has retired.
                if !self.jobs.is_empty() && self.room().1 > 0 {
                    growth.wanted = true;
                    self.growth_watched.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}
