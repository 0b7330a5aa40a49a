//! One HTTP/1.1 socket from its first byte to its last, as a task of the IO thread.
//!
//! The task reads, feeds the protocol machine of `ushabti-proto`, gives complete requests to the workers and waits for
//! the answer; what may follow what is decided there, in `http1::connection`. Between requests it owns no buffer:
//! bytes are read into the one buffer of the IO thread, and only an incomplete rest is kept. After an upgrade another task
//! takes over, in `websocket::task`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ushabti_proto::http1::connection::{Connection as Protocol, EndOfInput, Event, Next, Step};
use ushabti_proto::http1::encode::encode_interim;
use ushabti_proto::http1::head::{RequestHead, Version};
use ushabti_proto::http2::PREFACE;

use crate::channel::Channel;
use crate::clients::ClientSlot;
use crate::destination::Destination;
use crate::http2;
use crate::io_thread::Io;
use crate::link::{Interest, Link, Then, Wake};
use crate::listener::Kind;
use crate::reply::Asked;
use crate::request::Request;
use crate::server::Counted;
use crate::websocket::{self, Carrier};

mod greeting;
mod progress;
mod refusal;
mod timing;
mod vigil;

pub(crate) use greeting::{Full, Unfinished};
pub(crate) use progress::Progress;
use refusal::{Refused, redirect};
pub(crate) use refusal::{SWALLOW_MAX, answer};
pub(crate) use vigil::{Vigil, hand_over};

/// Bytes of following requests from which no more are read while one is being answered; a last read may pass it. The
/// client has to wait then: the system's buffers fill, and TCP tells it.
const PIPELINE_MAX: usize = 64 * 1024;
/// So many answers in a row are given to one connection before others have a turn.
const ANSWERS_IN_A_ROW: u32 = 32;
/// How long bytes of the client are read and thrown away after the last answer. Closing at once would make the system
/// send a reset, which can destroy the answer before the client reads it (RFC 9112 section 9.6).
pub(crate) const LINGER: Duration = Duration::from_secs(2);
/// How long a quiet connection of a stopping server waits for a request that may be on its way.
pub(crate) const DRAIN_GRACE: Duration = Duration::from_millis(250);

/// A request whose body is being read.
enum Incoming {
    /// It goes to a worker.
    Accepted(Arc<Request>),
    /// It has been refused; the answer goes out when the body has been read and thrown away.
    Refused(Box<Refused>),
}

/// What the task does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// Read the client's bytes.
    Read,
    /// Wait for the end of the exchange.
    Answer,
    /// Read and throw away, then close.
    Linger,
    /// Leave the connection to the task of a WebSocket.
    Upgrade,
    /// Leave the connection to the task of HTTP/2.
    Http2,
    /// Close.
    End,
}

/// A connection's place among the others: at the clock, and in the counts. It is given up when this is dropped.
pub(crate) struct Place {
    pub(crate) io: Arc<Io>,
    pub(crate) link: Arc<Link>,
    /// The connection's number at the clock.
    pub(crate) key: usize,
    _counted: Counted,
    _client: Option<ClientSlot>,
}

