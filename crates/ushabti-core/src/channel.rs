//! What an exchange is answered on: the connection itself, or one of the streams that share it.

use std::sync::{Arc, Weak};

use ushabti_proto::http1::head::Version;

use crate::http2::Stream;
use crate::link::{Exchange, Gone, Link, Then};
use crate::listener::Peer;
use crate::server::Shared;
use crate::tls::TlsInfo;

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

    fn link(&self) -> &Link {
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
}
