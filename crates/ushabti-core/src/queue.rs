//! Ready requests on their way from the IO thread to the workers.
//!
//! Jobs stand in a lock-free queue and leave it in the order in which they came. Idle workers stand on a stack: the
//! one that went to sleep last is woken first, so that few threads, with warm caches, carry a light load.
//!
//! # Who is woken, and why no job is left lying
//!
//! At most one worker is *searching*: woken, and not yet running with a job in hand. Under the interpreter's lock a
//! second woken worker would only queue up for the lock, so a push that finds a searcher wakes nobody. The searcher
//! passes the role on when it has a job and runs (`running`), and when it finds no job (`take`).
//!
//! Three words matter: the job queue J, the stack of idle workers I, and the flag S (somebody is searching). Each side
//! writes its own word, passes a full fence, and reads the others':
//!
//! - push: writes J; fence; reads S and I. It wakes a worker unless S is set or I is empty.
//! - going idle: writes I; fence; reads J. With a job there the worker takes itself off I again, or, if somebody else
//!   has taken it off, lets itself be woken.
//! - giving up the search: clears S; fence; reads J, and wakes a worker (or takes the job) if there is one.
//!
//! With full fences the reads of two parties cannot both miss the other's write (Dekker). So a push that finds I empty is
//! seen by the worker that is just going idle, and a push that finds S set is seen by the searcher when it gives the
//! role up. A searcher cannot vanish: it is woken by its own seat's flag, and every path out of the wait either runs a
//! job and calls `running`, or gives up the search.
//!
//! How that is loosened while handlers take microseconds, and while they compute for long, stands at the head of
//! `pace`; what becomes of jobs that are given up while they wait, at the head of `ghosts`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::time::{Duration, Instant};

use crossbeam_queue::SegQueue;
use parking_lot::{Condvar, Mutex};

use crate::jitter;

mod ghosts;
mod growth;
mod pace;
mod seat;

pub use ghosts::Waiting;
pub(crate) use ghosts::pays;
pub use growth::Growing;
pub use pace::{SLOW_TICK, TICK, Watch};
pub use seat::Seat;

use ghosts::Ghosts;
use growth::Growth;

/// The longest time, in nanoseconds, for which a worker looks out for a job before it sleeps; below the shortest, it sleeps
/// at once.
const SEARCH_NS_MAX: u32 = 50_000;
const SEARCH_NS_MIN: u32 = 4_000;
/// One in so many sleeps is preceded by a search where searching has not paid.
const SEARCH_AGAIN: usize = 64;

/// What became of a job that was pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// A worker was woken for it, or will look for it.
    Awaited,
    /// It may have to wait for a busy worker to come back: the caller must keep the watch, see [`Queue::tick`].
    Deferred,
}

/// What a worker gets when it asks for work.
#[derive(Debug)]
pub enum Taken<J> {
    /// A job to run.
    Job(J),
    /// The server has stopped, or this worker has been idle for long and others suffice: the thread ends.
    Leave,
}

/// Counts of the queue at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueStats {
    /// Jobs that wait for a worker, without those that were given up.
    pub waiting: usize,
    /// Worker threads.
    pub workers: usize,
    /// Worker threads without a job.
    pub idle: usize,
    /// Jobs taken since the start.
    pub taken: usize,
}

struct Entry<J> {
    job: J,
    is_counted: bool,
}

/// The queue of ready jobs, and the stack of idle workers.
pub struct Queue<J> {
    jobs: SegQueue<Entry<J>>,
    /// How many jobs that count may wait, and how many are in the queue, ghosts included.
    capacity: usize,
    counted: AtomicUsize,
    ghosts: Ghosts,
    idle: Mutex<Vec<Arc<Seat>>>,
    idle_count: AtomicUsize,
    /// Somebody is searching (S).
    searching: AtomicBool,
    /// Whether workers run side by side. Under the GIL they take turns.
    parallel: bool,
    epoch: Instant,
    /// The balance of handlers that were not quick.
    slowness: AtomicU32,
    /// From when on handlers may count as quick, in nanoseconds since `epoch`.
    quick_from: AtomicU64,
    /// The number of the seat whose worker began a job last and has not gone idle since, or 0 (H, see `pace`).
    hot: AtomicU32,
    /// A worker whose turn was long in coming runs what is ready (T, see `pace`).
    turn: AtomicBool,
    /// Such turns have been seen, so the watch is wanted from the next push on.
    turns_wanted: AtomicBool,
    /// A push has relied on the watch since its last tick.
    relied_on: AtomicBool,
    seats: AtomicU32,
    /// The IO thread keeps the watch (W, see `pace`).
    watched: AtomicBool,
    /// Jobs wait, and none has been taken for some ticks of the watch.
    stalled: AtomicBool,
    /// How long the next search lasts, in nanoseconds; a guess that any worker may overwrite.
    search_ns: AtomicU32,
    naps: AtomicUsize,
    closed: AtomicBool,
    taken: AtomicUsize,
    workers: AtomicUsize,
    /// Workers that were asked for and have not entered yet.
    starting: AtomicUsize,
    workers_min: usize,
    workers_max: usize,
    worker_idle: Duration,
    growth: Mutex<Growth>,
    /// Set while the thread that starts workers watches the queue, so that a push need not wake it again.
    growth_watched: AtomicBool,
    grow: Condvar,
}

