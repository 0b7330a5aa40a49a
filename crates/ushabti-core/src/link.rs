//! What the IO task of a connection and the worker that answers on it share: the socket, the state of the exchange,
//! and the bytes that the client has not taken yet.
//!
//! # The hand-over
//!
//! At each moment one side owns the exchange. The IO task sets `BUSY` and gives the request away; from then on the
//! worker owns the answer, and writes it to the socket itself when nothing waits before it. The worker clears `BUSY`
//! after its last byte was written or queued. The IO task is not woken for that, unless it said `WAKE` before: it finds
//! the connection idle at the next readable event, which is one wake and one context switch less for each request.
//!
//! Why no wake is lost. The IO task that needs to know the end of an exchange first registers its waker, then sets
//! `WAKE` and looks at `BUSY` in the same atomic operation; the worker clears `BUSY` and `WAKE` in one atomic
//! operation and looks at what it cleared. Both are read-modify-write operations on one word, so they have an order:
//! either the task's came first, then the worker sees `WAKE` and wakes; or the worker's came first, then the task
//! sees that `BUSY` is gone and goes on by itself. The same holds for `EXPIRED` and `DRAIN`, which are set before the
//! waker is called and looked at after it was registered.
//!
//! The IO task may take an exchange back, to answer for a worker that is late; `exchange` says how.
//!
//! The outbox has a lock, because the IO task (flushing) and a worker (appending) meet there, and order on the wire
//! is the order of holding it. It is held for one non-blocking system call and one copy of 4 MiB at most, never while
//! Python runs.

use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use parking_lot::{Condvar, Mutex};
use socket2::Socket;
use tokio::io::unix::AsyncFd;

use crate::clock::{Tick, tick_of};
use crate::jitter;
use crate::listener::{Peer, watch};
use crate::server::Shared;
use crate::websocket::Socket as WebSocket;

mod adapter;
mod exchange;
mod frames;
mod outbox;
mod secure;
mod standing;
mod turn;

pub(crate) use adapter::{BROKEN_GREETING, Gauge, LinkIo};
pub use exchange::Gone;
pub(crate) use exchange::{Exchange, Then};
pub(crate) use frames::{Bound, Unsent};
use outbox::Outbox;
pub(crate) use standing::Standing;
pub(crate) use turn::Turn;

/// An exchange is with a worker: it, and nobody else, may answer.
const BUSY: u32 = 1;
/// The IO task wants to be woken when the exchange is over.
const WAKE: u32 = 1 << 1;
/// The outbox holds bytes; the IO task writes them.
const QUEUED: u32 = 1 << 2;
/// The exchange ended with the promise to close the connection.
const CLOSE: u32 = 1 << 3;
/// The connection is lost: what is written to it is discarded.
const GONE: u32 = 1 << 4;
/// The client has said that it sends no more.
const HALF_CLOSED: u32 = 1 << 5;
/// The clock has run out.
pub(crate) const EXPIRED: u32 = 1 << 6;
/// The server is stopping.
pub(crate) const DRAIN: u32 = 1 << 7;
/// Bytes of a following request have been read: a stopping server serves it as well.
const MORE: u32 = 1 << 8;
/// There is something to do for the IO task of a WebSocket, which it finds in what it shares with the workers.
pub(crate) const SIGNAL: u32 = 1 << 9;
/// The connection speaks WebSocket from the end of the exchange on.
const UPGRADED: u32 = 1 << 10;

/// Everything is encrypted: see `secure`.
const SECURE: u32 = 1 << 11;

/// So many writes, of 64 KiB each with TLS, are made for one connection before others have a turn.
const WRITES_IN_A_ROW: u32 = 16;

/// Bytes in the outbox from which a streaming worker waits, and below which it goes on.
pub(crate) const OUTBOX_HIGH: usize = 256 * 1024;
pub(crate) const OUTBOX_LOW: usize = 64 * 1024;

/// Why an IO task that waited goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wake {
    /// Bytes were read into the buffer.
    Bytes(usize),
    /// The client sends no more.
    EndOfInput,
    /// The connection is lost.
    Lost,
    /// The exchange is over, and its last byte written.
    Finished { close: bool },
    /// The deadline has passed.
    Expired,
    /// The server has begun to stop.
    Drain,
    /// A worker has called, see [`Link::signal`].
    Signal,
}

/// What an IO task waits for, beside the loss of the connection, the clock and the drain.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Interest {
    /// Bytes of the client.
    pub(crate) read: bool,
    /// The end of the exchange.
    pub(crate) finish: bool,
    /// The call of a worker; it and the drain come before any bytes, of which there may be no end.
    pub(crate) signal: bool,
}

