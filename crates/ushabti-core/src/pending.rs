//! Requests that no worker has in hand and that are not answered: for the thread dump and the counters.
//!
//! What a handler has deferred is noted here when that is done, and struck out by the answer, so that only such requests
//! cost anything. What waits at the gate of a route is looked for there. What waits in the queue of a lane is counted and not
//! named: the queue cannot be looked through, and a list beside it would cost every request.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::jitter;
use crate::request::Request;
use crate::server::Shared;

/// So many requests are named, the oldest. Those who look hold no lock for longer than it takes to note as many.
const NAMED_MAX: usize = 100;

/// Requests that were deferred and are not answered, in the order in which they were.
#[derive(Default)]
pub(crate) struct Deferrals {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    last: u64,
    /// Since when, and which.
    requests: BTreeMap<u64, (Instant, Arc<Request>)>,
}

impl Deferrals {
    /// Notes a request; returns the number to strike it out by, which is not 0. Any thread.
    pub(crate) fn note(&self, request: &Arc<Request>) -> u64 {
        jitter::point();
        let mut inner = self.inner.lock();
        inner.last += 1;
        let number = inner.last;
        inner.requests.insert(number, (Instant::now(), Arc::clone(request)));
        number
    }

    /// It is answered. Any thread.
    pub(crate) fn strike_out(&self, number: u64) {
        jitter::point();
        let entry = self.inner.lock().requests.remove(&number);
        // Not under the lock: it may have been the last that had the request.
        drop(entry);
    }

    /// How many there are. Any thread.
    fn count(&self) -> usize {
        self.inner.lock().requests.len()
    }

    /// The first of them, and how many there are.
    fn first(&self, most: usize) -> (Vec<(Instant, Arc<Request>)>, usize) {
        let inner = self.inner.lock();
        (inner.requests.values().take(most).cloned().collect(), inner.requests.len())
    }
}

/// Where a request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Its handler has left the answer to another thread.
    Deferred,
    /// As many of its route run as may run at once.
    Gate,
}

/// A copy of a request that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Where.
    pub place: Place,
    /// Its method.
    pub method: String,
    /// Its target as it came, the query included.
    pub target: String,
    /// The number of its route.
    pub route: u32,
    /// How old it is: since its head was complete.
    pub age: Duration,
    /// For how long it has been there.
    pub waited: Duration,
    /// Whether the client is still there.
    pub is_connected: bool,
}

/// What waits in the queue of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    /// The number of the lane.
    pub lane: usize,
    /// How many requests and WebSockets.
    pub waiting: usize,
    /// Nothing has been there for longer, if that is known: it came after every request that a worker has.
    pub at_most: Option<Duration>,
}

/// All that waits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Requests, the oldest first.
    pub named: Vec<Pending>,
    /// How many more there are, without those of the queues.
    pub more: usize,
    /// The queues that are not empty.
    pub queues: Vec<Queued>,
}

impl Shared {
    /// How many requests were deferred and are not answered. Any thread.
    pub fn deferred(&self) -> usize {
        self.deferrals.count()
    }

    /// What no worker has in hand. Any thread; each lock is held for as long as it takes to note a hundred requests.
    pub fn look_at_waiting(&self) -> Waiting {
        let in_hand = self.desks.requests();
        let at_desks: HashSet<_> = in_hand.iter().map(Arc::as_ptr).collect();
        let (deferred, mut count) = self.deferrals.first(NAMED_MAX);
        let mut found: Vec<_> =
            deferred.into_iter().map(|(since, request)| (Place::Deferred, since, request)).collect();
        // A handler that has deferred its answer may go on, and is shown with its thread.
        let before = found.len();
        found.retain(|(_, _, request)| !at_desks.contains(&Arc::as_ptr(request)));
        count -= before - found.len();
        for gate in self.gates.iter().flatten() {
            let (requests, at_gate) = gate.first(NAMED_MAX);
            count += at_gate;
            if !requests.is_empty() {
                found.extend(requests.into_iter().map(|request| (Place::Gate, request.ready, request)));
                found.sort_by_key(|(_, _, request)| request.received);
                found.truncate(NAMED_MAX);
            }
        }
        found.sort_by_key(|(_, _, request)| request.received);
        let now = Instant::now();
        let named: Vec<_> = found.iter().map(|(place, since, request)| pending(*place, *since, request, now)).collect();
        let queues = (0..self.lanes.len()).filter_map(|lane| self.queued(lane, now)).collect();
        Waiting { more: count - named.len(), named, queues }
    }

