//! Answers on their way from a worker to the client.
//!
//! A [`Responder`] is the right to answer one request. It is used up by the answer, so there cannot be two; dropped
//! without an answer it sends a 500, so there is never none.

use std::sync::Arc;

use ushabti_proto::http1::encode::{
    BodyLength, ConnectionField, EncodeError, LAST_CHUNK, body_forbidden, encode_chunk, encode_head, reason_phrase,
};
use ushabti_proto::http1::head::{RequestHead, Version};
use ushabti_proto::http2;
use ushabti_proto::websocket::handshake::Handshake;

use crate::access_log::Entry;
use crate::channel::Channel;
use crate::date;
use crate::journal::Level;
use crate::link::{Exchange, Gone, Then};
use crate::request::{Request, Watched};
use crate::server::Shared;
use crate::stats::{Counters, Reason};
use crate::websocket::{self, Style, Upgraded};
use crate::whereabouts::Whereabouts;

mod refusal;

pub(crate) use refusal::Asked;
pub use refusal::Refusal;

/// What is told with 504.
pub(crate) const TOO_LATE: &str = "the answer was not ready in time";

/// How long the body of an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// So many bytes.
    Known(u64),
    /// Unknown until it ends.
    Stream,
}

/// What the encoded head promises about the rest of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    status: u16,
    framing: Framing,
    close: bool,
}

impl Promise {
    /// Whether the answer has no body that could be sent (HEAD, 204, 304), so that it need not be made.
    pub fn is_bodiless(&self) -> bool {
        self.framing == Framing::Nothing
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// No body follows: HEAD, 204, 304.
    Nothing,
    Exactly(u64),
    Chunked,
    /// Until the connection ends, or with HTTP/2 the stream.
    UntilEnd,
}

/// What the answer to one request must know of it.
#[derive(Debug, Clone, Copy)]
struct Terms {
    keep_alive: bool,
    version: Version,
    head_only: bool,
}

/// The right to answer one request, on any thread.
pub struct Responder {
    channel: Option<Channel>,
    exchange: Exchange,
    terms: Terms,
    /// What it is noted by among the requests that were deferred; 0: it is not.
    deferral: u64,
}

impl Responder {
    pub(crate) fn new(channel: Channel, exchange: Exchange, head: &RequestHead) -> Self {
        let terms =
            Terms { keep_alive: head.keep_alive(), version: head.version(), head_only: head.method() == "HEAD" };
        Self { channel: Some(channel), exchange, terms, deferral: 0 }
    }

    /// The exchange, for [`Request::watch_client`].
    pub fn watched(&self) -> Watched {
        Watched(self.exchange)
    }

    /// Where its request is, and in which exchange.
    pub(crate) fn whereabouts(&self) -> (&Whereabouts, Exchange) {
        (self.channel().whereabouts(), self.exchange)
    }

    /// Whether the connection is lost.
    pub(crate) fn is_lost(&self) -> bool {
        self.channel().is_lost()
    }

    /// Gives the right up: the IO thread answers.
    pub(crate) fn release(mut self) {
        self.channel = None;
    }

    /// Answers that the deadline has passed, if the IO thread has not yet.
    pub(crate) fn refuse_late(mut self, request: &Request) {
        let channel = self.take_channel();
        let (sent, bytes) = send_plain(&channel, self.exchange, self.terms, 504, &[], TOO_LATE);
        // Counted by whoever of the two has answered.
        if sent != Err(Gone::Late) {
            channel.server().counters.count_refusal(Reason::Deadline);
        }
        record(channel.server(), request, 504, bytes, sent);
    }

    /// Gives the right up because the client has left before a handler was called.
    pub(crate) fn discard(mut self, request: &Request) {
        let channel = self.take_channel();
        Counters::add(&channel.server().counters.abandoned);
        let sent = channel.send(self.exchange, &[], &[], Then::Finish { close: true });
        record(channel.server(), request, 499, 0, sent.and(Err(Gone::Left)));
    }

    fn channel(&self) -> &Channel {
        self.channel.as_ref().expect("the channel is taken only by the methods that use the responder up")
    }

    fn take_channel(&mut self) -> Channel {
        let channel = self.channel.take().expect("the methods that take it use the responder up");
        self.strike_out(channel.server());
        channel
    }

    /// Notes that its handler returns with no answer given: [`Shared::deferred`] counts the request until it is answered.
    pub fn defer(&mut self, request: &Arc<Request>) {
        if self.deferral == 0 && !self.is_forked() {
            self.deferral = self.channel().server().deferrals.note(request);
        }
    }