/// One connection, as its IO task and a worker share it.
pub(crate) struct Link {
    socket: AsyncFd<Socket>,
    state: AtomicU32,
    turn: Turn,
    task: AtomicWaker,
    outbox: Mutex<Outbox>,
    room: Condvar,
    server: Arc<Shared>,
    quiet_since: AtomicU64,
    peer: Peer,
    /// The WebSocket that the connection becomes when the exchange is over, until one side has taken it out.
    upgrade: Mutex<Option<Arc<WebSocket>>>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.server.counters.descriptors.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Link {
    /// Takes a connected, non-blocking socket. IO thread, within its runtime.
    pub(crate) fn new(socket: Socket, peer: Peer, server: Arc<Shared>) -> io::Result<Self> {
        let socket = watch(socket)?;
        server.counters.descriptors.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            socket,
            state: AtomicU32::new(0),
            turn: Turn::default(),
            task: AtomicWaker::new(),
            outbox: Mutex::new(Outbox::default()),
            room: Condvar::new(),
            quiet_since: AtomicU64::new(tick_of(server.epoch)),
            server,
            peer,
            upgrade: Mutex::new(None),
        })
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The server that the connection belongs to.
    pub(crate) fn server(&self) -> &Shared {
        &self.server
    }

    /// The same, to keep.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.server
    }

    /// Whether the connection is lost. Any thread; no system call.
    pub(crate) fn is_lost(&self) -> bool {
        self.has(GONE)
    }

    fn has(&self, bits: u32) -> bool {
        self.state.load(Ordering::Acquire) & bits != 0
    }

    /// An exchange is with a worker. Any thread.
    pub(crate) fn is_busy(&self) -> bool {
        self.has(BUSY)
    }

    /// The client has closed its side or is lost. Any thread; no system call.
    pub(crate) fn is_disconnected(&self) -> bool {
        self.has(GONE | HALF_CLOSED)
    }

    /// The tick at which the last exchange ended.
    pub(crate) fn quiet_since(&self) -> Tick {
        self.quiet_since.load(Ordering::Relaxed)
    }

    // ---- the side of the IO thread

    /// Bytes that the client's system has not confirmed yet; 0 where the system does not tell. IO task.
    pub(crate) fn unsent(&self) -> u32 {
        #[cfg(target_os = "linux")]
        {
            let mut count: libc::c_int = 0;
            // SAFETY: the descriptor is the socket's own, and the call writes one int to the place it is given.
            let result = unsafe { libc::ioctl(self.socket.get_ref().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
            if result == 0 { count.unsigned_abs() } else { 0 }
        }
        #[cfg(not(target_os = "linux"))]
        0
    }

    /// The clock's word that the deadline has passed. IO thread.
    pub(crate) fn expire(&self) {
        self.state.fetch_or(EXPIRED, Ordering::AcqRel);
        self.task.wake();
    }

    /// The server's word that it stops. IO thread.
    pub(crate) fn drain(&self) {
        self.state.fetch_or(DRAIN, Ordering::AcqRel);
        self.task.wake();
    }

    /// Notes that the client sends no more. IO task.
    pub(crate) fn half_closed(&self) {
        jitter::point();
        self.state.fetch_or(HALF_CLOSED, Ordering::AcqRel);
        jitter::point();
        self.tell_watcher();
    }

    /// Gives the connection up: what is still written to it is discarded, a worker that waits for room is let go.
    pub(crate) fn abandon(&self) {
        jitter::point();
        let before = self.state.fetch_or(GONE, Ordering::AcqRel);
        jitter::point();
        self.tell_watcher();
        if before & QUEUED != 0 {
            // The close is to be a reset: with good manners the system would hold what the client has not taken, up to
            // 4 MiB of it, for as long as the client says that it is there.
            let _ = self.socket.get_ref().set_linger(Some(Duration::ZERO));
        }
        self.outbox.lock().empty();
        self.room.notify_all();
        // The descriptor lives until a worker that has the request lets go of it; the peer should not have to wait for
        // that.
        let _ = self.socket.get_ref().shutdown(std::net::Shutdown::Both);
        self.server.client_left(&self.turn.whereabouts);
    }

    /// Gives the connection up from beside its task, which finds it lost. IO thread.
    pub(crate) fn cut(&self) {
        self.abandon();
        self.task.wake();
    }

    /// Nothing that is done for the connection now is of use. Any thread.
    pub(crate) fn is_given_up(&self) -> bool {
        self.has(GONE | EXPIRED)
    }

    /// Says to the peer that nothing more will be sent. IO task.
    pub(crate) fn shutdown_write(&self) {
        if self.end_secure() {
            return;
        }
        // An error means that the peer was faster.
        let _ = self.socket.get_ref().shutdown(std::net::Shutdown::Write);
    }

    /// Waits for what `interest` names, and reads into `buffer` if that is bytes. IO task only.
    ///
    /// Flushes the outbox on the way; `progress` is called with how many bytes of it were written. The end of an
    /// exchange is seen by whoever polls, but wakes the task only after [`Link::begin_exchange`] or
    /// [`Link::wake_at_finish`] asked for that.
    pub(crate) fn poll_wait(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        buffer: &mut [u8],
        mut progress: impl FnMut(usize),
    ) -> Poll<Wake> {
        // The order matters: first the waker, then the state (see the head of this file).
        self.task.register(cx.waker());
        jitter::point();
        let mut state = self.state.load(Ordering::Acquire);
        if state & QUEUED != 0 {
            match self.poll_flush(cx, &mut progress) {
                Poll::Ready(Err(_)) => return Poll::Ready(Wake::Lost),
                Poll::Ready(Ok(())) | Poll::Pending => state = self.state.load(Ordering::Acquire),
            }
        }
        if state & GONE != 0 {
            return Poll::Ready(Wake::Lost);
        }
        if interest.signal && state & (SIGNAL | DRAIN) != 0 {
            return take_first(&self.state, state, &[(DRAIN, Wake::Drain), (SIGNAL, Wake::Signal)]);
        }
        if interest.finish && state & (BUSY | QUEUED) == 0 {
            self.state.fetch_and(!(WAKE | MORE), Ordering::AcqRel);
            return Poll::Ready(Wake::Finished { close: state & CLOSE != 0 });
        }
        if interest.read {
            match self.poll_read(cx, buffer) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Wake::EndOfInput),
                Poll::Ready(Ok(count)) => return Poll::Ready(Wake::Bytes(count)),
                Poll::Ready(Err(_)) => return Poll::Ready(Wake::Lost),
                Poll::Pending => {}
            }
        }
        // After the bytes: a request that arrives with the deadline is still served.
        take_first(&self.state, state, &[(DRAIN, Wake::Drain), (EXPIRED, Wake::Expired)])
    }

    /// Bytes wait for the client to take them.
    pub(crate) fn is_queued(&self) -> bool {
        self.has(QUEUED)
    }

    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.has(SECURE) { self.poll_read_secure(cx, buffer) } else { self.poll_receive(cx, buffer) }
    }

    /// Reads what the socket has; 0: its end.
    fn poll_receive(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.socket.poll_read_ready(cx))?;
            match self.socket.get_ref().read(buffer) {
                Ok(count) => {
                    self.server.counters.received(count);
                    // A short read has emptied the socket's buffer: the next read would only say so, for the price
                    // of a system call. Edge-triggered readiness tells when more has come.
                    if count > 0 && count < buffer.len() {
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(problem) if problem.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(problem) if problem.kind() == io::ErrorKind::Interrupted => {}
                Err(problem) => return Poll::Ready(Err(problem)),
            }
        }
    }

    fn poll_flush(&self, cx: &mut Context<'_>, progress: &mut impl FnMut(usize)) -> Poll<io::Result<()>> {
        for _ in 0..WRITES_IN_A_ROW {
            let mut guard = ready!(self.socket.poll_write_ready(cx))?;
            let mut outbox = self.outbox.lock();
            if outbox.is_empty() {
                let end = outbox.end.take();
                outbox.empty();
                if outbox.is_last {
                    // An error means that the peer was faster.
                    let _ = self.socket.get_ref().shutdown(std::net::Shutdown::Write);
                }
                self.state.fetch_and(!QUEUED, Ordering::AcqRel);
                drop(outbox);
                jitter::point();
                self.room.notify_all();
                if let Some(close) = end {
                    self.end_exchange(close);
                }
                return Poll::Ready(Ok(()));
            }
            match self.write_next(&mut outbox) {
                Ok(count) => {
                    let wanted = outbox.len() < OUTBOX_LOW || outbox.waiting > 0;
                    drop(outbox);
                    progress(count);
                    if wanted {
                        self.room.notify_all();
                    }
                }
                Err(problem) if problem.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(problem) => return Poll::Ready(Err(problem)),
            }
        }
        // A client that takes all as quickly as it comes must not keep the thread from the others.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes the WebSocket that the connection has become. Whoever gets it answers for it.
    pub(crate) fn take_upgrade(&self) -> Option<Arc<WebSocket>> {
        self.upgrade.lock().take()
    }

    /// Whether the connection has become a WebSocket. Any thread.
    pub(crate) fn is_upgraded(&self) -> bool {
        self.has(UPGRADED)
    }
}

/// Clears the first of some bits that is set, and says what it means. What else is set is told next.
pub(crate) fn take_first(word: &AtomicU32, state: u32, meanings: &[(u32, Wake)]) -> Poll<Wake> {
    let Some(&(bit, wake)) = meanings.iter().find(|(bit, _)| state & bit != 0) else {
        return Poll::Pending;
    };
    word.fetch_and(!bit, Ordering::AcqRel);
    Poll::Ready(wake)
}

/// A peer that has gone must not raise SIGPIPE, which ends the process where an embedding program has not ignored it.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL;
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
const SEND_FLAGS: i32 = 0;
