//! A link as a stream of bytes, for a protocol whose frames are read and written by another's code: HTTP/2.
//!
//! What is written is kept in the outbox and goes out when it is flushed, or is so much that it must: many small frames make one
//! write. Nobody but the IO task uses the outbox then.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use ushabti_proto::http2::meter::Meter;

use super::{BUSY, DRAIN, EXPIRED, GONE, Link, QUEUED};
use crate::clock::tick_of;
use crate::io_thread::Io;

/// So much is put into the outbox before it is flushed.
const WRITE_MAX: usize = 64 * 1024;
/// After so many frames nothing more is read in the same turn: small ones cost what large ones cost.
const FRAMES_IN_A_TURN: u32 = 1024;

/// What a read fails with where the client has not begun as it must (RFC 9113 section 3.4). The connection is not lost.
pub(crate) const BROKEN_GREETING: io::ErrorKind = io::ErrorKind::InvalidData;

/// What an IO task is called for, see [`Link::take_calls`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Calls {
    /// The connection is lost.
    pub(crate) is_lost: bool,
    /// The deadline has passed.
    pub(crate) has_expired: bool,
    /// The server has begun to stop.
    pub(crate) drains: bool,
}

impl Link {
    /// Registers the task, and takes what it was called for since it was asked last. IO task.
    pub(crate) fn take_calls(&self, cx: &Context<'_>) -> Calls {
        // The order matters: first the waker, then the state (see the head of `link`).
        self.task.register(cx.waker());
        let state = self.state.fetch_and(!(EXPIRED | DRAIN), Ordering::AcqRel);
        Calls { is_lost: state & GONE != 0, has_expired: state & EXPIRED != 0, drains: state & DRAIN != 0 }
    }

    /// Wakes the IO task, which will find what it is woken for. Any thread.
    pub(crate) fn call(&self) {
        self.task.wake();
    }

    /// Something is asked of the connection: it does not rest. IO task.
    pub(crate) fn occupy(&self) {
        self.state.fetch_or(BUSY, Ordering::AcqRel);
    }

    /// Nothing is asked of it any more. IO task.
    pub(crate) fn vacate(&self) {
        self.quiet_since.store(tick_of(self.server.epoch), Ordering::Relaxed);
        self.state.fetch_and(!BUSY, Ordering::AcqRel);
    }

    fn put(&self, parts: &[IoSlice<'_>]) -> usize {
        let mut outbox = self.outbox.lock();
        let mut count = 0;
        for part in parts {
            outbox.append(part);
            count += part.len();
        }
        if count > 0 {
            self.state.fetch_or(QUEUED, Ordering::AcqRel);
        }
        count
    }
}

/// What a task knows of its [`LinkIo`], which it has given away. Both are of one thread.
#[derive(Default)]
pub(crate) struct Gauge {
    /// Reads that may be made until the task has its next turn.
    pub(crate) reads_left: AtomicU32,
    /// Frames of no use that came since this was looked at: see [`Meter::feed`].
    pub(crate) useless: AtomicU32,
    /// See [`Meter::is_midway`].
    pub(crate) is_midway: AtomicBool,
    /// See [`Meter::begun`].
    pub(crate) begun: AtomicU32,
    /// Bytes of the outbox that were written.
    pub(crate) written: AtomicU64,
}

/// The bytes of a connection. Of its IO task.
pub(crate) struct LinkIo {
    io: Arc<Io>,
    link: Arc<Link>,
    /// Read, and not yet taken.
    pending: Vec<u8>,
    taken: usize,
    meter: Meter,
    gauge: Arc<Gauge>,
}

impl LinkIo {
    /// `pending` was read before.
    pub(crate) fn new(io: &Arc<Io>, link: &Arc<Link>, pending: Vec<u8>) -> (Self, Arc<Gauge>) {
        let gauge = Arc::new(Gauge::default());
        let (io, link) = (Arc::clone(io), Arc::clone(link));
        let mut this = Self { io, link, pending, taken: 0, meter: Meter::new(), gauge: Arc::clone(&gauge) };
        let pending = std::mem::take(&mut this.pending);
        this.measure(&pending);
        this.pending = pending;
        (this, gauge)
    }

    fn measure(&mut self, bytes: &[u8]) {
        let useless = self.meter.feed(bytes);
        self.gauge.useless.fetch_add(useless, Ordering::Relaxed);
        self.gauge.begun.store(self.meter.begun(), Ordering::Relaxed);
        self.gauge.is_midway.store(self.meter.is_midway(), Ordering::Relaxed);
    }

    fn flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.link.is_queued() {
            return Poll::Ready(Ok(()));
        }
        let written = &self.gauge.written;
        self.link.poll_flush(cx, &mut |count| {
            written.fetch_add(count as u64, Ordering::Relaxed);
        })
    }

    fn check(&self) -> io::Result<()> {
        if self.link.is_lost() { Err(io::ErrorKind::NotConnected.into()) } else { Ok(()) }
    }

    /// The frames' reader takes any frame for the first.
    fn check_greeting(&self) -> io::Result<()> {
        if self.meter.lacks_settings() {
            return Err(io::Error::new(BROKEN_GREETING, "the preface ends without settings"));
        }
        Ok(())
    }
}

impl AsyncRead for LinkIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check_greeting()?;
        if self.taken == self.pending.len() {
            self.check()?;
            if self.gauge.reads_left.load(Ordering::Relaxed) == 0 {
                // A client that sends without end must not keep the others from their turn. The task sees to it that it has
                // another.
                return Poll::Pending;
            }
            self.gauge.reads_left.fetch_sub(1, Ordering::Relaxed);
            let io = Arc::clone(&self.io);
            let mut buffer = io.buffer.lock();
            let count = ready!(self.link.poll_read(cx, &mut buffer))?;
            let bytes = &buffer[..count];
            let before = self.meter.begun();
            self.measure(bytes);
            self.check_greeting()?;
            if self.meter.begun().wrapping_sub(before) >= FRAMES_IN_A_TURN {
                self.gauge.reads_left.store(0, Ordering::Relaxed);
            }
            let (first, rest) = bytes.split_at(count.min(into.remaining()));
            into.put_slice(first);
            self.taken = 0;
            self.pending.clear();
            self.pending.extend_from_slice(rest);
            return Poll::Ready(Ok(()));
        }
        let rest = &self.pending[self.taken..];
        let count = rest.len().min(into.remaining());
        into.put_slice(&rest[..count]);
        self.taken += count;
        if self.taken == self.pending.len() {
            // A connection that rests keeps no buffer.
            self.pending = Vec::new();
            self.taken = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LinkIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        if self.link.buffered() >= WRITE_MAX {
            match self.flush(cx) {
                Poll::Ready(Err(problem)) => return Poll::Ready(Err(problem)),
                Poll::Pending if self.link.buffered() >= WRITE_MAX => return Poll::Pending,
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        Poll::Ready(Ok(self.link.put(parts)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        self.flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        ready!(self.flush(cx))?;
        self.link.shutdown_write();
        Poll::Ready(Ok(()))
    }
}
