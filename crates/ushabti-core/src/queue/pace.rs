//! When handlers are over before another worker would be awake.
//!
//! Under the GIL, a second worker beside one whose handlers take microseconds only costs: the two hand the lock to and
//! fro, with two context switches for each request. So while handlers are *quick* a push wakes nobody if there is a *hot*
//! worker, the one that began a job last: it comes back for the next one sooner than another could begin it. A handler
//! that suddenly takes long is noticed by the watch, a tick of the IO thread ([`Queue::tick`]): jobs wait and none was
//! taken for two ticks, so the time of quick handlers is over, nobody is hot, and somebody is woken.
//!
//! Why no job is left lying: H (who is hot) is one more word of the protocol. A worker that goes idle clears H, if it is the
//! hot one, before it writes I and passes its fence; a push reads H after its own. So a push that sees the worker hot is
//! seen by the worker when it looks at J for the last time. If the hot worker is stuck in a handler instead, the watch
//! wakes another: a push that wakes nobody tells its caller to keep it. `running` relies on the watch only when it sees the
//! flag W (watched). The watch ends by clearing W, a full fence, and a look at J; `running` has J in sight when it reads W.
//! So either `running` sees W cleared and wakes, or the watch sees the job and goes on.
//!
//! # Turns that were long in coming
//!
//! Beside handlers that compute for long, a worker waits for its turn under the GIL: once for each of them, up to the
//! interpreter's switch interval. When the turn has come it runs all that is ready, and looks out for more for some
//! microseconds (`linger`), and nobody is woken meanwhile (flag T, a turn goes on): another worker would have to wait as
//! long. A turn that gets stuck is seen by the same watch, which clears T as well.
//!
//! Where several handlers compute, the lock goes around among all who wait for it. One waiting worker gets one turn in as
//! many as there are of them; so the watch, when nothing was taken for two ticks, wakes another beside the searcher, up to a
//! bound. That costs less than a still shorter switch interval would: it adds short turns and cuts no long ones.

use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use super::{Queue, Seat, Waiting};
use crate::jitter;

/// A handler that is over in this time is quick.
const QUICK: Duration = Duration::from_micros(200);
/// For so long after a stall, handlers do not count as quick.
const QUICK_AGAIN: Duration = Duration::from_millis(50);
/// For so long handlers do not count as quick when one has spread its work over the workers: each of these is to wake the
/// next, which takes as long.
const SPREADING: Duration = Duration::from_millis(2);
/// A handler that was not quick weighs as much as so many that were, and from this balance on handlers do not count as
/// quick. One in thirty, that is: where workers wait for each other, a few quick ones always seem slow.
const SLOW_WEIGHT: u32 = 32;
const SLOW_BALANCE: u32 = 64;
const SLOW_BALANCE_MAX: u32 = 256;
/// How often the IO thread ticks while it keeps the watch.
pub const TICK: Duration = Duration::from_millis(1);
/// So many ticks in which nothing relied on it end the watch.
const CALM_TICKS: u32 = 8;
/// So many ticks without a job taken, while jobs wait, are a stall. One may only mean that the worker was not scheduled.
const STALLED_TICKS: u32 = 2;
/// After so many, the tick is slower: what waits does so for workers that wait for something themselves.
const STUCK_TICKS: u32 = 200;
/// How often it ticks where nothing has moved for long.
pub const SLOW_TICK: Duration = Duration::from_millis(5);

/// So many workers are woken beside a searcher that does not come to run.
const SECONDED_MAX: u32 = 2;

/// So many waiting jobs keep a worker busy while the IO thread rests, for this long for each of them, up to a bound. No
/// request, its answer's write included, costs less. The system takes some of that time to wake the thread again.
const SLACK_JOBS: usize = 8;
const SLACK_EACH: Duration = Duration::from_micros(3);
const SLACK_JOBS_MAX: usize = 64;
const SLACK_WAKE: Duration = Duration::from_micros(15);

