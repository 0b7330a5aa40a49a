//! Jobs that were given up while they waited: they do not count, and what they hold is let go soon.
//!
//! Nothing can be taken out of the midst of the queue. So what is given up stays where it is as a *ghost*, which the
//! worker that comes upon it passes over. But workers may not come for long, and clients that ask and leave in a loop
//! must not fill the memory meanwhile: so ghosts are *swept* out as well, by who gives them up. A sweep takes all jobs
//! out and puts the living ones back, in their order. Each ghost pays for so many moves, so that a sweep comes when its
//! ghosts have paid for it: what is left of ghosts is a small part of the queue, in number and in bytes, and none at
//! all where few jobs wait.
//!
//! # Why each ghost is counted once
//!
//! A job is given up, or taken up by the worker that has popped it, by one step that one of the two makes (see
//! `whereabouts`). Who gives it up counts a ghost before that step, and strikes it off again if the step fails. Who
//! pops a job that cannot be taken up, or sweeps it out, has seen that the step was made: so it finds the ghost
//! counted, and strikes it off. Each entry is popped for good by one thread alone. So the count is that of the ghosts
//! in the queue, never less; for the moment of such a step it may be one more, and then one more job is let in than
//! there is room for.
//!
//! # Why no job is left lying by a sweep
//!
//! Jobs that are in the sweeper's hand are like jobs that were not pushed yet: a worker may find none, and go idle.
//! Putting them back ends as a push does, with the fence and the look at S, I and H behind it. The proof is that of a
//! push.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::{Entry, Pushed, Queue};
use crate::jitter;

/// So many jobs are moved for each ghost. To move one costs 20 ns, or 100 where its word is in no cache; to connect,
/// ask and leave costs some 50 us.
const MOVES: usize = 16;

/// What waits in a queue.
pub trait Waiting {
    /// Takes it from those who might give it up. False: it was given up before. Called once, by the worker that has
    /// taken it out of the queue.
    fn take_up(&self) -> bool;

    /// Whether it was given up, for ever. Any thread, while it waits.
    fn is_given_up(&self) -> bool;

    /// Ends what was given up.
    fn bury(self);
}

/// The jobs that were given up and are still in the queue.
#[derive(Default)]
pub(super) struct Ghosts {
    count: AtomicUsize,
    /// What they weigh, of those that were given up since there were none or all were swept out. The IO thread's alone.
    weight: AtomicUsize,
}

impl Ghosts {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Strikes off one that was taken out of the queue.
    pub(super) fn lay(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether ghosts of this weight have paid for a sweep through so many.
pub(crate) fn pays(weight: usize, waiting: usize) -> bool {
    weight.saturating_mul(MOVES) >= waiting
}

impl<J: Waiting> Queue<J> {
    /// Gives a job up that waits here: by `leave`, the step that says so, which fails if a worker has taken it up
    /// before; then `None`. `weight`: what it holds, by any measure of which 1 is the least. IO thread.
    pub fn give_up(&self, weight: usize, leave: impl FnOnce() -> bool) -> Option<Pushed> {
        let others = self.ghosts.count.fetch_add(1, Ordering::Relaxed);
        if !leave() {
            self.ghosts.lay();
            return None;
        }
        let before = if others == 0 { 0 } else { self.ghosts.weight.load(Ordering::Relaxed) };
        let weight = before.saturating_add(weight);
        self.ghosts.weight.store(weight, Ordering::Relaxed);
        Some(if pays(weight, self.jobs.len()) { self.sweep() } else { Pushed::Awaited })
    }

    /// Takes the ghosts out.
    fn sweep(&self) -> Pushed {
        self.ghosts.weight.store(0, Ordering::Relaxed);
        // No more than there are now: others may push all the while.
        let count = self.jobs.len();
        let (mut living, mut dead) = (Vec::with_capacity(count), Vec::new());
        for entry in std::iter::from_fn(|| self.jobs.pop()).take(count) {
            jitter::point();
            let is_dead = entry.is_counted && entry.job.is_given_up();
            if is_dead { &mut dead } else { &mut living }.push(entry);
        }
        jitter::point();
        let pushed = if living.is_empty() { Pushed::Awaited } else { self.put_back(living) };
        for Entry { job, .. } in dead {
            self.counted.fetch_sub(1, Ordering::Relaxed);
            self.ghosts.lay();
            job.bury();
        }
        pushed
    }

    fn put_back(&self, jobs: Vec<Entry<J>>) -> Pushed {
        for entry in jobs {
            self.jobs.push(entry);
        }
        self.see_to_pushed(Instant::now())
    }
}
