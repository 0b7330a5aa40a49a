//! One HTTP/2 connection from its preface to its last byte, as a task of the IO thread (RFC 9113).
//!
//! ```text
//!            IO thread                                              workers
//!  frames ─▶ h2 ─▶ request head ─▶ route ─▶ body ─▶ queue ─────────▶ handler
//!  frames ◀─ h2 ◀─ task ◀─ streams that were noted (agenda) ◀─────── answer, in the outbox of its stream
//! ```
//!
//! Frames, field compression and windows are the `h2` crate's; that it is used is known in this folder alone. What a
//! request is, where it goes and how it is answered is what it is with HTTP/1.1, by the same code.
//!
//! The task sees to the streams that were noted, by workers or by `h2`, and to no others: a connection with a hundred streams
//! of which one moves costs what one costs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use h2::server::{Builder, Connection as Frames, Handshake, SendResponse};
use h2::{Reason, RecvStream};
use slab::Slab;
use ushabti_proto::error::ProtocolError;

use crate::clock::{Deadline, Tick, ticks};
use crate::connection::{DRAIN_GRACE, LINGER, Place, Progress, SWALLOW_MAX, Vigil, answer, hand_over};
use crate::destination::Destination;
use crate::link::{Gauge, LinkIo};
use crate::reply::{Asked, Refusal};
use crate::request::{Ready, Request};
use crate::server::Shared;

mod bodies;
mod budget;
mod chunks;
mod direct;
mod ending;
mod entry;
mod leftovers;
mod stream;
mod timing;
mod tunnel;

use budget::Budget;
use direct::{asks_for_tunnel, direct, fault};
use entry::{Entry, Fate, Subject};
use leftovers::Leftovers;
pub(crate) use stream::Stream;
use stream::{Agenda, Bell};
use timing::Writing;
pub(crate) use tunnel::Place as TunnelPlace;

/// What a client may send of one body, and of all bodies, before it hears that it was taken. A body is taken as soon as it is
/// read, so this bounds the speed, not the memory: 1 MiB in a round trip of 50 ms is 20 MiB a second. The default of the
/// protocol, 64 KiB, would be a sixteenth of that. What WebSockets are sent is taken when their inbox has room, so this bounds
/// what waits for slow handlers, and how many of them may be slow before the rest of the connection is held up.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Of one answer, so much is given to the frames' code beyond what the socket has taken: a write or two.
const SEND_BUFFER: usize = 64 * 1024;
/// What the size of a field is counted as beyond its name and value (RFC 9113 section 6.5.2).
const FIELD_OVERHEAD: usize = 32;
/// Faults of single streams that a client may commit until the connection ends.
const FAULTS_MAX: usize = 256;
/// So many requests that come together are given to the workers together: who is woken for each alone is through with it before
/// the next is read, and sleeps again.
const READY_TOGETHER: usize = 32;
/// So many reads, of 64 KiB each at most, are made for one connection before others have a turn.
const READS_IN_A_ROW: u32 = 4;
/// So often the task looks for what workers have put down meanwhile, before others have a turn.
const TURNS_IN_A_ROW: u32 = 4;

