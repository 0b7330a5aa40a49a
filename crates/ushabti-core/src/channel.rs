//! What an exchange is answered on, and what a WebSocket goes over: the connection itself, or one of the streams that share
//! it.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use ushabti_proto::http1::head::Version;

use crate::http2::Stream;
use crate::link::{Bound, Exchange, Gone, Interest, Link, Standing, Then, Unsent, Wake};
use crate::listener::Peer;
use crate::server::Shared;
use crate::tls::TlsInfo;
use crate::websocket::Socket as WebSocket;
use crate::whereabouts::Whereabouts;

/// HTTP/1.1 answers on its connection, one exchange after the other; HTTP/2 on streams, of one exchange each.
#[derive(Clone)]
pub(crate) enum Channel {
    Link(Arc<Link>),
    Stream(Arc<Stream>),
}

/// The same for who does not keep it open.
#[derive(Clone)]
pub(crate) enum WeakChannel {
    Link(Weak<Link>),
    Stream(Weak<Stream>),
}

impl WeakChannel {
    pub(crate) fn upgrade(&self) -> Option<Channel> {
        match self {
            Self::Link(link) => link.upgrade().map(Channel::Link),
            Self::Stream(stream) => stream.upgrade().map(Channel::Stream),
        }
    }
}

impl Channel {
    pub(crate) fn downgrade(&self) -> WeakChannel {
        match self {
            Self::Link(link) => WeakChannel::Link(Arc::downgrade(link)),
            Self::Stream(stream) => WeakChannel::Stream(Arc::downgrade(stream)),
        }
    }

    /// The connection.
    pub(crate) fn link(&self) -> &Arc<Link> {
        match self {
            Self::Link(link) => link,
            Self::Stream(stream) => stream.link(),
        }
    }

    pub(crate) fn server(&self) -> &Shared {
        self.link().server()
    }

    pub(crate) fn peer(&self) -> &Peer {
        self.link().peer()
    }

    /// The TLS of the connection; `None` if it has none.
    pub(crate) fn tls_info(&self) -> Option<Arc<TlsInfo>> {
        self.link().tls_info()
    }

    /// In which version a request is answered whose head could not be read.
    pub(crate) fn version(&self) -> Version {
        match self {
            Self::Link(_) => Version::Http11,
            Self::Stream(_) => Version::Http2,
        }
    }

    /// See [`Link::send`].
    pub(crate) fn send(&self, exchange: Exchange, head: &[u8], body: &[u8], then: Then) -> Result<(), Gone> {
        match self {
            Self::Link(link) => link.send(exchange, head, body, then),
            Self::Stream(stream) => stream.send(exchange, head, body, then),
        }
    }

    /// See [`Link::wait_for_room`].
    pub(crate) fn wait_for_room(&self) -> Result<(), Gone> {
        match self {
            Self::Link(link) => link.wait_for_room(),
            Self::Stream(stream) => stream.wait_for_room(),
        }
    }

    /// Where its request is until a handler has it.
    pub(crate) fn whereabouts(&self) -> &Whereabouts {
        match self {
            Self::Link(link) => link.whereabouts(),
            Self::Stream(stream) => stream.whereabouts(),
        }
    }

    /// See [`Link::take_back`].
    pub(crate) fn take_back(&self) -> Option<Exchange> {
        match self {
            Self::Link(link) => link.take_back(),
            Self::Stream(stream) => stream.take_back(),
        }
    }

