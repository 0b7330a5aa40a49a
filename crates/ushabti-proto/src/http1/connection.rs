//! One HTTP/1.1 server connection as a state machine: all its transitions are in this file.
//!
//! ```text
//!        head complete            body complete            response_done
//! Head ────────────────▶ Length ─────────────────▶ Complete ──────────────▶ Head
//!                        Chunked                                     └─────▶ Closed
//! Head, Length, Chunked ── a fault of the peer ──▶ Failed
//! ```
//!
//! It is a pull parser over a buffer that the caller owns, so an idle connection keeps no buffer. Requests of one
//! connection are read one after the other: the next head is not looked at before the response to the last is done,
//! so pipelined requests are answered in order without a queue (RFC 9112 section 9.3.2).

use std::ops::Range;

use crate::error::ProtocolError;
use crate::http1::chunked::{ChunkedBody, Piece};
use crate::http1::framing::BodyFraming;
use crate::http1::head::{HeadReader, RequestHead};

/// Bounds on what one request head, and one trailer section, may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of request line and fields together, line ends included; beyond it 431.
    pub head_bytes_max: usize,
    /// Field lines; beyond it 431.
    pub fields_max: usize,
    /// Bytes of the request target; beyond it 414.
    pub target_bytes_max: usize,
}

/// What [`Connection::step`] found.
#[derive(Debug)]
pub enum Event {
    /// Nothing more can be said without more bytes: keep what was not consumed, and step again with it and what
    /// comes. Bytes may have been consumed all the same.
    NeedMore,
    /// A head is complete and valid.
    Request(RequestHead),
    /// Content: this range of the input of this step, in which it ends where `consumed` ends.
    Data(Range<usize>),
    /// The request is complete. It follows [`Event::Request`] directly when there is no content. Trailers were
    /// checked and dropped.
    End,
}

/// An [`Event`], and how far the input was read for it.
#[derive(Debug)]
pub struct Step {
    /// Bytes at the start of the input that must not be offered again, whatever the event.
    pub consumed: usize,
    /// What was found.
    pub event: Event,
}

/// What follows a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another request may come; pipelined bytes can be stepped over now.
    KeepAlive,
    /// The connection must be closed.
    Close,
}

/// What the end of the peer's bytes means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndOfInput {
    /// It came between two requests, or after the last: nothing is owed.
    Clean,
    /// It came inside a request, which must not be delivered (RFC 9112 section 8).
    Incomplete(ProtocolError),
    /// The request is complete and its response still due: a client may close its sending side early.
    AwaitingResponse,
}

/// The protocol state of one connection, as the server sees it (RFC 9112).
///
/// An upgraded connection leaves this machine after [`Event::End`]: whoever has sent 101 drops it, and the
/// unconsumed rest of the input is the first of the new protocol.
///
/// ```
/// use ushabti_proto::http1::connection::{Connection, Event, Limits, Next};
///
/// let limits = Limits { head_bytes_max: 32768, fields_max: 128, target_bytes_max: 16384 };
/// let mut connection = Connection::new();
/// let mut input: &[u8] = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
/// let mut content = Vec::new();
/// loop {
///     let step = connection.step(input, &limits)?;
///     match step.event {
///         Event::Request(head) => assert_eq!((head.method(), head.path()), ("POST", "/echo")),
///         Event::Data(range) => content.extend_from_slice(&input[range]),
///         Event::End => break,
///         Event::NeedMore => unreachable!("all of the request is there"),
///     }
///     input = &input[step.consumed..];
/// }
/// assert_eq!(content, b"hi");
/// assert_eq!(connection.response_done(false), Next::KeepAlive);
/// # Ok::<(), ushabti_proto::error::ProtocolError>(())
/// ```
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    /// Bound on the content of the current request.
    body_max: u64,
    /// Whether the client of the current request wants the connection kept.
    keep_alive: bool,
    /// Whether the client may still be waiting for 100 (Continue).
    continue_wanted: bool,
    /// Whether the empty line that may come before a request has come.
    empty_line_seen: bool,
}

