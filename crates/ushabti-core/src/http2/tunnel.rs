//! A stream that has become a WebSocket (RFC 8441 section 5): bytes in both directions, as on a connection of its own.
//!
//! ```text
//!  DATA ─▶ task of the connection ─▶ input ─▶ task of the WebSocket ─▶ inbox (see `websocket`)
//!  DATA ◀─ task of the connection ◀─ output ◀─ whoever sends a frame, from any thread
//! ```
//!
//! Both tasks are of the IO thread. What one does for the other it puts down under a lock, and wakes it then: the connection's
//! by a note in the agenda, the WebSocket's by its waker, which it registers before it looks.
//!
//! The client may send as much as its window has room for, which opens when the task of the WebSocket takes something out of
//! the input: so a WebSocket whose handler is slow holds its client up. What comes is taken from the frames' code at once:
//! there it would count as a flood, if the frames are small. Of what is sent, everything waits that the client's windows have
//! no room for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use atomic_waker::AtomicWaker;
use h2::{Reason, RecvStream};
use parking_lot::{Condvar, Mutex};

use super::chunks::{Chunks, Piece};
use super::entry::{Entry, Fate};
use super::stream::Stream;
use crate::channel::Channel;
use crate::clock::Tick;
use crate::io_thread::Io;
use crate::jitter;
use crate::link::{Bound, DRAIN, EXPIRED, Interest, SIGNAL, Unsent, Wake, take_first};
use crate::websocket::{self, Socket as WebSocket};

/// So much may be sent beyond the bound before the task of the connection has found out whether the client has room for it: on
/// a connection of its own the system takes it.
const UNSEEN_MAX: usize = 4 << 20;

/// What a stream has beside the rest if its request asks for a WebSocket.
#[derive(Default)]
pub(super) struct Tunnel {
    /// What the task of the WebSocket is called for.
    calls: AtomicU32,
    task: AtomicWaker,
    input: Mutex<Input>,
    output: Mutex<Output>,
    room: Condvar,
    /// The WebSocket that it becomes, until one side has taken it out.
    upgrade: Mutex<Option<Arc<WebSocket>>>,
}

#[derive(Default)]
struct Input {
    /// No more than the window of a stream.
    bytes: Vec<u8>,
    /// So many of them were looked at.
    seen: usize,
    /// What was looked at since the client was told that it may send as much again.
    taken: usize,
    /// The client sends no more.
    is_ended: bool,
}