/// What the IO thread remembers from one tick of its watch to the next.
#[derive(Debug, Default)]
pub struct Watch {
    taken: usize,
    calm: u32,
    stalled: u32,
}

impl Watch {
    /// Nothing has moved for so long that it will do to look less often.
    pub fn is_stuck(&self) -> bool {
        self.stalled >= STUCK_TICKS
    }

    /// Nothing waited at the last tick.
    pub fn is_calm(&self) -> bool {
        self.calm > 0
    }
}

impl<J: Waiting> Queue<J> {
    /// Whether workers run side by side, as they do without a GIL.
    pub fn is_parallel(&self) -> bool {
        self.parallel
    }

    fn nanos(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_nanos() as u64
    }

    /// Whether handlers are quick, by what was seen of late.
    fn is_quick(&self, now: Instant) -> bool {
        !self.parallel
            && self.slowness.load(Ordering::Relaxed) < SLOW_BALANCE
            && self.nanos(now) >= self.quick_from.load(Ordering::Relaxed)
    }

    /// Says that a busy worker may wait for the job that is about to be pushed: nobody is hot, as after a stall, but for a
    /// shorter time. Jobs that were left to the hot worker before are watched still.
    pub(super) fn expect_slow(&self, now: Instant) {
        if !self.parallel {
            self.quick_from.fetch_max(self.nanos(now + SPREADING), Ordering::Relaxed);
            self.hot.store(0, Ordering::Relaxed);
        }
    }

    /// Whether a job that was just pushed is left to a busy worker.
    pub(super) fn is_deferred(&self, now: Instant) -> bool {
        self.turn.load(Ordering::Relaxed) || (self.hot.load(Ordering::Relaxed) != 0 && self.is_quick(now))
    }

    /// Has the watch kept from this push on.
    pub(super) fn be_watched(&self) {
        self.relied_on.store(true, Ordering::Relaxed);
        self.watched.store(true, Ordering::Relaxed);
    }

    /// Whether a worker has asked for the watch.
    pub(super) fn wants_watch(&self) -> bool {
        self.turns_wanted.load(Ordering::Relaxed)
    }

    /// Whether the jobs that wait are another worker's, which is hot: a second one that runs through quick handlers beside
    /// it goes to sleep.
    pub(super) fn yields(&self, seat: &Seat) -> bool {
        let hot = self.hot.load(Ordering::Relaxed);
        hot != 0
            && hot != seat.number
            && !self.is_closed()
            && self.watched.load(Ordering::Relaxed)
            && self.is_quick(Instant::now())
    }

