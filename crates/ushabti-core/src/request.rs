//! The request as it leaves the IO thread: complete, owned, and together with the right to answer it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ushabti_proto::http1::head::RequestHead;

use crate::admission::Permit;
use crate::channel::{Channel, WeakChannel};
use crate::link::Exchange;
use crate::listener::Peer;
use crate::queue::Waiting;
use crate::reply::Responder;
use crate::routes::{Found, Params, RouteTable};
use crate::tls::TlsInfo;
use crate::websocket::Socket;
use crate::whereabouts::Stage;

/// What a request holds counts, where it is given up, in pieces of so many bytes.
const GHOST_BYTES: usize = 4096;

/// A complete request. It borrows nothing from the connection, so it may outlive it.
pub struct Request {
    /// Request line and header fields, checked.
    pub head: RequestHead,
    /// The whole body, transfer coding removed.
    pub body: Vec<u8>,
    /// The route that matched; for a custom 404 or 405 handler, that handler's number.
    pub route: u32,
    /// The values of the path's parameters.
    pub params: Params,
    /// The methods that the path knows, for a custom 405 handler; `None` otherwise.
    pub allow: Option<Box<str>>,
    /// Who sent it.
    pub peer: Peer,
    /// The TLS of the connection; `None` if it has none.
    pub tls: Option<Arc<TlsInfo>>,
    /// When the head was complete.
    pub received: Instant,
    /// When the body was.
    pub ready: Instant,
    /// When the client is told 504 unless its answer has begun.
    pub deadline: Option<Instant>,
    /// Whether its answer makes a line in the access log.
    pub logged: bool,
    /// The connection or stream, which the request does not keep open.
    channel: WeakChannel,
    /// Nanoseconds for which it has waited for a worker.
    waited: AtomicU64,
}

impl Request {
    /// A request whose head is complete, on its way to `route`. IO task.
    pub(crate) fn new(
        head: RequestHead,
        route: u32,
        params: Params,
        allow: Option<Box<str>>,
        channel: &Channel,
    ) -> Self {
        let base = Self::base(head, route, *channel.peer(), channel.downgrade(), Instant::now());
        Self { params, allow, tls: channel.tls_info(), ..base }
    }

    /// What all have: no body, no parameters, no deadline.
    fn base(head: RequestHead, route: u32, peer: Peer, channel: WeakChannel, received: Instant) -> Self {
        Self {
            head,
            body: Vec::new(),
            route,
            params: Params::default(),
            allow: None,
            peer,
            tls: None,
            received,
            ready: received,
            deadline: None,
            logged: true,
            channel,
            waited: AtomicU64::new(0),
        }
    }

    /// How long it has waited for a worker. Any thread, after [`Ready::start`].
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited.load(Ordering::Relaxed))
    }

    /// What is left until its deadline; zero when that has passed. Any thread.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Has [`Alert::Left`](crate::alerts::Alert::Left) told with `number` when the client leaves before the exchange is over.
    /// Any thread.
    pub fn watch_client(&self, exchange: Watched, number: u32) {
        if let Some(channel) = self.channel.upgrade() {
            channel.watch_client(exchange.0, number);
        }
    }

    /// The client is lost: nobody will read an answer. No system call. Any thread, at any time.
    pub fn is_lost(&self) -> bool {
        self.channel.upgrade().is_none_or(|channel| channel.is_lost())
    }

    /// The client has closed its side or is lost. No system call. Any thread, at any time.
    pub fn is_disconnected(&self) -> bool {
        self.channel.upgrade().is_none_or(|channel| channel.is_disconnected())
    }

    /// How many workers may run calls for it; none when its connection, by which it knows its server, has ended.
    pub fn workers_max(&self) -> usize {
        self.channel.upgrade().map_or(0, |channel| {
            let server = channel.server();
            server.config.lanes[server.routing.lane(self.route)].workers_max
        })
    }

    /// Has a worker of its lane come by, once, for the calls that are known by `number`. False: none will come, because
    /// the server or the connection has ended. Any thread.
    pub fn schedule_call(&self, number: u64) -> bool {
        self.channel.upgrade().is_some_and(|channel| {
            let server = channel.server();
            server.schedule_call(server.routing.lane(self.route), number, Instant::now())
        })
    }
}

#[cfg(test)]
impl Request {
    /// A request of no connection.
    pub(crate) fn for_tests(head: RequestHead, route: u32, received: Instant, ready: Instant) -> Self {
        let channel = WeakChannel::Link(std::sync::Weak::new());
        let base = Self::base(head, route, Peer::Unix, channel, received);
        Self { ready, logged: false, ..base }
    }
}

/// A request without a body that is kept for as long as its WebSocket lives, in a third of the space. There are many of
/// them, and few are ever looked at.
pub struct Packed {
    head: Box<[u8]>,
    route: u32,
    logged: bool,
    peer: Peer,
    tls: Option<Arc<TlsInfo>>,
    received: Instant,
    channel: WeakChannel,
}