impl<J: Waiting> Queue<J> {
    /// An empty queue of at most `capacity` jobs that count, for `workers_min` to `workers_max` workers. `parallel`: they run side by
    /// side, which under the GIL they do not.
    pub fn new(capacity: usize, workers_min: usize, workers_max: usize, worker_idle: Duration, parallel: bool) -> Self {
        Self {
            jobs: SegQueue::new(),
            capacity: capacity.max(1),
            counted: AtomicUsize::new(0),
            ghosts: Ghosts::default(),
            idle: Mutex::new(Vec::new()),
            idle_count: AtomicUsize::new(0),
            searching: AtomicBool::new(false),
            parallel,
            epoch: Instant::now(),
            slowness: AtomicU32::new(0),
            quick_from: AtomicU64::new(0),
            hot: AtomicU32::new(0),
            turn: AtomicBool::new(false),
            turns_wanted: AtomicBool::new(false),
            relied_on: AtomicBool::new(false),
            seats: AtomicU32::new(0),
            watched: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            search_ns: AtomicU32::new(SEARCH_NS_MAX),
            naps: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            taken: AtomicUsize::new(0),
            workers: AtomicUsize::new(0),
            // The minimum is on its way from the first moment.
            starting: AtomicUsize::new(workers_min),
            workers_min,
            workers_max,
            worker_idle,
            growth: Mutex::new(Growth::default()),
            growth_watched: AtomicBool::new(false),
            grow: Condvar::new(),
        }
    }

    /// Counts of this moment. Any thread.
    pub fn stats(&self) -> QueueStats {
        QueueStats {
            waiting: self.living(),
            workers: self.workers.load(Ordering::Relaxed),
            idle: self.idle_count.load(Ordering::Relaxed),
            taken: self.taken.load(Ordering::Relaxed),
        }
    }

    /// How many jobs wait that were not given up.
    fn living(&self) -> usize {
        self.jobs.len().saturating_sub(self.ghosts.count())
    }

    /// Appends a job and wakes a worker if that is needed. IO thread; `now` may be some microseconds old.
    ///
    /// # Errors
    ///
    /// The job, when the queue is full or closed.
    pub fn push(&self, job: J, now: Instant) -> Result<Pushed, J> {
        // Nearly always this thread alone adds to the number; what a gate lets in meanwhile may pass the bound by a few.
        let counted = self.counted.load(Ordering::Relaxed).saturating_sub(self.ghosts.count());
        if counted >= self.capacity || self.closed.load(Ordering::Relaxed) {
            return Err(job);
        }
        self.counted.fetch_add(1, Ordering::Relaxed);
        Ok(self.append(Entry { job, is_counted: true }, now))
    }

    /// The same for a job that was waiting elsewhere, within a bound of its own: there is room for it. Any thread.
    pub fn push_admitted(&self, job: J, now: Instant) -> Pushed {
        self.counted.fetch_add(1, Ordering::Relaxed);
        self.append(Entry { job, is_counted: true }, now)
    }

    /// The same for a job that does not count, because there is a bound to such jobs already. Any thread. A closed queue
    /// takes it as well: its workers leave when it is empty.
    pub fn push_uncounted(&self, job: J, now: Instant) -> Pushed {
        self.append(Entry { job, is_counted: false }, now)
    }

    /// The same for a job that a thread pushes in the midst of another, the end of which may hang on it: nobody is to count
    /// on a busy worker's coming back soon.
    pub fn push_amid_job(&self, job: J, now: Instant) -> Pushed {
        self.expect_slow(now);
        self.push_uncounted(job, now)
    }

