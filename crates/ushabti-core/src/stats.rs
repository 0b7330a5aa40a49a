//! Counters of a server, for `Server.stats()` and the tests.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counters that any thread adds to. None of them orders anything: they are read for information.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that are open now.
    pub(crate) open: AtomicUsize,
    pub(crate) accepted: AtomicU64,
    /// Answers by the first digit of their status; index 0 counts answers whose client was gone before they were sent.
    pub(crate) answers: [AtomicU64; 6],
    /// WebSockets that are open now.
    pub(crate) websockets_open: AtomicUsize,
    /// Messages of WebSockets received.
    pub(crate) websocket_messages: AtomicU64,
    /// Requests given to the workers.
    pub(crate) dispatched: AtomicU64,
    /// Answers that the IO thread gave without a worker.
    pub(crate) refused: AtomicU64,
    /// Times that accepting paused for want of descriptors or memory.
    pub(crate) accept_pauses: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Stats {
    /// Connections that are open now.
    pub connections_open: usize,
    /// Connections accepted since the start.
    pub connections_accepted: u64,
    /// Answers sent, by the first digit of their status; index 0: discarded because the client was gone.
    pub answers: [u64; 6],
    /// WebSockets that are open now.
    pub websockets_open: usize,
    /// Messages of WebSockets received since the start.
    pub websocket_messages: u64,
    /// Requests given to the workers.
    pub dispatched: u64,
    /// Answers that the IO thread gave without a worker.
    pub refused: u64,
    /// Times that accepting paused for want of descriptors or memory.
    pub accept_pauses: u64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self, status: u16) {
        Self::add(&self.answers[usize::from(status / 100).min(5)]);
    }

    pub(crate) fn discarded(&self) {
        Self::add(&self.answers[0]);
    }

    /// The counters at this moment.
    pub fn read(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            connections_open: self.open.load(Ordering::Relaxed),
            connections_accepted: get(&self.accepted),
            answers: std::array::from_fn(|digit| get(&self.answers[digit])),
            websockets_open: self.websockets_open.load(Ordering::Relaxed),
            websocket_messages: get(&self.websocket_messages),
            dispatched: get(&self.dispatched),
            refused: get(&self.refused),
            accept_pauses: get(&self.accept_pauses),
        }
    }
}
