//! The queue under stress: every job is done once, and none is left lying while a worker sleeps.
//!
//! The order of memory operations behind that is tried out, in all its interleavings, in `model_queue.rs`.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use ushabti_core::queue::{Growing, Pushed, Queue, Seat, TICK, Taken, Waiting, Watch};

mod ghosts;

/// A job that waits for so long while workers are idle was forgotten. A worker's sleep ends by a wake alone, unless it
/// has patience to lose, which is longer than this.
const FORGOTTEN: Duration = Duration::from_secs(if cfg!(miri) { 30 } else { 2 });
const LONG: Duration = Duration::from_secs(60);
/// Miri takes longer to make room for them than to run so few.
const JOBS_MAX: usize = if cfg!(miri) { 4_000 } else { 400_000 };

/// Marsaglia's xorshift: the same numbers in every run.
struct Random(u64);

impl Random {
    fn of(seed: usize) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ (seed as u64 + 1))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// Wastes some time, mostly a microsecond or two, at times as much as a sleep takes to begin.
    fn dawdle(&mut self) {
        match self.below(200) {
            0 => std::thread::sleep(Duration::from_micros(self.below(100))),
            1..10 => std::thread::yield_now(),
            _ => (0..self.below(300)).for_each(|_| std::hint::spin_loop()),
        }
    }
}

/// A job of the tests that give none up.
#[derive(Debug, PartialEq, Eq)]
struct Number(usize);

impl Waiting for Number {
    fn take_up(&self) -> bool {
        true
    }

    fn is_given_up(&self) -> bool {
        false
    }

    fn bury(self) {}
}

fn queue(workers_min: usize, workers_max: usize, worker_idle: Duration) -> Queue<Number> {
    Queue::new(64, workers_min, workers_max, worker_idle, false)
}

fn run(queue: &Queue<Number>, seat: &Seat) {
    queue.running(seat, Instant::now());
}

/// The one thread that pushes, as the IO thread is.
struct Pusher<'a> {
    queue: &'a Queue<Number>,
    done: &'a [AtomicU8],
    done_count: &'a AtomicUsize,
    pushed: usize,
    is_watching: bool,
    watch: Watch,
    ticked: Instant,
}

impl<'a> Pusher<'a> {
    fn new(queue: &'a Queue<Number>, done: &'a [AtomicU8], done_count: &'a AtomicUsize) -> Self {
        Self { queue, done, done_count, pushed: 0, is_watching: false, watch: Watch::default(), ticked: Instant::now() }
    }

    /// Pushes the next job; false when the queue is full or closed.
    fn push(&mut self) -> bool {
        match self.queue.push(Number(self.pushed), Instant::now()) {
            Ok(pushed) => {
                self.pushed += 1;
                self.is_watching |= pushed == Pushed::Deferred;
                true
            }
            Err(_) => false,
        }
    }

    /// Keeps the watch, if a push has asked for it.
    fn tick(&mut self) {
        if self.is_watching && self.ticked.elapsed() >= TICK {
            self.ticked = Instant::now();
            self.is_watching = self.queue.tick(&mut self.watch);
        }
    }

    fn wait_until_done(&mut self) {
        let since = Instant::now();
        while self.done_count.load(Ordering::Acquire) < self.pushed {
            let stats = self.queue.stats();
            assert!(since.elapsed() < FORGOTTEN, "a job is left lying: {stats:?}, {} pushed", self.pushed);
            self.tick();
            std::thread::yield_now();
        }
    }

    /// Waits until something is so, and keeps the watch meanwhile, without which a job may be left to a blocked worker.
    fn waits_until(&mut self, what: &str, is_so: impl Fn() -> bool) {
        let since = Instant::now();
        while !is_so() {
            assert!(since.elapsed() < FORGOTTEN, "not so in time: {what}");
            self.tick();
            std::thread::yield_now();
        }
    }

    /// Bursts of jobs, and a wait after each until all are done: the workers are just going to sleep, or are not, when
    /// the next burst comes.
    fn bursts(&mut self, time: Duration, random: &mut Random) {
        let until = Instant::now() + time;
        while Instant::now() < until && self.pushed + 8 < JOBS_MAX {
            for _ in 0..=random.below(8) {
                while !self.push() {
                    self.tick();
                    std::thread::yield_now();
                }
                random.dawdle();
            }
            self.wait_until_done();
            random.dawdle();
        }
    }

    /// What the thread that starts workers is told next, within this time.
    fn hears(&mut self, told: &Receiver<Growing>, time: Duration) -> Result<Growing, RecvTimeoutError> {
        let until = Instant::now() + time;
        loop {
            match told.recv_timeout(TICK) {
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => self.tick(),
                other => return other,
            }
        }
    }

