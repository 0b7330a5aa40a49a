//! What all threads of one server share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicUsize, Ordering, fence};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::access_log::{AccessLog, Entry};
use crate::admission::{self, DEFAULT_LANE, Gate, Lane};
use crate::alerts::Alerts;
use crate::clock::Clock;
use crate::config::Config;
use crate::desk::Desks;
use crate::fork;
use crate::jitter;
use crate::journal::{Journal, Level};
use crate::pending::Deferrals;
use crate::queue::Pushed;
use crate::request::Job;
use crate::routes::{Policy, RouteTable};
use crate::stats::{Census, Counters};
use crate::tls::{Handshakes, Tls};
use crate::websocket::{Gathering, Hub, Socket};

/// Where a server is in its life; it only goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Running = 0,
    /// No new connections; what was accepted is served to its end.
    Draining = 1,
    /// The IO thread ends; connections that are left are cut.
    Closed = 2,
}

/// Routes, and the numbers of the handlers that answer when none matches.
pub struct Routing {
    /// The compiled routes.
    pub table: Arc<RouteTable>,
    /// The handler for 404, if the application has one.
    pub not_found: Option<u32>,
    /// The handler for 405, if the application has one.
    pub method_not_allowed: Option<u32>,
}

/// One server, as its IO thread, its workers and its owner share it.
pub struct Shared {
    pub(crate) config: Config,
    pub(crate) routing: Routing,
    /// Ready requests, and the workers that run them.
    pub lanes: Box<[Lane]>,
    pub(crate) gates: Box<[Option<Gate>]>,
    /// What Python is to be told.
    pub alerts: Alerts,
    /// Access lines and notices.
    pub journal: Journal,
    /// Counters.
    pub counters: Counters,
    /// What the workers do.
    pub desks: Desks,
    pub(crate) deferrals: Deferrals,
    /// The topics of its WebSockets; other servers may have the same.
    pub hub: Arc<Hub>,
    pub(crate) epoch: Instant,
    /// The IO thread's; it knows all connections.
    pub(crate) clock: Arc<Clock>,
    pub(crate) gathering: Gathering,
    /// Steps of TLS handshakes that wait for a thread.
    pub(crate) handshakes: Handshakes,
    /// Where redirected clients go, unless they are told another: see [`Shared::redirect_port`].
    pub(crate) https_port: AtomicU16,
    /// The IO thread keeps the watch of the queue, and what it is told to begin that.
    watching: AtomicBool,
    pub(crate) watch: Notify,
    /// The process that made the server.
    generation: u32,
    phase: AtomicU8,
    /// The IO thread has ended by a fault.
    failed: AtomicBool,
    /// Tells the IO thread that the phase has changed.
    pub(crate) phase_changed: Notify,
    /// See [`Counted`].
    live: AtomicUsize,
    drained: Condvar,
    /// Guards nothing but the wait on `drained`.
    drained_lock: Mutex<()>,
}

impl Routing {
    /// What holds for a route. The handlers of 404 and 405 stand behind the routes and have no policy of their own.
    pub(crate) fn policy(&self, route: u32) -> Option<&Policy> {
        ((route as usize) < self.table.len()).then(|| self.table.policy(route))
    }

    /// The lane whose workers run it.
    pub(crate) fn lane(&self, route: u32) -> usize {
        self.policy(route).map_or(DEFAULT_LANE, |policy| policy.lane)
    }
}

impl Shared {
    pub(crate) fn new(config: Config, routing: Routing, hub: Arc<Hub>) -> Self {
        let epoch = Instant::now();
        let clock = Arc::new(Clock::new(epoch, config.keep_alive));
        Self {
            lanes: admission::lanes(&config),
            gates: admission::gates(&routing.table, &config),
            config,
            routing,
            alerts: Alerts::default(),
            journal: Journal::default(),
            counters: Counters::default(),
            desks: Desks::default(),
            deferrals: Deferrals::default(),
            hub,
            epoch,
            clock,
            gathering: Gathering::default(),
            handshakes: Handshakes::default(),
            https_port: AtomicU16::new(443),
            watching: AtomicBool::new(false),
            watch: Notify::new(),
            generation: fork::generation(),
            phase: AtomicU8::new(Phase::Running as u8),
            failed: AtomicBool::new(false),
            phase_changed: Notify::new(),
            live: AtomicUsize::new(0),
            drained: Condvar::new(),
            drained_lock: Mutex::new(()),
        }
    }

    /// This process is a forked child of the one that serves: nothing of the server may be touched. Any thread.
    pub fn is_forked(&self) -> bool {
        self.generation != fork::generation()
    }

    /// The certificates, if it speaks TLS. Any thread.
    pub fn tls(&self) -> Option<&Arc<Tls>> {
        self.config.tls.as_ref()
    }

    /// The port to which listeners of redirects send clients.
    pub(crate) fn redirect_port(&self) -> u16 {
        self.config.redirect_port.unwrap_or_else(|| self.https_port.load(Ordering::Relaxed))
    }

    /// The connections by what they are at. Any thread.
    pub fn census(&self) -> Census {
        self.clock.census()
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Draining,
            _ => Phase::Closed,
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.phase.load(Ordering::Relaxed) != Phase::Running as u8
    }

    /// Gives the workers a WebSocket that has events and is not with them yet. Any thread.
    pub fn schedule(&self, socket: Arc<Socket>, now: Instant) {
        let queue = &self.lanes[socket.lane()].queue;
        self.note_push(queue.push_uncounted(Job::Events(socket), now));
    }

