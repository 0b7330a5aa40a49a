//! One WebSocket as its IO task, the workers and everybody who sends to it share it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use ushabti_proto::websocket::close_code::TRY_AGAIN_LATER;
use ushabti_proto::websocket::connection::{CloseError, check_close};
use ushabti_proto::websocket::deflate::DeflateAgreement;
use ushabti_proto::websocket::frame::{CONTROL_BYTES_MAX, Opcode, encode_frame};

use super::inbox::{Next, Received};
use super::{Event, Hub, Inbox, Outgoing, Overflow};
use crate::channel::{Channel, WeakChannel};
use crate::link::{Bound, Unsent};
use crate::server::Counted;

/// Who takes the messages of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Workers, one event at a time.
    Events,
    /// A thread that waits for them by [`Socket::receive`]; workers tell only its beginning and its end.
    Blocking,
}

/// How a socket was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// The code of the Close frame that was sent or received first; 1006 if there was none, 1005 if it had none (RFC 6455
    /// section 7.1.5).
    pub code: u16,
    /// Its reason.
    pub reason: String,
    /// Whether both sides have sent a Close frame.
    pub is_clean: bool,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    Queued,
    /// The socket is closed, or was closed because too much waits for the client.
    Closed,
    /// Too much waits for the client: it was dropped.
    Dropped,
}

/// One WebSocket. Any thread may call any method that does not say otherwise.
pub struct Socket {
    id: u64,
    /// The number by which the workers know the handler.
    token: AtomicU32,
    /// The lane whose workers tell its events.
    lane: u16,
    /// Held by the IO task, so that the descriptor is closed with the connection whoever still knows the socket.
    channel: WeakChannel,
    deflate: Option<DeflateAgreement>,
    pub(super) inbox: Inbox,
    end: Mutex<End>,
    /// The topics that it is subscribed to; `None` when it has left them for good.
    pub(super) topics: Mutex<Option<Vec<Arc<str>>>>,
}

struct End {
    /// How it is being closed, as soon as that is decided. Boxed: most sockets are open.
    closing: Option<Box<Closing>>,
    /// Keeps the server from having drained until the last event was told.
    counted: Option<Counted>,
}

