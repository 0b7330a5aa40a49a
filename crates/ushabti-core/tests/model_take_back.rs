//! A model of how the IO task takes an exchange back from a worker, run through its interleavings by loom.
//!
//! It restates `src/link/exchange.rs` and the stage of `src/request.rs`, it does not run them (see `model_queue.rs` for why).
//! The IO task answers for the worker that is late, then begins the next exchange of the same connection, which another
//! worker answers. What reaches the client is written down in order: two answers, each whole, each to its own exchange.
//! Each [`Flaw`] takes one step out, and must be found.

use std::sync::Arc;

use loom::model::Builder;
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use loom::thread;

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const GIVEN_UP: u8 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// The worker looks at the number before it takes the lock.
    LookOutsideOfLock,
    /// The first byte does not say that the answer has begun.
    BeginningNotNoted,
    /// The IO task answers without another number.
    NumberKept,
    /// A request that was given up is answered by the worker that meets it.
    GivenUpIsAnswered,
}

#[derive(Default)]
struct Outbox {
    answering: u32,
    /// Which exchange each piece that reached the client was for: first pieces, then last ones as the number plus 100.
    wire: Vec<u32>,
}

struct Link {
    flaw: Flaw,
    exchange: AtomicU32,
    stage: AtomicU8,
    outbox: Mutex<Outbox>,
}

impl Link {
    fn new(flaw: Flaw) -> Self {
        Self { flaw, exchange: AtomicU32::new(1), stage: AtomicU8::new(WAITING), outbox: Mutex::default() }
    }

    /// `Link::send` of one piece; `meant` is the exchange that the client takes it for.
    fn send(&self, exchange: u32, piece: u32) -> bool {
        let seen = self.exchange.load(Ordering::Relaxed);
        let mut outbox = self.outbox.lock().expect("no thread panics with this lock");
        let seen = if self.flaw == Flaw::LookOutsideOfLock { seen } else { self.exchange.load(Ordering::Relaxed) };
        if seen != exchange {
            return false;
        }
        if self.flaw != Flaw::BeginningNotNoted {
            outbox.answering = exchange;
        }
        outbox.wire.push(piece);
        true
    }

    /// A worker that answers in two pieces.
    fn work(&self, exchange: u32) {
        let begun = self.stage.compare_exchange(WAITING, BEGUN, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if (begun || self.flaw == Flaw::GivenUpIsAnswered) && self.send(exchange, 1) {
            self.send(exchange, 101);
        }
    }

    /// The IO task, at the deadline. True: it has answered.
    fn take_back(&self) -> bool {
        let _ = self.stage.compare_exchange(WAITING, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire);
        let outbox = self.outbox.lock().expect("no thread panics with this lock");
        let exchange = self.exchange.load(Ordering::Relaxed);
        if outbox.answering == exchange {
            return false;
        }
        if self.flaw != Flaw::NumberKept {
            self.exchange.store(exchange + 1, Ordering::Relaxed);
        }
        drop(outbox);
        let exchange = self.exchange.load(Ordering::Relaxed);
        assert!(self.send(exchange, 1) && self.send(exchange, 101));
        true
    }
}

fn run(flaw: Flaw) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(move || {
        let link = Arc::new(Link::new(flaw));
        let worker = {
            let link = Arc::clone(&link);
            thread::spawn(move || link.work(1))
        };
        let taken = link.take_back();
        if taken {
            // The answer is out: the next exchange begins, and somebody answers that.
            let next = link.exchange.load(Ordering::Relaxed) + 1;
            link.exchange.store(next, Ordering::Relaxed);
            assert!(link.send(next, 2) && link.send(next, 102));
        }
        worker.join().expect("the worker does not panic");
        let wire = link.outbox.lock().expect("no thread panics with this lock").wire.clone();
        assert_eq!(wire, if taken { vec![1, 101, 2, 102] } else { vec![1, 101] });
    });
}

#[test]
fn each_exchange_has_one_answer() {
    run(Flaw::None);
}

#[test]
#[should_panic(expected = "assertion")]
fn a_look_outside_of_the_lock_is_found() {
    run(Flaw::LookOutsideOfLock);
}

#[test]
#[should_panic(expected = "assertion")]
fn a_beginning_that_is_not_noted_is_found() {
    run(Flaw::BeginningNotNoted);
}

#[test]
#[should_panic(expected = "assertion")]
fn a_number_that_is_kept_is_found() {
    run(Flaw::NumberKept);
}

#[test]
fn a_request_that_was_given_up_needs_no_stage_to_stay_unanswered() {
    // The stage decides only whether a handler is called; the number alone keeps a second answer away.
    run(Flaw::GivenUpIsAnswered);
}
