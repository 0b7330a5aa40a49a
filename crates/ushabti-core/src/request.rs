//! The request as it leaves the IO thread: complete, owned, and together with the right to answer it.

use std::sync::{Arc, Weak};
use std::time::Instant;

use ushabti_proto::http1::head::RequestHead;

use crate::link::Link;
use crate::listener::Peer;
use crate::reply::Responder;
use crate::routes::Params;
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
    pub allow: Option<String>,
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

/// What a worker takes from the queue.
pub enum Job {
    /// A request, shared by the object that the handler sees and by the worker that answers, and the right to answer it,
    /// once.
    Request(Arc<Request>, Responder),
    /// A WebSocket with events that no other worker tells.
    Events(Arc<Socket>),
}