impl Packed {
    /// Packs a request that nobody else has.
    ///
    /// # Errors
    ///
    /// The request, if somebody has it, or it has a body.
    pub fn pack(request: Arc<Request>) -> Result<Self, Arc<Request>> {
        if !request.body.is_empty() || request.allow.is_some() {
            return Err(request);
        }
        let Request { head, route, logged, peer, tls, received, channel, .. } = Arc::try_unwrap(request)?;
        Ok(Self { head: head.into_lines(), route, logged, peer, tls, received, channel })
    }

    /// The request target.
    pub fn target(&self) -> &str {
        let target = self.head.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
        std::str::from_utf8(target).unwrap_or_default()
    }

    /// The request as it was; `table` has its route.
    ///
    /// # Panics
    ///
    /// Never: the head was read before.
    pub fn unpack(&self, table: &RouteTable) -> Request {
        let Self { route, logged, peer, received, .. } = *self;
        let head = RequestHead::from_lines(&self.head).expect("it was read before");
        let params = match table.find(head.method(), head.path()) {
            Found::Route { params, .. } => params,
            _ => Params::default(),
        };
        let base = Request::base(head, route, peer, self.channel.clone(), received);
        Request { params, tls: self.tls.clone(), logged, ..base }
    }
}

/// The exchange of a request, for [`Request::watch_client`].
#[derive(Debug, Clone, Copy)]
pub struct Watched(pub(crate) Exchange);

/// A request that is ready to be run: shared by the object that the handler sees and by the worker that answers, the right
/// to answer it, once, and its place behind the gate of its route, if that has one.
pub struct Ready {
    /// The request.
    pub request: Arc<Request>,
    /// The right to answer it.
    pub responder: Responder,
    /// Dropped when the handler has returned.
    pub permit: Option<Permit>,
}

impl Ready {
    /// A complete request on its way to the workers, who answer it in `exchange`. IO task.
    pub(crate) fn new(request: Arc<Request>, channel: Channel, exchange: Exchange) -> Self {
        let responder = Responder::new(channel, exchange, &request.head);
        Self { request, responder, permit: None }
    }

    /// Notes that it goes to a queue or a gate now. IO task.
    pub(crate) fn enter(&self, stage: Stage) {
        let weight = 1 + (self.request.head.size() + self.request.body.len()) / GHOST_BYTES;
        let (whereabouts, exchange) = self.responder.whereabouts();
        whereabouts.enter(exchange, stage, self.request.route, u32::try_from(weight).unwrap_or(u32::MAX));
    }

    /// Goes on from where it waits. False: it was given up there. Whoever has taken it out.
    pub(crate) fn go_on(&self, from: Stage, to: Stage) -> bool {
        let (whereabouts, exchange) = self.responder.whereabouts();
        whereabouts.go_on(exchange, from, to)
    }

    /// Whether it is there. It was given up if it is not where it waits.
    pub(crate) fn is_at(&self, stage: Stage) -> bool {
        let (whereabouts, exchange) = self.responder.whereabouts();
        whereabouts.is_at(exchange, stage)
    }

    /// Ends what was given up. If its client has left, that is counted and logged as 499; else the IO task answers.
    pub(crate) fn bury(self) {
        if self.is_at(Stage::Left) {
            self.responder.discard(&self.request);
        } else {
            self.responder.release();
        }
    }

    /// Begins the request; `None` if it must not be run any more: its client has left, which is counted and logged as
    /// 499, or its deadline has passed, or the IO thread has given it up, which answers it. The worker that has taken
    /// it out of the queue.
    pub fn start(self, now: Instant) -> Option<Self> {
        let is_late = self.request.deadline.is_some_and(|deadline| now >= deadline);
        let waited = now.saturating_duration_since(self.request.ready).as_nanos() as u64;
        self.request.waited.store(waited, Ordering::Relaxed);
        if !self.go_on(Stage::Taken, if is_late { Stage::Late } else { Stage::Begun }) {
            self.bury();
            return None;
        }
        if is_late {
            self.responder.refuse_late(&self.request);
            return None;
        }
        if self.responder.is_lost() {
            self.responder.discard(&self.request);
            return None;
        }
        Some(self)
    }
}

/// What a worker takes from the queue.
pub enum Job {
    /// A request.
    Request(Ready),
    /// A WebSocket with events that no other worker tells.
    Events(Arc<Socket>),
    /// Calls that a request has spread over the workers, by the number that they are known by: one of them is to be run.
    /// There may be none left.
    Call(u64),
}

/// Events and calls are not given up.
impl Waiting for Job {
    fn take_up(&self) -> bool {
        match self {
            Self::Request(ready) => ready.go_on(Stage::Queued, Stage::Taken),
            Self::Events(_) | Self::Call(_) => true,
        }
    }

    fn is_given_up(&self) -> bool {
        match self {
            Self::Request(ready) => !ready.is_at(Stage::Queued),
            Self::Events(_) | Self::Call(_) => false,
        }
    }

    fn bury(self) {
        if let Self::Request(ready) = self {
            ready.bury();
        }
    }
}
