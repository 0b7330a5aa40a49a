//! Models of the hand-overs of WebSockets, run through their interleavings and weak memory by loom.
//!
//! They restate `src/link.rs` (the upgrade), `src/server.rs` (the watch, asked for by any thread), `src/websocket/gather.rs`
//! (frames that are held) and `src/websocket/inbox.rs` (who tells the events); they do not run them, see `model_queue.rs` for
//! why. Each [`Flaw`] takes one step out, and must be found.

use std::sync::Arc;

use loom::sync::Mutex;
use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, fence};
use loom::thread;

use crate::model::{lock, model};

mod model;

/// One step that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// Who has put the socket down does not look whether the connection is lost.
    UpgradeWithoutLook,
    /// The watch ends without a look at what relies on it.
    WatchEndsBlindly,
    /// Who relies on the watch looks whether it is kept before that can be seen.
    RelianceAfterLook,
    /// The worker that finds no event says in a second step that the socket is free.
    FreeInTwoSteps,
}

// ---- the upgrade: a worker puts the socket down while the IO task gives the connection up

const BUSY: u32 = 1;
const GONE: u32 = 1 << 4;
const UPGRADED: u32 = 1 << 10;

fn check_upgrade(flaw: Flaw) {
    model(move || {
        let state = Arc::new(AtomicU32::new(BUSY));
        let slot = Arc::new(Mutex::new(false));
        let worker = {
            let (state, slot) = (Arc::clone(&state), Arc::clone(&slot));
            thread::spawn(move || {
                *lock(&slot) = true;
                state.fetch_or(UPGRADED, Ordering::AcqRel);
                state.fetch_and(!BUSY, Ordering::AcqRel);
                let is_lost = flaw != Flaw::UpgradeWithoutLook && state.load(Ordering::Acquire) & GONE != 0;
                u32::from(is_lost && std::mem::take(&mut *lock(&slot)))
            })
        };
        // `Place::drop`: the connection is lost.
        if state.load(Ordering::Acquire) & (BUSY | UPGRADED) != 0 {
            state.fetch_or(GONE, Ordering::AcqRel);
        }
        let taken = u32::from(std::mem::take(&mut *lock(&slot)));
        let answered_for = taken + worker.join().expect("no worker panics");
        assert_eq!(answered_for, 1, "the socket is left lying, or two answer for it");
    });
}

#[test]
fn a_socket_whose_client_has_gone_is_discarded_once() {
    check_upgrade(Flaw::None);
}

// ---- the watch: something relies on it that another thread has made known

struct Watched {
    flaw: Flaw,
    watching: AtomicBool,
    told: AtomicUsize,
    /// What relies on the watch: a job that wakes nobody, or frames that are held.
    relied_on: Mutex<bool>,
}

impl Watched {
    /// `Shared::keep_watch`, after the job is in the queue.
    fn defer(&self) {
        if self.flaw == Flaw::RelianceAfterLook {
            self.keep_watch();
        }
        *lock(&self.relied_on) = true;
        fence(Ordering::SeqCst);
        if self.flaw != Flaw::RelianceAfterLook {
            self.keep_watch();
        }
    }