impl Input {
    fn take(&mut self, buffer: &mut [u8]) -> usize {
        let rest = &self.bytes[self.seen..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.seen += count;
        self.taken += count;
        if self.seen == self.bytes.len() {
            // A socket that rests keeps no buffer.
            (self.bytes, self.seen) = (Vec::new(), 0);
        }
        count
    }

    fn put(&mut self, data: &[u8]) {
        // A client that is never quite waited for would never empty it.
        if self.seen > self.bytes.len() / 2 {
            self.bytes.drain(..self.seen);
            self.seen = 0;
        }
        self.bytes.extend_from_slice(data);
    }
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Output {
    frames: Chunks,
    /// What the task of the connection has taken out, and not sent.
    taken: usize,
    /// What it has sent since the task of the WebSocket looked, while some had to wait.
    moved: usize,
    /// Some of it has to wait: for the client's windows, or for a moment until the socket has taken what was sent before.
    is_stalled: bool,
    /// See `link::outbox`.
    is_sealed: bool,
    /// Nothing follows the frames.
    is_ended: bool,
    /// The task of the WebSocket has ended.
    is_left: bool,
    /// Senders that wait for room.
    senders: u32,
}

impl Output {
    fn len(&self) -> usize {
        self.frames.bytes() + self.taken
    }

    fn has_room(&self, bytes: usize, most: usize) -> bool {
        let most = if self.is_stalled { most } else { most.saturating_add(UNSEEN_MAX) };
        self.len() == 0 || self.len() + bytes <= most
    }
}

/// The side of the WebSocket: see `channel`, and the methods of the same names of a link.
impl Stream {
    fn as_tunnel(&self) -> &Tunnel {
        self.tunnel.as_ref().expect("only what was asked to be a WebSocket can be one")
    }

    /// Whether its request asks to be a WebSocket. Any thread.
    pub(crate) fn asks_for_tunnel(&self) -> bool {
        self.tunnel.is_some()
    }

    /// Why the socket is never left lying: whoever gives the stream up notes that and looks for the socket then, here it is put
    /// down and that note looked for then. The lock of the socket's place has an order: either it was put down first and is
    /// found there, or the note is seen here; and the lock gives it to one alone.
    pub(crate) fn finish_upgrade(self: &Arc<Self>, socket: Arc<WebSocket>) -> Option<Arc<WebSocket>> {
        *self.as_tunnel().upgrade.lock() = Some(socket);
        jitter::point();
        self.note();
        jitter::point();
        if self.is_lost() { self.take_upgrade() } else { None }
    }

    pub(super) fn take_upgrade(&self) -> Option<Arc<WebSocket>> {
        self.tunnel.as_ref()?.upgrade.lock().take()
    }

    pub(crate) fn send_frame(self: &Arc<Self>, head: &[u8], payload: &[u8], bound: Bound) -> Result<(), Unsent> {
        if self.link().server().is_forked() {
            return Err(Unsent::Closed);
        }
        let piece = Piece::of(head, payload);
        let mut output = self.as_tunnel().output.lock();
        jitter::point();
        if self.is_lost() || (output.is_sealed && !matches!(bound, Bound::Last)) {
            return Err(Unsent::Closed);
        }
        if matches!(bound, Bound::Bytes(most) if !output.has_room(piece.len(), most)) {
            return Err(Unsent::Full);
        }
        output.frames.add(piece);
        drop(output);
        self.note();
        Ok(())
    }

    pub(crate) fn wait_for_space(&self, bytes: usize, most: usize, until: Instant) -> bool {
        let tunnel = self.as_tunnel();
        let mut output = tunnel.output.lock();
        output.senders += 1;
        let mut is_late = false;
        while !is_late && !output.has_room(bytes, most) && !output.is_sealed && !self.is_lost() {
            is_late = tunnel.room.wait_until(&mut output, until).timed_out();
        }
        output.senders -= 1;
        !is_late
    }

    pub(crate) fn seal(&self) {
        let tunnel = self.as_tunnel();
        tunnel.output.lock().is_sealed = true;
        tunnel.room.notify_all();
    }

    pub(crate) fn buffered(&self) -> usize {
        self.as_tunnel().output.lock().len()
    }

    pub(crate) fn signal(&self) {
        self.as_tunnel().call(SIGNAL);
    }

    pub(crate) fn expire(&self) {
        self.as_tunnel().call(EXPIRED);
    }

    pub(crate) fn drain(&self) {
        self.as_tunnel().call(DRAIN);
    }

    pub(crate) fn is_queued(&self) -> bool {
        self.as_tunnel().output.lock().is_stalled
    }

    pub(crate) fn shutdown_write(self: &Arc<Self>) {
        self.as_tunnel().output.lock().is_ended = true;
        self.note();
    }

    /// `progress` is called with what the client has made room for, if some had to wait for that.
    pub(crate) fn poll_wait(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        interest: Interest,
        buffer: &mut [u8],
        mut progress: impl FnMut(usize),
    ) -> Poll<Wake> {
        let tunnel = self.as_tunnel();
        tunnel.task.register(cx.waker());
        jitter::point();
        let calls = tunnel.calls.load(Ordering::Acquire);
        let moved = std::mem::take(&mut tunnel.output.lock().moved);
        if moved > 0 {
            progress(moved);
        }
        if self.is_lost() {
            return Poll::Ready(Wake::Lost);
        }
        if interest.signal && calls & (SIGNAL | DRAIN) != 0 {
            return take_first(&tunnel.calls, calls, &[(DRAIN, Wake::Drain), (SIGNAL, Wake::Signal)]);
        }
        if interest.read {
            let mut input = tunnel.input.lock();
            let (count, is_ended) = (input.take(buffer), input.is_ended);
            drop(input);
            if count > 0 {
                // The window is to be opened again.
                self.note();
                return Poll::Ready(Wake::Bytes(count));
            }
            if is_ended {
                return Poll::Ready(Wake::EndOfInput);
            }
        }
        take_first(&tunnel.calls, calls, &[(DRAIN, Wake::Drain), (EXPIRED, Wake::Expired)])
    }
}

/// The side of the task of the connection.
impl Tunnel {
    fn call(&self, bit: u32) {
        self.calls.fetch_or(bit, Ordering::AcqRel);
        jitter::point();
        self.task.wake();
    }

    /// Notes what has become of what was taken out: so much is sent, and whether the rest has to wait for the client.
    fn sent(&self, count: usize, is_stalled: bool) {
        let mut output = self.output.lock();
        output.taken -= count;
        let was_stalled = std::mem::replace(&mut output.is_stalled, is_stalled);
        if was_stalled {
            output.moved += count;
        }
        let is_awaited = output.senders > 0;
        drop(output);
        if is_awaited {
            self.room.notify_all();
        }
        if was_stalled != is_stalled || (was_stalled && count > 0) {
            self.task.wake();
        }
    }

    /// The stream is lost, which whoever calls has noted.
    pub(super) fn abandon(&self) {
        let mut output = self.output.lock();
        let frames = output.frames.take();
        output.taken = 0;
        drop(output);
        drop(frames);
        self.room.notify_all();
        self.task.wake();
    }
}

/// What the task of a connection has of a stream that is a WebSocket.
pub(super) struct Pipe {
    body: RecvStream,
    /// The client has ended its side, and we ours.
    is_read: bool,
    is_written: bool,
}

impl Pipe {
    pub(super) fn new(body: RecvStream) -> Self {
        Self { body, is_read: false, is_written: false }
    }

    /// Whether the client has ended its side while it waited, and can send nothing that a WebSocket is for.
    pub(super) fn is_mute(&mut self, stream: &Stream, cx: &mut Context<'_>) -> bool {
        let tunnel = stream.as_tunnel();
        self.read(tunnel, cx).is_ok() && self.is_read && tunnel.input.lock().bytes.is_empty()
    }

    /// Does what there is to do for the stream.
    pub(super) fn advance(&mut self, entry: &mut Entry, cx: &mut Context<'_>, now: Tick, is_blocked: bool) -> Fate {
        let stream = Arc::clone(&entry.stream);
        let tunnel = stream.as_tunnel();
        if let Err(reason) = self.read(tunnel, cx) {
            if let Some(reason) = reason {
                entry.reset(reason);
            }
            return Fate::Lost;
        }
        let is_left = loop {
            let waits = entry.is_stalled();
            let mut output = tunnel.output.lock();
            let is_left = output.is_left;
            // A client that has ended its side in good order is told so in turn (RFC 8441 section 5).
            let ends = output.is_ended || (is_left && self.is_read);
            let bytes = output.frames.bytes();
            entry.is_held = is_blocked && !ends && output.frames.is_little();
            let takes = !waits && !entry.is_held;
            let frames = if takes { output.frames.take() } else { VecDeque::new() };
            output.taken += if takes { bytes } else { 0 };
            drop(output);
            if self.is_written {
                break is_left;
            }
            match entry.pass_on(frames, ends && (takes || bytes == 0), cx, now) {
                Some((count, is_written)) => {
                    self.is_written = is_written;
                    tunnel.sent(count, entry.is_stalled() || entry.is_held);
                }
                None => return Fate::Lost,
            }
            // What came while others waited follows when they have gone.
            if !waits || entry.is_stalled() {
                break is_left;
            }
        };
        match (self.is_written, self.is_read || is_left) {
            (true, true) => Fate::Done,
            (false, _) if is_left => {
                // As a connection that is closed in its midst (RFC 8441 section 5).
                entry.reset(Reason::CANCEL);
                Fate::Done
            }
            _ => Fate::Open,
        }
    }

    /// Takes in what has come. An error is the end of the stream, with what the client is told unless it has said so itself.
    fn read(&mut self, tunnel: &Tunnel, cx: &mut Context<'_>) -> Result<(), Option<Reason>> {
        let taken = std::mem::take(&mut tunnel.input.lock().taken);
        // It fails only for more than was received.
        let _ = self.body.flow_control().release_capacity(taken);
        let mut has_come = false;
        while !self.is_read {
            match self.body.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => tunnel.input.lock().put(&data),
                Poll::Ready(Some(Err(_))) => return Err(None),
                Poll::Ready(None) => match self.body.poll_trailers(cx) {
                    Poll::Ready(Ok(None)) => {
                        self.is_read = true;
                        tunnel.input.lock().is_ended = true;
                    }
                    // Nothing but content goes through a tunnel (RFC 9113 section 8.5).
                    Poll::Ready(Ok(Some(_))) => return Err(Some(Reason::PROTOCOL_ERROR)),
                    Poll::Ready(Err(_)) => return Err(None),
                    Poll::Pending => break,
                },
                Poll::Pending => break,
            }
            has_come = true;
        }
        if has_come {
            jitter::point();
            tunnel.task.wake();
        }
        Ok(())
    }
}

/// The place of a WebSocket's task among the streams of its connection, and at the clock. Given up when this is dropped.
pub(crate) struct Place {
    pub(crate) io: Arc<Io>,
    /// The WebSocket's number at the clock.
    pub(crate) key: usize,
    pub(crate) stream: Arc<Stream>,
}

impl Place {
    fn new(io: &Arc<Io>, stream: &Arc<Stream>) -> Self {
        let deadline = io.clock.after(io.server.config.websocket.ping);
        let key = io.clock.add(Channel::Stream(Arc::clone(stream)), deadline);
        Self { io: Arc::clone(io), key, stream: Arc::clone(stream) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.io.clock.remove(self.key);
        self.stream.as_tunnel().output.lock().is_left = true;
        self.stream.note();
    }
}

/// Starts the task of a WebSocket whose handler has let its events begin. IO task of the connection.
pub(super) fn spawn(io: &Arc<Io>, stream: &Arc<Stream>, socket: Arc<WebSocket>) {
    websocket::spawn(websocket::Carrier::stream(Place::new(io, stream)), socket, Vec::new());
}
