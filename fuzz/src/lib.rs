//! What the fuzz targets check.
//!
//! A parser that does not panic has shown little. So each target holds what it fuzzes against something: against a
//! second reading of the same bytes that arrive in other pieces, against a plain reading that is written for being
//! obviously right and knows the whole input, or against what was encoded.
//!
//! | target | what is fuzzed | what it is held against |
//! | --- | --- | --- |
//! | [`head`] | one request head | a plain reading of its lines |
//! | [`chunked`] | a chunked body | a plain reading of its lines; our own encoder |
//! | [`http`] | requests on one connection | the same bytes in other pieces |
//! | [`http2`] | heads of requests and answers, and frames that are counted | HTTP/1.1 by the plain reading; a plain count |
//! | [`handshake`] | the fields that open a WebSocket | a plain reading; what is agreed, against what was offered |
//! | [`websocket`] | frames on one connection | the same bytes in other pieces; a plain reading of frames |
//! | [`deflate`] | compressed messages | what was compressed; the same bytes in other pieces |
//! | [`uri`] | decoding, queries, hosts | plain second decoders, and encoders that must be undone |
//! | [`routes`] | a route table, and requests to it | a matcher that tries every route and every split |
//!
//! The first four bytes of an input say how the rest is read, except in [`uri`] and [`routes`]: see
//! [`settings::Settings`].

pub mod chunked;
pub mod deflate;
pub mod handshake;
pub mod head;
pub mod http;
pub mod http2;
mod matcher;
mod plain;
pub mod routes;
pub mod settings;
pub mod uri;
pub mod websocket;