    fn keep_watch(&self) {
        if !self.watching.load(Ordering::Relaxed) && !self.watching.swap(true, Ordering::AcqRel) {
            self.told.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// `Gathered::begin`: true if frames are held.
    fn hold(&self) -> bool {
        if self.flaw == Flaw::RelianceAfterLook {
            let is_watching = self.watching.load(Ordering::Relaxed);
            *lock(&self.relied_on) = is_watching;
            return is_watching;
        }
        *lock(&self.relied_on) = true;
        fence(Ordering::SeqCst);
        let is_watching = self.watching.load(Ordering::Relaxed);
        if !is_watching {
            *lock(&self.relied_on) = false;
        }
        is_watching
    }

    /// `Shared::must_watch_on`.
    fn must_watch_on(&self) -> bool {
        if self.flaw == Flaw::WatchEndsBlindly {
            self.watching.store(false, Ordering::Relaxed);
            return false;
        }
        self.watching.store(false, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        *lock(&self.relied_on) && !self.watching.swap(true, Ordering::AcqRel)
    }
}

fn watched(flaw: Flaw) -> Arc<Watched> {
    Arc::new(Watched { flaw, watching: AtomicBool::new(true), told: AtomicUsize::new(0), relied_on: Mutex::new(false) })
}

fn check_deferred(flaw: Flaw) {
    model(move || {
        let watched = watched(flaw);
        let worker = {
            let watched = Arc::clone(&watched);
            thread::spawn(move || watched.defer())
        };
        let goes_on = watched.must_watch_on();
        worker.join().expect("no worker panics");
        // The IO thread goes on with its watch, or is told to begin it anew.
        assert!(goes_on || watched.told.load(Ordering::Acquire) > 0, "a job is left without a watch");
    });
}

fn check_held(flaw: Flaw) {
    model(move || {
        let watched = watched(flaw);
        let worker = {
            let watched = Arc::clone(&watched);
            thread::spawn(move || watched.hold())
        };
        let goes_on = watched.must_watch_on();
        let is_held = worker.join().expect("no worker panics");
        assert!(goes_on || !is_held, "frames are held and nobody watches");
    });
}

#[test]
fn what_relies_on_the_watch_is_watched() {
    check_deferred(Flaw::None);
    check_held(Flaw::None);
}

// ---- the inbox: a message comes while the worker finds none

struct Inbox {
    flaw: Flaw,
    /// Messages that wait, and whether the socket is scheduled.
    state: Mutex<(u32, bool)>,
    /// Times that it stands in the queue.
    queued: AtomicU32,
    inside: AtomicU32,
}

impl Inbox {
    fn push(&self) {
        let mut state = lock(&self.state);
        state.0 += 1;
        if !std::mem::replace(&mut state.1, true) {
            self.queued.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// A worker that has taken the socket from the queue, if it stands there; returns how many messages it told.
    fn tell(&self) -> u32 {
        let take = |count: u32| count.checked_sub(1);
        if self.queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_err() {
            return 0;
        }
        let mut told = 0;
        loop {
            let mut state = lock(&self.state);
            if state.0 == 0 {
                if self.flaw == Flaw::FreeInTwoSteps {
                    drop(state);
                    state = lock(&self.state);
                }
                state.1 = false;
                return told;
            }
            state.0 -= 1;
            drop(state);
            assert_eq!(self.inside.fetch_add(1, Ordering::AcqRel), 0, "two workers tell the events of a socket");
            told += 1;
            self.inside.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

fn check_inbox(flaw: Flaw) {
    model(move || {
        let inbox = Arc::new(Inbox {
            flaw,
            state: Mutex::new((0, false)),
            queued: AtomicU32::new(0),
            inside: AtomicU32::new(0),
        });
        inbox.push();
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || inbox.tell())
            })
            .collect();
        inbox.push();
        let told: u32 = workers.into_iter().map(|worker| worker.join().expect("no worker panics")).sum();
        // What is not told yet stands in the queue.
        assert_eq!(told + inbox.tell(), 2, "a message is left lying");
    });
}

#[test]
fn a_message_is_told_by_one_worker() {
    check_inbox(Flaw::None);
}

#[test]
fn every_flaw_is_found() {
    let checks: [(Flaw, fn(Flaw)); 6] = [
        (Flaw::UpgradeWithoutLook, check_upgrade),
        (Flaw::WatchEndsBlindly, check_deferred),
        (Flaw::WatchEndsBlindly, check_held),
        (Flaw::RelianceAfterLook, check_deferred),
        (Flaw::RelianceAfterLook, check_held),
        (Flaw::FreeInTwoSteps, check_inbox),
    ];
    for (flaw, check) in checks {
        assert!(std::panic::catch_unwind(|| check(flaw)).is_err(), "{flaw:?} was not found");
    }
}
