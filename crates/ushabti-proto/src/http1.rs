//! HTTP/1.1 as a server speaks it (RFC 9112): a pull parser for requests and an encoder for responses.
//!
//! The request side is entered through [`connection::Connection`]; [`head`], [`framing`] and [`chunked`] are its
//! parts. The response side is [`encode`]. Neither keeps a buffer: the caller owns the bytes.

pub mod chunked;
pub mod connection;
mod date;
pub mod encode;
pub mod framing;
pub mod head;
