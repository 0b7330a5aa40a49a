//! A model of how a thread comes to be told that a client has left, run through its interleavings and weak memory by loom.
//!
//! It restates `watch_client`, `tell_watcher`, `next` and `begin` of `src/link/turn.rs`, it does not run
//! them (see `model_queue.rs` for why). A worker that is late asks to be told while the IO task answers for it, tells whom it
//! finds, and begins the next exchange, whose worker asks as well; then the client leaves, or does not. The late one is told
//! once, and the other once if the client leaves and never if it stays. Each [`Flaw`] takes one step out, and must be found.

use std::sync::Arc;

use loom::model::Builder;
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::thread;

const HALF_CLOSED: u32 = 1;
const GONE: u32 = 1 << 1;

const NUMBER: u64 = 0xffff_ffff;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// The number is written whatever the exchange is by then.
    ExchangeNotCompared,
    /// The watcher looks at the state before it writes the number.
    LookBeforeWrite,
    /// There is no fence between the watcher's write and its look.
    NoFenceOfWatcher,
    /// There is no fence between the word that the client has left and the look for a watcher.
    NoFenceOfTeller,
    /// The number is read and cleared in two steps.
    TakenInTwoSteps,
    /// The next exchange begins with the number of the one before.
    NotCleared,
    /// The next exchange clears the number of one that was taken back without a look.
    ClearedUntold,
    /// A watcher that finds its exchange taken back takes whatever number is there.
    TakesOfOthers,
}

struct Link {
    flaw: Flaw,
    state: AtomicU32,
    exchange: AtomicU64,
    watched: AtomicU64,
    told: Mutex<Vec<u64>>,
}

impl Link {
    fn new(flaw: Flaw) -> Self {
        Self {
            flaw,
            state: AtomicU32::new(0),
            exchange: AtomicU64::new(1),
            watched: AtomicU64::new(1 << 32),
            told: Mutex::default(),
        }
    }

    /// `take_back`, and the answer that the IO task gives then.
    fn take_back(&self) {
        self.exchange.store(2, Ordering::Relaxed);
        self.tell_watcher();
    }

    fn begin_exchange(&self, exchange: u64) {
        let before = self.exchange.load(Ordering::Relaxed);
        self.exchange.store(exchange, Ordering::Relaxed);
        if self.flaw == Flaw::NotCleared {
            return;
        }
        let is_taken_back = self.watched.load(Ordering::Relaxed) >> 32 != before;
        // A store in the source, where it was not taken back. Loom lets a store come between the two halves of another
        // thread's read-modify-write, which no machine does; a swap it keeps apart.
        let watched = self.watched.swap(exchange << 32, Ordering::Relaxed);
        if is_taken_back && self.flaw != Flaw::ClearedUntold {
            self.tell(watched);
        }
    }

