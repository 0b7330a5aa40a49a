//! The IO thread of ushabti: sockets, clocks, routes, limits, and the hand-over of requests to worker threads.
//!
//! This crate knows nothing of Python. It names requests and connections, never objects of an interpreter, so its
//! thread cannot come to wait for one. Workers are whoever calls [`Queue::take`](queue::Queue::take).
//!
//! The path of a request is the path through the files: [`listener`] and `accept`, `connection` (with `clock`, [`routes`]),
//! [`request`], [`admission`], [`queue`]; then, on the worker, [`reply`] and `link`. What becomes of a connection that is upgraded is in
//! [`websocket`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

mod accept;
pub mod access_log;
pub mod admission;
pub mod alerts;
mod channel;
mod clients;
mod clock;
pub mod config;
mod connection;
mod date;
pub mod desk;
mod destination;
pub mod fork;
mod http2;
mod io_thread;
mod jitter;
pub mod journal;
mod link;
pub mod listener;
pub mod pending;
pub mod queue;
pub mod reply;
pub mod request;
pub mod routes;
mod server;
pub mod stats;
pub mod tls;
pub mod websocket;
mod whereabouts;

pub use link::Gone;
pub use server::{Routing, Shared};

use config::Config;
use listener::{BindError, Kind, Listener};
use server::Phase;
use websocket::Hub;

/// A server: created, bound, started, drained, closed, in this order.
pub struct Server {
    shared: Arc<Shared>,
    /// Bound and not yet started.
    listeners: Mutex<Vec<Listener>>,
    /// The IO thread, and those that shake hands.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Server {
    /// A server that does not listen yet.
    pub fn new(config: Config, routing: Routing, hub: Arc<Hub>) -> Self {
        let shared = Arc::new(Shared::new(config, routing, hub));
        Self { shared, listeners: Mutex::new(Vec::new()), threads: Mutex::default() }
    }

    /// What workers and the threads beside them need.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Opens the listening sockets of `address` and returns their addresses as bound. Clients can connect from here
    /// on, and are served after [`Server::start`]. `is_private`: a Unix socket is for its owner alone. The first port of TLS is
    /// where redirected clients are sent.
    ///
    /// # Errors
    ///
    /// [`BindError`], after which nothing of this address is open.
    pub fn bind(&self, address: &str, kind: Kind, is_private: bool) -> Result<Vec<String>, BindError> {
        let mut opened = listener::bind(address, self.shared.config.backlog, is_private)?;
        let addresses: Vec<_> = opened.iter().map(|listener| listener.address.clone()).collect();
        for listener in &mut opened {
            listener.kind = kind;
        }
        let mut listeners = self.listeners.lock();
        if kind == Kind::Tls && !listeners.iter().any(|listener| listener.kind == Kind::Tls) {
            if let Some(port) = opened.iter().find_map(Listener::port) {
                self.shared.https_port.store(port, Ordering::Relaxed);
            }
        }
        listeners.extend(opened);
        Ok(addresses)
    }

    /// Starts the IO thread, and those that shake hands if there is TLS.
    ///
    /// # Errors
    ///
    /// When the system has no thread or no event queue to give.
    pub fn start(&self) -> io::Result<()> {
        if let Some(tls) = &self.shared.config.tls {
            self.threads.lock().extend(tls::spawn(&self.shared, tls)?);
        }
        let listeners = std::mem::take(&mut *self.listeners.lock());
        self.threads.lock().push(io_thread::spawn(Arc::clone(&self.shared), listeners)?);
        Ok(())
    }

    /// Stops accepting, after the backlog was emptied; answers from here on close their connections.
    pub fn drain(&self) {
        self.shared.advance(Phase::Draining);
    }

    /// Waits until every connection has ended after [`Server::drain`]. False: the time was up first.
    pub fn wait_drained(&self, timeout: Duration) -> bool {
        self.shared.wait_drained(timeout)
    }

    /// Ends the IO thread, cuts what is still connected, and lets the workers go when the queue is empty. Requests
    /// that no worker has taken are dropped; the number of those that still had a client and no answer is returned. The ends of WebSockets are
    /// still told. Waits for the IO thread: detach before.
    pub fn close(&self) -> usize {
        if self.shared.is_forked() {
            // There is no thread to wait for, and the listeners' files are the parent's.
            std::mem::forget(std::mem::take(&mut *self.listeners.lock()));
            std::mem::forget(std::mem::take(&mut *self.threads.lock()));
            return 0;
        }
        // What is in the queues then is of clients that have left: nobody is dropped.
        let is_drained = self.shared.is_drained();
        self.shared.advance(Phase::Closed);
        self.shared.handshakes.close();
        self.listeners.lock().clear();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // A panic has been reported by the panic hook.
            let _ = thread.join();
        }
        self.shared.alerts.close();
        let dropped = self.shared.close_lanes();
        if is_drained { 0 } else { dropped }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
        if !self.shared.is_forked() {
            // Sockets that no worker came to refer to the server in turn.
            for lane in &self.shared.lanes {
                lane.queue.clear_all();
            }
        }
    }
}
