//! One WebSocket from its 101 to its last byte, as a task of the IO thread.
//!
//! The task reads frames, puts messages into the inbox, answers pings, watches the clocks and finishes the closing
//! handshake (RFC 6455 section 7). It goes on doing so whatever the workers do: what it needs of them reaches it as a signal
//! (see `link` and `http2::tunnel`), and what they need of it as events.
//!
//! It is a future by hand and no async function: there are tens of thousands of them, and the compiler would keep what is
//! in here twice.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ushabti_proto::websocket::WebSocketError;
use ushabti_proto::websocket::close_code::{ABNORMAL, GOING_AWAY, POLICY_VIOLATION};
use ushabti_proto::websocket::connection::{Connection as Protocol, Event, Limits, Step};
use ushabti_proto::websocket::frame::{Opcode, encode_frame};

use super::{Carrier, Fault, Socket};
use crate::clock::{Deadline, Tick, coarse, ticks};
use crate::connection::LINGER;
use crate::io_thread::FrameTools;
use crate::link::{Bound, Interest, Wake};
use crate::server::Phase as ServerPhase;

mod farewell;

use farewell::Farewell;

/// How long the client has to answer our Close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Beyond the bound of the outbox, pongs may take this much until no more is read.
const PONGS_MAX: usize = 64 * 1024;

/// So many times in a row, a read of 64 KiB each at most, one socket is seen to before others have a turn.
const WAKES_IN_A_ROW: u32 = 4;

/// Starts the task of a WebSocket that was agreed to. `pending` is what was read behind the request.
pub(crate) fn spawn(carrier: Carrier, socket: Arc<Socket>, pending: Vec<u8>) {
    carrier.io.server.counters.websockets_open.fetch_add(1, Ordering::Relaxed);
    let now = carrier.io.clock.now();
    let mut task = Task {
        protocol: Protocol::new(socket.deflate()),
        carrier,
        socket,
        pending,
        is_paused: false,
        phase: Phase::Open,
        seen: now,
        pinged: now,
        due: Tick::MAX,
        stalled: None,
        unsent: 0,
        is_told: false,
        farewell: None,
    };
    task.begin();
    tokio::spawn(task);
}

/// How far the life of the socket has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Our Close frame was sent; the client's is due at this tick.
    Closing(Tick),
    /// The client's Close frame has come; ours goes out when the handler has done with what came before, or at this tick.
    Answering(Tick),
    /// Nothing more is read: the Close frame goes out, then the connection is closed.
    Over,
    /// That has begun. What the client still sends is read for a while and thrown away: closing at once could destroy our
    /// Close frame before the client reads it.
    Departing {
        is_shut: bool,
        until: Tick,
    },
    /// The connection is lost.
    Lost,
}

struct Task {
    carrier: Carrier,
    socket: Arc<Socket>,
    protocol: Protocol,
    /// Read, but not looked at before the inbox has room.
    pending: Vec<u8>,
    /// The inbox is full.
    is_paused: bool,
    phase: Phase,
    /// When the last bytes came.
    seen: Tick,
    /// When the last ping was sent.
    pinged: Tick,
    /// When the clocks are to be looked at. The clock's own word comes after all bytes, of which there may be no end.
    due: Tick,
    /// Since when the client has taken nothing of what waits for it.
    stalled: Option<Tick>,
    /// Bytes that the system had not got rid of then.
    unsent: u32,
    /// The end was told.
    is_told: bool,
    /// In [`Phase::Answering`].
    farewell: Option<Box<Farewell>>,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..WAKES_IN_A_ROW {
            match self.phase {
                Phase::Open | Phase::Closing(_) | Phase::Answering(_) => {
                    let wake = ready!(self.poll_wake(cx));
                    self.go_on(wake);
                }
                Phase::Over => self.depart(),
                Phase::Departing { is_shut, until } => {
                    if !is_shut && !self.carrier.channel.is_queued() {
                        self.carrier.channel.shutdown_write();
                        self.phase = Phase::Departing { is_shut: true, until };
                    }
                    match ready!(self.poll_input(cx)) {
                        Wake::Bytes(_) if self.carrier.io.clock.now() >= until => return Poll::Ready(()),
                        Wake::Bytes(_) | Wake::Drain | Wake::Signal | Wake::Finished { .. } => {}
                        // It may be the word of a deadline from before.
                        Wake::Expired if !self.carrier.io.clock.is_due(self.carrier.key) => {}
                        Wake::EndOfInput | Wake::Lost | Wake::Expired => return Poll::Ready(()),
                    }
                }
                Phase::Lost => return Poll::Ready(()),
            }
        }
        // A client that sends without end must not keep the thread from the others.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Task {
    fn begin(&mut self) {
        if self.socket.inbox.open() {
            self.schedule();
        }
        self.arm();
        if self.carrier.io.server.is_draining() {
            self.begin_close(GOING_AWAY, "the server stops");
        }
        let mut pending = std::mem::take(&mut self.pending);
        self.receive(&mut pending, Instant::now());
    }

