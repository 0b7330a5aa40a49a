//! What carries a WebSocket, as its task has it: a connection of its own, or a stream of one.

use std::sync::Arc;

use crate::channel::Channel;
use crate::connection::Place;
use crate::http2::TunnelPlace;
use crate::io_thread::Io;

/// The way to the client, and the task's place at the clock. Both are given up when this is dropped.
pub(crate) struct Carrier {
    pub(super) io: Arc<Io>,
    /// Its number at the clock.
    pub(super) key: usize,
    /// Dropped before the place, which sees whether somebody else still has it.
    pub(super) channel: Channel,
    _place: Either,
}

enum Either {
    Connection { _place: Place },
    Stream { _place: TunnelPlace },
}

impl Carrier {
    /// A connection that has become a WebSocket.
    pub(crate) fn connection(place: Place) -> Self {
        let (io, channel) = (Arc::clone(&place.io), Channel::Link(Arc::clone(&place.link)));
        Self { io, key: place.key, channel, _place: Either::Connection { _place: place } }
    }

    /// A stream that has.
    pub(crate) fn stream(place: TunnelPlace) -> Self {
        let (io, channel) = (Arc::clone(&place.io), Channel::Stream(Arc::clone(&place.stream)));
        Self { io, key: place.key, channel, _place: Either::Stream { _place: place } }
    }
}