    fn watch_client(&self, exchange: u64, number: u64) {
        if self.flaw == Flaw::LookBeforeWrite {
            self.look();
        }
        let mut before = self.watched.load(Ordering::Relaxed);
        let wanted = exchange << 32 | number;
        if self.flaw == Flaw::ExchangeNotCompared {
            if before >> 32 == exchange {
                self.watched.store(wanted, Ordering::Relaxed);
            }
        } else {
            loop {
                if before >> 32 != exchange {
                    return self.tell(number);
                }
                match self.watched.compare_exchange(before, wanted, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => break,
                    Err(other) => before = other,
                }
            }
        }
        if self.flaw != Flaw::NoFenceOfWatcher {
            fence(Ordering::SeqCst);
        }
        if self.flaw != Flaw::LookBeforeWrite {
            self.look();
        }
        if !self.has_left() && self.exchange.load(Ordering::Relaxed) != exchange {
            if self.flaw == Flaw::TakesOfOthers {
                self.tell_watcher();
            } else if self
                .watched
                .compare_exchange(wanted, exchange << 32, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
            {
                self.tell(wanted);
            }
        }
    }

    fn has_left(&self) -> bool {
        self.state.load(Ordering::Acquire) & (GONE | HALF_CLOSED) != 0
    }

    fn look(&self) {
        if self.has_left() {
            self.tell_watcher();
        }
    }

    fn tell_watcher(&self) {
        if self.flaw != Flaw::NoFenceOfTeller {
            fence(Ordering::SeqCst);
        }
        let seen = self.watched.load(Ordering::Relaxed) & NUMBER;
        if seen == 0 {
            return;
        }
        let number = if self.flaw == Flaw::TakenInTwoSteps {
            self.watched.store(0, Ordering::Relaxed);
            seen
        } else {
            self.watched.fetch_and(!NUMBER, Ordering::Relaxed) & NUMBER
        };
        self.tell(number);
    }

    fn tell(&self, watched: u64) {
        if watched & NUMBER != 0 {
            self.told.lock().expect("no thread panics with this lock").push(watched & NUMBER);
        }
    }

    /// `half_closed` and `abandon`: the client ends its side, then is lost.
    fn leave(&self) {
        for bit in [HALF_CLOSED, GONE] {
            self.state.fetch_or(bit, Ordering::AcqRel);
            self.tell_watcher();
        }
    }

    fn told(&self, number: u64) -> usize {
        let told = self.told.lock().expect("no thread panics with this lock");
        told.iter().filter(|&&other| other == number).count()
    }
}

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(model);
}

/// One exchange, a worker that asks to be told, and a client that leaves.
fn one_exchange(flaw: Flaw) {
    check(move || {
        let link = Arc::new(Link::new(flaw));
        let worker = {
            let link = Arc::clone(&link);
            thread::spawn(move || link.watch_client(1, 7))
        };
        link.leave();
        worker.join().expect("no thread panics");
        assert_eq!(link.told(7), 1, "it is told once");
    });
}

/// A late worker, and the exchange after its own.
fn two_exchanges(flaw: Flaw, leaves: bool) {
    check(move || {
        let link = Arc::new(Link::new(flaw));
        let late = {
            let link = Arc::clone(&link);
            thread::spawn(move || link.watch_client(1, 7))
        };
        link.take_back();
        link.begin_exchange(3);
        if leaves {
            let next = {
                let link = Arc::clone(&link);
                thread::spawn(move || link.watch_client(3, 8))
            };
            link.leave();
            next.join().expect("no thread panics");
        } else {
            link.watch_client(3, 8);
        }
        late.join().expect("no thread panics");
        assert_eq!(
            link.told(8),
            usize::from(leaves),
            "the exchange that the client left in is told once, and no other"
        );
        assert_eq!(link.told(7), 1, "nobody waits for the answer of the late one");
    });
}

fn with_one_that_leaves(flaw: Flaw) {
    two_exchanges(flaw, true);
}

fn with_one_that_stays(flaw: Flaw) {
    two_exchanges(flaw, false);
}

#[test]
fn who_asks_is_told_when_the_client_leaves() {
    one_exchange(Flaw::None);
}

#[test]
fn a_late_worker_is_told_and_does_not_silence_the_next_exchange() {
    with_one_that_leaves(Flaw::None);
    with_one_that_stays(Flaw::None);
}

#[test]
fn every_flaw_is_found() {
    for (flaw, model) in [
        (Flaw::LookBeforeWrite, one_exchange as fn(Flaw)),
        (Flaw::NoFenceOfWatcher, one_exchange),
        (Flaw::NoFenceOfTeller, one_exchange),
        (Flaw::TakenInTwoSteps, one_exchange),
        (Flaw::ExchangeNotCompared, with_one_that_leaves),
        (Flaw::NotCleared, with_one_that_stays),
        (Flaw::ClearedUntold, with_one_that_stays),
        (Flaw::TakesOfOthers, with_one_that_stays),
    ] {
        let found = std::panic::catch_unwind(|| model(flaw));
        assert!(found.is_err(), "{flaw:?} was not found");
    }
}
