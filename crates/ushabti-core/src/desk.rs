//! What every worker does at this moment, and how long work and workers have waited: for the thread dump and the counters.
//!
//! A worker has a desk, and notes there what it begins and ends. Nobody else writes to it, so a note costs an uncontended
//! lock and a few stores on cache lines of the worker's own; whoever wants to know goes from desk to desk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::request::Request;
use crate::server::Shared;
use crate::websocket::Socket;

/// Upper bounds of the histogram of waits, in microseconds: from what a hand-over takes to what no client has patience for.
pub const WAIT_BOUNDS_US: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000,
];

/// What a worker has in hand.
pub enum Work {
    /// A request, with its handler.
    Request(Arc<Request>),
    /// A WebSocket, and the name of the event that its handler is told.
    Event(Arc<Socket>, &'static str),
    /// A call of a block of calls, and the request whose handler has spread them.
    Call(Arc<Request>),
}

struct Held {
    work: Option<Work>,
    since: Instant,
    /// How many pieces of work this is, so that two looks can tell whether it is still the same.
    number: u64,
}

/// The place of one worker.
pub struct Desk {
    /// The worker's.
    lane: usize,
    /// The interpreter's number of the thread.
    thread: u64,
    /// Locked by the worker for a moment, twice for each piece of work, and by readers for as long as they copy.
    held: Mutex<Held>,
    queue_waits: Histogram,
    attach_waits: Sum,
}

impl Desk {
    /// Notes what the worker begins, `now`; and returns what it was at, to be put back where that is not over.
    pub fn begin(&self, work: Work, now: Instant) -> Option<Work> {
        let mut held = self.held.lock();
        held.since = now;
        held.number += 1;
        held.work.replace(work)
    }

    /// Notes that it is over. What was before is not dropped under the lock.
    pub fn end(&self) {
        let work = self.held.lock().work.take();
        drop(work);
    }

    /// Notes the next event of the socket that the worker has, `now`.
    pub fn event(&self, name: &'static str, now: Instant) {
        let mut held = self.held.lock();
        held.since = now;
        if let Some(Work::Event(_, event)) = &mut held.work {
            *event = name;
        }
    }

    /// Notes how long a request has waited for this worker.
    pub fn waited_in_queue(&self, wait: Duration) {
        self.queue_waits.add(wait);
    }

    /// Notes how long the worker has waited for the interpreter.
    pub fn waited_to_attach(&self, wait: Duration) {
        self.attach_waits.add(wait);
    }
}

/// What a desk shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// The interpreter's number of the thread.
    pub thread: u64,
    /// Two sights with the same number are of the same piece of work.
    pub number: u64,
    /// What the worker has in hand; `None` if it waits.
    pub task: Option<Task>,
}

/// A copy of what a worker has in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// What it is.
    pub subject: Subject,
    /// Since the worker began with it.
    pub running: Duration,
    /// Whether the client is still there.
    pub is_connected: bool,
}

/// What a worker works at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A request.
    Request {
        /// Its method.
        method: String,
        /// Its target as it came, the query included.
        target: String,
        /// The number of its route.
        route: u32,
        /// How long it has waited for the worker.
        waited: Duration,
        /// How old it is: since its head was complete.
        age: Duration,
    },
    /// A call that a request has spread over the workers.
    Call {
        /// The request's method.
        method: String,
        /// Its target as it came.
        target: String,
        /// The number of its route.
        route: u32,
    },
    /// A WebSocket.
    Event {
        /// The number of the socket.
        id: u64,
        /// The event that its handler is told.
        name: &'static str,
    },
}

impl Task {
    fn of(work: &Work, since: Instant, now: Instant) -> Self {
        let (subject, is_connected) = match work {
            Work::Request(request) => {
                let subject = Subject::Request {
                    method: request.head.method().to_owned(),
                    target: request.head.target().to_owned(),
                    route: request.route,
                    waited: since.saturating_duration_since(request.ready),
                    age: now.saturating_duration_since(request.received),
                };
                (subject, !request.is_disconnected())
            }
            Work::Call(request) => {
                let subject = Subject::Call {
                    method: request.head.method().to_owned(),
                    target: request.head.target().to_owned(),
                    route: request.route,
                };
                (subject, !request.is_disconnected())
            }
            Work::Event(socket, name) => (Subject::Event { id: socket.id(), name }, socket.is_open()),
        };
        Self { subject, running: now.saturating_duration_since(since), is_connected }
    }
}

/// The desks of one server's workers.
#[derive(Default)]
pub struct Desks {
    desks: Mutex<Vec<Arc<Desk>>>,
    /// What was counted at desks that are gone. Locked behind `desks`, so that nothing is missed or counted twice.
    gone: Waits,
}