/// What a client is sent for whom there is no room: settings, as everybody begins, and the farewell with `ENHANCE_YOUR_CALM` (RFC
/// 9113 sections 6.5 and 6.8). It has not looked at any stream, so all may be sent again.
pub(crate) fn turned_away(detail: &str) -> Vec<u8> {
    let length = u32::try_from(8 + detail.len()).expect("one sentence").to_be_bytes();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let goaway = [length[1], length[2], length[3], 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
    [&settings[..], &goaway, detail.as_bytes()].concat()
}

/// Starts the task of a connection. `pending` was read before, and begins with the preface if it is not empty.
pub(crate) fn spawn(place: Place, pending: Vec<u8>) {
    let server = Arc::clone(&place.io.server);
    let (stream, gauge) = LinkIo::new(&place.io, &place.link, pending);
    let now = place.io.clock.now();
    let agenda = Agenda::new(Arc::clone(&place.link));
    let patience = if server.is_draining() { DRAIN_GRACE } else { server.config.header_timeout };
    place.io.clock.set(place.key, place.io.clock.after(patience));
    let task = Task {
        phase: Phase::Greeting(Box::new(builder(&server).handshake(stream))),
        bell: Bell::new(&place.link),
        agenda,
        gauge,
        entries: Slab::new(),
        noted: Vec::new(),
        held_back: Vec::new(),
        ready: Vec::new(),
        is_busy: false,
        is_leaving: server.is_draining(),
        armed: Tick::MAX,
        leave_by: Tick::MAX,
        midway: None,
        writing: None,
        budget: Budget::new(now),
        held: 0,
        waiting: Vec::new(),
        leftovers: Leftovers::default(),
        requests: 0,
        stalled: 0,
        taking: Progress::default(),
        told: None,
        is_calmed: false,
        server,
        place,
    };
    tokio::spawn(task);
}

fn builder(server: &Shared) -> Builder {
    let config = &server.config;
    let mut builder = Builder::new();
    // A head that is too large is answered 431 here, with a sentence and a line in the log; one that is twice as large as may
    // be by `h2`, which tells nobody.
    let fields = 2 * config.head.head_bytes_max + 2 * FIELD_OVERHEAD * config.head.fields_max;
    builder
        .max_concurrent_streams(config.http2_streams)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(fields).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .max_local_error_reset_streams(Some(FAULTS_MAX))
        // Requests that are reset before they were looked at. Those that were are counted by the budget.
        .max_pending_accept_reset_streams(config.http2_streams as usize)
        .enable_connect_protocol();
    builder
}

enum Phase {
    /// The preface and the first settings are exchanged.
    Greeting(Box<Handshake<LinkIo, Bytes>>),
    Open(Box<Frames<LinkIo, Bytes>>),
    /// Nothing more is said; what the client still sends is thrown away for a moment, or it might not read the last of it.
    Lingering,
}

struct Task {
    server: Arc<Shared>,
    phase: Phase,
    agenda: Arc<Agenda>,
    bell: Arc<Bell>,
    gauge: Arc<Gauge>,
    entries: Slab<Entry>,
    /// Empty, and kept for its space.
    noted: Vec<Arc<Stream>>,
    /// They have something that is not worth a frame while the socket is busy.
    held_back: Vec<Arc<Stream>>,
    /// Complete, and not yet given to the workers.
    ready: Vec<Ready>,
    /// The link says that something is asked of the connection.
    is_busy: bool,
    /// The client was told to go, or will be.
    is_leaving: bool,
    /// What the clock is set to.
    armed: Tick,
    /// When it is over at the latest.
    leave_by: Tick,
    /// The number of the frame that is coming, if it is no content, or of the field block; and since when it is.
    midway: Option<(u32, Tick)>,
    /// While bytes wait for the client.
    writing: Option<Writing>,
    budget: Budget,
    /// Bytes of bodies that the requests of the connection hold, and the streams that wait until that is less.
    held: u64,
    waiting: Vec<Arc<Stream>>,
    leftovers: Leftovers,
    /// How many requests have begun to come.
    requests: u64,
    /// Answers for which the client's windows have had no room, and what it takes of all answers since there are some.
    stalled: usize,
    taking: Progress,
    /// When the client was told to go because the server stops.
    told: Option<Tick>,
    /// The client was told to calm down.
    is_calmed: bool,
    /// The last to be dropped: it gives the connection up.
    place: Place,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if matches!(this.phase, Phase::Lingering) {
            return this.linger(cx);
        }
        let calls = this.place.link.take_calls(cx);
        if calls.is_lost {
            return Poll::Ready(());
        }
        this.is_leaving |= calls.drains;
        this.gauge.reads_left.store(READS_IN_A_ROW, Ordering::Relaxed);
        if let Phase::Greeting(handshake) = &mut this.phase {
            match Pin::new(handshake.as_mut()).poll(cx) {
                Poll::Ready(Ok(frames)) => {
                    this.phase = Phase::Open(Box::new(frames));
                    this.place.io.clock.set(this.place.key, Deadline::WhenQuiet);
                    if this.is_leaving {
                        this.leave();
                    }
                }
                Poll::Ready(Err(problem)) => return this.close(Some(&problem), cx),
                Poll::Pending => {
                    let clock = &this.place.io.clock;
                    if calls.drains {
                        clock.set(this.place.key, clock.after(DRAIN_GRACE));
                    } else if calls.has_expired && clock.is_due(this.place.key) {
                        return Poll::Ready(());
                    }
                    this.go_on_reading(cx);
                    return Poll::Pending;
                }
            }
        } else if calls.drains {
            this.leave();
        }
        if calls.has_expired && this.expired().is_break() {
            return Poll::Ready(());
        }
        this.bell.is_muted.store(true, Ordering::Relaxed);
        let poll = this.run(cx);
        this.hand_over_ready();
        this.bell.is_muted.store(false, Ordering::Relaxed);
        if poll.is_pending() {
            this.go_on_reading(cx);
        }
        poll
    }
}

impl Task {
    /// Has the task polled again if there may be more to read: others have had their turn then.
    fn go_on_reading(&self, cx: &Context<'_>) {
        if self.gauge.reads_left.load(Ordering::Relaxed) == 0 {
            cx.waker().wake_by_ref();
        }
    }