    fn strike_out(&mut self, server: &Shared) {
        // In a forked child the lock may be held by a thread that is not there.
        if self.deferral != 0 && !server.is_forked() {
            server.deferrals.strike_out(std::mem::take(&mut self.deferral));
        }
    }

    /// The connection is that of the process from which this one was forked, and not to be touched.
    pub fn is_forked(&self) -> bool {
        self.channel().server().is_forked()
    }

    /// Appends the head of an answer to `out` (RFC 9112 section 4) and says what must follow it.
    ///
    /// A `Connection: close` among the fields is obeyed; a stopping server closes as well.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] when a field cannot be sent as it is; `out` is unchanged then, and the request can still be
    /// answered otherwise.
    pub fn encode<'a>(
        &self,
        out: &mut Vec<u8>,
        status: u16,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
        length: Length,
    ) -> Result<Promise, EncodeError> {
        encode_answer(out, status, fields, length, self.terms, self.channel())
    }

    /// Sends a whole answer and ends the exchange. `head` is what [`Responder::encode`] made, with or without the body
    /// behind it; `body` is what of it comes after.
    ///
    /// Never blocks: what the client does not take at once, the IO thread writes.
    ///
    /// # Errors
    ///
    /// [`Gone`] when the client has left, and the answer is counted as discarded, or when the IO thread has answered.
    pub fn send(mut self, request: &Request, promise: Promise, head: &[u8], body: &[u8]) -> Result<(), Gone> {
        let channel = self.take_channel();
        let body = if promise.is_bodiless() { &[] } else { body };
        let sent = channel.send(self.exchange, head, body, Then::Finish { close: promise.close });
        // A short body may stand behind the head, so its length is the promised one.
        let body_bytes = if let Framing::Exactly(bytes) = promise.framing { bytes } else { 0 };
        record(channel.server(), request, promise.status, body_bytes, sent);
        sent
    }

    /// Sends the head of an answer whose body follows in pieces.
    ///
    /// # Errors
    ///
    /// [`Gone`] when the client has left.
    pub fn begin(mut self, request: &Arc<Request>, promise: Promise, head: &[u8]) -> Result<BodyWriter, Gone> {
        let channel = self.take_channel();
        if let Err(gone) = channel.send(self.exchange, head, &[], Then::More) {
            record(channel.server(), request, promise.status, 0, Err(gone));
            return Err(gone);
        }
        let (exchange, request) = (self.exchange, Arc::clone(request));
        Ok(BodyWriter { channel: Some(channel), exchange, request, promise, sent: 0, chunk: Vec::new() })
    }

    /// Reads the handshake of the request, as [`websocket::check`] does; a server that stops takes no more WebSockets.
    ///
    /// # Errors
    ///
    /// [`Refusal`], the answer that should be given.
    pub fn check_upgrade(&self, request: &Request) -> Result<Handshake, Refusal> {
        let server = self.channel().server();
        if server.is_draining() {
            return Err(Refusal::of(503, "the server stops"));
        }
        websocket::check(&request.head, &server.config.websocket)
    }

    /// Makes the connection a WebSocket: sends the 101 (RFC 6455 section 4.2.2), or over HTTP/2 the 200 that makes the stream
    /// one (RFC 8441 section 5). `protocol` is one of those that the handshake offers.
    ///
    /// # Errors
    ///
    /// The responder with [`UpgradeProblem::Field`] if one of `fields` cannot be sent: the request can be answered otherwise.
    /// [`UpgradeProblem::Gone`] when the client has left.
    pub fn upgrade<'a>(
        mut self,
        request: &Request,
        handshake: &Handshake,
        style: Style,
        protocol: Option<&str>,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    ) -> Result<Upgraded, UpgradeProblem> {
        let server = self.channel().server();
        let (head, agreed) = match websocket::encode_upgrade(handshake, server, protocol, fields) {
            Ok(encoded) => encoded,
            Err(problem) => return Err(UpgradeProblem::Field(self, problem)),
        };
        let channel = self.take_channel();
        let lane = channel.server().routing.lane(request.route);
        let socket = websocket::make_socket(&channel, lane, style, agreed);
        let sent = if channel.is_disconnected() {
            // Who has ended its side can send nothing that a WebSocket is for, not even a Close frame.
            let _ = channel.send(self.exchange, &[], &[], Then::Finish { close: true });
            Err(Gone::Left)
        } else {
            channel.send(self.exchange, &head, &[], Then::Upgrade)
        };
        record(channel.server(), request, websocket::upgrade_status(handshake), 0, sent);
        match sent {
            Ok(()) => Ok(Upgraded::new(channel, socket)),
            Err(_) => Err(UpgradeProblem::Gone),
        }
    }

    /// Answers with a status and one sentence, without any handler. False: the IO thread has answered before. Any thread.
    pub fn refuse(mut self, request: &Request, status: u16, fields: &[(&[u8], &[u8])], detail: &str) -> bool {
        let channel = self.take_channel();
        let (sent, bytes) = send_plain(&channel, self.exchange, self.terms, status, fields, detail);
        record(channel.server(), request, status, bytes, sent);
        sent != Err(Gone::Late)
    }
}

