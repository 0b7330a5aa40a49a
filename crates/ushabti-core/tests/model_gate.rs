//! A model of the gate before a route, run through its interleavings by loom.
//!
//! It restates `Gate`, `Permit` and `admit` of `src/admission.rs`, it does not run them (see `model_queue.rs` for why).
//! The IO thread lets requests in while workers run those that are in and drop their permits, and a stop may close the gate.
//! At no moment are there more inside than places; and when all is over nobody waits, every place is free, and every
//! request was run or taken out by the stop, once. Each [`Flaw`] takes one step out, and must be found.

use std::collections::VecDeque;
use std::sync::Arc;

use loom::model::Builder;
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

const REQUESTS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// The IO thread looks for a place, and waits for one, under the lock taken twice.
    WaitsWithoutLook,
    /// A permit is dropped with a look at who waits before the lock is taken.
    DropLooksEarly,
    /// A place that is handed on is freed as well.
    HandedOnAndFreed,
    /// A stop leaves those to their permits that wait when it comes.
    LeftAtTheGate,
}

#[derive(Default)]
struct AtGate {
    taken: usize,
    waiting: VecDeque<usize>,
    closed: bool,
}

struct Gate {
    flaw: Flaw,
    places: usize,
    inner: Mutex<AtGate>,
    inside: AtomicUsize,
    /// The lane's queue, which has no bound here.
    queue: Mutex<VecDeque<usize>>,
    /// What became of each request: how often it was run, or taken out.
    ended: Mutex<[usize; REQUESTS]>,
}

impl Gate {
    fn new(flaw: Flaw, places: usize) -> Self {
        Self {
            flaw,
            places,
            inner: Mutex::default(),
            inside: AtomicUsize::new(0),
            queue: Mutex::default(),
            ended: Mutex::default(),
        }
    }

    fn push(&self, request: usize) {
        let inside = self.inside.fetch_add(1, Ordering::Relaxed) + 1;
        assert!(inside <= self.places, "{inside} are inside");
        self.queue.lock().expect("no thread panics with this lock").push_back(request);
    }

    fn end(&self, request: usize) {
        self.ended.lock().expect("no thread panics with this lock")[request] += 1;
    }

    /// `Shared::admit`.
    fn admit(&self, request: usize) {
        let mut inner = self.inner.lock().expect("no thread panics with this lock");
        if inner.taken >= self.places {
            if self.flaw == Flaw::WaitsWithoutLook {
                drop(inner);
                inner = self.inner.lock().expect("no thread panics with this lock");
            }
            if inner.closed {
                drop(inner);
                return self.end(request);
            }
            return inner.waiting.push_back(request);
        }
        inner.taken += 1;
        drop(inner);
        self.push(request);
    }

    /// A worker that takes a request, runs it, and drops the permit. False: there was none.
    fn work(&self) -> bool {
        let Some(request) = self.queue.lock().expect("no thread panics with this lock").pop_front() else {
            return false;
        };
        self.end(request);
        self.drop_permit();
        true
    }

    /// `Permit::drop`.
    fn drop_permit(&self) {
        self.inside.fetch_sub(1, Ordering::Relaxed);
        if self.flaw == Flaw::DropLooksEarly
            && self.inner.lock().expect("no thread panics with this lock").waiting.is_empty()
        {
            self.inner.lock().expect("no thread panics with this lock").taken -= 1;
            return;
        }
        let mut inner = self.inner.lock().expect("no thread panics with this lock");
        let next = if inner.closed { None } else { inner.waiting.pop_front() };
        if next.is_none() || self.flaw == Flaw::HandedOnAndFreed {
            inner.taken -= 1;
        }
        drop(inner);
        if let Some(next) = next {
            self.push(next);
        }
    }

    /// The gate's part of `Shared::close_lanes`.
    fn close(&self) {
        let mut inner = self.inner.lock().expect("no thread panics with this lock");
        inner.closed = true;
        let left: Vec<_> =
            if self.flaw == Flaw::LeftAtTheGate { Vec::new() } else { inner.waiting.drain(..).collect() };
        drop(inner);
        for request in left {
            self.end(request);
        }
    }
}

/// The IO thread admits all; two workers take what they find. With `stop` the gate is closed then.
fn check(flaw: Flaw, places: usize, stop: bool) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let gate = Arc::new(Gate::new(flaw, places));
        gate.admit(0);
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let gate = Arc::clone(&gate);
                thread::spawn(move || while gate.work() {})
            })
            .collect();
        for request in 1..REQUESTS {
            gate.admit(request);
        }
        if stop {
            gate.close();
        }
        for worker in workers {
            worker.join().expect("no worker panics");
        }
        while gate.work() {}
        let inner = gate.inner.lock().expect("no thread panics with this lock");
        assert_eq!((inner.taken, inner.waiting.len()), (0, 0), "a place is taken, or somebody waits for one");
        assert_eq!(*gate.ended.lock().expect("no thread panics with this lock"), [1; REQUESTS]);
    });
}

#[test]
fn nobody_waits_while_a_place_is_free() {
    check(Flaw::None, 1, false);
    check(Flaw::None, 2, false);
}

#[test]
fn a_stop_takes_out_who_waits_or_a_permit_lets_them_in() {
    check(Flaw::None, 1, true);
}

#[test]
fn every_flaw_is_found() {
    for (flaw, stop) in [
        (Flaw::WaitsWithoutLook, false),
        (Flaw::DropLooksEarly, false),
        (Flaw::HandedOnAndFreed, false),
        (Flaw::LeftAtTheGate, true),
    ] {
        let found = std::panic::catch_unwind(|| check(flaw, 1, stop));
        assert!(found.is_err(), "{flaw:?} was not found");
    }
}
