//! What a connection is at, for the counts of `Server.stats()`: read off the state that is there anyway.

use std::sync::atomic::Ordering;

use super::{BUSY, CLOSE, GONE, Link, QUEUED, UPGRADED};

/// What a connection is at, as far as its link tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It speaks WebSocket.
    WebSocket,
    /// Bytes wait for the client.
    Writing,
    /// An exchange is with a worker.
    Handling,
    /// It is lost, or its last answer was given.
    Closing,
    /// It waits for a request, or the rest of one.
    Quiet,
}

impl Link {
    /// What the connection is at. Any thread.
    pub(crate) fn standing(&self) -> Standing {
        match self.state.load(Ordering::Relaxed) {
            state if state & UPGRADED != 0 => Standing::WebSocket,
            state if state & QUEUED != 0 => Standing::Writing,
            state if state & BUSY != 0 => Standing::Handling,
            state if state & (CLOSE | GONE) != 0 => Standing::Closing,
            _ => Standing::Quiet,
        }
    }
}
