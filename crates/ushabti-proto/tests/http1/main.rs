//! HTTP/1.1 through the public names of `ushabti_proto::http1`: bytes in, events out; fields in, bytes out.
//!
//! Each case of the request side is read in every way its bytes can arrive; [`harness`] holds these ways, the other
//! files hold tables.

mod harness;

mod byte_classes;
mod chunk_encoding;
mod chunks;
mod connection;
mod content_length;
mod dates;
mod expectations;
mod faults;
mod header_fields;
mod host;
mod limits;
mod mutations;
mod persistence;
mod request_line;
mod response_heads;
mod round_trips;
mod targets;
mod trailers;
mod transfer_encoding;
mod xorshift;
