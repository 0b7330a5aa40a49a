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
//! frees it if there is none. So requests wait only while every place is held by a permit, and each permit ends. Those
//! that were given up meanwhile are ghosts, which are passed over, do not count, and are swept out as those of a queue
//! are (see `queue::ghosts`): here they are counted under the lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::config::{Config, LaneConfig};
use crate::jitter;
use crate::queue::{Queue, pays};
use crate::request::{Job, Ready, Request};
use crate::routes::{Policy, RouteTable};
use crate::server::{Phase, Shared};
use crate::whereabouts::{Stage, Whereabouts};

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
    /// Requests, and ghosts of such.
    waiting: VecDeque<Ready>,
    ghosts: usize,
    /// What these weigh, of those since there were none or all were swept out.
    weight: usize,
    closed: bool,
}

impl Gate {
    /// The first that wait, and how many do. Any thread.
    pub(crate) fn first(&self, most: usize) -> (Vec<Arc<Request>>, usize) {
        let inner = self.inner.lock();
        let (mut first, mut count) = (Vec::new(), 0);
        for Ready { request, .. } in inner.waiting.iter().filter(|ready| ready.is_at(Stage::AtGate)) {
            if first.len() < most {
                first.push(Arc::clone(request));
            }
            count += 1;
        }
        (first, count)
    }
}

impl AtGate {
    /// How many wait.
    fn living(&self) -> usize {
        self.waiting.len() - self.ghosts
    }

    /// Notes a ghost more; returns all of them when they have paid for their way out.
    fn add_ghost(&mut self, weight: usize) -> Vec<Ready> {
        let before = if self.ghosts == 0 { 0 } else { self.weight };
        (self.ghosts, self.weight) = (self.ghosts + 1, before.saturating_add(weight));
        if !pays(self.weight, self.waiting.len()) {
            return Vec::new();
        }
        let all = std::mem::take(&mut self.waiting);
        let (living, dead): (Vec<_>, Vec<_>) = all.into_iter().partition(|ready| ready.is_at(Stage::AtGate));
        (self.waiting, self.ghosts, self.weight) = (living.into(), 0, 0);
        dead
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
                Some(ready) if !ready.go_on(Stage::AtGate, Stage::Queued) => {
                    inner.ghosts -= 1;
                    dead.push(ready);
                }
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

/// Ends requests that were given up; under no lock.
fn bury(dead: Vec<Ready>) {
    dead.into_iter().for_each(Ready::bury);
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
        if ready.responder.is_lost() {
            // It has come together with its client's farewell, which had nothing to give up yet.
            ready.responder.discard(&ready.request);
            return Admission::Admitted;
        }
        let route = ready.request.route;
        let lane = if let Some(gate) = self.gate(route) {
            jitter::point();
            let mut inner = gate.inner.lock();
            if inner.taken >= gate.places {
                if inner.living() >= gate.waiting_max || inner.closed {
                    return Admission::Full(ready);
                }
                ready.enter(Stage::AtGate);
                inner.waiting.push_back(ready);
                return Admission::Admitted;
            }
            inner.taken += 1;
            ready.permit = Some(Permit { server: Arc::clone(self), route });
            gate.lane
        } else {
            self.routing.lane(route)
        };
        ready.enter(Stage::Queued);
        match self.lanes[lane].queue.push(Job::Request(ready), now) {
            Ok(pushed) => self.note_push(pushed),
            Err(Job::Request(ready)) => {
                ready.enter(Stage::Nowhere);
                return Admission::Full(ready);
            }
            Err(_) => unreachable!("a request was pushed"),
        }
        Admission::Admitted
    }

    /// Gives up the request that was handed over last on a channel, wherever it waits; `to` says why. False: a handler
    /// has it, or had it, or it was given up before. IO thread, under no lock of a channel.
    pub(crate) fn give_up(&self, whereabouts: &Whereabouts, to: Stage) -> bool {
        let (route, weight) = (whereabouts.route(), whereabouts.weight());
        loop {
            let stage = whereabouts.stage();
            let leave = || whereabouts.give_up(stage, to);
            let is_given_up = match (stage, self.gate(route)) {
                (Stage::AtGate, Some(gate)) => {
                    let mut inner = gate.inner.lock();
                    let is_given_up = leave();
                    let dead = if is_given_up { inner.add_ghost(weight) } else { Vec::new() };
                    drop(inner);
                    bury(dead);
                    is_given_up
                }
                (Stage::Queued, _) => {
                    let pushed = self.lanes[self.routing.lane(route)].queue.give_up(weight, leave);
                    pushed.map(|pushed| self.note_push(pushed)).is_some()
                }
                (Stage::Taken, _) => leave(),
                _ => return false,
            };
            if is_given_up {
                return true;
            }
            // It has gone on in this moment, and it goes on no more than twice.
        }
    }

    /// Nobody waits for what was handed over last on a channel: its client has left, which the channel says already. IO
    /// thread, under no lock of a channel.
    pub(crate) fn client_left(&self, whereabouts: &Whereabouts) {
        // When all connections are cut by a stop, the stop counts what it finds.
        if self.phase() != Phase::Closed {
            self.give_up(whereabouts, Stage::Left);
        }
    }

    /// What stands before the lane of a route, if it has such a limit.
    fn gate(&self, route: u32) -> Option<&Gate> {
        self.gates.get(route as usize)?.as_ref()
    }

    /// How many requests wait at the gates of routes.
    pub fn waiting_at_gates(&self) -> usize {
        self.gates.iter().flatten().map(|gate| gate.inner.lock().living()).sum()
    }

    /// Takes out every request that no worker has taken, and lets the workers go when they are through with the rest: the ends
    /// of WebSockets. Returns how many had no answer. After the IO thread has ended.
    pub(crate) fn close_lanes(&self) -> usize {
        let mut left = Vec::new();
        for gate in self.gates.iter().flatten() {
            let mut inner = gate.inner.lock();
            inner.closed = true;
            left.extend(inner.waiting.drain(..));
            inner.ghosts = 0;
        }
        for lane in &self.lanes {
            left.extend(lane.queue.clear().into_iter().filter_map(|job| match job {
                Job::Request(ready) => Some(ready),
                Job::Events(_) | Job::Call(_) => None,
            }));
        }
        // Others were answered when they had waited too long.
        let (gone, left): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|ready| !ready.is_at(Stage::AtGate) && !ready.is_at(Stage::Queued));
        let count = left.len();
        drop(left);
        bury(gone);
        for lane in &self.lanes {
            lane.queue.close();
        }
        count
    }
}