/// Why a connection did not become a WebSocket.
pub enum UpgradeProblem {
    /// A field cannot be sent. The request can still be answered.
    Field(Responder, EncodeError),
    /// The client has left.
    Gone,
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(channel) = self.channel.take().filter(|channel| !channel.server().is_forked()) {
            self.strike_out(channel.server());
            let (sent, _) = send_plain(&channel, self.exchange, self.terms, 500, &[], "");
            if sent.is_ok() {
                let message = "a request was dropped without an answer; sent 500";
                channel.server().journal.notice(Level::Error, message.to_owned());
            }
            count(channel.server(), 500, sent);
        }
    }
}

/// The body of an answer, sent in pieces. Dropped before [`BodyWriter::finish`] it closes the connection, so that the
/// client sees that the answer is cut off.
pub struct BodyWriter {
    channel: Option<Channel>,
    exchange: Exchange,
    request: Arc<Request>,
    promise: Promise,
    sent: u64,
    chunk: Vec<u8>,
}

/// A body that does not fit the length that its head has promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyProblem {
    /// The client has left.
    Gone,
    /// More bytes than promised: the surplus was not sent.
    TooLong,
}

impl BodyWriter {
    /// Bytes of the body so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends a piece; waits while the client has not taken what was sent before. Detached from the interpreter.
    ///
    /// # Errors
    ///
    /// [`BodyProblem::Gone`] when the client has left or takes nothing for the write timeout, [`BodyProblem::TooLong`] when
    /// the promised length is exceeded.
    pub fn write(&mut self, data: &[u8]) -> Result<(), BodyProblem> {
        let Some(channel) = &self.channel else { return Err(BodyProblem::Gone) };
        if data.is_empty() {
            return Ok(());
        }
        let sent = self.sent + data.len() as u64;
        let result = match self.promise.framing {
            Framing::Nothing => return Ok(()),
            Framing::Exactly(length) if sent > length => return Err(BodyProblem::TooLong),
            Framing::Exactly(_) | Framing::UntilEnd => channel.send(self.exchange, &[], data, Then::More),
            Framing::Chunked => {
                self.chunk.clear();
                encode_chunk(&mut self.chunk, data);
                channel.send(self.exchange, &self.chunk, &[], Then::More)
            }
        };
        self.sent = sent;
        result.and_then(|()| channel.wait_for_room()).map_err(|_| BodyProblem::Gone)
    }

    /// Ends the answer. Returns false if it is shorter than promised: then the connection is closed.
    pub fn finish(mut self) -> bool {
        let Some(channel) = self.channel.take() else { return true };
        let whole = !matches!(self.promise.framing, Framing::Exactly(length) if length != self.sent);
        let tail = if self.promise.framing == Framing::Chunked { LAST_CHUNK } else { &[] };
        let sent = channel.send(self.exchange, tail, &[], Then::Finish { close: self.promise.close || !whole });
        record(channel.server(), &self.request, self.promise.status, self.sent, sent);
        whole
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        if let Some(channel) = self.channel.take() {
            // Without the last chunk, or short of the length: the client can tell that this is not the whole body.
            let sent = channel.send(self.exchange, &[], &[], Then::Finish { close: true });
            record(channel.server(), &self.request, self.promise.status, self.sent, sent);
        }
    }
}