    fn assert_each_done_once(&self) {
        for (job, done) in self.done[..self.pushed].iter().enumerate() {
            assert_eq!(done.load(Ordering::Relaxed), 1, "job {job} of {}", self.pushed);
        }
    }
}

/// Runs `push` beside so many workers, which enter again if they are struck off before the queue is closed.
fn with_workers(queue: &Queue<Number>, workers: usize, push: impl FnOnce(&mut Pusher<'_>)) {
    let done: Vec<AtomicU8> = (0..JOBS_MAX).map(|_| AtomicU8::new(0)).collect();
    let (done_count, closed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for number in 0..workers {
            let (done, done_count, closed) = (&done, &done_count, &closed);
            scope.spawn(move || {
                let mut random = Random::of(number);
                while closed.load(Ordering::Acquire) == 0 {
                    let seat = queue.enter();
                    while let Taken::Job(Number(job)) = queue.take(&seat) {
                        random.dawdle();
                        run(queue, &seat);
                        random.dawdle();
                        done[job].fetch_add(1, Ordering::Relaxed);
                        done_count.fetch_add(1, Ordering::Release);
                    }
                }
            });
        }
        // Closed even if the test fails, so that it does not hang instead.
        let _close = CloseAtEnd(queue, &closed);
        push(&mut Pusher::new(queue, &done, &done_count));
    });
}

struct CloseAtEnd<'a>(&'a Queue<Number>, &'a AtomicUsize);

impl Drop for CloseAtEnd<'_> {
    fn drop(&mut self) {
        self.1.store(1, Ordering::Release);
        self.0.close();
    }
}

#[test]
fn no_job_is_left_lying_while_workers_go_to_sleep() {
    for workers in [1, 2, 4, 8] {
        let queue = queue(workers, workers, LONG);
        with_workers(&queue, workers, |pusher| {
            pusher.bursts(Duration::from_millis(500), &mut Random::of(99));
            pusher.assert_each_done_once();
        });
        assert_eq!(queue.stats().workers, 0);
    }
}

#[test]
fn no_job_is_left_lying_while_workers_are_struck_off() {
    // They lose patience at once, so that pushes meet workers which are just leaving.
    let queue = queue(1, 4, Duration::from_micros(50));
    with_workers(&queue, 4, |pusher| {
        pusher.bursts(Duration::from_secs(1), &mut Random::of(7));
        pusher.assert_each_done_once();
    });
    assert_eq!(queue.stats().workers, 0);
}

#[test]
fn what_was_pushed_before_the_close_is_done_or_handed_back() {
    for round in 0..50 {
        let queue = queue(3, 3, LONG);
        let left = AtomicUsize::new(0);
        let accepted = AtomicUsize::new(0);
        let finished = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for number in 0..3 {
                let (queue, finished) = (&queue, &finished);
                scope.spawn(move || {
                    let mut random = Random::of(number);
                    let seat = queue.enter();
                    while let Taken::Job(_) = queue.take(&seat) {
                        run(queue, &seat);
                        random.dawdle();
                        finished.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            scope.spawn(|| {
                std::thread::sleep(Duration::from_micros(20 * round));
                queue.close();
            });
            let (done, done_count) = ([], AtomicUsize::new(0));
            let mut pusher = Pusher::new(&queue, &done, &done_count);
            let until = Instant::now() + Duration::from_millis(2);
            while Instant::now() < until {
                pusher.push();
            }
            accepted.store(pusher.pushed, Ordering::Relaxed);
        });
        left.fetch_add(queue.clear().len(), Ordering::Relaxed);
        assert_eq!(finished.into_inner() + left.into_inner(), accepted.into_inner());
        assert_eq!(queue.stats().workers, 0);
    }
}

#[test]
#[cfg_attr(miri, ignore = "it has no twenty milliseconds for all to go back to sleep")]
fn idle_workers_above_the_minimum_leave_and_the_minimum_stays() {
    let queue = queue(2, 5, Duration::from_millis(5));
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                let seat = queue.enter();
                assert!(matches!(queue.take(&seat), Taken::Leave));
            });
        }
        wait_until("three have left", || queue.stats().workers == 2 && queue.stats().idle == 2);
        std::thread::sleep(Duration::from_millis(20));
        let stats = queue.stats();
        queue.close();
        assert_eq!((stats.workers, stats.idle), (2, 2));
    });
    assert_eq!(queue.stats().workers, 0);
}

