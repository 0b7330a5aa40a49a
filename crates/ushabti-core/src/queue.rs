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

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use parking_lot::{Condvar, Mutex};

/// How long a job may wait, while every worker is busy, before another worker is started.
///
/// Long enough that handlers which only compute never cause it (a queue of 64 of them drains in less), short against
/// what a blocking handler takes.
const GROWTH_DELAY: Duration = Duration::from_millis(2);

/// A worker's place in the queue. One for each worker thread, which alone calls [`Queue::take`] with it.
pub struct Seat {
    thread: Thread,
    woken: AtomicBool,
    searching: AtomicBool,
}

impl Seat {
    fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }

    /// Waits until woken, or until `patience` is over. True: woken.
    fn wait(&self, patience: Option<Duration>) -> bool {
        let until = patience.and_then(|patience| Instant::now().checked_add(patience));
        loop {
            if self.woken.swap(false, Ordering::Acquire) {
                return true;
            }
            match until {
                None => std::thread::park(),
                Some(until) => match until.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => std::thread::park_timeout(left),
                    _ => return self.woken.swap(false, Ordering::Acquire),
                },
            }
        }
    }
}

/// What a worker gets when it asks for work.
#[derive(Debug)]
pub enum Taken<J> {
    /// A job to run.
    Job(J),
    /// The server has stopped, or this worker has been idle for long and others suffice: the thread ends.
    Leave,
}

struct Growth {
    wanted: bool,
    closed: bool,
}

/// Counts of the queue at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueStats {
    /// Jobs that wait for a worker.
    pub waiting: usize,
    /// Worker threads.
    pub workers: usize,
    /// Worker threads without a job.
    pub idle: usize,
    /// Jobs taken since the start.
    pub taken: usize,
}

/// The queue of ready jobs, and the stack of idle workers.
pub struct Queue<J> {
    jobs: ArrayQueue<J>,
    idle: Mutex<Vec<Arc<Seat>>>,
    idle_count: AtomicUsize,
    searching: AtomicBool,
    closed: AtomicBool,
    taken: AtomicUsize,
    workers: AtomicUsize,
    workers_min: usize,
    workers_max: usize,
    worker_idle: Duration,
    growth: Mutex<Growth>,
    /// Set while the thread that starts workers watches the queue, so that a push need not wake it again.
    growth_watched: AtomicBool,
    grow: Condvar,
}

impl<J> Queue<J> {
    /// An empty queue of at most `capacity` jobs, for `workers_min` to `workers_max` workers.
    pub fn new(capacity: usize, workers_min: usize, workers_max: usize, worker_idle: Duration) -> Self {
        Self {
            jobs: ArrayQueue::new(capacity.max(1)),
            idle: Mutex::new(Vec::new()),
            idle_count: AtomicUsize::new(0),
            searching: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            taken: AtomicUsize::new(0),
            workers: AtomicUsize::new(0),
            workers_min,
            workers_max,
            worker_idle,
            growth: Mutex::new(Growth { wanted: false, closed: false }),
            growth_watched: AtomicBool::new(false),
            grow: Condvar::new(),
        }
    }

    /// Counts of this moment. Any thread.
    pub fn stats(&self) -> QueueStats {
        QueueStats {
            waiting: self.jobs.len(),
            workers: self.workers.load(Ordering::Relaxed),
            idle: self.idle_count.load(Ordering::Relaxed),
            taken: self.taken.load(Ordering::Relaxed),
        }
    }

