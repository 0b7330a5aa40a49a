//! A model of requests that are given up while they wait, run through its interleavings by loom.
//!
//! It restates `src/whereabouts.rs` and `src/queue/ghosts.rs`, with `Ready` of `src/request.rs`, it does not run them
//! (see `model_queue.rs` for why, and for how nobody is left asleep). The queue itself is a list under a lock.
//!
//! The IO thread pushes a request, gives it up, answers for it, and pushes what its client asks next on the same
//! connection, and another connection's; a sweep may come. Workers take what they find, and run it. At the end each
//! request was run by one worker or given up and buried by one thread, nothing is left in the queue, and the counts are
//! those of an empty one. Each [`Flaw`] takes one step out, and must be found.

use std::collections::VecDeque;
use std::sync::Arc;

use loom::model::Builder;
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

const QUEUED: usize = 1;
const TAKEN: usize = 2;
const BEGUN: usize = 3;
const ANSWERED: usize = 4;
/// Numbers of exchanges: two of one connection, and one of another.
const FIRST: usize = 1;
const NEXT: usize = 2;
const OTHER: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// The worker looks whether a request was given up, and writes that it has it then.
    TakesWithoutSwap,
    /// The worker begins what it has taken without another look.
    BeginsWithoutSwap,
    /// The word does not say of which exchange it is.
    NoNumber,
    /// The ghost is counted when it was given up.
    CountedLate,
    /// A ghost that a worker meets stays counted.
    StaysCounted,
    /// A sweep takes out what a worker has popped as well: it goes by those that were given up, not by the queue.
    SweepCounts,
}

/// One request in the queue.
struct Ready {
    exchange: usize,
    /// Of its connection.
    word: Arc<AtomicUsize>,
}

struct Queue {
    flaw: Flaw,
    jobs: Mutex<VecDeque<Ready>>,
    counted: AtomicUsize,
    ghosts: AtomicUsize,
    /// How often each request was run, and buried.
    run: Mutex<[usize; 4]>,
    buried: Mutex<[usize; 4]>,
}

fn locked<T>(lock: &Mutex<T>) -> loom::sync::MutexGuard<'_, T> {
    lock.lock().expect("no thread panics with this lock")
}

impl Queue {
    fn new(flaw: Flaw) -> Self {
        Self {
            flaw,
            jobs: Mutex::default(),
            counted: AtomicUsize::new(0),
            ghosts: AtomicUsize::new(0),
            run: Mutex::default(),
            buried: Mutex::default(),
        }
    }