    /// Nobody will read an answer. Any thread; no system call.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Self::Link(link) => link.is_lost(),
            Self::Stream(stream) => stream.is_lost(),
        }
    }

    /// The client has closed its side or is lost. Any thread; no system call.
    pub(crate) fn is_disconnected(&self) -> bool {
        match self {
            Self::Link(link) => link.is_disconnected(),
            // One that has closed its side has said that its request is complete, no more.
            Self::Stream(stream) => stream.is_lost(),
        }
    }

    /// Whether bytes of a following request have been read; other streams are no reason to keep the connection.
    pub(crate) fn has_more(&self) -> bool {
        match self {
            Self::Link(link) => link.has_more(),
            Self::Stream(_) => false,
        }
    }

    /// See [`Link::watch_client`].
    pub(crate) fn watch_client(&self, exchange: Exchange, number: u32) {
        match self {
            Self::Link(link) => link.watch_client(exchange, number),
            Self::Stream(stream) => stream.watch_client(exchange, number),
        }
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn tell_watcher(&self) {
        match self {
            Self::Link(link) => link.tell_watcher(),
            Self::Stream(stream) => stream.tell_watcher(),
        }
    }

    // ---- what a WebSocket needs

    /// Whether what is asked for is a WebSocket and nothing else, so that a success would be taken for one (RFC 8441 section
    /// 5).
    pub(crate) fn must_upgrade(&self) -> bool {
        matches!(self, Self::Stream(stream) if stream.asks_for_tunnel())
    }

    /// See [`Link::finish_upgrade`].
    pub(crate) fn finish_upgrade(&self, socket: Arc<WebSocket>) -> Option<Arc<WebSocket>> {
        match self {
            Self::Link(link) => link.finish_upgrade(socket),
            Self::Stream(stream) => stream.finish_upgrade(socket),
        }
    }

    /// Of those at the clock: it is that of a WebSocket. Any thread.
    pub(crate) fn is_upgraded(&self) -> bool {
        match self {
            Self::Link(link) => link.is_upgraded(),
            Self::Stream(_) => self.must_upgrade(),
        }
    }

    /// See [`Link::send_frame`].
    pub(crate) fn send_frame(&self, head: &[u8], payload: &[u8], bound: Bound) -> Result<(), Unsent> {
        match self {
            Self::Link(link) => link.send_frame(head, payload, bound),
            Self::Stream(stream) => stream.send_frame(head, payload, bound),
        }
    }

    /// See [`Link::wait_for_space`].
    pub(crate) fn wait_for_space(&self, bytes: usize, most: usize, until: Instant) -> bool {
        match self {
            Self::Link(link) => link.wait_for_space(bytes, most, until),
            Self::Stream(stream) => stream.wait_for_space(bytes, most, until),
        }
    }

    /// See [`Link::seal`].
    pub(crate) fn seal(&self) {
        match self {
            Self::Link(link) => link.seal(),
            Self::Stream(stream) => stream.seal(),
        }
    }

    /// See [`Link::signal`].
    pub(crate) fn signal(&self) {
        match self {
            Self::Link(link) => link.signal(),
            Self::Stream(stream) => stream.signal(),
        }
    }

    /// See [`Link::buffered`].
    pub(crate) fn buffered(&self) -> usize {
        match self {
            Self::Link(link) => link.buffered(),
            Self::Stream(stream) => stream.buffered(),
        }
    }

    // ---- the side of the IO task

    /// See [`Link::poll_wait`]. The task of a WebSocket.
    pub(crate) fn poll_wait(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        buffer: &mut [u8],
        progress: impl FnMut(usize),
    ) -> Poll<Wake> {
        match self {
            Self::Link(link) => link.poll_wait(cx, interest, buffer, progress),
            Self::Stream(stream) => stream.poll_wait(cx, interest, buffer, progress),
        }
    }

    /// Bytes wait for the client to take them.
    pub(crate) fn is_queued(&self) -> bool {
        match self {
            Self::Link(link) => link.is_queued(),
            Self::Stream(stream) => stream.is_queued(),
        }
    }

    /// See [`Link::unsent`]. Of a stream everything is sent that the client has not made room for.
    pub(crate) fn unsent(&self) -> u32 {
        match self {
            Self::Link(link) => link.unsent(),
            Self::Stream(_) => 0,
        }
    }

    /// See [`Link::shutdown_write`].
    pub(crate) fn shutdown_write(&self) {
        match self {
            Self::Link(link) => link.shutdown_write(),
            Self::Stream(stream) => stream.shutdown_write(),
        }
    }

    // ---- the side of the clock

    /// See [`Link::expire`].
    pub(crate) fn expire(&self) {
        match self {
            Self::Link(link) => link.expire(),
            Self::Stream(stream) => stream.expire(),
        }
    }

    /// See [`Link::drain`].
    pub(crate) fn drain(&self) {
        match self {
            Self::Link(link) => link.drain(),
            Self::Stream(stream) => stream.drain(),
        }
    }

    /// What the connection is at; `None` for one of its streams. Any thread.
    pub(crate) fn standing(&self) -> Option<Standing> {
        match self {
            Self::Link(link) => Some(link.standing()),
            Self::Stream(_) => None,
        }
    }
}