impl Place {
    fn new(io: &Arc<Io>, link: &Arc<Link>, client: Option<ClientSlot>) -> Self {
        let deadline = io.clock.after(io.server.config.header_timeout);
        let key = io.clock.add(Channel::Link(Arc::clone(link)), deadline);
        io.server.counters.open.fetch_add(1, Ordering::Relaxed);
        Self { io: Arc::clone(io), link: Arc::clone(link), key, _counted: Counted::new(&io.server), _client: client }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.io.clock.remove(self.key);
        if !self.link.is_busy() && !self.link.is_queued() {
            // With TLS the end has to be told, or the client cannot know that nobody has cut the connection.
            self.link.end_secure();
        }
        let is_held = Arc::strong_count(&self.link) > 1;
        if is_held || self.link.is_busy() || self.link.is_upgraded() || self.link.is_queued() {
            // A worker still has the request: its answer will be discarded, and it may ask whether the client is there.
            // So will be what is still sent to a WebSocket. The client should not have to wait for them.
            self.link.abandon();
        }
        if let Some(socket) = self.link.take_upgrade() {
            websocket::discard(socket, &self.io.server);
        }
        self.io.server.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Connection {
    io: Arc<Io>,
    link: Arc<Link>,
    place: Place,
    kind: Kind,
    protocol: Protocol,
    /// Read, and not yet understood or not yet due.
    pending: Vec<u8>,
    incoming: Option<Incoming>,
    /// The clock holds a deadline of the request or the answer, not the keep-alive time.
    timed: bool,
    /// The head that is being read has its deadline; more bytes do not move it.
    head_timed: bool,
    half_closed: bool,
    /// Nothing was understood yet, so the client may speak HTTP/2.
    is_new: bool,
    /// Of `pending`, what was read before the server began to stop: requests that end beyond it are not begun, or a client
    /// that pipelines without end would keep the server from stopping.
    before_drain: Option<usize>,
    /// Of the request that is with the workers.
    version: Version,
    /// What is due while it is with them; boxed, and kept, where anything is.
    vigil: Option<Box<Vigil>>,
    /// How fast the body comes, or the answer goes.
    progress: Progress,
    /// Bytes written since some began to wait for the client, and what its system had not confirmed then.
    flushed: u64,
}

impl Connection {
    pub(crate) fn new(io: Arc<Io>, link: Arc<Link>, client: Option<ClientSlot>, kind: Kind) -> Self {
        let place = Place::new(&io, &link, client);
        let io_http2 = io.server.config.http2;
        Self {
            io,
            link,
            place,
            kind,
            protocol: Protocol::new(),
            is_new: io_http2 && kind == Kind::Plain,
            pending: Vec::new(),
            incoming: None,
            timed: true,
            head_timed: true,
            half_closed: false,
            before_drain: None,
            version: Version::Http11,
            vigil: None,
            progress: Progress::default(),
            flushed: 0,
        }
    }

    /// Serves the connection to its end.
    #[expect(clippy::manual_async_fn, reason = "an async fn would hold its argument twice, in each idle connection")]
    pub(crate) fn run(mut self) -> impl Future<Output = ()> + Send {
        async move {
            if self.io.server.is_draining() {
                self.before_drain = Some(0);
                self.grace();
            }
            let flow = self.greet().await.map_or_else(|flow| flow, |()| self.first());
            match self.serve(flow).await {
                Flow::Upgrade => {
                    if let Some(socket) = self.link.take_upgrade() {
                        websocket::spawn(Carrier::connection(self.place), socket, self.pending);
                    }
                }
                Flow::Http2 => http2::spawn(self.place, self.pending),
                _ => {}
            }
        }
    }

    /// Serves the connection until it ends, or is no connection of HTTP any more.
    async fn serve(&mut self, mut flow: Flow) -> Flow {
        let mut answers = 0_u32;
        loop {
            let wake = match flow {
                Flow::Read => self.wait(Interest { read: true, ..Interest::default() }).await,
                Flow::Answer => {
                    let read = !self.half_closed && self.pending.len() < PIPELINE_MAX;
                    self.wait(Interest { read, finish: true, ..Interest::default() }).await
                }
                Flow::Linger => {
                    self.linger().await;
                    return Flow::End;
                }
                Flow::End | Flow::Upgrade | Flow::Http2 => return flow,
            };
            if matches!(wake, Wake::Finished { .. }) {
                answers = answers.wrapping_add(1);
                if answers % ANSWERS_IN_A_ROW == 0 {
                    // Refusals end at once: a pipeline of them would never let another connection have its turn.
                    tokio::task::yield_now().await;
                }
            }
            flow = match flow {
                Flow::Read => self.reading(wake),
                _ => self.answering(wake),
            };
        }
    }

    fn reading(&mut self, wake: Wake) -> Flow {
        match wake {
            Wake::Bytes(count) => {
                let io = Arc::clone(&self.io);
                let buffer = io.buffer.lock();
                self.receive(&buffer[..count])
            }
            Wake::EndOfInput => {
                self.half_closed = true;
                self.link.half_closed();
                match self.protocol.end_of_input(&self.pending) {
                    EndOfInput::Incomplete(problem) => {
                        let pending = std::mem::take(&mut self.pending);
                        self.refuse_bytes(problem, &pending)
                    }
                    EndOfInput::Clean | EndOfInput::AwaitingResponse => Flow::End,
                }
            }
            Wake::Expired if self.protocol.is_between_requests() && self.pending.is_empty() => Flow::End,
            Wake::Expired if self.incoming.is_some() => self.time_out("the body did not arrive in time"),
            Wake::Expired => self.time_out("the request head did not arrive in time"),
            Wake::Drain => {
                self.before_drain = Some(self.pending.len());
                if self.protocol.is_between_requests() && self.pending.is_empty() {
                    self.grace();
                }
                Flow::Read
            }
            Wake::Finished { .. } | Wake::Signal => Flow::Read,
            Wake::Lost => Flow::End,
        }
    }

    fn answering(&mut self, wake: Wake) -> Flow {
        match wake {
            Wake::Bytes(count) => {
                let io = Arc::clone(&self.io);
                let buffer = io.buffer.lock();
                if self.before_drain.is_none() {
                    self.pending.extend_from_slice(&buffer[..count]);
                    self.link.more_follows();
                } else if !self.pending.is_empty() {
                    // The rest of what had begun to come. What begins to come while the server stops is not begun.
                    self.pending.extend_from_slice(&buffer[..count]);
                }
                self.link.wake_at_finish();
                Flow::Answer
            }
            Wake::EndOfInput => {
                // The client may only have closed its side: it still gets its answer.
                self.half_closed = true;
                self.link.half_closed();
                self.link.wake_at_finish();
                self.client_half_closed();
                Flow::Answer
            }
            Wake::Finished { close } => self.finished(close),
            Wake::Expired if self.has_stalled() => {
                let (peer, config) = (self.link.peer(), &self.io.server.config);
                let (timeout, rate) = (config.write_timeout, config.rate_min);
                let fault = if self.has_rested(timeout) {
                    format!("took no byte of its answer for {timeout:?}")
                } else {
                    format!("took its answer at less than {rate} bytes a second")
                };
                self.io.server.journal.peer_notice(|| format!("{peer}: {fault}; connection cut"));
                Flow::End
            }
            Wake::Expired => self.keep_vigil(),
            Wake::Drain => {
                self.before_drain = Some(self.pending.len());
                self.link.wake_at_finish();
                Flow::Answer
            }
            Wake::Signal => Flow::Answer,
            Wake::Lost => Flow::End,
        }
    }

    /// The exchange is over: on to the next request, or to the end.
    fn finished(&mut self, close: bool) -> Flow {
        if self.link.is_upgraded() {
            return Flow::Upgrade;
        }
        if self.protocol.response_done(close) == Next::Close {
            return if self.half_closed { Flow::End } else { Flow::Linger };
        }
        if self.timed || self.vigil.is_some() {
            self.end_vigil();
            self.quiet();
        }
        if !self.pending.is_empty() {
            return self.receive(&[]);
        }
        if self.half_closed {
            return Flow::End;
        }
        if self.io.server.is_draining() {
            self.grace();
        }
        Flow::Read
    }

    /// Feeds what was kept, and `bytes` after it, to the protocol.
    fn receive(&mut self, bytes: &[u8]) -> Flow {
        if self.is_new {
            if let Some(flow) = self.receive_first(bytes) {
                return flow;
            }
        }
        if self.pending.is_empty() {
            let (used, flow) = self.feed(bytes);
            self.pending.extend_from_slice(&bytes[used..]);
            return flow;
        }
        let mut input = std::mem::take(&mut self.pending);
        input.extend_from_slice(bytes);
        let (used, flow) = self.feed(&input);
        if let Some(left) = &mut self.before_drain {
            *left = left.saturating_sub(used);
        }
        if used < input.len() {
            input.drain(..used);
            self.pending = input;
        }
        flow
    }

    /// Looks whether the first bytes of the connection are those of HTTP/2 (RFC 9113 section 3.3). `None`: they are not.
    fn receive_first(&mut self, bytes: &[u8]) -> Option<Flow> {
        // What was kept is a part of the preface.
        let awaited = &PREFACE[self.pending.len()..];
        let known = awaited.len().min(bytes.len());
        if bytes[..known] != awaited[..known] {
            self.is_new = false;
            return None;
        }
        self.pending.extend_from_slice(bytes);
        if known == awaited.len() {
            return Some(Flow::Http2);
        }
        self.set_read_deadline(true);
        Some(Flow::Read)
    }

    /// Whether a request that ends after `used` bytes of `input` is followed by bytes of another that is to be served.
    fn is_followed(&self, used: usize, input: &[u8]) -> bool {
        used < self.before_drain.unwrap_or(input.len())
    }

    /// Runs the protocol over `input`; returns how much of it is used up.
    fn feed(&mut self, input: &[u8]) -> (usize, Flow) {
        let (mut used, mut body_bytes) = (0, 0);
        loop {
            let rest = &input[used..];
            let Step { consumed, event } = match self.protocol.step(rest, &self.io.server.config.head) {
                Ok(step) => step,
                Err(problem) => return (input.len(), self.refuse_bytes(problem, rest)),
            };
            used += consumed;
            match event {
                Event::NeedMore => {
                    if body_bytes > 0 {
                        self.progress.add(body_bytes, self.io.clock.now());
                    }
                    self.set_read_deadline(input.len() > used);
                    return (used, Flow::Read);
                }
                Event::Request(head) => {
                    if let Err(flow) = self.begin(head, used < input.len()) {
                        return (used, flow);
                    }
                }
                Event::Data(range) => {
                    body_bytes += range.len() as u64;
                    if let Some(Incoming::Accepted(request)) = &mut self.incoming {
                        let request = Arc::get_mut(request).expect("a request is shared only when it is dispatched");
                        request.body.extend_from_slice(&rest[range]);
                    }
                }
                Event::End => return (used, self.complete(self.is_followed(used, input))),
            }
        }
    }

    /// Chooses what becomes of a request whose head is complete. `Err`: it has been refused at once.
    fn begin(&mut self, head: RequestHead, more: bool) -> Result<(), Flow> {
        let io = Arc::clone(&self.io);
        if self.kind == Kind::Redirect {
            let refusal = redirect(&head, io.server.redirect_port());
            return self.refuse(head, refusal);
        }
        let Destination { route, params, allow, body_bytes_max, logged } = match io.server.destination(&head) {
            Ok(destination) => destination,
            Err(refusal) => return self.refuse(head, refusal),
        };
        if let Err(problem) = self.protocol.set_body_max(body_bytes_max) {
            let (status, detail) = (problem.status(), problem.to_string());
            return Err(self.answer_now(Asked::Head(&head), false, status, &[], &detail, Instant::now()));
        }
        if self.protocol.continue_wanted() && !more {
            // Sent only here, where the body is sure to be read (RFC 9110 section 10.1.1).
            let mut interim = Vec::new();
            encode_interim(&mut interim, 100, std::iter::empty()).expect("an interim answer without fields is valid");
            // A lost connection shows itself at the next read.
            let _ = self.link.send(self.link.exchange(), &interim, &[], Then::More);
            self.protocol.continue_sent();
        }
        let mut request = Request::new(head, route, params, allow, &self.channel());
        request.logged = logged;
        let received = request.received;
        self.await_body(Incoming::Accepted(Arc::new(request)), received);
        Ok(())
    }

    /// What comes next is the body of `incoming`, whose clock begins when the head was received.
    fn await_body(&mut self, incoming: Incoming, received: Instant) {
        self.progress = Progress::from(self.io.clock.tick_at(received));
        self.incoming = Some(incoming);
    }

    fn channel(&self) -> Channel {
        Channel::Link(Arc::clone(&self.link))
    }

    /// The request is complete. `more`: bytes of a following one are there.
    fn complete(&mut self, more: bool) -> Flow {
        if self.timed {
            self.quiet();
        }
        self.head_timed = false;
        if more {
            self.link.more_follows();
        }
        match self.incoming.take().expect("the protocol ends only a request that it began") {
            Incoming::Accepted(request) => self.dispatch(request, more),
            Incoming::Refused(refusal) => {
                let keep_alive = refusal.head.keep_alive() && !self.half_closed;
                self.answer_refusal(&refusal, keep_alive)
            }
        }
    }
}
