//! Which requests go to the workers now, which wait, and which are refused.
//!
//! A *lane* is a queue with workers of its own: what fills or blocks one does not touch the others. A *gate* stands before
//! the lane of a route that may run a few times at once: beyond that its requests wait at the gate, where they hold up
//! nobody and hold no thread.
//!
//! # Why a gate lets everybody through
//!
//! All of it happens under the gate's lock. A request that finds a free place takes it along as a [`Permit`], else it
//! waits. A permit that is dropped, by whatever end its request comes to, hands its place to the first that waits, or
//! frees it if there is none. So requests wait only while every place is held by a permit, and each permit ends. Those that
//! were given up meanwhile, or whose client has left, are passed over.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::config::{Config, LaneConfig};
use crate::jitter;
use crate::queue::Queue;
use crate::request::{Job, Ready, Request};
use crate::routes::{Policy, RouteTable};
use crate::server::Shared;

/// The number of the lane of requests whose route names none.
pub const DEFAULT_LANE: usize = 0;

/// Requests of some routes, and the workers that run them.
pub struct Lane {
    /// What the operator calls it.
    pub name: String,
    /// Its ready requests.
    pub queue: Queue<Job>,
}

impl Lane {
    fn new(config: &LaneConfig, server: &Config) -> Self {
        let queue = Queue::new(
            server.queue_max,
            config.workers_min,
            config.workers_max,
            server.worker_idle,
            server.workers_are_parallel,
        );
        Self { name: config.name.clone(), queue }
    }
}

pub(crate) fn lanes(config: &Config) -> Box<[Lane]> {
    config.lanes.iter().map(|lane| Lane::new(lane, config)).collect()
}

/// What stands before a lane for the requests of one route.
pub(crate) struct Gate {
    places: usize,
    waiting_max: usize,
    lane: usize,
    inner: Mutex<AtGate>,
}

#[derive(Default)]
struct AtGate {
    taken: usize,
    waiting: VecDeque<Ready>,
    closed: bool,
}

impl Gate {
    /// The first that wait, and how many do. Any thread.
    pub(crate) fn first(&self, most: usize) -> (Vec<Arc<Request>>, usize) {
        let inner = self.inner.lock();
        let (mut first, mut count) = (Vec::new(), 0);
        for Ready { request, .. } in inner.waiting.iter().filter(|ready| ready.request.is_waiting()) {
            if first.len() < most {
                first.push(Arc::clone(request));
            }
            count += 1;
        }
        (first, count)
    }
}

/// One gate for each route, or none.
pub(crate) fn gates(table: &RouteTable, config: &Config) -> Box<[Option<Gate>]> {
    let gate = |policy: &Policy| {
        policy.concurrency.map(|places| Gate {
            places,
            waiting_max: policy.queue.unwrap_or(config.queue_max),
            lane: policy.lane,
            inner: Mutex::default(),
        })
    };
    (0..table.len()).map(|route| gate(table.policy(route as u32))).collect()
}

/// A place behind the gate of a route, for as long as the handler of one request runs.
pub struct Permit {
    server: Arc<Shared>,
    route: u32,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.server.is_forked() {
            // The locks may be held by threads that are not there.
            return;
        }
        let Some(gate) = self.server.gate(self.route) else { return };
        let mut dead = Vec::new();
        jitter::point();
        let mut inner = gate.inner.lock();
        jitter::point();
        let next = loop {
            match inner.waiting.pop_front() {
                _ if inner.closed => break None,
                Some(ready) if ready.is_dead() => dead.push(ready),
                next => break next,
            }
        };
        if next.is_none() {
            inner.taken -= 1;
        }
        drop(inner);
        jitter::point();
        bury(dead);
        let Some(mut next) = next else { return };
        next.permit = Some(Permit { server: Arc::clone(&self.server), route: self.route });
        let pushed = self.server.lanes[gate.lane].queue.push_admitted(Job::Request(next), Instant::now());
        self.server.note_push(pushed);
    }
}

/// Ends requests that no worker is to see; under no lock.
fn bury(dead: Vec<Ready>) {
    let now = Instant::now();
    for ready in dead {
        // Should it not be dead after all, its client is told 500.
        drop(ready.start(now));
    }
}

/// What became of a request that came to be admitted.
pub(crate) enum Admission {
    /// It is with the workers, or waits at its gate.
    Admitted,
    /// There are too many already.
    Full(Ready),
}

impl Shared {
    /// Gives a complete request to the workers of its lane. IO thread; `now` may be some microseconds old.
    pub(crate) fn admit(self: &Arc<Self>, mut ready: Ready, now: Instant) -> Admission {
        let route = ready.request.route;
        let lane = if let Some(gate) = self.gate(route) {
            jitter::point();
            let mut inner = gate.inner.lock();
            if inner.taken >= gate.places {
                let mut dead = Vec::new();
                if inner.waiting.len() >= gate.waiting_max {
                    let waiting = std::mem::take(&mut inner.waiting);
                    let there: Vec<_>;
                    (dead, there) = waiting.into_iter().partition(Ready::is_dead);
                    inner.waiting = there.into();
                }
                let has_room = inner.waiting.len() < gate.waiting_max && !inner.closed;
                let refused = if has_room {
                    inner.waiting.push_back(ready);
                    None
                } else {
                    Some(ready)
                };
                drop(inner);
                bury(dead);
                return refused.map_or(Admission::Admitted, Admission::Full);
            }
            inner.taken += 1;
            ready.permit = Some(Permit { server: Arc::clone(self), route });
            gate.lane
        } else {
            self.routing.lane(route)
        };
        match self.lanes[lane].queue.push(Job::Request(ready), now) {
            Ok(pushed) => self.note_push(pushed),
            Err(Job::Request(ready)) => return Admission::Full(ready),
            Err(_) => unreachable!("a request was pushed"),
        }
        Admission::Admitted
    }

    /// What stands before the lane of a route, if it has such a limit.
    fn gate(&self, route: u32) -> Option<&Gate> {
        self.gates.get(route as usize)?.as_ref()
    }

    /// How many requests wait at the gates of routes.
    pub fn waiting_at_gates(&self) -> usize {
        self.gates.iter().flatten().map(|gate| gate.inner.lock().waiting.len()).sum()
    }

    /// Takes out every request that no worker has taken, and lets the workers go when they are through with the rest: the ends
    /// of WebSockets. Returns how many had no answer. After the IO thread has ended.
    pub(crate) fn close_lanes(&self) -> usize {
        let mut left = Vec::new();
        for gate in self.gates.iter().flatten() {
            let mut inner = gate.inner.lock();
            inner.closed = true;
            left.extend(inner.waiting.drain(..).map(Job::Request));
        }
        for lane in &self.lanes {
            left.extend(lane.queue.clear());
        }
        // Others were answered when they had waited too long.
        let count = left.iter().filter(|job| matches!(job, Job::Request(ready) if ready.request.is_waiting())).count();
        drop(left);
        for lane in &self.lanes {
            lane.queue.close();
        }
        count
    }
}
