//! Counters of a server, for `Server.stats()` and the tests.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Why the IO thread has refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Reason {
    /// It was no valid request, or asked for what there is not.
    Invalid,
    /// No route has its path.
    NotFound,
    /// The routes of its path have not its method.
    Method,
    /// Its head, target or body is beyond a limit.
    TooLarge,
    /// It did not come in time.
    TooSlow,
    /// There were too many connections.
    Connections,
    /// There were too many of its client.
    Client,
    /// Too many requests waited.
    QueueFull,
    /// It waited too long for a worker.
    QueueTimeout,
    /// It was not answered before its deadline.
    Deadline,
    /// A handshake of TLS came to nothing.
    Handshake,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Invalid,
        Self::NotFound,
        Self::Method,
        Self::TooLarge,
        Self::TooSlow,
        Self::Connections,
        Self::Client,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::Deadline,
        Self::Handshake,
    ];

    /// What stands in statistics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Method => "method",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::Connections => "connections",
            Self::Client => "client",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::Deadline => "deadline",
            Self::Handshake => "handshake",
        }
    }

    /// The reason that the status of a refusal tells, if it is none of the queue's; `None` for an answer that is no refusal.
    pub(crate) fn of_status(status: u16) -> Option<Self> {
        match status {
            404 => Some(Self::NotFound),
            405 => Some(Self::Method),
            408 => Some(Self::TooSlow),
            413 | 414 | 431 => Some(Self::TooLarge),
            429 => Some(Self::Client),
            503 => Some(Self::Connections),
            400.. => Some(Self::Invalid),
            _ => None,
        }
    }
}

/// On cache lines of its own: what one thread writes all the time is not taken from it by what others write.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

#[derive(Debug, Default)]
struct Answering {
    /// Answers by the first digit of their status; index 0 counts answers whose client was gone before they were sent.
    answers: [AtomicU64; 6],
    bytes: AtomicU64,
}

/// Counters that any thread adds to. None of them orders anything: they are read for information.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that are open now.
    pub(crate) open: AtomicUsize,
    /// Their descriptors, and those of connections that have ended while a worker has their request still.
    pub(crate) descriptors: AtomicUsize,
    pub(crate) accepted: AtomicU64,
    /// What changes with each read; the IO thread alone writes it.
    received: Apart<AtomicU64>,
    /// What changes with each answer, and is written by whoever answers.
    answering: Apart<Answering>,
    /// WebSockets that are open now.
    pub(crate) websockets_open: AtomicUsize,
    /// Messages of WebSockets received.
    pub(crate) websocket_messages: AtomicU64,
    /// Requests given to the workers.
    pub(crate) dispatched: AtomicU64,
    /// Answers that the IO thread gave to requests that no worker was given.
    pub(crate) refused: AtomicU64,
    /// Refusals of the IO thread by their [`Reason`].
    pub(crate) refusals: [AtomicU64; Reason::ALL.len()],
    /// Requests that were never run because their client had left.
    pub(crate) abandoned: AtomicU64,
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
    /// Answers that the IO thread gave to requests that no worker was given.
    pub refused: u64,
    /// Refusals of the IO thread by their reason, in the order of [`Reason::ALL`].
    pub refusals: [u64; Reason::ALL.len()],
    /// Requests that were never run because their client had left.
    pub abandoned: u64,
    /// Times that accepting paused for want of descriptors or memory.
    pub accept_pauses: u64,
    /// Bytes read of clients.
    pub bytes_received: u64,
    /// Bytes that the system has taken for clients.
    pub bytes_sent: u64,
}

/// The connections that are open, by what they are at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// Between two requests.
    pub idle: usize,
    /// A request has begun to come, or the first is waited for.
    pub reading: usize,
    /// A request is with a worker, or waits for one.
    pub handling: usize,
    /// The client has not taken all of its answer.
    pub writing: usize,
    /// WebSockets.
    pub websocket: usize,
    /// The last answer was given.
    pub closing: usize,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self, status: u16) {
        Self::add(&self.answering.0.answers[usize::from(status / 100).min(5)]);
    }

    pub(crate) fn refused(&self, reason: Option<Reason>) {
        Self::add(&self.refused);
        if let Some(reason) = reason {
            self.count_refusal(reason);
        }
    }

    /// The same where there is no answer to count: a request that had been given to the workers, or none at all.
    pub(crate) fn count_refusal(&self, reason: Reason) {
        Self::add(&self.refusals[reason as usize]);
    }

    pub(crate) fn discarded(&self) {
        Self::add(&self.answering.0.answers[0]);
    }

    /// Bytes were read. IO thread.
    pub(crate) fn received(&self, count: usize) {
        let received = &self.received.0;
        received.store(received.load(Ordering::Relaxed).wrapping_add(count as u64), Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, count: usize) {
        self.answering.0.bytes.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// The counters at this moment.
    pub fn read(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            connections_open: self.open.load(Ordering::Relaxed),
            connections_accepted: get(&self.accepted),
            answers: std::array::from_fn(|digit| get(&self.answering.0.answers[digit])),
            websockets_open: self.websockets_open.load(Ordering::Relaxed),
            websocket_messages: get(&self.websocket_messages),
            dispatched: get(&self.dispatched),
            refused: get(&self.refused),
            refusals: std::array::from_fn(|reason| get(&self.refusals[reason])),
            abandoned: get(&self.abandoned),
            accept_pauses: get(&self.accept_pauses),
            bytes_received: get(&self.received.0),
            bytes_sent: get(&self.answering.0.bytes),
        }
    }
}