    /// Has a worker of a lane come by for the calls that are known by `number`. False: the workers leave, or are another process's. Any
    /// thread.
    pub fn schedule_call(&self, lane: usize, number: u64, now: Instant) -> bool {
        let queue = &self.lanes[lane].queue;
        if queue.is_closed() || self.is_forked() {
            return false;
        }
        self.note_push(queue.push_amid_job(Job::Call(number), now));
        true
    }

    /// Sees to it that a job which was pushed is taken though no worker was woken for it. Any thread.
    pub(crate) fn note_push(&self, pushed: Pushed) {
        if pushed == Pushed::Deferred {
            self.keep_watch();
        }
    }

    /// Has the queue watched from now on, until it says that this is no longer needed. Any thread.
    pub(crate) fn keep_watch(&self) {
        if !self.watching.load(Ordering::Relaxed) && !self.watching.swap(true, Ordering::AcqRel) {
            self.watch.notify_one();
        }
    }

    /// Whether a job waits for a worker that is going to take it soon. Any thread.
    pub(crate) fn has_work_in_hand(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.queue.is_empty() && !lane.queue.is_stalled())
    }

    /// Whether a ready job waits for a worker. Any thread.
    pub(crate) fn has_waiting_jobs(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.queue.is_empty())
    }

    /// Whether the queue is watched. Any thread.
    pub(crate) fn is_watching(&self) -> bool {
        self.watching.load(Ordering::Relaxed)
    }

    /// Ends the watch; true if it must go on, because something has come that relies on it. Whoever relies on it has made
    /// that known before it looked, so one of the two sees what the other did. IO thread.
    pub(crate) fn must_watch_on(&self) -> bool {
        self.watching.store(false, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        jitter::point();
        let relied_on = self.has_waiting_jobs() || !self.gathering.is_empty();
        relied_on && !self.watching.swap(true, Ordering::AcqRel)
    }

    /// Writes a line of the access log, if there is one. Any thread; never waits.
    pub(crate) fn log_access<'a>(&self, entry: impl FnOnce() -> Entry<'a>) {
        if self.config.access_log == AccessLog::Off {
            return;
        }
        if let Some(line) = self.config.access_log.line(&entry()) {
            self.journal.line(line);
        }
    }

    /// Ends the server by a fault of its own. The thread that starts workers is told by the queue's end.
    pub(crate) fn fail(&self, message: &str) {
        self.failed.store(true, Ordering::Release);
        self.journal.notice(Level::Error, message.to_owned());
        self.advance(Phase::Closed);
        for lane in &self.lanes {
            lane.queue.close();
        }
    }

    /// Whether the IO thread has failed. Any thread.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Goes on to `phase`, unless the server is there or beyond.
    pub(crate) fn advance(&self, phase: Phase) {
        if self.phase.fetch_max(phase as u8, Ordering::AcqRel) < phase as u8 {
            self.phase_changed.notify_one();
        }
    }

    fn leave(&self) {
        if self.live.fetch_sub(1, Ordering::AcqRel) == 1 && self.is_draining() {
            // Taken so that a waiter which has just read `live` is in its wait before the word comes.
            drop(self.drained_lock.lock());
            self.drained.notify_all();
        }
    }

    /// Whether the server has begun to stop and nothing is left that was counted in. Any thread.
    pub(crate) fn is_drained(&self) -> bool {
        self.is_draining() && self.live.load(Ordering::Acquire) == 0
    }

    /// Waits until everything that was counted in is gone. False: the time was up first. Detached.
    pub(crate) fn wait_drained(&self, timeout: Duration) -> bool {
        let until = Instant::now().checked_add(timeout);
        let mut guard = self.drained_lock.lock();
        while self.live.load(Ordering::Acquire) > 0 {
            match until {
                None => self.drained.wait(&mut guard),
                Some(until) if self.drained.wait_until(&mut guard, until).timed_out() => {
                    return self.live.load(Ordering::Acquire) == 0;
                }
                Some(_) => {}
            }
        }
        true
    }
}

/// Counts something in that a drained server has not: a listener, a connection, a WebSocket whose end was not told yet. It is
/// counted out when this is dropped.
pub(crate) struct Counted(Arc<Shared>);

impl Counted {
    pub(crate) fn new(server: &Arc<Shared>) -> Self {
        server.live.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(server))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
impl Shared {
    /// A server without routes, for tests of its parts.
    pub(crate) fn for_tests() -> Self {
        use ushabti_proto::http1::connection::Limits;

        use crate::access_log::AccessLog;

        let config = Config {
            head: Limits { head_bytes_max: 1024, fields_max: 16, target_bytes_max: 512 },
            body_bytes_max: 1024,
            header_timeout: Duration::from_secs(1),
            body_timeout: Duration::from_secs(1),
            keep_alive: Duration::from_secs(1),
            write_timeout: Duration::from_secs(1),
            rate_min: 0,
            queue_max: 4,
            queue_timeout: None,
            deadline: None,
            client_connections_max: None,
            connections_max: 4,
            http2: true,
            http2_streams: 4,
            backlog: 4,
            lanes: vec![crate::config::LaneConfig { name: "default".to_owned(), workers_min: 1, workers_max: 1 }],
            workers_are_parallel: false,
            worker_idle: Duration::from_secs(1),
            server_field: None,
            access_log: AccessLog::Off,
            tls: None,
            redirect_port: None,
            handshakes_max: 4,
            websocket: crate::websocket::Config::for_tests(),
        };
        let table = RouteTable::build(Vec::new()).expect("no route is wrong");
        let routing = Routing { table: Arc::new(table), not_found: None, method_not_allowed: None };
        Self::new(config, routing, Arc::default())
    }
}
