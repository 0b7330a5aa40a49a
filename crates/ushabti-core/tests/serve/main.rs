//! The core over real sockets, with plain Rust threads as its workers.

mod admission;
mod churn;
mod client;
mod early_answers;
mod exchange;
mod frames;
mod http2;
mod limits;
mod running;
mod shares;
mod small_frames;
mod sockets;
mod stop;
mod tls;
mod tunnel;
mod tunnel_bounds;
mod websocket;
