//! A model of what an IO task and a worker share, run through its interleavings and weak memory by loom.
//!
//! It restates `src/link.rs`, it does not run it (see `model_queue.rs` for why, and why loom). Names and orderings are the
//! same. What differs:
//!
//! - The socket is a flag: it takes bytes at once, or only from the IO task. Sizes are a byte or two, and so are the bounds
//!   of the outbox. The bytes of a following request are there when the task first looks.
//! - The waker is a lock and a flag instead of `AtomicWaker`, which promises the same order.
//! - `wait_for_room` has no second to fall back on.
//!
//! A wake that is lost leaves a thread asleep for ever, which loom reports as a deadlock. Each [`Flaw`] takes one step out,
//! and must be found.

use std::sync::Arc;

use loom::model::Builder;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;

const BUSY: u32 = 1;
const WAKE: u32 = 1 << 1;
const QUEUED: u32 = 1 << 2;
const CLOSE: u32 = 1 << 3;
const GONE: u32 = 1 << 4;

const OUTBOX_HIGH: usize = 2;
const OUTBOX_LOW: usize = 1;

/// One step of the protocol that is left out or done otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// The task that has read a following request does not ask for a wake.
    NoWakeAsked,
    /// The task looks at the state before it registers its waker.
    RegisterAfterLook,
    /// The worker reads `WAKE` and clears `BUSY` in two steps.
    EndInTwoSteps,
    /// The worker sets `QUEUED` after it has called the waker.
    QueuedAfterWake,
    /// The flush clears `QUEUED` after it has let go of the outbox.
    QueuedClearedLate,
    /// Giving the connection up does not notify a worker that waits for room.
    AbandonWithoutNotice,
}

/// How the worker answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// The socket takes all of it.
    Direct { close: bool },
    /// The socket takes none of it: the IO task writes.
    Queued { close: bool },
    /// Two pieces, the first of which is queued; the socket takes the other at once, if the queue is empty, or does not.
    Streamed { last_is_taken: bool },
    /// A piece for which the client has no room, until the IO task gives the connection up.
    Abandoned,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wake {
    Bytes,
    Finished { close: bool },
}

#[derive(Default)]
struct Outbox {
    bytes: usize,
    end: Option<bool>,
}

struct Link {
    flaw: Flaw,
    state: AtomicU32,
    /// A waker is registered.
    task: Mutex<bool>,
    /// The task is to be polled.
    woken: Mutex<bool>,
    runtime: Condvar,
    outbox: Mutex<Outbox>,
    room: Condvar,
}

impl Link {
    fn new(flaw: Flaw) -> Self {
        Self {
            flaw,
            state: AtomicU32::new(0),
            task: Mutex::new(false),
            woken: Mutex::new(false),
            runtime: Condvar::new(),
            outbox: Mutex::new(Outbox::default()),
            room: Condvar::new(),
        }
    }