#[test]
#[cfg_attr(any(ushabti_jitter, miri), ignore = "delays at random bring the workers to bed in another order")]
fn light_work_is_carried_by_the_worker_that_went_to_sleep_last() {
    let queue = Arc::new(queue(4, 4, LONG));
    let counts: Arc<Vec<AtomicUsize>> = Arc::new((0..4).map(|_| AtomicUsize::new(0)).collect());
    let workers: Vec<_> = (0..4)
        .map(|number| {
            let (queue, counts) = (Arc::clone(&queue), Arc::clone(&counts));
            std::thread::spawn(move || {
                let seat = queue.enter();
                while let Taken::Job(_) = queue.take(&seat) {
                    run(&queue, &seat);
                    counts[number].fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let count = AtomicUsize::new(0);
    let mut pusher = Pusher::new(&queue, &[], &count);
    for _ in 0..100 {
        wait_until("all are idle", || queue.stats().idle == 4);
        assert!(pusher.push());
    }
    wait_until("all is done", || queue.stats().idle == 4 && queue.stats().taken == 100);
    queue.close();
    for worker in workers {
        worker.join().expect("no worker panics");
    }
    let most = counts.iter().map(|count| count.load(Ordering::Relaxed)).max();
    assert!(most >= Some(90), "{counts:?}");
}

#[test]
fn job_that_is_pushed_amid_another_is_not_left_to_the_worker_that_waits_for_it() {
    let queue = Arc::new(queue(2, 2, LONG));
    let (tell, told) = channel();
    let told = Mutex::new(told);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let seat = queue.enter();
                while let Taken::Job(Number(job)) = queue.take(&seat) {
                    run(&queue, &seat);
                    if job == 0 {
                        // This worker is hot now, and nobody keeps the watch: who counts on it waits for ever.
                        queue.push_amid_job(Number(1), Instant::now());
                        let other = told.lock().expect("nobody panics with it").recv_timeout(FORGOTTEN);
                        assert_eq!(other, Ok(1), "the other worker was not woken");
                        queue.close();
                    } else {
                        tell.send(job).expect("the other worker waits for it");
                    }
                }
            });
        }
        wait_until("both are idle", || queue.stats().idle == 2);
        assert_eq!(queue.push(Number(0), Instant::now()), Ok(Pushed::Awaited));
    });
}

/// What the thread that starts workers is told, as it is told.
fn told(queue: &Arc<Queue<Number>>) -> Receiver<Growing> {
    let (tell, told) = channel();
    let queue = Arc::clone(queue);
    std::thread::spawn(move || {
        loop {
            let growing = queue.wait_to_grow();
            if tell.send(growing).is_err() || growing == Growing::Closed {
                return;
            }
        }
    });
    told
}

#[test]
#[cfg_attr(miri, ignore = "two milliseconds are too short for two pushes there")]
fn work_that_waits_behind_blocked_workers_asks_for_as_many_as_it_needs_and_only_once() {
    let queue = Arc::new(queue(1, 4, LONG));
    let told = told(&queue);
    let blocked = Arc::new(Barrier::new(5));
    let start = || {
        let (queue, blocked) = (Arc::clone(&queue), Arc::clone(&blocked));
        std::thread::spawn(move || {
            let seat = queue.enter();
            while let Taken::Job(_) = queue.take(&seat) {
                run(&queue, &seat);
                blocked.wait();
            }
        })
    };
    let mut workers = vec![start()];
    let count = AtomicUsize::new(0);
    let mut pusher = Pusher::new(&queue, &[], &count);
    assert!(pusher.push());
    pusher.waits_until("the only worker is blocked", || queue.stats().taken == 1);
    assert!(pusher.push() && pusher.push());
    assert_eq!(pusher.hears(&told, FORGOTTEN), Ok(Growing::More(2)));
    // Threads take their time to start, and there is nothing more to ask for meanwhile.
    assert_eq!(pusher.hears(&told, Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
    workers.extend([start(), start()]);
    pusher.waits_until("all are blocked", || queue.stats().taken == 3);
    // Two more wait, but there is room for one.
    assert!(pusher.push() && pusher.push());
    assert_eq!(pusher.hears(&told, FORGOTTEN), Ok(Growing::More(1)));
    assert_eq!(pusher.hears(&told, Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
    workers.push(start());
    pusher.waits_until("four of five are taken", || queue.stats().taken == 4);
    // The barrier opens for the four and this thread; the last job finds a free worker then.
    blocked.wait();
    pusher.waits_until("the last is taken", || queue.stats().taken == 5);
    queue.close();
    assert_eq!(pusher.hears(&told, FORGOTTEN), Ok(Growing::Closed));
    // Whoever holds the last job stands at the barrier alone.
    for _ in 0..4 {
        let blocked = Arc::clone(&blocked);
        std::thread::spawn(move || blocked.wait());
    }
    for worker in workers {
        worker.join().expect("no worker panics");
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < FORGOTTEN * 2, "not so in time: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}
