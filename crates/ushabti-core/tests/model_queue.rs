//! A model of the queue's wake protocol, run through its interleavings and weak memory by loom.
//!
//! It restates `src/queue.rs` (and `src/queue/pace.rs`, for what concerns the hot worker), it does not run it: the code
//! uses the system's atomics and threads, and to write it twice behind a `cfg` would cost its reader more than this file
//! does. Whoever changes the order of the operations there changes it here. The names are the same, and so are the
//! orderings. What differs:
//!
//! - `ArrayQueue` is its two counters. As there, the counters are written by `SeqCst` operations, and a look at them may see
//!   an old value unless a fence forbids it.
//! - The search before the sleep looks once instead of for microseconds; patience ends at once or never.
//! - The worker that has done the last job closes the queue. A job that is left lying therefore leaves a thread asleep for
//!   ever, and loom reports that as a deadlock.
//!
//! Loom and not shuttle: the proof rests on fences, and shuttle runs every atomic as if it were `SeqCst`, so that it cannot
//! see one missing. That the model does see it is tested too: each [`Flaw`] takes one step out, and must be found.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize as Tally;

use loom::model::Builder;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use loom::sync::{Condvar, Mutex};
use loom::thread;

const JOBS: usize = 2;
const COUNT: usize = 2;

/// One step of the protocol that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    PushWithoutFence,
    IdleWithoutFence,
    IdleWithoutLook,
    GiveUpWithoutFence,
    RunningWithoutLook,
    /// A hot worker goes idle without saying so.
    IdleStaysHot,
    /// A worker that leaves the jobs to the hot one asks only before its fence whether there is one.
    YieldsWithoutLook,
    /// Jobs that were in the hand of a sweep are put back and nobody is told.
    SweepWithoutWake,
}

/// What is peculiar about the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Workers {
    Plain,
    /// They search before they sleep.
    Searching,
    /// Their handlers are quick, so that jobs are left to the hot one (`pace.rs`), and the watch is kept.
    Quick,
    /// The second has no patience and may leave.
    Impatient,
    /// The IO thread takes all jobs out and puts them back (`ghosts.rs`) when it has pushed the last.
    Swept,
    /// The handler of the first job waits until all others are done, so that its worker does not come back for them.
    Blocking,
}

struct Seat {
    number: usize,
    /// `woken` and the parker of the thread in one: loom's own `unpark` also wakes a thread that waits for a lock.
    woken: Mutex<bool>,
    parker: Condvar,
}

impl Seat {
    fn wake(&self) {
        *self.woken.lock().expect("no thread panics with this lock") = true;
        self.parker.notify_one();
    }

    /// Waits until woken, or, without patience, not at all. True: woken.
    fn wait(&self, is_patient: bool) -> bool {
        let mut woken = self.woken.lock().expect("no thread panics with this lock");
        while is_patient && !*woken {
            woken = self.parker.wait(woken).expect("no thread panics with this lock");
        }
        std::mem::take(&mut *woken)
    }
}

struct Queue {
    workers: Workers,
    flaw: Flaw,
    /// J: jobs from `head` to `tail`.
    head: AtomicUsize,
    tail: AtomicUsize,
    /// I.
    idle: Mutex<Vec<Arc<Seat>>>,
    idle_count: AtomicUsize,
    /// S.
    searching: AtomicBool,
    /// H.
    hot: AtomicUsize,
    closed: AtomicBool,
    /// The test's own, outside the model: it must not order anything.
    done: Tally,
    /// Where a blocking handler waits.
    others: Mutex<()>,
    others_done: Condvar,
}

impl Queue {
    fn new(workers: Workers, flaw: Flaw) -> Self {
        Self {
            workers,
            flaw,
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
            idle: Mutex::new(Vec::new()),
            idle_count: AtomicUsize::new(0),
            searching: AtomicBool::new(false),
            hot: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            done: Tally::new(0),
            others: Mutex::new(()),
            others_done: Condvar::new(),
        }
    }

    fn is(&self, workers: Workers) -> bool {
        self.workers == workers
    }

