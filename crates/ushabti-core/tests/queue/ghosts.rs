//! Jobs that are given up while workers come for them: each is done or buried, once, and none that lives is left lying.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ushabti_core::queue::{Pushed, Queue, TICK, Taken, Waiting, Watch};

use crate::{FORGOTTEN, JOBS_MAX, LONG, Random};

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const GIVEN_UP: u8 = 2;
const DONE: u8 = 3;
const BURIED: u8 = 4;

/// One job, as the queue has it. `bytes` is what it holds.
struct Job {
    stage: Arc<AtomicU8>,
    bytes: Arc<AtomicUsize>,
}

impl Job {
    fn new(bytes: &Arc<AtomicUsize>) -> Self {
        bytes.fetch_add(1, Ordering::Relaxed);
        Self { stage: Arc::default(), bytes: Arc::clone(bytes) }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.bytes.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Waiting for Job {
    fn take_up(&self) -> bool {
        go_on(&self.stage, WAITING, TAKEN)
    }

    fn is_given_up(&self) -> bool {
        self.stage.load(Ordering::Acquire) == GIVEN_UP
    }

    fn bury(self) {
        assert!(go_on(&self.stage, GIVEN_UP, BURIED), "it is buried once, and only a ghost");
    }
}

fn go_on(stage: &AtomicU8, from: u8, to: u8) -> bool {
    stage.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

fn queue(capacity: usize, workers: usize) -> Queue<Job> {
    Queue::new(capacity, workers, workers, LONG, false)
}

/// Gives a job up; false if it is too late for that.
fn give_up(queue: &Queue<Job>, stage: &AtomicU8, weight: usize) -> Option<Pushed> {
    queue.give_up(weight, || go_on(stage, WAITING, GIVEN_UP))
}

#[test]
fn who_was_given_up_leaves_room_and_does_not_wait() {
    let bytes = Arc::default();
    let queue = queue(3, 1);
    let mut stages = Vec::new();
    for _ in 0..3 {
        let job = Job::new(&bytes);
        stages.push(Arc::clone(&job.stage));
        assert!(queue.push(job, Instant::now()).is_ok());
    }
    assert!(queue.push(Job::new(&bytes), Instant::now()).is_err());
    assert!(give_up(&queue, &stages[1], 1).is_some());
    assert!(give_up(&queue, &stages[1], 1).is_none());
    assert_eq!(queue.stats().waiting, 2);
    assert!(queue.push(Job::new(&bytes), Instant::now()).is_ok());
    assert!(queue.push(Job::new(&bytes), Instant::now()).is_err());
    // Those that were there keep their order.
    for stage in [&stages[0], &stages[2]] {
        let job = queue.try_take().expect("it waits");
        assert!(Arc::ptr_eq(&job.stage, stage));
    }
    assert!(queue.try_take().is_some());
    assert!(queue.try_take().is_none());
    assert_eq!((queue.stats().waiting, queue.stats().taken), (0, 3));
}

#[test]
fn who_asks_and_leaves_without_end_leaves_nothing_behind() {
    const LIVING: usize = if cfg!(miri) { 100 } else { 1000 };
    let bytes = Arc::default();
    let queue = queue(LIVING + 1, 1);
    for _ in 0..LIVING {
        assert!(queue.push(Job::new(&bytes), Instant::now()).is_ok());
    }
    let mut most = 0;
    for _ in 0..20 * LIVING {
        let job = Job::new(&bytes);
        let stage = Arc::clone(&job.stage);
        assert!(queue.push(job, Instant::now()).is_ok(), "the ghosts take the room of the living");
        assert!(give_up(&queue, &stage, 1).is_some());
        assert_eq!(queue.stats().waiting, LIVING);
        most = most.max(bytes.load(Ordering::Relaxed));
    }
    assert!(most <= LIVING + LIVING / 10, "{most} jobs are held, of which {LIVING} live");
    // What is heavy goes at once.
    let job = Job::new(&bytes);
    let stage = Arc::clone(&job.stage);
    assert!(queue.push(job, Instant::now()).is_ok());
    assert!(give_up(&queue, &stage, LIVING).is_some());
    assert_eq!(bytes.load(Ordering::Relaxed), LIVING);
}

#[test]
fn jobs_that_do_not_count_stay_where_they_are() {
    let bytes = Arc::default();
    let queue = queue(8, 1);
    let (before, after) = (Job::new(&bytes), Job::new(&bytes));
    let order = [Arc::clone(&before.stage), Arc::clone(&after.stage)];
    queue.push_uncounted(before, Instant::now());
    let job = Job::new(&bytes);
    let stage = Arc::clone(&job.stage);
    assert!(queue.push(job, Instant::now()).is_ok());
    queue.push_uncounted(after, Instant::now());
    assert!(give_up(&queue, &stage, 1).is_some());
    assert_eq!(stage.load(Ordering::Relaxed), BURIED);
    for stage in &order {
        assert!(Arc::ptr_eq(&queue.try_take().expect("it waits").stage, stage));
    }
}

#[test]
fn what_was_given_up_is_not_left_to_the_end() {
    let bytes = Arc::default();
    let queue = queue(100, 1);
    let stages: Vec<_> = (0..100)
        .map(|_| {
            let job = Job::new(&bytes);
            let stage = Arc::clone(&job.stage);
            assert!(queue.push(job, Instant::now()).is_ok());
            stage
        })
        .collect();
    // Too few for a sweep.
    assert!(give_up(&queue, &stages[40], 1).is_some());
    assert_eq!((queue.stats().waiting, bytes.load(Ordering::Relaxed)), (99, 100));
    let left = queue.clear();
    assert_eq!(left.iter().filter(|job| job.is_given_up()).count(), 1);
    assert_eq!((left.len(), queue.stats().waiting), (100, 0));
}

/// One thread pushes and gives up, as the IO thread does; workers take what they find, and sleep.
fn strain(workers: usize, time: Duration, seed: usize) {
    let bytes: Arc<AtomicUsize> = Arc::default();
    let queue = queue(64, workers);
    let mut stages: Vec<Arc<AtomicU8>> = Vec::new();
    std::thread::scope(|scope| {
        for number in 0..workers {
            let queue = &queue;
            scope.spawn(move || {
                let mut random = Random::of(number);
                let seat = queue.enter();
                while let Taken::Job(job) = queue.take(&seat) {
                    random.dawdle();
                    queue.running(&seat, Instant::now());
                    random.dawdle();
                    assert!(go_on(&job.stage, TAKEN, DONE));
                }
            });
        }
        let close = CloseAtEnd(&queue);
        let mut random = Random::of(seed);
        let (mut watch, mut is_watching, mut ticked) = (Watch::default(), false, Instant::now());
        let until = Instant::now() + time;
        while Instant::now() < until && stages.len() + 64 < JOBS_MAX {
            let first = stages.len();
            for _ in 0..=random.below(60) {
                let job = Job::new(&bytes);
                let stage = Arc::clone(&job.stage);
                match queue.push(job, Instant::now()) {
                    Ok(pushed) => is_watching |= pushed == Pushed::Deferred,
                    Err(_) => break,
                }
                stages.push(stage);
                while random.below(3) == 0 {
                    let at = first + random.below((stages.len() - first) as u64) as usize;
                    let weight = 1 + random.below(3) as usize;
                    is_watching |= give_up(&queue, &stages[at], weight) == Some(Pushed::Deferred);
                }
            }
            let since = Instant::now();
            while stages[first..].iter().any(|stage| matches!(stage.load(Ordering::Acquire), WAITING | TAKEN)) {
                let stats = queue.stats();
                assert!(since.elapsed() < FORGOTTEN, "a job is left lying: {stats:?}, {} pushed", stages.len());
                if is_watching && ticked.elapsed() >= TICK {
                    ticked = Instant::now();
                    is_watching = queue.tick(&mut watch);
                }
                std::thread::yield_now();
            }
            random.dawdle();
        }
        drop(close);
    });
    // What is left are ghosts alone, and every one is counted.
    assert_eq!(queue.stats().waiting, 0);
    queue.clear().into_iter().for_each(Waiting::bury);
    assert_eq!((queue.stats().waiting, bytes.load(Ordering::Relaxed)), (0, 0));
    let ended = |how| stages.iter().filter(|stage| stage.load(Ordering::Relaxed) == how).count();
    assert_eq!(ended(DONE) + ended(BURIED), stages.len());
    assert_eq!(queue.stats().taken, ended(DONE));
    assert!(ended(DONE) > 0 && ended(BURIED) > 0, "both happen");
}

struct CloseAtEnd<'a>(&'a Queue<Job>);

impl Drop for CloseAtEnd<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[test]
fn each_job_is_done_or_buried_and_none_is_left_lying() {
    for workers in [1, 2, 4] {
        strain(workers, Duration::from_millis(500), workers);
    }
}