    /// Takes requests in and sends answers out, as far as that goes now.
    fn run(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let waker = Waker::from(Arc::clone(&self.bell));
        let mut own = Context::from_waker(&waker);
        self.agenda.take(&mut self.noted);
        let mut turns = 0;
        loop {
            self.see_to_noted();
            self.resume_bodies();
            if !self.noted.is_empty() {
                continue;
            }
            let Phase::Open(frames) = &mut self.phase else { unreachable!("it is run when it is open") };
            match frames.poll_accept(&mut own) {
                Poll::Ready(Some(Ok((request, respond)))) => self.begin(request, respond),
                Poll::Ready(Some(Err(problem))) => return self.close(Some(&problem), cx),
                Poll::Ready(None) => return self.close(None, cx),
                Poll::Pending => {
                    self.leftovers.read(&mut own);
                    turns += 1;
                    let is_last = turns >= TURNS_IN_A_ROW;
                    if is_last {
                        // Workers may be quicker than this. What is noted now is seen to in the next turn.
                        cx.waker().wake_by_ref();
                    } else {
                        self.agenda.take(&mut self.noted);
                        if !self.place.link.is_queued() {
                            self.noted.append(&mut self.held_back);
                        }
                    }
                    // What h2 has read and written is counted here, so that there is still a turn in which it can say goodbye.
                    if self.noted.is_empty() && self.count_frames() {
                        break;
                    }
                }
            }
        }
        self.settle();
        Poll::Pending
    }

    /// Sees to the streams that something has happened to.
    fn see_to_noted(&mut self) {
        let mut noted = std::mem::take(&mut self.noted);
        for stream in noted.drain(..) {
            if self.has(&stream) {
                self.advance(stream.key);
            }
        }
        self.noted = noted;
    }

    /// Whether the exchange of the stream goes on. Its place may be another's by now.
    fn has(&self, stream: &Arc<Stream>) -> bool {
        self.entries.get(stream.key).is_some_and(|entry| Arc::ptr_eq(&entry.stream, stream))
    }

    fn advance(&mut self, key: usize) {
        let now = self.place.io.clock.now();
        let entry = &mut self.entries[key];
        let (held, was_stalled) = (entry.held, entry.stall().is_some());
        let was_held = entry.is_held;
        let fate = entry.advance(now, self.place.link.is_queued());
        if entry.is_held && !was_held {
            self.held_back.push(Arc::clone(&entry.stream));
        }
        self.held += entry.held - held;
        let is_stalled = entry.stall().is_some();
        self.taking.add(std::mem::take(&mut entry.sent), now);
        self.budget.delivered(std::mem::take(&mut entry.parts_sent));
        if !matches!(fate, Fate::Lost) {
            if let Some(socket) = entry.stream.take_upgrade() {
                tunnel::spawn(&self.place.io, &entry.stream, socket);
            }
        }
        self.count_stalled(was_stalled, is_stalled, now);
        match fate {
            Fate::Open => self.bound_bodies(key),
            Fate::Complete(Subject::Accepted(request)) => self.dispatch(key, request),
            Fate::Complete(Subject::Refused(refused)) => self.refuse(key, refused.asked(), &refused.refusal),
            Fate::Faulty(subject, problem) => self.refuse_body(key, &subject, problem),
            Fate::Done => {
                let entry = self.remove(key);
                if let Some(body) = entry.leftover.or(entry.connect).filter(|body| !body.is_end_stream()) {
                    let due = self.leftovers.add(body, now);
                    self.arm(due, LINGER);
                }
                self.budget.answered();
            }
            Fate::Lost => {
                self.remove(key).stream.abandon();
                if !self.budget.reset() {
                    self.calm("resets requests without end");
                }
            }
        }
    }

    /// Forgets a stream.
    pub(super) fn remove(&mut self, key: usize) -> Entry {
        let entry = self.entries.remove(key);
        self.held -= entry.held;
        let now = self.place.io.clock.now();
        self.count_stalled(entry.stall().is_some(), false, now);
        entry
    }

    fn count_stalled(&mut self, before: bool, after: bool, now: Tick) {
        if before != after {
            self.stalled = if after { self.stalled + 1 } else { self.stalled - 1 };
            if after && self.stalled == 1 {
                self.taking = Progress::from(now);
            }
            if after {
                let time = self.server.config.write_timeout;
                self.arm(now.saturating_add(ticks(time)), time);
            }
        }
    }