    fn lacks(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    fn fence_unless(&self, flaw: Flaw) {
        if !self.lacks(flaw) {
            fence(Ordering::SeqCst);
        }
    }

    // ---- `ArrayQueue`

    fn is_empty(&self) -> bool {
        self.head.load(Ordering::SeqCst) == self.tail.load(Ordering::SeqCst)
    }

    fn pop(&self) -> Option<usize> {
        let mut head = self.head.load(Ordering::Relaxed);
        while head < self.tail.load(Ordering::Acquire) {
            match self.head.compare_exchange(head, head + 1, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(job) => return Some(job),
                Err(now) => head = now,
            }
        }
        None
    }

    // ---- the IO thread

    fn push(&self) {
        self.tail.fetch_add(1, Ordering::SeqCst);
        self.fence_unless(Flaw::PushWithoutFence);
        if !(self.is(Workers::Quick) && self.hot.load(Ordering::Relaxed) != 0) {
            self.wake_one();
        }
    }

    fn sweep(&self) {
        let mut living = 0;
        while self.pop().is_some() {
            living += 1;
        }
        if living == 0 {
            return;
        }
        self.tail.fetch_add(living, Ordering::SeqCst);
        if !self.lacks(Flaw::SweepWithoutWake) {
            fence(Ordering::SeqCst);
            self.wake_one();
        }
    }

    fn wake_one(&self) {
        loop {
            if self.searching.load(Ordering::Relaxed)
                || self.idle_count.load(Ordering::Relaxed) == 0
                || self.searching.swap(true, Ordering::AcqRel)
            {
                return;
            }
            if let Some(seat) = self.pop_idle() {
                seat.wake();
                return;
            }
            self.searching.store(false, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if self.is_empty() {
                return;
            }
        }
    }

    fn pop_idle(&self) -> Option<Arc<Seat>> {
        let mut idle = self.idle.lock().expect("no thread panics with this lock");
        let seat = idle.pop();
        self.idle_count.store(idle.len(), Ordering::Relaxed);
        seat
    }

    // ---- workers

    fn leave_idle(&self, seat: &Seat) -> bool {
        let mut idle = self.idle.lock().expect("no thread panics with this lock");
        let found = idle.iter().rposition(|other| other.number == seat.number);
        if let Some(at) = found {
            idle.remove(at);
            self.idle_count.store(idle.len(), Ordering::Relaxed);
        }
        found.is_some()
    }

    fn yields(&self, seat: &Seat) -> bool {
        let hot = if self.is(Workers::Quick) { self.hot.load(Ordering::Relaxed) } else { 0 };
        hot != 0 && hot != seat.number
    }

    fn give_up_search(&self, is_searcher: &mut bool) -> bool {
        let was_searching = std::mem::take(is_searcher);
        if was_searching {
            self.searching.store(false, Ordering::Relaxed);
            self.fence_unless(Flaw::GiveUpWithoutFence);
        }
        was_searching
    }

    /// `is_searcher` is what the seat notes for its worker alone. `None`: the worker leaves.
    fn take(&self, seat: &Arc<Seat>, is_searcher: &mut bool) -> Option<usize> {
        loop {
            let yields = self.yields(seat);
            if !yields {
                if let Some(job) = self.pop() {
                    return Some(job);
                }
                if self.is(Workers::Searching) && (*is_searcher || !self.searching.swap(true, Ordering::AcqRel)) {
                    *is_searcher = true;
                    if !self.is_empty() {
                        continue;
                    }
                }
            }
            if self.give_up_search(is_searcher) && !yields && !self.is_empty() {
                continue;
            }
            if !self.lacks(Flaw::IdleStaysHot) {
                let _ = self.hot.compare_exchange(seat.number, 0, Ordering::Relaxed, Ordering::Relaxed);
            }
            if self.closed.load(Ordering::Acquire) {
                return None;
            }
            {
                let mut idle = self.idle.lock().expect("no thread panics with this lock");
                idle.push(Arc::clone(seat));
                self.idle_count.store(idle.len(), Ordering::Relaxed);
            }
            self.fence_unless(Flaw::IdleWithoutFence);
            let none_for_me = self.lacks(Flaw::IdleWithoutLook)
                || self.is_empty()
                || if self.lacks(Flaw::YieldsWithoutLook) { yields } else { self.yields(seat) };
            let stay = none_for_me && !self.closed.load(Ordering::Relaxed);
            let woken = stay && seat.wait(!self.is(Workers::Impatient) || seat.number != COUNT);
            if !woken {
                if self.leave_idle(seat) {
                    if stay {
                        fence(Ordering::SeqCst);
                        if !self.is_empty() {
                            self.wake_one();
                        }
                        return None;
                    }
                    continue;
                }
                seat.wait(true);
            }
            *is_searcher = true;
        }
    }

    fn running(&self, seat: &Seat, is_searcher: &mut bool) {
        if self.is(Workers::Quick) && self.hot.load(Ordering::Relaxed) != seat.number {
            self.hot.store(seat.number, Ordering::Relaxed);
        }
        if self.give_up_search(is_searcher)
            && !self.is(Workers::Quick)
            && !self.lacks(Flaw::RunningWithoutLook)
            && !self.is_empty()
        {
            self.wake_one();
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let idle = std::mem::take(&mut *self.idle.lock().expect("no thread panics with this lock"));
        self.idle_count.store(0, Ordering::Relaxed);
        for seat in idle {
            seat.wake();
        }
    }

    fn work(&self, number: usize) {
        let seat = Arc::new(Seat { number, woken: Mutex::new(false), parker: Condvar::new() });
        let mut is_searcher = false;
        while let Some(job) = self.take(&seat, &mut is_searcher) {
            self.running(&seat, &mut is_searcher);
            self.handle(job);
            if self.done.load(Ordering::Relaxed) == JOBS {
                self.close();
            }
        }
    }

    fn handle(&self, job: usize) {
        if !self.is(Workers::Blocking) {
            self.done.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut others = self.others.lock().expect("no thread panics with this lock");
        while job == 0 && self.done.load(Ordering::Relaxed) < JOBS - 1 {
            others = self.others_done.wait(others).expect("no thread panics with this lock");
        }
        self.done.fetch_add(1, Ordering::Relaxed);
        self.others_done.notify_all();
    }
}

/// Runs the model through every interleaving in which at most so many switches of threads are not the thread's own
/// waiting. `LOOM_MAX_PREEMPTIONS` sets another bound: with 2 all of
/// them are through in a minute.
fn check(workers: Workers, flaw: Flaw, preemptions: usize) {
    let mut builder = Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.check(move || {
        let queue = Arc::new(Queue::new(workers, flaw));
        let workers: Vec<_> = (1..=COUNT)
            .map(|number| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || queue.work(number))
            })
            .collect();
        for _ in 0..JOBS {
            queue.push();
        }
        if queue.is(Workers::Swept) {
            queue.sweep();
        }
        for worker in workers {
            worker.join().expect("no worker panics");
        }
        assert_eq!(queue.done.load(Ordering::Relaxed), JOBS);
    });
}

#[test]
fn no_job_is_left_lying() {
    check(Workers::Plain, Flaw::None, 2);
}

#[test]
fn no_job_is_left_lying_by_workers_that_search_before_they_sleep() {
    check(Workers::Searching, Flaw::None, 1);
}

#[test]
fn no_job_is_left_lying_to_a_hot_worker() {
    check(Workers::Quick, Flaw::None, 1);
}

#[test]
fn no_job_is_left_lying_by_a_worker_that_leaves() {
    check(Workers::Impatient, Flaw::None, 1);
}

#[test]
fn no_job_is_left_lying_by_a_sweep() {
    check(Workers::Swept, Flaw::None, 1);
}

#[test]
fn no_job_waits_for_a_blocked_worker_while_another_is_idle() {
    check(Workers::Blocking, Flaw::None, 1);
}

fn assert_found(workers: Workers, flaw: Flaw, preemptions: usize) {
    let found = std::panic::catch_unwind(|| check(workers, flaw, preemptions));
    assert!(found.is_err(), "{flaw:?} was not found");
}

#[test]
fn a_missing_fence_or_look_is_found() {
    for (workers, flaw) in [
        (Workers::Plain, Flaw::PushWithoutFence),
        (Workers::Plain, Flaw::IdleWithoutFence),
        (Workers::Plain, Flaw::IdleWithoutLook),
        (Workers::Quick, Flaw::IdleStaysHot),
    ] {
        assert_found(workers, flaw, 1);
    }
}

#[test]
fn a_search_given_up_without_fence_or_look_is_found() {
    assert_found(Workers::Blocking, Flaw::GiveUpWithoutFence, 2);
    assert_found(Workers::Blocking, Flaw::RunningWithoutLook, 2);
}

#[test]
fn a_sweep_that_wakes_nobody_is_found() {
    assert_found(Workers::Swept, Flaw::SweepWithoutWake, 2);
}

/// The look in `wake_one` after a vain pop is not among the flaws: to miss it takes more switches than can be run through.
#[test]
#[ignore = "takes ten seconds; to be run when pace.rs changes"]
fn yielding_to_a_worker_that_is_hot_no_more_is_found() {
    assert_found(Workers::Quick, Flaw::YieldsWithoutLook, 2);
}
