//! One stream as the IO task has it: its request on the way in, its answer on the way out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use ushabti_proto::error::ProtocolError;
use ushabti_proto::http1::connection::Limits;
use ushabti_proto::http1::framing::BodyFraming;
use ushabti_proto::http1::head::RequestHead;
use ushabti_proto::http2::{Head, check_field};

use super::SEND_BUFFER;
use super::stream::Stream;
use super::tunnel::Pipe;
use crate::channel::Channel;
use crate::clock::Tick;
use crate::connection::{Progress, SWALLOW_MAX, Vigil};
use crate::jitter;
use crate::journal::Level;
use crate::link::Exchange;
use crate::reply::{Asked, Refusal};
use crate::request::Request;

/// What is left of what was put down to be sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    /// What was taken before goes first.
    ToFollow,
    /// It is little, and the socket is busy.
    Held,
}

/// A stream whose exchange is not over.
pub(super) struct Entry {
    pub(super) stream: Arc<Stream>,
    pub(super) exchange: Exchange,
    /// Notes the stream when something has happened to it.
    waker: Waker,
    respond: SendResponse<Bytes>,
    /// Since the head was sent.
    sender: Option<SendStream<Bytes>>,
    /// While the request comes.
    pub(super) incoming: Option<Box<Incoming>>,
    /// What is left of a request that is answered before it has come.
    pub(super) leftover: Option<RecvStream>,
    /// What may follow a request that asks for a WebSocket.
    pub(super) connect: Option<RecvStream>,
    /// Since it is one.
    pipe: Option<Box<Pipe>>,
    pub(super) vigil: Option<Box<Vigil>>,
    /// Something was left because the socket is busy: to be seen to when it is not.
    pub(super) is_held: bool,
    /// Taken out of the outbox, and not yet sent: the client's windows have no room.
    parts: VecDeque<Bytes>,
    end: Option<bool>,
    /// How they have had room since they had none first, while something waits.
    stall: Option<Progress>,
    /// Bytes of its body that were read, and that it holds.
    pub(super) held: u64,
    /// Bytes of its answer that were sent since this was looked at.
    pub(super) sent: u64,
    /// Parts of it that were sent whole, or to their end, since this was looked at.
    pub(super) parts_sent: u32,
}

/// What a request comes for.
pub(super) enum Subject {
    /// It goes to a worker.
    Accepted(Arc<Request>),
    /// It has been refused; the answer goes out when the body has been read and thrown away.
    Refused(Box<Refused>),
}

/// A request that no worker sees.
pub(super) struct Refused {
    /// If it has one.
    pub(super) head: Option<RequestHead>,
    /// Its method is HEAD.
    pub(super) is_head: bool,
    pub(super) refusal: Refusal,
}

impl Refused {
    pub(super) fn asked(&self) -> Asked<'_> {
        self.head.as_ref().map_or(Asked::Unread { is_head: self.is_head }, Asked::Head)
    }

    /// Whether its body is read to the end before it is answered, as far as its head tells: some clients do not look for an
    /// answer before.
    pub(super) fn is_small(&self) -> bool {
        let is_large = |head: &RequestHead| matches!(head.framing(), BodyFraming::Length(bytes) if bytes > SWALLOW_MAX);
        self.refusal.status != 413 && !self.head.as_ref().is_some_and(is_large)
    }
}

impl Subject {
    pub(super) fn asked(&self) -> Asked<'_> {
        match self {
            Self::Accepted(request) => Asked::Head(&request.head),
            Self::Refused(refused) => refused.asked(),
        }
    }
}

/// A request whose body comes.
pub(super) struct Incoming {
    pub(super) subject: Subject,
    /// It began as the so many-th of its connection.
    pub(super) number: u64,
    /// It is not read, see `bodies`.
    pub(super) waits: bool,
    body: RecvStream,
    bytes: u64,
    pub(super) bytes_max: u64,
    pub(super) progress: Progress,
    /// The client waits for 100 (Continue).
    continue_wanted: bool,
}

/// What has become of a stream.
pub(super) enum Fate {
    /// It goes on.
    Open,
    /// Its request is complete.
    Complete(Subject),
    /// Its request has a fault.
    Faulty(Subject, ProtocolError),
    /// Its answer has gone out whole, or was cut off by whoever gave it.
    Done,
    /// The client has reset it, or it was reset for the client's fault.
    Lost,
}

/// The client, or the frames' code for it, has reset the stream.
struct Reset;

impl From<h2::Error> for Reset {
    fn from(_: h2::Error) -> Self {
        Self
    }
}

impl Entry {
    pub(super) fn new(stream: Arc<Stream>, exchange: Exchange, respond: SendResponse<Bytes>) -> Self {
        Self {
            waker: Waker::from(Arc::clone(&stream)),
            stream,
            exchange,
            respond,
            sender: None,
            incoming: None,
            leftover: None,
            connect: None,
            pipe: None,
            vigil: None,
            is_held: false,
            parts: VecDeque::new(),
            end: None,
            stall: None,
            held: 0,
            sent: 0,
            parts_sent: 0,
        }
    }

