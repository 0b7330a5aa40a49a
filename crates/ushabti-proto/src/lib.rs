//! The protocols of ushabti: bytes in, events out.
//!
//! Nothing here knows a socket, a clock, a thread or Python. Whoever owns the socket feeds bytes and acts on what
//! comes back, so each rule can be read beside its RFC and tested byte by byte.
//!
//! | module | what it owns |
//! | --- | --- |
//! | [`error`] | what a peer can do wrong, which RFC section says so, and the status to answer |
//! | [`fields`] | the grammar of header and trailer fields |
//! | [`uri`] | request targets, hosts, percent-decoding, query strings |
//! | [`http1`] | HTTP/1.1: heads, framing, chunks, the states of a connection, response heads |
//! | [`http2`] | HTTP/2: request heads from fields, response heads as fields, a look at the frames of a client |
//! | [`websocket`] | WebSocket: handshake, frames, messages, compression, the states of a connection |
#![forbid(unsafe_code)]

pub mod error;
pub mod fields;
pub mod http1;
pub mod http2;
pub mod uri;
pub mod websocket;