    fn lacks(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    fn word(&self, exchange: usize, stage: usize) -> usize {
        if self.lacks(Flaw::NoNumber) { stage } else { exchange << 8 | stage }
    }

    fn go_on(&self, ready: &Ready, from: usize, to: usize) -> bool {
        let (from, to) = (self.word(ready.exchange, from), self.word(ready.exchange, to));
        ready.word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn lay(&self) {
        let before = self.ghosts.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a ghost was met before it was counted");
    }

    fn bury(&self, ready: &Ready) {
        locked(&self.buried)[ready.exchange] += 1;
    }

    // ---- the IO thread

    fn push(&self, exchange: usize, word: &Arc<AtomicUsize>) {
        word.store(self.word(exchange, QUEUED), Ordering::Release);
        self.counted.fetch_add(1, Ordering::Relaxed);
        locked(&self.jobs).push_back(Ready { exchange, word: Arc::clone(word) });
    }

    /// True: it answers in the place of the workers.
    fn give_up(&self, exchange: usize, word: &Arc<AtomicUsize>) -> bool {
        let ready = Ready { exchange, word: Arc::clone(word) };
        if !self.lacks(Flaw::CountedLate) {
            self.ghosts.fetch_add(1, Ordering::Relaxed);
        }
        if self.go_on(&ready, QUEUED, ANSWERED) {
            if self.lacks(Flaw::CountedLate) {
                self.ghosts.fetch_add(1, Ordering::Relaxed);
            }
            return true;
        }
        if !self.lacks(Flaw::CountedLate) {
            self.lay();
        }
        self.go_on(&ready, TAKEN, ANSWERED)
    }

    fn sweep(&self) {
        let count = locked(&self.jobs).len();
        let mut living = Vec::new();
        for _ in 0..count {
            let Some(ready) = locked(&self.jobs).pop_front() else { break };
            if ready.word.load(Ordering::Acquire) == self.word(ready.exchange, QUEUED) {
                living.push(ready);
            } else {
                self.counted.fetch_sub(1, Ordering::Relaxed);
                if !self.lacks(Flaw::SweepCounts) {
                    self.lay();
                }
                self.bury(&ready);
            }
        }
        if self.lacks(Flaw::SweepCounts) {
            self.ghosts.store(0, Ordering::Relaxed);
        }
        locked(&self.jobs).extend(living);
    }

    // ---- workers

    /// Takes one, and runs it if it may. False: there was none.
    fn work(&self) -> bool {
        let Some(ready) = locked(&self.jobs).pop_front() else { return false };
        self.counted.fetch_sub(1, Ordering::Relaxed);
        if !self.take_up(&ready) {
            if !self.lacks(Flaw::StaysCounted) {
                self.lay();
            }
            self.bury(&ready);
            return true;
        }
        // Here it waits for the interpreter.
        let begins = self.lacks(Flaw::BeginsWithoutSwap) || self.go_on(&ready, TAKEN, BEGUN);
        if begins {
            locked(&self.run)[ready.exchange] += 1;
        } else {
            self.bury(&ready);
        }
        true
    }

    fn take_up(&self, ready: &Ready) -> bool {
        if !self.lacks(Flaw::TakesWithoutSwap) {
            return self.go_on(ready, QUEUED, TAKEN);
        }
        let is_there = ready.word.load(Ordering::Acquire) == self.word(ready.exchange, QUEUED);
        if is_there {
            ready.word.store(self.word(ready.exchange, TAKEN), Ordering::Release);
        }
        is_there
    }
}

/// One worker beside the IO thread, who sweeps at the end or does not.
fn check(flaw: Flaw, sweeps: bool) {
    let mut builder = Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(move || {
        let queue = Arc::new(Queue::new(flaw));
        let (word, other) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let worker = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                for _ in 0..2 {
                    queue.work();
                }
            })
        };
        queue.push(FIRST, &word);
        let is_given_up = queue.give_up(FIRST, &word);
        if is_given_up {
            queue.push(NEXT, &word);
        }
        queue.push(OTHER, &other);
        if sweeps {
            queue.sweep();
        }
        worker.join().expect("the worker does not panic");
        while queue.work() {}
        let next = usize::from(is_given_up);
        assert_eq!(*locked(&queue.run), [0, 1 - next, next, 1]);
        assert_eq!(*locked(&queue.buried), [0, next, 0, 0]);
        assert_eq!((queue.counted.load(Ordering::Relaxed), queue.ghosts.load(Ordering::Relaxed)), (0, 0));
    });
}

#[test]
fn each_request_is_run_or_given_up_and_counted_once() {
    check(Flaw::None, false);
}

#[test]
fn a_sweep_takes_nothing_that_lives_and_counts_as_the_workers_do() {
    check(Flaw::None, true);
}

#[test]
fn every_flaw_is_found() {
    for (flaw, sweeps) in [
        (Flaw::TakesWithoutSwap, false),
        (Flaw::BeginsWithoutSwap, false),
        (Flaw::NoNumber, false),
        (Flaw::CountedLate, false),
        (Flaw::StaysCounted, false),
        (Flaw::SweepCounts, true),
    ] {
        let found = std::panic::catch_unwind(|| check(flaw, sweeps));
        assert!(found.is_err(), "{flaw:?} was not found");
    }
}