    fn queued(&self, lane: usize, now: Instant) -> Option<Queued> {
        // In this order: what still waits then came after what had been taken before.
        let newest = self.desks.newest(lane);
        let waiting = self.lanes[lane].queue.stats().waiting;
        let at_most = newest.map(|ready| now.saturating_duration_since(ready));
        (waiting > 0).then_some(Queued { lane, waiting, at_most })
    }
}

fn pending(place: Place, since: Instant, request: &Request, now: Instant) -> Pending {
    Pending {
        place,
        method: request.head.method().to_owned(),
        target: request.head.target().to_owned(),
        route: request.route,
        age: now.saturating_duration_since(request.received),
        waited: now.saturating_duration_since(since),
        is_connected: !request.is_disconnected(),
    }
}

#[cfg(test)]
mod tests {
    use ushabti_proto::http1::head::RequestHead;

    use super::*;
    use crate::desk::Work;

    fn request(age: Duration) -> Arc<Request> {
        let head = RequestHead::from_lines(b"GET /jars?x=1 HTTP/1.1\r\nHost: a\r\n").expect("a head");
        let received = Instant::now().checked_sub(age).expect("the machine has run for longer");
        Arc::new(Request::for_tests(head, 5, received, received))
    }

    #[test]
    fn deferred_requests_are_named_the_oldest_first_until_they_are_struck_out() {
        let shared = Shared::for_tests();
        let (young, old) = (request(Duration::from_millis(1)), request(Duration::from_millis(50)));
        let (first, second) = (shared.deferrals.note(&young), shared.deferrals.note(&old));
        let waiting = shared.look_at_waiting();
        assert_eq!((waiting.named.len(), waiting.more, shared.deferred()), (2, 0, 2));
        assert!(waiting.named[0].age >= Duration::from_millis(50) && waiting.named[0].age > waiting.named[1].age);
        assert_eq!((waiting.named[0].target.as_str(), waiting.named[0].route), ("/jars?x=1", 5));
        assert!(!waiting.named[0].is_connected, "there is no connection");
        shared.deferrals.strike_out(first);
        shared.deferrals.strike_out(second);
        assert_eq!(shared.look_at_waiting(), Waiting::default());
        assert_eq!(Arc::strong_count(&old), 1);
    }

    #[test]
    fn a_hundred_are_named_and_the_others_counted() {
        let shared = Shared::for_tests();
        let requests: Vec<_> = (0..NAMED_MAX + 7).map(|_| request(Duration::ZERO)).collect();
        for request in &requests {
            shared.deferrals.note(request);
        }
        let waiting = shared.look_at_waiting();
        assert_eq!((waiting.named.len(), waiting.more), (NAMED_MAX, 7));
    }

    #[test]
    fn what_a_worker_has_in_hand_is_not_said_to_wait() {
        let shared = Shared::for_tests();
        let desk = shared.desks.enter(&shared, 0, 7);
        let request = request(Duration::ZERO);
        shared.deferrals.note(&request);
        desk.begin(Work::Request(Arc::clone(&request)), Instant::now());
        assert_eq!(shared.look_at_waiting(), Waiting::default());
        desk.end();
        assert_eq!(shared.look_at_waiting().named.len(), 1);
    }
}