impl Socket {
    pub(super) fn new(
        channel: &Channel,
        lane: usize,
        style: Style,
        deflate: Option<DeflateAgreement>,
        counted: Counted,
    ) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(1);
        Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            token: AtomicU32::new(0),
            lane: lane as u16,
            channel: channel.downgrade(),
            deflate,
            inbox: Inbox::new(style),
            end: Mutex::new(End { closing: None, counted: Some(counted) }),
            topics: Mutex::new(Some(Vec::new())),
        }
    }

    /// A number that no other socket of this process has had.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The number of the lane whose workers tell its events.
    pub fn lane(&self) -> usize {
        usize::from(self.lane)
    }

    /// The number that [`Socket::set_token`] has set.
    pub fn token(&self) -> u32 {
        self.token.load(Ordering::Relaxed)
    }

    /// Sets the number by which the workers find the handler. Before [`Upgraded`](super::Upgraded) is finished.
    pub fn set_token(&self, token: u32) {
        self.token.store(token, Ordering::Relaxed);
    }

    /// Whether messages can be sent: neither side has begun to close.
    pub fn is_open(&self) -> bool {
        self.end.lock().closing.is_none() && self.channel().is_some()
    }

    /// How it is being, or was, closed; `None` while it is open.
    pub fn closing(&self) -> Option<Closing> {
        self.end.lock().closing.as_deref().cloned()
    }

    /// Bytes that wait for the client in the outbox.
    pub fn buffered(&self) -> usize {
        self.channel().map_or(0, |channel| channel.buffered())
    }

    pub(super) fn channel(&self) -> Option<Channel> {
        self.channel.upgrade().filter(|channel| !channel.is_lost())
    }

    // ---- sending

    /// Sends a message. `wait`: for how long, where too much waits for the client; `None` does what the server's options
    /// say. Detached from the interpreter if it may wait.
    pub fn send(&self, message: &Outgoing<'_>, wait: Option<Duration>) -> Sent {
        let Some(channel) = self.channel() else { return Sent::Closed };
        let config = &channel.server().config;
        let most = config.websocket.outbox_bytes_max;
        let (head, payload) = message.parts(self.window_bits());
        let patience = match (wait, config.websocket.overflow) {
            (Some(wait), _) => Some(wait),
            (None, Overflow::Wait) => Some(config.write_timeout),
            _ => None,
        };
        let until = patience.and_then(|patience| Instant::now().checked_add(patience));
        loop {
            match channel.send_frame(head, payload, Bound::Bytes(most)) {
                Ok(()) => return Sent::Queued,
                Err(Unsent::Closed) => return Sent::Closed,
                Err(Unsent::Full) => {
                    let waited =
                        until.is_some_and(|until| channel.wait_for_space(head.len() + payload.len(), most, until));
                    if !waited {
                        return self.overflow(config.websocket.overflow, wait.is_some());
                    }
                }
            }
        }
    }

    /// Whether [`Socket::send`] without a time may wait, so that its caller must be detached.
    pub fn may_wait(&self) -> bool {
        self.channel().is_some_and(|channel| channel.server().config.websocket.overflow == Overflow::Wait)
    }

    /// Whether long messages are compressed, which takes a while.
    pub fn is_compressed(&self) -> bool {
        self.deflate.is_some()
    }

    /// Sends a message that goes to many sockets; never waits.
    pub(super) fn send_shared(&self, message: &Outgoing<'_>) -> Sent {
        let Some(channel) = self.channel() else { return Sent::Closed };
        let config = &channel.server().config.websocket;
        let (head, payload) = message.parts(self.window_bits());
        match channel.send_frame(head, payload, Bound::Bytes(config.outbox_bytes_max)) {
            Ok(()) => Sent::Queued,
            Err(Unsent::Closed) => Sent::Closed,
            Err(Unsent::Full) => self.overflow(config.overflow, false),
        }
    }

    fn overflow(&self, policy: Overflow, has_waited: bool) -> Sent {
        if policy == Overflow::Drop || has_waited {
            return Sent::Dropped;
        }
        self.begin_close(TRY_AGAIN_LATER, "too much waits to be read");
        Sent::Closed
    }

    pub(super) fn deflate(&self) -> Option<DeflateAgreement> {
        self.deflate
    }

    fn window_bits(&self) -> Option<u8> {
        self.deflate.map(|agreed| agreed.server_window_bits())
    }

    /// Sends a ping (RFC 6455 section 5.5.2). False: it is closed, or too much waits for the client.
    ///
    /// # Panics
    ///
    /// If the payload has more than 125 bytes.
    pub fn ping(&self, payload: &[u8]) -> bool {
        assert!(payload.len() <= CONTROL_BYTES_MAX, "the caller has checked the length");
        let Some(channel) = self.channel() else { return false };
        let mut frame = Vec::with_capacity(payload.len() + 2);
        encode_frame(&mut frame, Opcode::Ping, payload);
        let most = channel.server().config.websocket.outbox_bytes_max;
        channel.send_frame(&frame, &[], Bound::Bytes(most)).is_ok()
    }

    /// Begins the closing handshake behind what was sent before (RFC 6455 section 7.1.2). No message is delivered from here
    /// on. False: it had begun before.
    ///
    /// # Errors
    ///
    /// [`CloseError`] if the code or the reason fits no Close frame.
    pub fn close(&self, code: u16, reason: &str) -> Result<bool, CloseError> {
        check_close(code, reason)?;
        Ok(self.begin_close(code, reason))
    }

    fn begin_close(&self, code: u16, reason: &str) -> bool {
        let channel = self.channel.upgrade();
        if channel.as_ref().is_some_and(|channel| channel.server().is_forked()) {
            // The locks may be held by threads that are not there.
            return false;
        }
        let is_first = self.decide(code, reason);
        if is_first {
            self.inbox.be_deaf();
            if let Some(channel) = channel {
                channel.seal();
                // The task writes the Close frame: the state of the protocol is its own.
                channel.signal();
            }
        }
        is_first
    }

    /// Notes how the socket is closed, unless that is decided. What was noted first is what is told.
    pub(super) fn decide(&self, code: u16, reason: &str) -> bool {
        let mut end = self.end.lock();
        let is_first = end.closing.is_none();
        if is_first {
            end.closing = Some(Box::new(Closing { code, reason: reason.to_owned(), is_clean: false }));
        }
        is_first
    }

    /// Notes that both sides have sent a Close frame. IO task.
    pub(super) fn closed_cleanly(&self) {
        if let Some(closing) = self.end.lock().closing.as_mut() {
            closing.is_clean = true;
        }
    }

    /// A handler has failed: no message is delivered from here on, and the socket is closed with 1011.
    pub fn fail(&self) {
        self.signal_if(self.inbox.fail());
        self.begin_close(ushabti_proto::websocket::close_code::INTERNAL_ERROR, "");
    }

    // ---- events

    /// Takes the next event, and says whether another one waits behind it. `None`: there is none, and another worker may get
    /// the socket from here on. The worker that has the socket from the queue.
    pub fn next_event(&self) -> Option<(Event, bool)> {
        let Next { event, more, resume } = self.inbox.next();
        self.signal_if(resume);
        event.map(|event| (event, more))
    }

    /// Whether the worker that has the socket would find an event now.
    pub fn has_event(&self) -> bool {
        self.inbox.has_event()
    }

    /// Notes that the last event was told. The worker that has told it.
    pub fn told(&self) {
        // Dropped outside of the lock: it may tell the server's owner.
        let counted = self.end.lock().counted.take();
        drop(counted);
    }

    /// Waits for the next message of a socket of [`Style::Blocking`]. Its thread, detached.
    pub fn receive(&self, timeout: Option<Duration>) -> Received {
        self.inbox.receive(timeout, || self.signal_if(true))
    }

    fn signal_if(&self, resume: bool) {
        if resume {
            if let Some(channel) = self.channel.upgrade() {
                channel.signal();
            }
        }
    }

    // ---- topics

    /// Subscribes to a topic of the server's hub. False: it was before, or the socket is closed.
    pub fn subscribe(self: &Arc<Self>, topic: &str) -> bool {
        self.hub().is_some_and(|hub| hub.subscribe(self, topic))
    }

    /// Ends a subscription. False: there was none.
    pub fn unsubscribe(&self, topic: &str) -> bool {
        self.hub().is_some_and(|hub| hub.unsubscribe(self, topic))
    }

    /// The topics that it is subscribed to.
    pub fn topics(&self) -> Vec<Arc<str>> {
        self.topics.lock().clone().unwrap_or_default()
    }

    fn hub(&self) -> Option<Arc<Hub>> {
        self.channel.upgrade().map(|channel| Arc::clone(&channel.server().hub))
    }
}
