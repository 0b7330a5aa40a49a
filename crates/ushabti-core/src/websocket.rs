//! WebSockets: from the request that asks for one to the last event of its life.
//!
//! ```text
//!            IO thread                                  workers
//!  upgrade request ─▶ check (upgrade) ─▶ queue ─▶ handler ─▶ 101, then `Upgraded`
//!  task: frames ─▶ inbox of the socket ─▶ queue ─▶ `Socket::next_event` ─▶ handler
//!  task ◀── signal: close, room ───────────────── `Socket::close`, an inbox that has room again
//!  outbox ◀────────────────────────────────────── `Socket::send`, `Hub::publish`, from any thread
//! ```
//!
//! A socket is at most once in the queue or with a worker, so its handler is called by one thread at a time; its events
//! wait in its inbox, and it goes back to the end of the queue after some of them, so that none starves the rest. Where
//! it is at home while nothing happens is the IO thread alone.

use std::time::Duration;

use ushabti_proto::websocket::deflate::DeflatePolicy;

mod carrier;
mod encoded;
mod gather;
mod hub;
mod inbox;
mod origin;
mod socket;
mod task;
mod upgrade;

pub use encoded::Outgoing;
pub use gather::Gathered;
pub use hub::Hub;
pub use inbox::{Event, Fault};
pub use origin::Origins;
pub use socket::{Closing, Sent, Socket, Style};
pub use upgrade::{Upgraded, check, offered_protocols};
pub use ushabti_proto::websocket::connection::{CloseError, check_close};
pub use ushabti_proto::websocket::message::{Message, MessageKind};

pub use inbox::Received;

pub(crate) use carrier::Carrier;
pub(crate) use gather::Gathering;
pub(crate) use inbox::Inbox;
pub(crate) use task::spawn;
pub(crate) use upgrade::{discard, encode as encode_upgrade, socket as make_socket, status as upgrade_status};

/// What an operator may set of WebSockets.
#[derive(Debug, Clone)]
pub struct Config {
    /// The largest message, in bytes, all its fragments together and inflated; beyond it close code 1009.
    pub message_bytes_max: usize,
    /// A client that has been quiet for so long is asked whether it is there.
    pub ping: Duration,
    /// A client of which no byte has come for so long is given up.
    pub idle: Duration,
    /// Bytes that may wait for one client.
    pub outbox_bytes_max: usize,
    /// What becomes of a message for which that is too little.
    pub overflow: Overflow,
    /// How messages are compressed with clients that can; `None`: not at all.
    pub deflate: Option<DeflatePolicy>,
    /// From which pages browsers may connect.
    pub origins: Origins,
}

#[cfg(test)]
impl Config {
    /// Values for tests of other parts.
    pub(crate) fn for_tests() -> Self {
        Self {
            message_bytes_max: 1024,
            ping: Duration::from_secs(1),
            idle: Duration::from_secs(2),
            outbox_bytes_max: 1024,
            overflow: Overflow::Close,
            deflate: None,
            origins: Origins::Any,
        }
    }
}

/// What becomes of a message when too much waits for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// The socket is closed with 1013.
    Close,
    /// The message is dropped.
    Drop,
    /// The sender waits, up to the write timeout.
    Wait,
}