fn encode_answer<'a>(
    out: &mut Vec<u8>,
    status: u16,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    length: Length,
    terms: Terms,
    channel: &Channel,
) -> Result<Promise, EncodeError> {
    let server = channel.server();
    // It is no success that no WebSocket was made of it.
    let status = if channel.must_upgrade() && (200..300).contains(&status) { 400 } else { status };
    let (body, mut framing) = match length {
        // Content where there can be none is the encoder's to refuse; a piecewise body is not begun.
        Length::Known(bytes @ 1..) if body_forbidden(status) => (BodyLength::Known(bytes), Framing::Nothing),
        _ if body_forbidden(status) => (BodyLength::None, Framing::Nothing),
        Length::Known(bytes) => (BodyLength::Known(bytes), Framing::Exactly(bytes)),
        // HTTP/1.0 knows no chunks: there the end of the connection ends the body (RFC 9112 section 6.3). HTTP/2 needs none.
        Length::Stream if terms.version != Version::Http11 => (BodyLength::UntilClose, Framing::UntilEnd),
        Length::Stream => (BodyLength::Chunked, Framing::Chunked),
    };
    if terms.head_only {
        framing = Framing::Nothing;
    }
    if terms.version == Version::Http2 {
        // What a handler says of the connection says nothing: other exchanges share it.
        http2::encode_head(out, status, fields, body, &date::now(), server.config.server_field.as_deref())?;
        return Ok(Promise { status, framing, close: false });
    }
    let asked = fields.clone().any(|(name, value)| name.eq_ignore_ascii_case(b"connection") && names_close(value));
    let close =
        !terms.keep_alive || asked || framing == Framing::UntilEnd || (server.is_draining() && !channel.has_more());
    let connection = match (close, terms.version) {
        (true, _) => ConnectionField::Close,
        (false, Version::Http10) => ConnectionField::KeepAlive,
        (false, Version::Http11 | Version::Http2) => ConnectionField::Omit,
    };
    encode_head(out, status, fields, body, connection, &date::now(), server.config.server_field.as_deref())?;
    Ok(Promise { status, framing, close })
}

fn names_close(value: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// Sends a whole answer of the server's own; returns how that went and the length of its body.
fn send_plain(
    channel: &Channel,
    exchange: Exchange,
    terms: Terms,
    status: u16,
    fields: &[(&[u8], &[u8])],
    detail: &str,
) -> (Result<(), Gone>, u64) {
    let reason = reason_phrase(status);
    let text = match (body_forbidden(status), detail.is_empty()) {
        (true, _) => String::new(),
        (false, true) => format!("{status} {reason}\n"),
        (false, false) => format!("{status} {reason}: {detail}\n"),
    };
    let mut out = Vec::with_capacity(256);
    let content_type: &[(&[u8], &[u8])] =
        if text.is_empty() { &[] } else { &[(b"content-type", b"text/plain; charset=utf-8")] };
    let all = fields.iter().chain(content_type).copied();
    let promise = encode_answer(&mut out, status, all, Length::Known(text.len() as u64), terms, channel)
        .expect("the fields of the server's own answers are constants, or checked tokens");
    let body: &[u8] = if promise.is_bodiless() { &[] } else { text.as_bytes() };
    (channel.send(exchange, &out, body, Then::Finish { close: promise.close }), body.len() as u64)
}

/// Answers from the IO thread, and counts that: a refusal that no worker sees. `keep_alive` false closes the connection after
/// it. Returns what the access log has of it: the status, and the length of the body.
pub(crate) fn refuse(
    channel: &Channel,
    exchange: Exchange,
    asked: Asked<'_>,
    keep_alive: bool,
    status: u16,
    fields: &[(&[u8], &[u8])],
    detail: &str,
) -> (u16, u64) {
    let terms = Terms {
        keep_alive,
        version: asked.head().map_or_else(|| channel.version(), RequestHead::version),
        head_only: asked.is_head(),
    };
    let (sent, body_bytes) = send_plain(channel, exchange, terms, status, fields, detail);
    count(channel.server(), status, sent);
    (logged_status(status, sent), body_bytes)
}

/// 499 is what nginx made the field's word for "the client left before the answer".
fn logged_status(status: u16, sent: Result<(), Gone>) -> u16 {
    if sent.is_ok() { status } else { 499 }
}

fn count(server: &Shared, status: u16, sent: Result<(), Gone>) {
    match sent {
        Ok(()) => server.counters.answered(status),
        Err(Gone::Left) => server.counters.discarded(),
        // Counted when the IO thread answered.
        Err(Gone::Late) => {}
    }
}

/// Counts an answer and writes its line.
fn record(server: &Shared, request: &Request, status: u16, body_bytes: u64, sent: Result<(), Gone>) {
    if server.is_forked() {
        return;
    }
    count(server, status, sent);
    if request.logged && sent != Err(Gone::Late) {
        let status = logged_status(status, sent);
        server.log_access(|| Entry {
            peer: &request.peer,
            head: Some(&request.head),
            status,
            body_bytes,
            taken: request.received.elapsed(),
        });
    }
}
