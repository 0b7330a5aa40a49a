//! A server for one test: its workers, and the check of its books when it stops.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ushabti_core::access_log::AccessLog;
use ushabti_core::admission::DEFAULT_LANE;
use ushabti_core::config::{Config, LaneConfig};
use ushabti_core::listener::Kind;
use ushabti_core::queue::Taken;
use ushabti_core::reply::{Length, Responder};
use ushabti_core::request::{Job, Ready, Request};
use ushabti_core::routes::{Part, Policy, RouteSpec, RouteTable};
use ushabti_core::stats::Stats;
use ushabti_core::websocket::{self, Origins, Overflow};
use ushabti_core::{Routing, Server, Shared};
use ushabti_proto::http1::connection::Limits;

use crate::client::Client;
use crate::sockets::{self, Ledger};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Limits so wide that a test meets none which it has not set itself.
pub(crate) fn config() -> Config {
    Config {
        head: Limits { head_bytes_max: 16 * 1024, fields_max: 64, target_bytes_max: 8 * 1024 },
        body_bytes_max: 1 << 20,
        header_timeout: Duration::from_secs(60),
        body_timeout: Duration::from_secs(60),
        keep_alive: Duration::from_secs(60),
        write_timeout: Duration::from_secs(60),
        rate_min: 0,
        queue_max: 1024,
        queue_timeout: None,
        deadline: None,
        client_connections_max: None,
        connections_max: 10_000,
        http2: true,
        http2_streams: 128,
        backlog: 1024,
        lanes: vec![LaneConfig { name: "default".to_owned(), workers_min: 1, workers_max: 64 }],
        workers_are_parallel: false,
        worker_idle: Duration::from_secs(60),
        server_field: None,
        access_log: AccessLog::Off,
        tls: None,
        redirect_port: None,
        handshakes_max: 1000,
        websocket: websocket::Config {
            message_bytes_max: 1 << 20,
            ping: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            outbox_bytes_max: 1 << 20,
            overflow: Overflow::Close,
            deflate: None,
            origins: Origins::Same,
        },
    }
}

/// Holds handlers of `/gate` back until it is opened, and counts them.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().expect("no thread panics with this lock");
        state.1 += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| !state.0));
    }

    pub(crate) fn open(&self) {
        self.state.lock().expect("no thread panics with this lock").0 = true;
        self.changed.notify_all();
    }

    /// Waits until so many handlers have come to the gate.
    pub(crate) fn wait_for(&self, count: usize) {
        let state = self.state.lock().expect("no thread panics with this lock");
        let (state, timed_out) = self
            .changed
            .wait_timeout_while(state, PATIENCE, |state| state.1 < count)
            .expect("no thread panics with this lock");
        assert!(!timed_out.timed_out(), "{} of {count} handlers have come to the gate", state.1);
    }
}

/// A server that runs, and its workers.
pub(crate) struct Running {
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
    pub(crate) gate: Arc<Gate>,
    pub(crate) ledger: Arc<Ledger>,
    workers: Vec<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start(config: Config, workers: usize) -> Self {
        Self::start_with(config, &Policy::default(), workers)
    }

    pub(crate) fn start_with(config: Config, policy: &Policy, workers: usize) -> Self {
        let mut running = Self::bind_with(config, policy, Kind::Plain);
        running.server.start().expect("the IO thread starts");
        running.add_workers(workers);
        running
    }

    /// A server that speaks something else.
    pub(crate) fn start_kind(config: Config, kind: Kind, workers: usize) -> Self {
        let mut running = Self::bind_with(config, &Policy::default(), kind);
        running.server.start().expect("its threads start");
        running.add_workers(workers);
        running
    }

    /// Clients can connect, but nobody serves them yet.
    pub(crate) fn bind(config: Config) -> Self {
        Self::bind_with(config, &Policy::default(), Kind::Plain)
    }

    fn bind_with(config: Config, policy: &Policy, kind: Kind) -> Self {
        let every_path = RouteSpec {
            id: 0,
            methods: None,
            parts: vec![Part::Rest { name: None }],
            policy: Policy { access_log: true, ..policy.clone() },
        };
        let table = Arc::new(RouteTable::build(vec![every_path]).expect("one route conflicts with none"));
        let routing = Routing { table, not_found: None, method_not_allowed: None };
        let server = Server::new(config, routing, Arc::default());
        let bound = server.bind("127.0.0.1:0", kind, false).expect("loopback can be bound");
        let address = bound[0].parse().expect("an address and a port");
        Self { server, address, gate: Arc::default(), ledger: Arc::default(), workers: Vec::new() }
    }