impl Desks {
    /// Gives the calling thread, a worker of `lane`, a desk until the result is dropped. `thread`: the interpreter's number
    /// of it.
    pub fn enter<'a>(&'a self, shared: &'a Shared, lane: usize, thread: u64) -> AtDesk<'a> {
        let desk = Arc::new(Desk {
            lane,
            thread,
            held: Mutex::new(Held { work: None, since: Instant::now(), number: 0 }),
            queue_waits: Histogram::default(),
            attach_waits: Sum::default(),
        });
        self.desks.lock().push(Arc::clone(&desk));
        AtDesk { desk, shared }
    }

    /// What every worker does. Any thread; what it copies, it copies without waiting for anybody's work.
    pub fn look(&self) -> Vec<Sight> {
        let desks = self.desks.lock().clone();
        desks
            .iter()
            .map(|desk| {
                let held = desk.held.lock();
                let now = Instant::now();
                let task = held.work.as_ref().map(|work| Task::of(work, held.since, now));
                Sight { thread: desk.thread, number: held.number, task }
            })
            .collect()
    }

    /// The interpreter's number of the thread that handles a request, and the number of that piece of work, if one does. Any
    /// thread.
    pub fn thread_of(&self, request: &Arc<Request>) -> Option<(u64, u64)> {
        let desks = self.desks.lock();
        desks.iter().find_map(|desk| {
            let held = desk.held.lock();
            let has_it = matches!(&held.work, Some(Work::Request(other)) if Arc::ptr_eq(other, request));
            has_it.then_some((desk.thread, held.number))
        })
    }

    /// The requests whose handlers run. Any thread.
    pub(crate) fn requests(&self) -> Vec<Arc<Request>> {
        let of_desk = |desk: &Arc<Desk>| match &desk.held.lock().work {
            Some(Work::Request(request)) => Some(Arc::clone(request)),
            _ => None,
        };
        self.desks.lock().iter().filter_map(of_desk).collect()
    }

    /// When the request that came last of those which workers of a lane have was complete, if they have any. Any thread.
    pub(crate) fn newest(&self, lane: usize) -> Option<Instant> {
        let of_desk = |desk: &Arc<Desk>| match &desk.held.lock().work {
            Some(Work::Request(request)) => Some(request.ready),
            _ => None,
        };
        self.desks.lock().iter().filter(|desk| desk.lane == lane).filter_map(of_desk).max()
    }

    /// How many workers have something in hand. Any thread.
    pub fn busy(&self) -> usize {
        self.desks.lock().iter().filter(|desk| desk.held.lock().work.is_some()).count()
    }

    /// The waits since the server's start, of all workers there were. Any thread.
    pub fn waits(&self) -> (HistogramCounts, SumCounts) {
        let desks = self.desks.lock();
        let (mut queue, mut attach) = (self.gone.queue.read(), self.gone.attach.read());
        for desk in desks.iter() {
            queue.add(&desk.queue_waits.read());
            attach.add(desk.attach_waits.read());
        }
        (queue, attach)
    }

    fn leave(&self, desk: &Arc<Desk>) {
        let mut desks = self.desks.lock();
        desks.retain(|other| !Arc::ptr_eq(other, desk));
        self.gone.queue.merge(&desk.queue_waits.read());
        self.gone.attach.merge(desk.attach_waits.read());
    }
}

/// A worker at its desk.
pub struct AtDesk<'a> {
    desk: Arc<Desk>,
    shared: &'a Shared,
}

impl std::ops::Deref for AtDesk<'_> {
    type Target = Desk;

    fn deref(&self) -> &Desk {
        &self.desk
    }
}

impl Drop for AtDesk<'_> {
    fn drop(&mut self) {
        // In a forked child the locks may be held by threads that are not there.
        if !self.shared.is_forked() {
            self.shared.desks.leave(&self.desk);
        }
    }
}

#[derive(Default)]
struct Waits {
    queue: Histogram,
    attach: Sum,
}

/// Adds to a counter that one thread alone writes, or several under a lock: a plain addition, which others may read.
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

/// How often something was waited for, and for how long together.
#[derive(Default)]
struct Sum {
    count: AtomicU64,
    nanos: AtomicU64,
}

/// [`Sum`] at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SumCounts {
    /// How often.
    pub count: u64,
    /// For how long together.
    pub total: Duration,
}

impl Sum {
    fn add(&self, wait: Duration) {
        add(&self.count, 1);
        add(&self.nanos, wait.as_nanos() as u64);
    }

    fn merge(&self, other: SumCounts) {
        add(&self.count, other.count);
        add(&self.nanos, other.total.as_nanos() as u64);
    }

    fn read(&self) -> SumCounts {
        let total = Duration::from_nanos(self.nanos.load(Ordering::Relaxed));
        SumCounts { count: self.count.load(Ordering::Relaxed), total }
    }
}

impl SumCounts {
    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.total += other.total;
    }
}

/// Waits by their length.
#[derive(Default)]
struct Histogram {
    /// One for each bound, and one for what is longer than all.
    counts: [AtomicU64; WAIT_BOUNDS_US.len() + 1],
    nanos: AtomicU64,
}