    fn go_on(&mut self, wake: Wake) {
        if matches!(self.phase, Phase::Answering(_)) {
            return self.go_on_answering(wake);
        }
        match wake {
            Wake::Bytes(count) => {
                let io = Arc::clone(&self.carrier.io);
                let now = Instant::now();
                self.seen = io.clock.tick_at(now);
                self.receive(&mut io.buffer.lock()[..count], now);
                if self.seen >= self.due && matches!(self.phase, Phase::Open | Phase::Closing(_)) {
                    self.look_at_clocks();
                }
            }
            Wake::Signal => self.answer_signal(),
            Wake::Expired => self.look_at_clocks(),
            Wake::Drain => self.begin_close(GOING_AWAY, "the server stops"),
            Wake::EndOfInput | Wake::Lost => self.phase = Phase::Lost,
            Wake::Finished { .. } => {}
        }
    }

    fn schedule(&self) {
        self.carrier.io.server.schedule(Arc::clone(&self.socket), Instant::now());
    }

    /// Waits for what comes next: for bytes only where there is room for what they bring.
    fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        let mut moved = false;
        let wake = loop {
            let is_choked = self.is_choked();
            let is_mute = self.farewell.as_ref().is_some_and(|farewell| farewell.is_mute);
            let read = !self.is_paused && !is_choked && !is_mute;
            let interest = Interest { read, finish: false, signal: true };
            let Carrier { io, channel, .. } = &self.carrier;
            let wake = channel.poll_wait(cx, interest, &mut io.buffer.lock(), |_| moved = true);
            // What was flushed just now may have made room; nobody else would say so.
            if wake.is_ready() || !is_choked || self.is_choked() {
                break wake;
            }
        };
        self.note_progress(moved);
        wake
    }

    /// Whether so much waits for the client that nothing may be read that asks for an answer.
    fn is_choked(&self) -> bool {
        let channel = &self.carrier.channel;
        channel.is_queued() && channel.buffered() > self.carrier.io.server.config.websocket.outbox_bytes_max + PONGS_MAX
    }

    fn note_progress(&mut self, moved: bool) {
        if moved {
            // Whoever takes bytes is there.
            self.seen = self.carrier.io.clock.now();
        }
        if !self.carrier.channel.is_queued() {
            self.stalled = None;
        } else if moved || self.stalled.is_none() {
            let is_new = self.stalled.is_none();
            self.stalled = Some(self.carrier.io.clock.now());
            self.unsent = self.carrier.channel.unsent();
            if is_new {
                self.arm();
            }
        }
    }

    // ---- what the client sends

    /// Reads frames that came at this moment.
    fn receive(&mut self, input: &mut [u8], now: Instant) {
        let io = Arc::clone(&self.carrier.io);
        let mut tools = io.frames.lock();
        let FrameTools { inflaters, replies, messages } = &mut *tools;
        // Of another socket, should its task have panicked.
        replies.clear();
        messages.clear();
        let limits = Limits { message_bytes_max: io.server.config.websocket.message_bytes_max };
        let mut used = 0;
        let mut ending = None;
        while used < input.len() && ending.is_none() && !self.is_paused {
            let (mut room, mut room_bytes) = self.socket.inbox.room();
            while room > 0 && ending.is_none() {
                match self.protocol.step(&mut input[used..], limits, inflaters, replies) {
                    Ok(Step { consumed, event }) => {
                        used += consumed;
                        match event {
                            Event::NeedMore => break,
                            Event::Message(message) => {
                                // Inflated it may be many times as long as what was read.
                                room_bytes = room_bytes.saturating_sub(message.data.len());
                                room = if room_bytes == 0 { 0 } else { room - 1 };
                                messages.push(message);
                            }
                            // The pong to a ping is in the replies; either is a sign of life, which any byte is.
                            Event::Ping(_) | Event::Pong(_) => {}
                            Event::Close(close) => ending = Some(Ok(close)),
                        }
                    }
                    Err(problem) => ending = Some(Err(problem)),
                }
            }
            // Before the messages: a pong must not come after what is answered to a message behind its ping.
            if ending.is_none() && !replies.is_empty() {
                // If the connection is lost the next wait says so.
                let _ = self.carrier.channel.send_frame(replies, &[], Bound::None);
                replies.clear();
            }
            io.server.counters.websocket_messages.fetch_add(messages.len() as u64, Ordering::Relaxed);
            // A signal comes when there is room again, if it is full.
            let found = self.socket.inbox.push(messages);
            self.is_paused = found.is_full;
            if found.schedule {
                io.server.schedule(Arc::clone(&self.socket), now);
            }
        }
        if ending.is_none() && used < input.len() {
            self.pending = input[used..].to_vec();
        }
        match ending {
            None => {}
            Some(Ok(close)) => self.closed_by_peer(close, replies),
            Some(Err(problem)) => self.fault_of_peer(problem, replies),
        }
        replies.clear();
        replies.shrink_to(PONGS_MAX);
    }

    fn fault_of_peer(&mut self, problem: WebSocketError, replies: &[u8]) {
        let (code, text) = (problem.close_code(), problem.to_string());
        self.carrier.io.server.journal.peer_notice(|| {
            format!("{}: {text} ({}); closed with {code}", self.carrier.channel.peer(), problem.section())
        });
        self.send_last(replies);
        self.fail(code, text);
    }

    /// Sends what ends with our Close frame, if it was not sent before.
    fn send_last(&self, frames: &[u8]) {
        self.carrier.channel.seal();
        if !frames.is_empty() {
            // If the connection is lost the next wait says so.
            let _ = self.carrier.channel.send_frame(frames, &[], Bound::Last);
        }
    }

    // ---- what is done without it

    /// A worker has called: the socket is to be closed, or there is room in the inbox.
    fn answer_signal(&mut self) {
        if self.phase == Phase::Open {
            if let Some(closing) = self.socket.closing() {
                self.send_close(closing.code, &closing.reason);
            }
        }
        if self.is_paused && self.socket.inbox.room().0 > 0 {
            self.is_paused = false;
            // While nothing was read, nothing could be seen.
            self.seen = self.carrier.io.clock.now();
            let mut pending = std::mem::take(&mut self.pending);
            self.receive(&mut pending, Instant::now());
        }
    }

    fn begin_close(&mut self, code: u16, reason: &str) {
        if self.socket.decide(code, reason) {
            self.socket.inbox.be_deaf();
        }
        // It also goes on with what was read and not looked at: the inbox has room now.
        self.answer_signal();
    }

    /// Sends our Close frame, as the socket says it, and gives the client some time for its own.
    fn send_close(&mut self, code: u16, reason: &str) {
        let mut frame = Vec::new();
        match self.protocol.close(code, reason, &mut frame) {
            Ok(_) => {
                self.send_last(&frame);
                self.phase = Phase::Closing(self.carrier.io.clock.now() + ticks(CLOSE_TIMEOUT));
                self.arm();
            }
            Err(problem) => unreachable!("it was checked when it was decided: {problem}"),
        }
    }

    /// Fails the connection (RFC 6455 section 7.1.7). Our Close frame, which tells why, has been sent or goes out now.
    fn fail(&mut self, code: u16, reason: String) {
        self.socket.decide(code, &reason);
        self.send_decided();
        self.phase = Phase::Over;
        self.end(Some(Fault { code, reason }));
    }

    /// Sends the Close frame that was decided on, by whomever, unless one was sent.
    fn send_decided(&mut self) {
        let Some(closing) = self.socket.closing() else { return };
        let mut frame = Vec::new();
        // What cannot be sent is only told: 1005 and 1006.
        if self.protocol.close(closing.code, &closing.reason, &mut frame).is_ok() {
            self.send_last(&frame);
        }
    }

    fn look_at_clocks(&mut self) {
        let server = &self.carrier.io.server;
        let config = &server.config;
        let now = self.carrier.io.clock.now();
        if self.stalled.is_some_and(|stalled| now >= stalled + ticks(config.write_timeout)) {
            let unsent = self.carrier.channel.unsent();
            // A client that takes a little at a time makes room that the system does not tell of.
            if unsent < self.unsent {
                (self.stalled, self.unsent) = (Some(now), unsent);
            } else {
                let timeout = config.write_timeout;
                let message =
                    || format!("{}: took no byte for {timeout:?}; connection cut", self.carrier.channel.peer());
                server.journal.peer_notice(message);
                self.socket.decide(ABNORMAL, "");
                self.phase = Phase::Lost;
                self.end(Some(Fault { code: ABNORMAL, reason: format!("the client took no byte for {timeout:?}") }));
                return;
            }
        }
        match self.phase {
            Phase::Open => {}
            Phase::Closing(until) if now >= until => {
                self.phase = Phase::Over;
                return;
            }
            Phase::Answering(until) if now >= until => return self.say_farewell(),
            _ => return self.arm(),
        }
        let (ping, idle) = (config.websocket.ping, config.websocket.idle);
        // Only who was asked and had time to answer: the clock is not so fine that one would surely come before the other.
        let was_asked = self.pinged > self.seen && now > self.pinged;
        if self.is_idle_timed() && was_asked && now >= self.seen + ticks(idle) {
            let message = || format!("{}: sent no byte for {idle:?}; closed", self.carrier.channel.peer());
            server.journal.peer_notice(message);
            return self.fail(POLICY_VIOLATION, format!("no byte came for {idle:?}"));
        }
        if now >= self.ping_due(ping) {
            self.pinged = now;
            let mut frame = Vec::new();
            encode_frame(&mut frame, Opcode::Ping, &[]);
            // If the connection is lost the next wait says so.
            let _ = self.carrier.channel.send_frame(&frame, &[], Bound::None);
            self.socket.inbox.shrink();
        }
        self.arm();
    }

    /// While nothing is read, nothing can come.
    fn is_idle_timed(&self) -> bool {
        !self.is_paused && !self.is_choked()
    }

    fn ping_due(&self, ping: Duration) -> Tick {
        self.seen.max(self.pinged) + ticks(ping)
    }

    /// Sets the clock to what is due first.
    fn arm(&mut self) {
        let config = &self.carrier.io.server.config;
        let mut due = match self.phase {
            Phase::Closing(until) | Phase::Answering(until) => until,
            _ => self.ping_due(config.websocket.ping),
        };
        if self.phase == Phase::Open && self.is_idle_timed() && self.pinged > self.seen {
            due = due.min((self.seen + ticks(config.websocket.idle)).max(self.pinged + 1));
        }
        if let Some(stalled) = self.stalled {
            due = due.min(stalled + ticks(config.write_timeout));
        }
        // One tick more, or it would come up to a tick early.
        self.due = coarse(due + 1);
        self.carrier.io.clock.set(self.carrier.key, Deadline::At(self.due));
    }

    // ---- the end

    /// Tells the end, once.
    fn end(&mut self, fault: Option<Fault>) {
        if std::mem::replace(&mut self.is_told, true) {
            return;
        }
        let server = &self.carrier.io.server;
        server.hub.leave(&self.socket);
        self.carrier.channel.seal();
        if server.phase() == ServerPhase::Closed {
            self.socket.decide(GOING_AWAY, "the server has stopped");
        }
        self.socket.decide(ABNORMAL, "");
        let closing = self.socket.closing().expect("it is decided by now");
        if self.socket.inbox.end(fault, closing) {
            self.schedule();
        }
        server.counters.websockets_open.fetch_sub(1, Ordering::Relaxed);
    }

    fn depart(&mut self) {
        self.end(None);
        let clock = &self.carrier.io.clock;
        clock.set(self.carrier.key, clock.after(LINGER));
        self.phase = Phase::Departing { is_shut: false, until: clock.now() + ticks(LINGER) + 1 };
    }

    /// Reads and throws away; comes back when the outbox is empty as well.
    fn poll_input(&self, cx: &mut Context<'_>) -> Poll<Wake> {
        let Carrier { io, channel, .. } = &self.carrier;
        let was_queued = channel.is_queued();
        let interest = Interest { read: true, finish: false, signal: true };
        let wake = channel.poll_wait(cx, interest, &mut io.buffer.lock(), |_| {});
        if wake.is_pending() && was_queued && !channel.is_queued() { Poll::Ready(Wake::Signal) } else { wake }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // The connection is lost, or the task was dropped in its midst because the server is closed.
        self.say_farewell();
        if self.phase == Phase::Open && self.carrier.io.server.phase() == ServerPhase::Closed {
            self.socket.decide(GOING_AWAY, "the server has stopped");
            self.send_decided();
        }
        self.end(None);
    }
}
