//! `ushabti._core`: conversions between Python and the core, nothing else.
//!
//! Every class is frozen; what changes lies behind a lock or an atomic. So the module needs no GIL, and says so.

use pyo3::prelude::*;

mod application;
mod call;
mod calls;
mod context;
mod desk;
mod exceptions;
mod gil;
mod hub;
mod message;
mod multidict;
mod reply;
mod request;
mod routes;
mod server;
mod sockets;
mod tls;
mod upgrade;
mod watches;
mod websocket;
mod worker;

/// Requests are made on the IO thread and dropped on workers, which the system's allocator does under a lock that both want.
/// Python's objects are not its business.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The native half of the package.
#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use super::application::Application;
    #[pymodule_export]
    use super::calls::Tickets;
    #[pymodule_export]
    use super::hub::Hub;
    #[pymodule_export]
    use super::message::Message;
    #[pymodule_export]
    use super::multidict::MultiDict;
    #[pymodule_export]
    use super::request::Request;
    #[pymodule_export]
    use super::routes::RouteTable;
    #[pymodule_export]
    use super::server::Server;
    #[pymodule_export]
    use super::tls::{ClientCertificate, TlsInfo};
    #[pymodule_export]
    use super::websocket::WebSocket;
    #[pymodule_export]
    use super::worker::{current, in_forked_child, work_for};
}