    /// Notes that the worker is going idle. It must pass a full fence and look at J after this.
    pub(super) fn cool_down(&self, seat: &Seat) {
        let _ = self.hot.compare_exchange(seat.number, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Says that the worker runs with its job (under the GIL: holds it) since `now`, so that another may be woken for the
    /// next. Worker.
    pub fn running(&self, seat: &Seat, now: Instant) {
        self.heat(seat);
        if self.give_up_search(seat) {
            let deferred = self.watched.load(Ordering::Relaxed) && self.is_quick(now);
            jitter::point();
            if !deferred && !self.jobs.is_empty() {
                self.wake_one();
            }
        }
    }

    /// The same as [`running`](Self::running) for a worker whose turn was long in coming: nobody is woken before
    /// [`end_turn`](Self::end_turn), which it must call before it waits for anything. Worker, where workers take turns.
    pub fn running_in_turn(&self, seat: &Seat, now: Instant) {
        if !self.watched.load(Ordering::Relaxed) {
            // The next push will see to the watch, and turns like this one are run the better way from then on.
            self.turns_wanted.store(true, Ordering::Relaxed);
            return self.running(seat, now);
        }
        self.heat(seat);
        if !self.turn.load(Ordering::Relaxed) {
            self.turn.store(true, Ordering::Relaxed);
        }
        self.give_up_search(seat);
    }

    /// Ends the turn that [`running_in_turn`](Self::running_in_turn) began. The worker becomes the searcher if nobody is:
    /// it takes what is left, or gives the search up and looks at J once more. Worker.
    pub fn end_turn(&self, seat: &Seat) {
        self.turn.store(false, Ordering::Relaxed);
        jitter::point();
        self.become_searcher(seat);
    }

    /// Looks out for a job up to `until`; true if there is one. Worker in a turn, attached.
    pub fn linger(&self, until: Instant) -> bool {
        while self.jobs.is_empty() {
            if Instant::now() >= until || self.closed.load(Ordering::Relaxed) {
                return false;
            }
            std::hint::spin_loop();
        }
        true
    }

    /// How long new jobs would do nothing but wait behind those that wait already. IO thread.
    pub fn slack(&self) -> Option<Duration> {
        let waiting = self.living();
        // Workers that run side by side may be through with them at any moment, and those that are stuck never.
        (waiting >= SLACK_JOBS && !self.parallel && !self.is_stalled())
            .then(|| (SLACK_EACH * waiting.min(SLACK_JOBS_MAX) as u32).saturating_sub(SLACK_WAKE))
    }

    /// Whether jobs wait for workers that do not come.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    fn heat(&self, seat: &Seat) {
        // Read first: this is the same worker most of the time, and the word is the IO thread's to read.
        if self.hot.load(Ordering::Relaxed) != seat.number {
            self.hot.store(seat.number, Ordering::Relaxed);
        }
    }

    /// Notes how long a handler took. Worker.
    pub fn finished(&self, seat: &Seat, took: Duration) {
        let before = self.slowness.load(Ordering::Relaxed);
        let after = if took > QUICK && seat.was_at_work() {
            (before + SLOW_WEIGHT).min(SLOW_BALANCE_MAX)
        } else {
            before.saturating_sub(1)
        };
        // A guess, which workers may overwrite with each other's.
        if after != before {
            self.slowness.store(after, Ordering::Relaxed);
        }
    }

    /// One tick of the watch that [`Pushed::Deferred`](super::Pushed::Deferred) asks for, to be repeated every [`TICK`];
    /// false when it may end. IO thread.
    pub fn tick(&self, watch: &mut Watch) -> bool {
        let taken = self.taken.load(Ordering::Relaxed);
        let stalled = std::mem::replace(&mut watch.taken, taken) == taken;
        if !self.jobs.is_empty() {
            watch.calm = 0;
            watch.stalled = if stalled { watch.stalled.saturating_add(1) } else { 0 };
            self.stalled.store(watch.stalled >= STALLED_TICKS, Ordering::Relaxed);
            if watch.stalled >= STALLED_TICKS {
                self.quick_from.store(self.nanos(Instant::now() + QUICK_AGAIN), Ordering::Relaxed);
                self.hot.store(0, Ordering::Relaxed);
                self.turn.store(false, Ordering::Relaxed);
                if watch.stalled < STALLED_TICKS + SECONDED_MAX {
                    // A second searcher: see the head of this file. S only spares wakes, so clearing it loses nothing.
                    self.searching.store(false, Ordering::Relaxed);
                }
                fence(Ordering::SeqCst);
                self.wake_one();
            }
            return true;
        }
        watch.stalled = 0;
        self.stalled.store(false, Ordering::Relaxed);
        watch.calm = if self.relied_on.swap(false, Ordering::Relaxed) { 0 } else { watch.calm + 1 };
        if watch.calm < CALM_TICKS {
            return true;
        }
        self.watched.store(false, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        jitter::point();
        let calm = self.jobs.is_empty();
        if calm {
            *watch = Watch::default();
            self.turns_wanted.store(false, Ordering::Relaxed);
        } else {
            self.watched.store(true, Ordering::Relaxed);
        }
        !calm
    }
}