    fn lacks(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    // ---- `AtomicWaker` and the runtime

    fn register(&self) {
        *self.task.lock().expect("no thread panics with this lock") = true;
    }

    fn wake(&self) {
        if std::mem::take(&mut *self.task.lock().expect("no thread panics with this lock")) {
            *self.woken.lock().expect("no thread panics with this lock") = true;
            self.runtime.notify_one();
        }
    }

    fn sleep(&self) {
        let mut woken = self.woken.lock().expect("no thread panics with this lock");
        while !*woken {
            woken = self.runtime.wait(woken).expect("no thread panics with this lock");
        }
        *woken = false;
    }

    // ---- the IO task

    fn poll_wait(&self, read: bool) -> Option<Wake> {
        if !self.lacks(Flaw::RegisterAfterLook) {
            self.register();
        }
        let mut state = self.state.load(Ordering::Acquire);
        if self.lacks(Flaw::RegisterAfterLook) {
            self.register();
        }
        if state & QUEUED != 0 {
            self.flush();
            state = self.state.load(Ordering::Acquire);
        }
        if state & (BUSY | QUEUED) == 0 {
            self.state.fetch_and(!WAKE, Ordering::AcqRel);
            return Some(Wake::Finished { close: state & CLOSE != 0 });
        }
        read.then_some(Wake::Bytes)
    }

    fn flush(&self) {
        loop {
            let mut outbox = self.outbox.lock().expect("no thread panics with this lock");
            if outbox.bytes == 0 {
                let end = outbox.end.take();
                if !self.lacks(Flaw::QueuedClearedLate) {
                    self.state.fetch_and(!QUEUED, Ordering::AcqRel);
                }
                drop(outbox);
                if self.lacks(Flaw::QueuedClearedLate) {
                    self.state.fetch_and(!QUEUED, Ordering::AcqRel);
                }
                self.room.notify_all();
                if let Some(close) = end {
                    self.end_exchange(close);
                }
                return;
            }
            outbox.bytes -= 1;
            let rest = outbox.bytes;
            drop(outbox);
            if rest < OUTBOX_LOW {
                self.room.notify_all();
            }
        }
    }

    fn abandon(&self) {
        self.state.fetch_or(GONE, Ordering::AcqRel);
        let mut outbox = self.outbox.lock().expect("no thread panics with this lock");
        *outbox = Outbox::default();
        drop(outbox);
        if !self.lacks(Flaw::AbandonWithoutNotice) {
            self.room.notify_all();
        }
    }

    /// Serves one exchange whose request is with a worker; returns whether it closes the connection.
    fn answer(&self, mut read: bool) -> bool {
        loop {
            match self.poll_wait(read) {
                Some(Wake::Finished { close }) => return close,
                Some(Wake::Bytes) => {
                    read = false;
                    if !self.lacks(Flaw::NoWakeAsked) {
                        self.state.fetch_or(WAKE, Ordering::AcqRel);
                    }
                }
                None => self.sleep(),
            }
        }
    }

    // ---- the worker

    /// `end`: these are the last bytes, and whether they close.
    fn send(&self, bytes: usize, is_taken: bool, end: Option<bool>) -> bool {
        let mut outbox = self.outbox.lock().expect("no thread panics with this lock");
        if self.state.load(Ordering::Acquire) & GONE != 0 {
            drop(outbox);
            self.end_exchange(true);
            return false;
        }
        if outbox.bytes == 0 && is_taken {
            drop(outbox);
            if let Some(close) = end {
                self.end_exchange(close);
            }
            return true;
        }
        outbox.bytes += bytes;
        outbox.end = end;
        if !self.lacks(Flaw::QueuedAfterWake) {
            self.state.fetch_or(QUEUED, Ordering::AcqRel);
        }
        drop(outbox);
        self.wake();
        if self.lacks(Flaw::QueuedAfterWake) {
            self.state.fetch_or(QUEUED, Ordering::AcqRel);
        }
        true
    }

    fn wait_for_room(&self) {
        let mut outbox = self.outbox.lock().expect("no thread panics with this lock");
        if outbox.bytes >= OUTBOX_HIGH {
            while outbox.bytes >= OUTBOX_LOW && self.state.load(Ordering::Acquire) & GONE == 0 {
                outbox = self.room.wait(outbox).expect("no thread panics with this lock");
            }
        }
    }

    fn end_exchange(&self, close: bool) {
        if close {
            self.state.fetch_or(CLOSE, Ordering::AcqRel);
        }
        let before = if self.lacks(Flaw::EndInTwoSteps) {
            let before = self.state.load(Ordering::Acquire);
            self.state.fetch_and(!(BUSY | WAKE), Ordering::AcqRel);
            before
        } else {
            self.state.fetch_and(!(BUSY | WAKE), Ordering::AcqRel)
        };
        if close || before & WAKE != 0 {
            self.wake();
        }
    }

    fn respond(&self, answer: Answer) {
        match answer {
            Answer::Direct { close } => self.send(1, true, Some(close)),
            Answer::Queued { close } => self.send(1, false, Some(close)),
            Answer::Streamed { last_is_taken } => {
                self.send(2, false, None);
                self.wait_for_room();
                self.send(1, last_is_taken, Some(false))
            }
            Answer::Abandoned => {
                self.send(2, false, None);
                self.wait_for_room();
                self.send(1, true, Some(false))
            }
        };
    }
}

/// How an exchange begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// The bytes of a following request come meanwhile.
    Reading,
    /// Nothing is read, so the task has asked for the wake at the beginning.
    Asked,
}

/// Two exchanges of one connection, the second after the first, each with a worker of its own.
fn check(begin: Begin, answers: [Answer; 2], flaw: Flaw) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let link = Arc::new(Link::new(flaw));
        for answer in answers {
            link.state.fetch_or(if begin == Begin::Asked { BUSY | WAKE } else { BUSY }, Ordering::AcqRel);
            let worker = {
                let link = Arc::clone(&link);
                thread::spawn(move || link.respond(answer))
            };
            if answer == Answer::Abandoned {
                link.abandon();
                worker.join().expect("no worker panics");
                return;
            }
            let closes = matches!(answer, Answer::Direct { close: true } | Answer::Queued { close: true });
            assert_eq!(link.answer(begin == Begin::Reading), closes);
            // Nothing of this exchange is left for the next one.
            assert_eq!(link.outbox.lock().expect("no thread panics with this lock").bytes, 0);
            worker.join().expect("no worker panics");
            if closes {
                return;
            }
        }
    });
}

const DIRECT: Answer = Answer::Direct { close: false };
const QUEUED_ANSWER: Answer = Answer::Queued { close: false };

#[test]
fn the_end_of_an_exchange_reaches_the_task() {
    for answers in [
        [DIRECT, Answer::Direct { close: true }],
        [DIRECT, QUEUED_ANSWER],
        [QUEUED_ANSWER, DIRECT],
        [Answer::Streamed { last_is_taken: true }, Answer::Queued { close: true }],
        [Answer::Streamed { last_is_taken: false }, DIRECT],
    ] {
        check(Begin::Reading, answers, Flaw::None);
        check(Begin::Asked, answers, Flaw::None);
    }
}

#[test]
fn a_worker_that_waits_for_room_is_let_go_when_the_connection_is_given_up() {
    check(Begin::Reading, [Answer::Abandoned, DIRECT], Flaw::None);
}

#[test]
fn every_flaw_is_found() {
    for (begin, answer, flaw) in [
        (Begin::Reading, DIRECT, Flaw::NoWakeAsked),
        (Begin::Asked, DIRECT, Flaw::RegisterAfterLook),
        (Begin::Reading, DIRECT, Flaw::EndInTwoSteps),
        (Begin::Asked, QUEUED_ANSWER, Flaw::QueuedAfterWake),
        (Begin::Reading, Answer::Streamed { last_is_taken: false }, Flaw::QueuedClearedLate),
        (Begin::Reading, Answer::Abandoned, Flaw::AbandonWithoutNotice),
    ] {
        let found = std::panic::catch_unwind(|| check(begin, [answer, Answer::Direct { close: true }], flaw));
        assert!(found.is_err(), "{flaw:?} was not found");
    }
}
