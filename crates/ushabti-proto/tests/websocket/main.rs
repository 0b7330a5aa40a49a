//! WebSocket through the public names of `ushabti_proto::websocket`: bytes in, events and replies out.
//!
//! Each case is read in every way its bytes can arrive; [`harness`] holds these ways, the other files hold tables.

mod harness;

mod closing;
mod compression;
mod control_frames;
mod faults;
mod fragments;
mod frames;
mod handshake;
mod masks;
mod messages;
mod negotiation;
mod text;
#[path = "../http1/xorshift.rs"]
mod xorshift;