/// [`Histogram`] at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HistogramCounts {
    /// How many waits were no longer than each of [`WAIT_BOUNDS_US`], those of the bounds before included.
    pub within: [u64; WAIT_BOUNDS_US.len()],
    /// How many there were.
    pub count: u64,
    /// How long all of them were together.
    pub total: Duration,
}

impl Histogram {
    fn add(&self, wait: Duration) {
        let nanos = wait.as_nanos() as u64;
        // Most are short, and found at once.
        let place = WAIT_BOUNDS_US.iter().position(|&bound| nanos <= bound * 1_000).unwrap_or(WAIT_BOUNDS_US.len());
        add(&self.counts[place], 1);
        add(&self.nanos, nanos);
    }

    fn merge(&self, other: &HistogramCounts) {
        let mut before = 0;
        for (place, &within) in other.within.iter().chain([&other.count]).enumerate() {
            add(&self.counts[place], within - before);
            before = within;
        }
        add(&self.nanos, other.total.as_nanos() as u64);
    }

    fn read(&self) -> HistogramCounts {
        let mut read = HistogramCounts::default();
        for (place, count) in self.counts.iter().enumerate() {
            read.count += count.load(Ordering::Relaxed);
            if let Some(within) = read.within.get_mut(place) {
                *within = read.count;
            }
        }
        read.total = Duration::from_nanos(self.nanos.load(Ordering::Relaxed));
        read
    }
}

impl HistogramCounts {
    fn add(&mut self, other: &Self) {
        for (within, more) in self.within.iter_mut().zip(other.within) {
            *within += more;
        }
        self.count += other.count;
        self.total += other.total;
    }
}

#[cfg(test)]
mod tests {

    use ushabti_proto::http1::head::RequestHead;

    use super::*;

    #[test]
    fn waits_are_counted_in_every_bucket_that_is_long_enough() {
        let histogram = Histogram::default();
        for micros in [0, 100, 101, 1_000, 60_000_000] {
            histogram.add(Duration::from_micros(micros));
        }
        histogram.add(Duration::from_nanos(100_001));
        let read = histogram.read();
        assert_eq!(read.count, 6);
        assert_eq!(read.within[..4], [2, 4, 4, 5]);
        assert_eq!(read.within[WAIT_BOUNDS_US.len() - 1], 5, "a minute is longer than every bound");
        assert_eq!(read.total, Duration::from_nanos(60_001_301_001));
    }

    #[test]
    fn what_a_worker_has_counted_outlives_its_desk() {
        let shared = Shared::for_tests();
        let first = shared.desks.enter(&shared, 0, 7);
        let second = shared.desks.enter(&shared, 0, 8);
        for wait in [3, 300, 30_000_000] {
            first.waited_in_queue(Duration::from_micros(wait));
            second.waited_in_queue(Duration::from_micros(wait));
            first.waited_to_attach(Duration::from_micros(wait));
        }
        let before = shared.desks.waits();
        assert_eq!((before.0.count, before.1.count), (6, 3));
        drop(first);
        assert_eq!(shared.desks.waits(), before);
        assert_eq!(shared.desks.look().iter().map(|sight| sight.thread).collect::<Vec<_>>(), [8]);
        drop(second);
        assert_eq!(shared.desks.waits(), before);
        assert!(shared.desks.look().is_empty());
    }

    #[test]
    fn a_desk_shows_a_copy_of_what_lies_on_it() {
        let shared = Shared::for_tests();
        let desk = shared.desks.enter(&shared, 0, 7);
        let head = RequestHead::from_lines(b"GET /jars?x=1 HTTP/1.1\r\nHost: a\r\n").expect("a head");
        let received = Instant::now();
        let (ready, begun) = (received + Duration::from_millis(1), received + Duration::from_millis(3));
        let request = Arc::new(Request::for_tests(head, 5, received, ready));
        assert!(desk.begin(Work::Request(Arc::clone(&request)), begun).is_none());
        let sight = shared.desks.look().remove(0);
        assert_eq!(Arc::strong_count(&request), 2, "the desk has one, and the sight none");
        let task = sight.task.expect("something lies there");
        assert!(!task.is_connected, "there is no connection");
        match task.subject {
            Subject::Request { method, target, route, waited, .. } => {
                assert_eq!((method.as_str(), target.as_str(), route), ("GET", "/jars?x=1", 5));
                assert_eq!(waited, Duration::from_millis(2));
            }
            other => panic!("it is a request, not {other:?}"),
        }
        assert_eq!(shared.desks.busy(), 1);
        let before = desk.begin(Work::Request(Arc::clone(&request)), begun);
        assert!(before.is_some(), "work within work can be put back");
        assert_eq!(shared.desks.look()[0].number, sight.number + 1);
        desk.end();
        drop(before);
        assert_eq!((shared.desks.busy(), Arc::strong_count(&request)), (0, 1));
        assert_eq!(shared.desks.look()[0].task, None);
    }
}
