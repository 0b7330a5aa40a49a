//! What all threads of one server share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::access_log::{AccessLog, Entry};
use crate::config::Config;
use crate::fork;
use crate::journal::{Journal, Level};
use crate::queue::Queue;
use crate::request::Job;
use crate::routes::RouteTable;
use crate::stats::Counters;

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
    /// Ready requests.
    pub queue: Queue<Job>,
    /// Access lines and notices.
    pub journal: Journal,
    /// Counters.
    pub counters: Counters,
    pub(crate) epoch: Instant,
    /// The process that made the server.
    generation: u32,
    phase: AtomicU8,
    /// The IO thread has ended by a fault.
    failed: AtomicBool,
    /// Tells the IO thread that the phase has changed.
    pub(crate) phase_changed: Notify,
    /// Listeners and connections that are still open.
    live: AtomicUsize,
    drained: Condvar,
    /// Guards nothing but the wait on `drained`.
    drained_lock: Mutex<()>,
}

impl Shared {
    pub(crate) fn new(config: Config, routing: Routing) -> Self {
        let queue = Queue::new(
            config.queue_max,
            config.workers_min,
            config.workers_max,
            config.worker_idle,
            config.workers_are_parallel,
        );
        Self {
            config,
            routing,
            queue,
            journal: Journal::default(),
            counters: Counters::default(),
            epoch: Instant::now(),
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
        self.queue.close();
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

    /// Counts a listener or connection in.
    pub(crate) fn enter(&self) {
        self.live.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts a listener or connection out.
    pub(crate) fn leave(&self) {
        if self.live.fetch_sub(1, Ordering::AcqRel) == 1 && self.is_draining() {
            // Taken so that a waiter which has just read `live` is in its wait before the word comes.
            drop(self.drained_lock.lock());
            self.drained.notify_all();
        }
    }

    /// Waits until every listener and connection is gone. False: the time was up first. Detached.
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
            queue_max: 4,
            connections_max: 4,
            backlog: 4,
            workers_min: 1,
            workers_max: 1,
            workers_are_parallel: false,
            worker_idle: Duration::from_secs(1),
            server_field: None,
            access_log: AccessLog::Off,
        };
        let table = RouteTable::build(Vec::new()).expect("no route is wrong");
        Self::new(config, Routing { table: Arc::new(table), not_found: None, method_not_allowed: None })
    }
}