    fn append(&self, entry: Entry<J>, now: Instant) -> Pushed {
        jitter::point();
        self.jobs.push(entry);
        self.see_to_pushed(now)
    }

    /// The second half of a push: sees to it that somebody looks at J, which the caller has written.
    fn see_to_pushed(&self, now: Instant) -> Pushed {
        fence(Ordering::SeqCst);
        jitter::point();
        let deferred = self.is_deferred(now) || !self.wake_one();
        if deferred || self.wants_watch() {
            self.be_watched();
            return Pushed::Deferred;
        }
        Pushed::Awaited
    }

    /// Wakes one idle worker to search, unless one searches already: then false. The caller has written J and passed a
    /// fence.
    fn wake_one(&self) -> bool {
        loop {
            if self.searching.load(Ordering::Relaxed) {
                return false;
            }
            if self.idle_count.load(Ordering::Relaxed) == 0 {
                self.ask_for_growth();
                return true;
            }
            jitter::point();
            if self.searching.swap(true, Ordering::AcqRel) {
                return false;
            }
            jitter::point();
            if let Some(seat) = self.pop_idle() {
                jitter::point();
                seat.wake();
                return true;
            }
            // The last idle worker took itself off the stack meanwhile. It looks at J after that; others who pushed
            // while S was set rely on this thread, so look again.
            self.searching.store(false, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            jitter::point();
            if self.jobs.is_empty() {
                return true;
            }
        }
    }

    fn pop_idle(&self) -> Option<Arc<Seat>> {
        let mut idle = self.idle.lock();
        let seat = idle.pop();
        self.idle_count.store(idle.len(), Ordering::Relaxed);
        seat
    }

    /// Takes a worker off the stack by its own wish. False: somebody has done so before and is about to wake it.
    fn leave_idle(&self, seat: &Arc<Seat>) -> bool {
        let mut idle = self.idle.lock();
        let found = idle.iter().rposition(|other| Arc::ptr_eq(other, seat));
        if let Some(at) = found {
            idle.remove(at);
            self.idle_count.store(idle.len(), Ordering::Relaxed);
        }
        found.is_some()
    }

    /// Enters the calling thread as a worker.
    pub fn enter(&self) -> Arc<Seat> {
        self.workers.fetch_add(1, Ordering::AcqRel);
        self.not_starting(1);
        Arc::new(Seat::new(self.seats.fetch_add(1, Ordering::Relaxed).wrapping_add(1).max(1)))
    }

    /// Waits for the next job. Worker, detached from the interpreter; after [`Taken::Leave`] the thread is no worker
    /// any more.
    pub fn take(&self, seat: &Arc<Seat>) -> Taken<J> {
        loop {
            let yields = self.yields(seat);
            if !yields {
                if let Some(job) = self.try_take() {
                    return Taken::Job(job);
                }
                if self.search(seat) {
                    continue;
                }
            }
            if self.give_up_search(seat) && !yields && !self.jobs.is_empty() {
                continue;
            }
            self.cool_down(seat);
            jitter::point();
            if self.closed.load(Ordering::Acquire) {
                self.workers.fetch_sub(1, Ordering::AcqRel);
                return Taken::Leave;
            }
            {
                let mut idle = self.idle.lock();
                idle.push(Arc::clone(seat));
                self.idle_count.store(idle.len(), Ordering::Relaxed);
            }
            fence(Ordering::SeqCst);
            jitter::point();
            let stay = (self.jobs.is_empty() || self.yields(seat)) && !self.closed.load(Ordering::Relaxed);
            let woken = stay && seat.wait(self.patience());
            jitter::point();
            if !woken {
                if self.leave_idle(seat) {
                    if stay && self.may_retire() {
                        // A push that found no room for another worker then has left its job to those who are there.
                        fence(Ordering::SeqCst);
                        if !self.jobs.is_empty() {
                            self.wake_one();
                        }
                        return Taken::Leave;
                    }
                    continue;
                }
                seat.wait(None);
            }
            seat.searching.store(true, Ordering::Relaxed);
        }
    }

    /// Whether no job waits at this moment.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Takes a job if one is ready. Worker; never waits, so it may be attached.
    pub fn try_take(&self) -> Option<J> {
        loop {
            jitter::point();
            let Entry { job, is_counted } = self.jobs.pop()?;
            jitter::point();
            if is_counted {
                self.counted.fetch_sub(1, Ordering::Relaxed);
                if !job.take_up() {
                    self.ghosts.lay();
                    job.bury();
                    continue;
                }
            }
            self.taken.fetch_add(1, Ordering::Relaxed);
            return Some(job);
        }
    }

    /// Looks out for a job for some microseconds before the worker goes to sleep; true if there is one.
    ///
    /// Waking a sleeping thread costs the two threads several microseconds, and on a virtual machine whose core has gone
    /// to sleep some fifty. A worker that looks out is the searcher, so a push need not wake anybody. Whether it pays is
    /// learnt: each vain search halves the time of the next ones, each success doubles it, and where it has come down
    /// to nothing it is tried again now and then. The core is yielded all the while to whoever can use it.
    fn search(&self, seat: &Seat) -> bool {
        let mut limit = self.search_ns.load(Ordering::Relaxed);
        if limit == 0 {
            if self.naps.fetch_add(1, Ordering::Relaxed) % SEARCH_AGAIN != 0 {
                return false;
            }
            limit = SEARCH_NS_MAX;
        }
        if !self.become_searcher(seat) {
            return false;
        }
        let until = Instant::now() + Duration::from_nanos(u64::from(limit));
        loop {
            if !self.jobs.is_empty() {
                self.search_ns.store((limit * 2).min(SEARCH_NS_MAX), Ordering::Relaxed);
                return true;
            }
            if Instant::now() >= until || self.closed.load(Ordering::Relaxed) {
                self.search_ns.store(if limit < SEARCH_NS_MIN { 0 } else { limit / 2 }, Ordering::Relaxed);
                return false;
            }
            std::thread::yield_now();
        }
    }

    /// Makes the worker the searcher, unless another is. Worker.
    fn become_searcher(&self, seat: &Seat) -> bool {
        if !seat.searching.load(Ordering::Relaxed) {
            if self.searching.swap(true, Ordering::AcqRel) {
                return false;
            }
            seat.searching.store(true, Ordering::Relaxed);
        }
        true
    }

    /// Clears S and passes the fence, if the worker is the searcher; it must look at J then. Worker.
    fn give_up_search(&self, seat: &Seat) -> bool {
        let was_searching = seat.searching.load(Ordering::Relaxed);
        if was_searching {
            seat.searching.store(false, Ordering::Relaxed);
            jitter::point();
            self.searching.store(false, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            jitter::point();
        }
        was_searching
    }

    fn patience(&self) -> Option<Duration> {
        (self.workers.load(Ordering::Relaxed) > self.workers_min).then_some(self.worker_idle)
    }

    /// Strikes one worker off, if more than the minimum are there.
    fn may_retire(&self) -> bool {
        self.workers
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| (count > self.workers_min).then(|| count - 1))
            .is_ok()
    }

    /// Jobs are still handed out; when none is left the workers leave. Any thread.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        jitter::point();
        let idle = std::mem::take(&mut *self.idle.lock());
        self.idle_count.store(0, Ordering::Relaxed);
        for seat in idle {
            seat.wake();
        }
        let mut growth = self.growth.lock();
        growth.closed = true;
        self.grow.notify_all();
    }

    /// Whether the queue was closed. Any thread.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Strikes off a worker that ends in the midst of its work. It must not use its seat again.
    pub fn abandon(&self, seat: &Seat) {
        self.workers.fetch_sub(1, Ordering::AcqRel);
        self.cool_down(seat);
        self.give_up_search(seat);
        fence(Ordering::SeqCst);
        if !self.jobs.is_empty() {
            self.wake_one();
        }
    }

    /// Takes out every job that counts and no worker has taken, for the end of a stop whose time is up. After the IO
    /// thread has ended.
    pub fn clear(&self) -> Vec<J> {
        let (counted, others): (Vec<_>, Vec<_>) =
            std::iter::from_fn(|| self.jobs.pop()).partition(|entry| entry.is_counted);
        for entry in others {
            self.jobs.push(entry);
        }
        self.counted.fetch_sub(counted.len(), Ordering::Relaxed);
        let jobs: Vec<_> = counted.into_iter().map(|entry| entry.job).collect();
        jobs.iter().filter(|job| job.is_given_up()).for_each(|_| self.ghosts.lay());
        jobs
    }

    /// Takes out every job, when there are no workers any more.
    pub fn clear_all(&self) {
        while self.jobs.pop().is_some() {}
    }
}