#[derive(Debug)]
enum Phase {
    /// A head is awaited; a reader exists once there is something to remember, so that idle connections stay small.
    Head(Option<Box<HeadReader>>),
    /// Content of which this much is to come.
    Length(u64),
    Chunked(ChunkedBody),
    /// The request is complete, the response is due.
    Complete,
    Closed,
    Failed(ProtocolError),
}

impl Default for Connection {
    fn default() -> Self {
        Self::new()
    }
}

impl Connection {
    /// A connection on which nothing was received yet.
    pub fn new() -> Self {
        Self {
            phase: Phase::Head(None),
            body_max: u64::MAX,
            keep_alive: false,
            continue_wanted: false,
            empty_line_seen: false,
        }
    }

    /// Reads the next event from `input`, which holds all bytes received and not yet consumed.
    ///
    /// `consumed` counts with every event, [`Event::NeedMore`] included. Each byte is searched once, however the
    /// input is cut. After [`Event::End`] the answer is `NeedMore` with nothing consumed until
    /// [`response_done`](Self::response_done): pipelined bytes stay with the caller, who bounds them by not
    /// reading. Once the connection is to be closed, all input is consumed unseen.
    ///
    /// # Errors
    ///
    /// A fault of the peer, in the order of the bytes. The same error is returned by every later step.
    pub fn step(&mut self, input: &[u8], limits: &Limits) -> Result<Step, ProtocolError> {
        let result = match &mut self.phase {
            Phase::Head(_) => self.step_head(input, limits),
            Phase::Length(0) => {
                self.phase = Phase::Complete;
                Ok(Step { consumed: 0, event: Event::End })
            }
            Phase::Length(remaining) => {
                let taken = (input.len() as u64).min(*remaining) as usize;
                if taken == 0 {
                    return Ok(NEED_MORE);
                }
                *remaining -= taken as u64;
                self.continue_wanted = false;
                Ok(Step { consumed: taken, event: Event::Data(0..taken) })
            }
            Phase::Chunked(body) => {
                self.continue_wanted &= input.is_empty();
                body.read(input, self.body_max, limits).map(|(consumed, piece)| {
                    let event = match piece {
                        Piece::NeedMore => Event::NeedMore,
                        Piece::Data(range) => Event::Data(range),
                        Piece::End => {
                            self.phase = Phase::Complete;
                            Event::End
                        }
                    };
                    Step { consumed, event }
                })
            }
            Phase::Complete => Ok(NEED_MORE),
            Phase::Closed => Ok(Step { consumed: input.len(), event: Event::NeedMore }),
            Phase::Failed(error) => Err(*error),
        };
        if let Err(error) = result {
            self.phase = Phase::Failed(error);
        }
        result
    }

    fn step_head(&mut self, input: &[u8], limits: &Limits) -> Result<Step, ProtocolError> {
        let Phase::Head(kept) = &mut self.phase else {
            unreachable!("called in the phase of the head only");
        };
        // One empty line before a request is ignored (RFC 9112 section 2.2): some clients send CRLF after a body. It
        // begins no head, so it neither starts the clock of heads nor costs an idle connection a buffer.
        let skipped = match input {
            [b'\r'] if !self.empty_line_seen => return Ok(NEED_MORE),
            [b'\r', b'\n', ..] if !self.empty_line_seen => 2,
            _ => 0,
        };
        self.empty_line_seen |= skipped > 0;
        let input = &input[skipped..];
        let need_more = Step { consumed: skipped, event: Event::NeedMore };
        if input.is_empty() {
            return Ok(need_more);
        }
        let found = if let Some(reader) = kept {
            reader.read(input, limits)?
        } else {
            // Most heads arrive whole: their reader never leaves the stack.
            let mut reader = HeadReader::new();
            let found = reader.read(input, limits)?;
            if found.is_none() {
                *kept = Some(Box::new(reader));
            }
            found
        };
        let Some((head, length)) = found else {
            return Ok(need_more);
        };
        self.empty_line_seen = false;
        self.keep_alive = head.keep_alive();
        self.body_max = u64::MAX;
        self.phase = match head.framing() {
            BodyFraming::None => Phase::Length(0),
            BodyFraming::Length(length) => Phase::Length(length),
            BodyFraming::Chunked => Phase::Chunked(ChunkedBody::new()),
        };
        self.continue_wanted = head.expects_continue() && !matches!(self.phase, Phase::Length(0));
        Ok(Step { consumed: skipped + length, event: Event::Request(head) })
    }