    /// Appends a job and wakes a worker if that is needed. IO thread.
    ///
    /// # Errors
    ///
    /// The job, when the queue is full or closed.
    pub fn push(&self, job: J) -> Result<(), J> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(job);
        }
        self.jobs.push(job)?;
        fence(Ordering::SeqCst);
        self.wake_one();
        Ok(())
    }

    /// Wakes one idle worker to search, unless one searches already. The caller has written J and passed a fence.
    fn wake_one(&self) {
        loop {
            if self.searching.load(Ordering::Relaxed) {
                return;
            }
            if self.idle_count.load(Ordering::Relaxed) == 0 {
                self.ask_for_growth();
                return;
            }
            if self.searching.swap(true, Ordering::AcqRel) {
                return;
            }
            if let Some(seat) = self.pop_idle() {
                seat.wake();
                return;
            }
            // The last idle worker took itself off the stack meanwhile. It looks at J after that; others who pushed
            // while S was set rely on this thread, so look again.
            self.searching.store(false, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if self.jobs.is_empty() {
                return;
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
        Arc::new(Seat {
            thread: std::thread::current(),
            woken: AtomicBool::new(false),
            searching: AtomicBool::new(false),
        })
    }

    /// Waits for the next job. Worker, detached from the interpreter; after [`Taken::Leave`] the thread is no worker
    /// any more.
    pub fn take(&self, seat: &Arc<Seat>) -> Taken<J> {
        loop {
            if let Some(job) = self.jobs.pop() {
                self.taken.fetch_add(1, Ordering::Relaxed);
                return Taken::Job(job);
            }
            if seat.searching.swap(false, Ordering::Relaxed) {
                self.searching.store(false, Ordering::Relaxed);
                fence(Ordering::SeqCst);
                if !self.jobs.is_empty() {
                    continue;
                }
            }
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
            let stay = self.jobs.is_empty() && !self.closed.load(Ordering::Relaxed);
            let woken = stay && seat.wait(self.patience());
            if !woken {
                if self.leave_idle(seat) {
                    if stay && self.may_retire() {
                        return Taken::Leave;
                    }
                    continue;
                }
                seat.wait(None);
            }
            seat.searching.store(true, Ordering::Relaxed);
        }
    }

    /// Says that the worker runs with its job (under the GIL: holds it), so that another may be woken for the next.
    /// Worker.
    pub fn running(&self, seat: &Seat) {
        if seat.searching.load(Ordering::Relaxed) {
            seat.searching.store(false, Ordering::Relaxed);
            self.searching.store(false, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if !self.jobs.is_empty() {
                self.wake_one();
            }
        }
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
        let idle = std::mem::take(&mut *self.idle.lock());
        self.idle_count.store(0, Ordering::Relaxed);
        for seat in idle {
            seat.wake();
        }
        let mut growth = self.growth.lock();
        growth.closed = true;
        self.grow.notify_all();
    }

    /// Takes out every job that no worker has taken, for the end of a stop whose time is up.
    pub fn clear(&self) -> Vec<J> {
        std::iter::from_fn(|| self.jobs.pop()).collect()
    }

    // ---- more workers

    fn ask_for_growth(&self) {
        if self.workers.load(Ordering::Relaxed) >= self.workers_max
            || self.growth_watched.load(Ordering::Relaxed)
            || self.growth_watched.swap(true, Ordering::AcqRel)
        {
            return;
        }
        self.growth.lock().wanted = true;
        self.grow.notify_one();
    }

    /// Waits until work has waited too long while every worker was busy, and returns how many more workers would take
    /// all of it up; `None` when the queue is closed. The one thread that starts workers, detached.
    pub fn wait_to_grow(&self) -> Option<usize> {
        let mut growth = self.growth.lock();
        loop {
            while !growth.wanted && !growth.closed {
                self.grow.wait(&mut growth);
            }
            if growth.closed {
                return None;
            }
            let taken = self.taken.load(Ordering::Acquire);
            let waiting = self.jobs.len();
            // Only the closing of the queue ends this wait early.
            let until = Instant::now() + GROWTH_DELAY;
            while !growth.closed && !self.grow.wait_until(&mut growth, until).timed_out() {}
            let passed = self.taken.load(Ordering::Acquire).wrapping_sub(taken);
            let room = self.workers_max.saturating_sub(self.workers.load(Ordering::Acquire));
            // Jobs leave in order: those beyond the ones taken since have waited through the whole delay.
            let late = waiting.saturating_sub(passed).min(self.jobs.len()).min(room);
            if late > 0 && self.idle_count.load(Ordering::Relaxed) == 0 {
                return Some(late);
            }
            if self.jobs.is_empty() || room == 0 {
                growth.wanted = false;
                self.growth_watched.store(false, Ordering::Relaxed);
                fence(Ordering::SeqCst);
                // The same order as for S: a push that saw the flag set is seen here.
                if !self.jobs.is_empty() && room > 0 {
                    growth.wanted = true;
                    self.growth_watched.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}