    pub(crate) fn add_workers(&mut self, count: usize) {
        for _ in 0..count {
            let (shared, gate, ledger) =
                (Arc::clone(self.server.shared()), Arc::clone(&self.gate), Arc::clone(&self.ledger));
            self.workers.push(std::thread::spawn(move || work(&shared, &gate, &ledger)));
        }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    pub(crate) fn stats(&self) -> Stats {
        self.server.shared().counters.read()
    }

    /// How many requests wait for a worker.
    pub(crate) fn waiting(&self) -> usize {
        self.server.shared().lanes[DEFAULT_LANE].queue.stats().waiting
    }

    /// Waits until the counters are as told.
    pub(crate) fn wait_until(&self, what: &str, is_so: impl Fn(&Stats) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so(&self.stats()) {
            assert!(Instant::now() < until, "not so in time: {what}; {:?}", self.stats());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Stops in good order, and checks that every connection has ended and every request has one answer.
    pub(crate) fn stop(self) -> Stats {
        self.server.drain();
        assert!(self.server.wait_drained(PATIENCE), "connections are left: {:?}", self.stats());
        assert_eq!(self.server.close(), 0, "requests were left in the queue");
        for worker in self.workers {
            worker.join().expect("no worker panics");
        }
        let stats = self.server.shared().counters.read();
        assert_eq!(stats.connections_open, 0, "{stats:?}");
        assert_eq!(self.server.shared().lanes[DEFAULT_LANE].queue.stats().workers, 0);
        let answers: u64 = stats.answers.iter().sum();
        assert_eq!(answers, stats.dispatched + stats.refused, "each request has one answer: {stats:?}");
        stats
    }
}

fn work(shared: &Shared, gate: &Gate, ledger: &Ledger) {
    let queue = &shared.lanes[DEFAULT_LANE].queue;
    let seat = queue.enter();
    while let Taken::Job(job) = queue.take(&seat) {
        let now = Instant::now();
        queue.running(&seat, now);
        match job {
            Job::Request(ready) => {
                if let Some(Ready { request, responder, permit: _permit }) = ready.start(now) {
                    handle(&request, responder, gate);
                }
            }
            Job::Events(socket) => ledger.tell(shared, &socket),
            Job::Call(number) => unreachable!("nothing here spreads calls, but {number} came"),
        }
    }
}

/// `/echo`, `/bytes/N`, `/sleep/MS`, `/gate`, `/stream/N` (N pieces of 64 KiB), `/elsewhere` (answered by another thread),
/// `/drop` (not answered), `/ws` (becomes a WebSocket, see `sockets`).
fn handle(request: &Arc<Request>, responder: Responder, gate: &Gate) {
    let path = request.head.path();
    let (name, number) = path[1..].split_once('/').unwrap_or((&path[1..], "0"));
    let number: usize = number.parse().expect("a number in the path");
    match name {
        "bytes" => send(request, responder, &vec![b'x'; number]),
        "sleep" => {
            std::thread::sleep(Duration::from_millis(number as u64));
            send(request, responder, b"slept");
        }
        "gate" => {
            gate.pass();
            send(request, responder, b"passed");
        }
        "stream" => stream(request, responder, number),
        "elsewhere" => {
            let request = Arc::clone(request);
            std::thread::spawn(move || send(&request, responder, b"from elsewhere"));
        }
        "drop" => drop(responder),
        "ws" => sockets::upgrade(request, responder),
        _ => send(request, responder, &request.body),
    }
}

fn send(request: &Arc<Request>, responder: Responder, body: &[u8]) {
    let mut head = Vec::new();
    let length = Length::Known(body.len() as u64);
    let promise = responder.encode(&mut head, 200, std::iter::empty(), length).expect("no field is wrong");
    // A client that is gone is counted.
    let _ = responder.send(request, promise, &head, body);
}

fn stream(request: &Arc<Request>, responder: Responder, pieces: usize) {
    let mut head = Vec::new();
    let promise = responder.encode(&mut head, 200, std::iter::empty(), Length::Stream).expect("no field is wrong");
    let Ok(mut writer) = responder.begin(request, promise, &head) else { return };
    let piece = vec![b'y'; 64 * 1024];
    // A client that is gone is counted when the writer ends.
    let _ = (0..pieces).try_for_each(|_| writer.write(&piece));
    writer.finish();
}