    /// Bounds the content of the current request; to be called after [`Event::Request`], before the next step.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::ContentTooLarge`] at once if Content-Length exceeds the bound. A chunked body that passes
    /// it fails in [`step`](Self::step), before the chunk that would pass it is delivered.
    pub fn set_body_max(&mut self, bytes: u64) -> Result<(), ProtocolError> {
        self.body_max = bytes;
        match self.phase {
            Phase::Length(length) if length > bytes => {
                self.phase = Phase::Failed(ProtocolError::ContentTooLarge);
                Err(ProtocolError::ContentTooLarge)
            }
            _ => Ok(()),
        }
    }

    /// Whether the client waits for 100 (Continue) and none of its content was seen yet (RFC 9110 section 10.1.1).
    pub fn continue_wanted(&self) -> bool {
        self.continue_wanted
    }

    /// Notes that 100 (Continue) was sent, or that a final response takes its place.
    pub fn continue_sent(&mut self) {
        self.continue_wanted = false;
    }

    /// Notes that the final response was sent. `close` says that it told the client so, or that the server wants no
    /// more.
    ///
    /// A response that was sent before the request was complete ends the connection: what is left of the body would
    /// be read as the next request. Who wants to keep such a connection reads up to [`Event::End`] first.
    pub fn response_done(&mut self, close: bool) -> Next {
        self.continue_wanted = false;
        if !close && self.keep_alive && matches!(self.phase, Phase::Complete) {
            self.phase = Phase::Head(None);
            Next::KeepAlive
        } else {
            self.phase = Phase::Closed;
            Next::Close
        }
    }

    /// What it means that the peer sends no more (RFC 9112 section 8), `rest` being what it sent and no step has
    /// consumed.
    pub fn end_of_input(&self, rest: &[u8]) -> EndOfInput {
        match self.phase {
            // The empty line that may come before a request is no request, even if no step has seen it.
            Phase::Head(None) if matches!(rest, b"" | b"\r\n") => EndOfInput::Clean,
            Phase::Head(_) => EndOfInput::Incomplete(ProtocolError::HeadIncomplete),
            Phase::Length(0) | Phase::Complete => EndOfInput::AwaitingResponse,
            Phase::Length(_) | Phase::Chunked(_) => EndOfInput::Incomplete(ProtocolError::BodyIncomplete),
            Phase::Closed => EndOfInput::Clean,
            Phase::Failed(error) => EndOfInput::Incomplete(error),
        }
    }

    /// Whether no byte of a request was seen since the last one was answered: the clock of idle connections runs.
    pub fn is_between_requests(&self) -> bool {
        matches!(self.phase, Phase::Head(None))
    }

    /// Whether a head has begun and is not complete: the clock of heads runs.
    pub fn head_started(&self) -> bool {
        matches!(self.phase, Phase::Head(Some(_)))
    }

    /// Whether content is still to come: the clock of bodies runs.
    pub fn in_body(&self) -> bool {
        matches!(self.phase, Phase::Length(1..) | Phase::Chunked(_))
    }
}

/// The step that neither consumed nor found anything.
const NEED_MORE: Step = Step { consumed: 0, event: Event::NeedMore };