    pub(super) fn channel(&self) -> Channel {
        Channel::Stream(Arc::clone(&self.stream))
    }

    /// Has the body of a request read, from `now` on.
    pub(super) fn receive(&mut self, subject: Subject, body: RecvStream, number: u64, bytes_max: u64, now: Tick) {
        let continue_wanted = match &subject {
            Subject::Accepted(request) => request.head.expects_continue(),
            Subject::Refused(_) => false,
        };
        let progress = Progress::from(now);
        let incoming = Incoming { subject, number, waits: false, body, bytes: 0, bytes_max, progress, continue_wanted };
        self.incoming = Some(Box::new(incoming));
    }

    /// Has no more read of the request that comes.
    pub(super) fn stop_reading(&mut self) -> Subject {
        let incoming = self.incoming.take().expect("the caller has looked whether one comes");
        self.leftover = Some(incoming.body);
        incoming.subject
    }

    /// Does what there is to do for it. `is_blocked`: the socket has not taken what was sent before.
    pub(super) fn advance(&mut self, now: Tick, is_blocked: bool) -> Fate {
        let (mut left, agrees) = self.take(is_blocked);
        jitter::point();
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        let reset = match &mut self.sender {
            Some(sender) => sender.poll_reset(&mut cx),
            None => self.respond.poll_reset(&mut cx),
        };
        if reset.is_ready() {
            return Fate::Lost;
        }
        if agrees {
            if let Some(body) = self.connect.take() {
                let mut pipe = Box::new(Pipe::new(body));
                if pipe.is_mute(&self.stream, &mut cx) {
                    self.reset(Reason::CANCEL);
                    return Fate::Lost;
                }
                self.pipe = Some(pipe);
                self.vigil = None;
            }
        }
        if let Some(mut pipe) = self.pipe.take() {
            let fate = pipe.advance(self, &mut cx, now, is_blocked);
            self.pipe = Some(pipe);
            return fate;
        }
        if let Some(fate) = self.read(&mut cx, now) {
            return fate;
        }
        loop {
            match self.write(&mut cx, now) {
                Ok(true) => return Fate::Done,
                Ok(false) if left == Left::ToFollow && self.parts.is_empty() => (left, _) = self.take(is_blocked),
                Ok(false) => return Fate::Open,
                Err(Reset) => return Fate::Lost,
            }
        }
    }

    /// Takes what there is to send, unless some of it waits already: put together, it will be less to send. Says what is left, and
    /// whether a WebSocket is agreed to.
    fn take(&mut self, is_blocked: bool) -> (Left, bool) {
        let Self { stream, parts, end, .. } = self;
        let (left, agrees) = stream.look(|outbox| {
            let left = if !parts.is_empty() {
                Left::ToFollow
            } else if is_blocked && outbox.chunks.is_little() && outbox.end.is_none() && !outbox.agrees {
                Left::Held
            } else {
                parts.extend(outbox.chunks.take().into_iter().map(Bytes::from));
                *end = outbox.end;
                Left::Nothing
            };
            (left, outbox.agrees)
        });
        self.is_held = left == Left::Held;
        (left, agrees)
    }

