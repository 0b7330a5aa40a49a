//! The limits of a server, as plain values.
//!
//! Defaults are not here: the schema that constructor, command line and environment share lives in
//! `python/ushabti/options.py`, and a default that stood in two places would drift apart.

use std::sync::Arc;
use std::time::Duration;

use ushabti_proto::http1::connection::Limits;

use crate::access_log::AccessLog;
use crate::tls::Tls;
use crate::websocket;

/// Everything that an operator may set and that the core obeys.
#[derive(Debug, Clone)]
pub struct Config {
    /// What a request head may hold: bytes of the whole head, of its target, and the number of fields.
    pub head: Limits,
    /// The largest request body, in bytes, where the route sets no other.
    pub body_bytes_max: u64,
    /// From the first byte of a request head, or from the connection's first moment, to the head's end.
    pub header_timeout: Duration,
    /// The longest silence within a request body.
    pub body_timeout: Duration,
    /// How long a connection may rest between two requests.
    pub keep_alive: Duration,
    /// The longest time in which a client takes not one byte of the answer that waits for it.
    pub write_timeout: Duration,
    /// Bytes a second that a client must send of a body, or take of an answer, on average and beyond the timeout; 0: none.
    pub rate_min: u64,
    /// Requests that may wait for a worker in one lane; one more is answered 503.
    pub queue_max: usize,
    /// How long a request may wait for a worker before it is answered 503.
    pub queue_timeout: Option<Duration>,
    /// From a request's last byte until it is answered 504, where the route sets no other.
    pub deadline: Option<Duration>,
    /// Connections that may be open at once; one more is answered 503 and closed.
    pub connections_max: usize,
    /// Connections that one client may have; one more is answered 429 and closed.
    pub client_connections_max: Option<usize>,
    /// Whether clients may speak HTTP/2 (RFC 9113).
    pub http2: bool,
    /// Requests that one connection of HTTP/2 may have open at once.
    pub http2_streams: u32,
    /// Length of the system's queue of connections that wait to be accepted.
    pub backlog: i32,
    /// The lanes; the first is that of routes which name none.
    pub lanes: Vec<LaneConfig>,
    /// Whether workers run side by side, as they do without a GIL.
    pub workers_are_parallel: bool,
    /// How long a worker above the minimum stays without work.
    pub worker_idle: Duration,
    /// Value of the `Server` field; `None` sends none.
    pub server_field: Option<Vec<u8>>,
    /// Form of the access log's lines.
    pub access_log: AccessLog,
    /// What listeners of TLS use; `None` where there are none.
    pub tls: Option<Arc<Tls>>,
    /// The port to which listeners of redirects send clients; `None`: the first that speaks TLS.
    pub redirect_port: Option<u16>,
    /// TLS handshakes that may be unfinished at once; one more cuts the oldest that is not quite new.
    pub handshakes_max: usize,
    /// What holds for WebSockets.
    pub websocket: websocket::Config,
}

/// Workers with a queue of their own.
#[derive(Debug, Clone)]
pub struct LaneConfig {
    /// What the operator calls it.
    pub name: String,
    /// Workers that live from start to stop.
    pub workers_min: usize,
    /// Workers that may live at once.
    pub workers_max: usize,
}
