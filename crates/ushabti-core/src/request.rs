//! The request as it leaves the IO thread: complete, owned, and together with the right to answer it.

use std::sync::{Arc, Weak};
use std::time::Instant;

use ushabti_proto::http1::head::RequestHead;

use crate::link::Link;
use crate::listener::Peer;
use crate::reply::Responder;
use crate::routes::{Found, Params, RouteTable};
use crate::websocket::Socket;

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
    /// When the head was complete.
    pub received: Instant,
    /// Whether its answer makes a line in the access log.
    pub logged: bool,
    /// The connection, which the request does not keep open.
    pub(crate) link: Weak<Link>,
}

impl Request {
    /// The client has closed its side or is lost. No system call. Any thread, at any time.
    pub fn is_disconnected(&self) -> bool {
        self.link.upgrade().is_none_or(|link| link.is_disconnected())
    }
}

/// A request without a body that is kept for as long as its WebSocket lives, in a third of the space. There are many of
/// them, and few are ever looked at.
pub struct Packed {
    head: Box<[u8]>,
    route: u32,
    logged: bool,
    peer: Peer,
    received: Instant,
    link: Weak<Link>,
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
        let Request { head, route, logged, peer, received, link, .. } = Arc::try_unwrap(request)?;
        Ok(Self { head: head.into_lines(), route, logged, peer, received, link })
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
        let link = Weak::clone(&self.link);
        Request { head, body: Vec::new(), route, params, allow: None, peer, received, logged, link }
    }
}

/// What a worker takes from the queue.
pub enum Job {
    /// A request, shared by the object that the handler sees and by the worker that answers, and the right to answer it,
    /// once.
    Request(Arc<Request>, Responder),
    /// A WebSocket with events that no other worker tells.
    Events(Arc<Socket>),
}