    /// Reads what has come of the body. `None`: that is not the end of it.
    fn read(&mut self, cx: &mut Context<'_>, now: Tick) -> Option<Fate> {
        let limits = &self.stream.link().server().config.head;
        let incoming = self.incoming.as_mut().filter(|incoming| !incoming.waits)?;
        let before = incoming.bytes;
        let end = loop {
            match incoming.body.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    incoming.continue_wanted = false;
                    incoming.bytes += data.len() as u64;
                    self.held += data.len() as u64;
                    if incoming.bytes > incoming.bytes_max {
                        break Err(ProtocolError::ContentTooLarge);
                    }
                    if let Subject::Accepted(request) = &mut incoming.subject {
                        let request = Arc::get_mut(request).expect("a request is shared only when it is dispatched");
                        request.body.extend_from_slice(&data);
                    }
                    // It fails only for more than was received.
                    let _ = incoming.body.flow_control().release_capacity(data.len());
                }
                Poll::Ready(Some(Err(_))) => return Some(Fate::Lost),
                Poll::Ready(None) => match incoming.body.poll_trailers(cx) {
                    Poll::Ready(Ok(None)) => break Ok(()),
                    // They are checked, and dropped: nobody asked for them.
                    Poll::Ready(Ok(Some(trailers))) => break check_trailers(&trailers, limits),
                    Poll::Ready(Err(_)) => return Some(Fate::Lost),
                    Poll::Pending => return None,
                },
                Poll::Pending => {
                    incoming.progress.add(incoming.bytes - before, now);
                    if std::mem::take(&mut incoming.continue_wanted) {
                        let mut interim = Response::new(());
                        *interim.status_mut() = StatusCode::CONTINUE;
                        if self.respond.send_informational(interim).is_err() {
                            return Some(Fate::Lost);
                        }
                    }
                    return None;
                }
            }
        };
        let subject = self.stop_reading();
        Some(match end {
            Ok(()) => Fate::Complete(subject),
            Err(problem) => Fate::Faulty(subject, problem),
        })
    }

    /// Sends what the client's windows have room for. True: that was the last.
    fn write(&mut self, cx: &mut Context<'_>, now: Tick) -> Result<bool, Reset> {
        let mut sender = match self.sender.take() {
            Some(sender) => sender,
            None => match self.parts.pop_front() {
                Some(first) => {
                    let head = Head::read(&first).expect("an answer begins with its head");
                    let rest = first.slice(head.length..);
                    if !rest.is_empty() {
                        self.parts.push_front(rest);
                    }
                    let is_all = self.parts.is_empty() && self.end == Some(false);
                    let length = head.length;
                    let Some(response) = response(head, &first) else {
                        let message = "HTTP/2: an answer has a field that cannot be sent; stream reset".to_owned();
                        self.stream.link().server().journal.notice(Level::Error, message);
                        self.respond.send_reset(Reason::INTERNAL_ERROR);
                        return Ok(true);
                    };
                    let sender = self.respond.send_response(response, is_all)?;
                    self.stream.taken(length);
                    if is_all {
                        return Ok(true);
                    }
                    sender
                }
                None if self.end.is_some() => {
                    // Whoever was to answer has given up.
                    self.respond.send_reset(Reason::INTERNAL_ERROR);
                    return Ok(true);
                }
                None => return Ok(false),
            },
        };
        while let Some(part) = self.parts.front_mut() {
            // No more: the frames' code counts in 32 bits, and others want a share of the connection's window.
            sender.reserve_capacity(part.len().min(SEND_BUFFER));
            let room = sender.capacity();
            if room == 0 {
                match sender.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(_))) => continue,
                    Poll::Ready(_) => return Err(Reset),
                    Poll::Pending => {
                        self.stall.get_or_insert_with(|| Progress::from(now));
                        self.sender = Some(sender);
                        return Ok(false);
                    }
                }
            }
            let count = room.min(part.len());
            let piece = part.split_to(count);
            if part.is_empty() {
                self.parts.pop_front();
                self.parts_sent += 1;
            }
            let is_all = self.parts.is_empty() && self.end == Some(false);
            sender.send_data(piece, is_all)?;
            self.sent += count as u64;
            if let Some(stall) = &mut self.stall {
                stall.add(count as u64, now);
            }
            self.stream.taken(count);
            if is_all {
                return Ok(true);
            }
        }
        self.stall = None;
        match self.end {
            Some(true) => {
                // Short of its end: the client can tell that this is not the whole body.
                sender.send_reset(Reason::INTERNAL_ERROR);
                return Ok(true);
            }
            Some(false) => {
                sender.send_data(Bytes::new(), true)?;
                return Ok(true);
            }
            None => {}
        }
        self.sender = Some(sender);
        Ok(false)
    }

    /// Sends frames of a WebSocket as far as the client's windows have room for them and for those that wait. Returns how many
    /// bytes were sent, and whether they were the last; `None`: the client has reset the stream.
    pub(super) fn pass_on(
        &mut self,
        frames: VecDeque<Vec<u8>>,
        is_ended: bool,
        cx: &mut Context<'_>,
        now: Tick,
    ) -> Option<(usize, bool)> {
        self.parts.extend(frames.into_iter().map(Bytes::from));
        self.end = is_ended.then_some(false);
        let before = self.sent;
        let is_all = self.write(cx, now).ok()?;
        Some(((self.sent - before) as usize, is_all))
    }

    /// Something has to wait: for the client's windows, or until the socket has taken what was sent before.
    pub(super) fn is_stalled(&self) -> bool {
        self.stall.is_some()
    }

    /// How the client's windows have had room for what waits for it, since they had none. The task of a WebSocket sees to its
    /// own.
    pub(super) fn stall(&self) -> Option<&Progress> {
        self.stall.as_ref().filter(|_| self.pipe.is_none())
    }

    /// Ends it for the client's fault.
    pub(super) fn reset(&mut self, reason: Reason) {
        match &mut self.sender {
            Some(sender) => sender.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }
}

/// The limits of a head hold for what comes behind a body, too.
fn check_trailers(trailers: &HeaderMap, limits: &Limits) -> Result<(), ProtocolError> {
    let mut bytes = 0;
    for (name, value) in trailers {
        check_field(name.as_ref(), value.as_bytes())?;
        bytes += name.as_str().len() + value.len();
    }
    let is_much = trailers.len() > limits.fields_max || bytes > limits.head_bytes_max;
    if is_much { Err(ProtocolError::TrailersTooLarge) } else { Ok(()) }
}

/// The head of an answer as the frames' code takes it; `None` if it does not: a name of 64 KiB, or tens of thousands of fields.
/// Values are parts of `bytes`.
fn response(head: Head, bytes: &Bytes) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status).expect("the encoder has checked it");
    let fields = response.headers_mut();
    for (name, value) in head.fields(bytes) {
        let name = HeaderName::from_bytes(&bytes[name]).ok()?;
        let value = HeaderValue::from_maybe_shared(bytes.slice(value)).expect("the encoder has checked its bytes");
        fields.try_append(name, value).ok()?;
    }
    Some(response)
}