    /// A request has begun to come.
    fn begin(&mut self, request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let server = Arc::clone(&self.server);
        if self.agenda.alive() >= 2 * server.config.http2_streams as usize {
            // Of requests that were reset while a worker has them there may be as many as of others. This one was not looked at,
            // so the client may send it again (RFC 9113 section 8.7).
            let peer = self.place.link.peer();
            let notice = || format!("{peer}: HTTP/2: workers have too many requests that it has reset; stream refused");
            server.journal.peer_notice(notice);
            respond.send_reset(Reason::REFUSED_STREAM);
            if !self.budget.reset() {
                self.calm("asks for more than workers can take, without end");
            }
            return;
        }
        let grace = ticks(DRAIN_GRACE);
        if self.told.is_some_and(|told| self.place.io.clock.now() > told.saturating_add(grace)) {
            // It goes on as if it had not heard.
            respond.send_reset(Reason::REFUSED_STREAM);
            return;
        }
        let (parts, body) = request.into_parts();
        self.requests += 1;
        let number = self.requests;
        let slot = self.entries.vacant_entry();
        let key = slot.key();
        let asks = asks_for_tunnel(&parts);
        let waits = parts.headers.contains_key(http::header::EXPECT);
        let stream = Stream::new(&self.agenda, key, asks);
        let exchange = stream.begin_exchange();
        let entry = slot.insert(Entry::new(stream, exchange, respond));
        let now = self.place.io.clock.now();
        match direct(&parts, &self.place) {
            Ok((head, _)) if asks && body.is_end_stream() => {
                // It can send nothing that a WebSocket is for, not even a Close frame.
                let refusal = Refusal::of(400, "the client has ended its side of the stream");
                return self.refuse(key, Asked::Head(&head), &refusal);
            }
            Ok((head, Destination { route, params, allow, body_bytes_max, logged })) => {
                let mut request = Request::new(head, route, params, allow, &entry.channel());
                request.logged = logged;
                let request = Arc::new(request);
                if asks || body.is_end_stream() {
                    entry.connect = asks.then_some(body);
                    self.dispatch(key, request);
                } else {
                    entry.receive(Subject::Accepted(request), body, number, body_bytes_max, now);
                }
            }
            // Who waits for 100 (Continue), or for whatever else, does not send a body before there is an answer.
            Err(refused) if !asks && !waits && !body.is_end_stream() && refused.is_small() => {
                entry.receive(Subject::Refused(refused), body, number, SWALLOW_MAX, now);
            }
            Err(refused) => {
                entry.leftover = Some(body);
                return self.refuse(key, refused.asked(), &refused.refusal);
            }
        }
        let body_timeout = server.config.body_timeout;
        if self.entries[key].incoming.is_some() {
            self.arm(now.saturating_add(ticks(body_timeout)), body_timeout);
        }
        self.advance(key);
    }

    /// Answers a request that no worker is given. What is left of its body is nobody's.
    fn refuse(&mut self, key: usize, asked: Asked<'_>, refusal: &Refusal) {
        let entry = &self.entries[key];
        let fields: Vec<_> = refusal.fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let Refusal { status, detail, .. } = refusal;
        answer(&entry.channel(), entry.exchange, asked, true, *status, &fields, detail, Instant::now());
        self.advance(key);
    }

    /// Answers a request whose body has a fault or does not come. If it would be thrown away, that is no news beside what is
    /// answered anyway.
    fn refuse_body(&mut self, key: usize, subject: &Subject, problem: ProtocolError) {
        match subject {
            Subject::Accepted(request) => self.refuse(key, Asked::Head(&request.head), &fault(&self.place, problem)),
            Subject::Refused(refused) => self.refuse(key, refused.asked(), &refused.refusal),
        }
    }

    /// Gives a complete request to the workers.
    fn dispatch(&mut self, key: usize, mut request: Arc<Request>) {
        let entry = &mut self.entries[key];
        entry.vigil = Vigil::of(&mut request, &self.server).map(Box::new);
        let due = entry.vigil.as_ref().and_then(|vigil| vigil.due());
        self.ready.push(Ready::new(request, entry.channel(), entry.exchange));
        if let Some((at, time)) = due {
            self.arm(self.place.io.clock.tick_at(at), time);
        }
        if self.ready.len() >= READY_TOGETHER {
            self.hand_over_ready();
        }
    }

    fn hand_over_ready(&mut self) {
        for ready in self.ready.drain(..) {
            hand_over(&self.server, ready);
        }
    }

    /// Takes what the client has sent from its budget. False: that was too much, which it is to be told.
    fn count_frames(&mut self) -> bool {
        let frames = self.gauge.useless.swap(0, Ordering::Relaxed);
        let taken = self.gauge.written.load(Ordering::Relaxed);
        if self.is_calmed || self.budget.spend(frames, taken, self.place.io.clock.now()) {
            return true;
        }
        self.calm("sends frames of no use without end");
        false
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.abandon();
        self.agenda.close();
    }
}
