//! One WebSocket connection as the server sees it, as a state machine: all its transitions are in this file.
//!
//! ```text
//!        close()                 Close of the peer
//! Open ───────────▶ Closing ────────────────────────▶ Closed
//!   └──────────────── Close of the peer, echoed ────▶ Closed
//! Open, Closing ── a fault of the peer ──▶ Failed
//! ```
//!
//! It consumes all that it is given, so whoever owns the socket reads into one buffer for all connections. Between two
//! frames nothing is kept, and inside of a frame only what its message has so far.

use std::fmt;

use crate::websocket::WebSocketError;
use crate::websocket::close_code::{NO_STATUS, may_be_sent};
use crate::websocket::deflate::{DeflateAgreement, Inflater, Inflaters};
use crate::websocket::frame::{CONTROL_BYTES_MAX, FrameHeader, HEADER_BYTES_MAX, Opcode, encode_frame};
use crate::websocket::mask::apply_mask;
use crate::websocket::message::{Message, MessageKind, MessageReader, whole_message};

/// The longest reason of a Close frame, in bytes: what is left of 125 beside the code.
pub const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// Bounds on what one connection may make the server hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one message, all its fragments together and inflated; beyond it close code 1009.
    pub message_bytes_max: usize,
}

/// What a Close frame says (RFC 6455 section 5.5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// The close code; [`NO_STATUS`] if the frame has none.
    pub code: u16,
    /// The reason, often empty.
    pub reason: String,
}

/// What [`Connection::step`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Nothing more can be said without more bytes. All input was consumed.
    NeedMore,
    /// A message is complete.
    Message(Message),
    /// A ping with this payload. Its pong is in the replies.
    Ping(Vec<u8>),
    /// A pong with this payload, whether it was asked for or not.
    Pong(Vec<u8>),
    /// The peer's Close frame. If it is the first of the two, its echo is in the replies. When they are written, the
    /// server closes the connection (RFC 6455 section 7.1.1). What still comes is consumed unseen.
    Close(Close),
}

/// An [`Event`], and how far the input was read for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Bytes at the start of the input that must not be offered again, whatever the event.
    pub consumed: usize,
    /// What was found.
    pub event: Event,
}

/// What the end of the peer's bytes means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndOfInput {
    /// Its Close frame had come before: the closing handshake is complete.
    Clean,
    /// There was none: the close code to report is 1006 (RFC 6455 section 7.1.5).
    Abnormal,
}

/// Why a Close frame cannot be sent as the application wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseError {
    /// No Close frame may hold this code.
    Code(u16),
    /// The reason has this many bytes and fits no control frame.
    ReasonTooLong(usize),
}

impl fmt::Display for CloseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => {
                write!(f, "close code {code} cannot be sent: use 1000, one of 1001 to 1014 that is, or 3000 to 4999")
            }
            Self::ReasonTooLong(length) => {
                write!(f, "close reason of {length} bytes exceeds {REASON_BYTES_MAX} bytes of UTF-8: shorten it")
            }
        }
    }
}

impl std::error::Error for CloseError {}

/// The protocol state of one connection after its handshake (RFC 6455 sections 5 to 7).
///
/// ```
/// use ushabti_proto::websocket::connection::{Connection, Event, Limits};
/// use ushabti_proto::websocket::deflate::Inflaters;
///
/// let limits = Limits { message_bytes_max: 1024 * 1024 };
/// let (mut inflaters, mut replies) = (Inflaters::new(), Vec::new());
/// let mut connection = Connection::new(None);
/// let mut received = *b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
/// let mut input = received.as_mut_slice();
/// loop {
///     let step = connection.step(input, limits, &mut inflaters, &mut replies)?;
///     match step.event {
///         Event::NeedMore => break,
///         Event::Message(message) => assert_eq!(message.data, b"Hello"),
///         other => unreachable!("one message was sent, but {other:?}"),
///     }
///     input = &mut input[step.consumed..];
/// }
/// assert!(replies.is_empty());
/// # Ok::<(), ushabti_proto::websocket::WebSocketError>(())
/// ```
#[derive(Debug)]
pub struct Connection {
    state: State,
    deflate: Option<DeflateAgreement>,
    /// The begun header of a frame.
    head: [u8; HEADER_BYTES_MAX],
    head_length: u8,
    /// The frame of which payload is still to come. Boxed: most connections are between two frames.
    frame: Option<Box<Frame>>,
    message: Option<Box<MessageReader>>,
    /// The window of the client's earlier messages, if it may refer back to them.
    window: Option<Box<Inflater>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Our Close frame was written, the peer's is due.
    Closing,
    /// The peer's Close frame has come.
    Closed,
    Failed(WebSocketError),
}

#[derive(Debug)]
struct Frame {
    header: FrameHeader,
    /// Bytes of its payload that were read.
    position: u64,
    /// These bytes, of a control frame.
    control: Vec<u8>,
}

impl Connection {
    /// A connection whose 101 was sent, with the compression that was agreed in it.
    pub fn new(deflate: Option<DeflateAgreement>) -> Self {
        Self {
            state: State::Open,
            deflate,
            head: [0; HEADER_BYTES_MAX],
            head_length: 0,
            frame: None,
            message: None,
            window: None,
        }
    }

    /// Reads the next event from `input`, which is what was received and not yet consumed. It is unmasked in place.
    ///
    /// Whatever must be sent back is appended to `replies`: pongs, the echo of a Close frame, the Close frame that
    /// tells a fault. Whoever owns the socket bounds them by not reading on while they cannot be written.
    ///
    /// # Errors
    ///
    /// A fault of the peer, in the order of the bytes. The connection must be closed when the replies are written. The
    /// same error is returned by every later step.
    pub fn step(
        &mut self,
        input: &mut [u8],
        limits: Limits,
        inflaters: &mut Inflaters,
        replies: &mut Vec<u8>,
    ) -> Result<Step, WebSocketError> {
        match self.state {
            State::Open | State::Closing => {}
            State::Closed => return Ok(Step { consumed: input.len(), event: Event::NeedMore }),
            State::Failed(error) => return Err(error),
        }
        let result = self.read(input, limits, inflaters, replies);
        if let Err(error) = result {
            if self.state == State::Open {
                encode_close(replies, Some(error.close_code()), &error.to_string());
            }
            self.end(State::Failed(error));
        }
        result
    }

    fn read(
        &mut self,
        input: &mut [u8],
        limits: Limits,
        inflaters: &mut Inflaters,
        replies: &mut Vec<u8>,
    ) -> Result<Step, WebSocketError> {
        let mut consumed = 0;
        loop {
            let mut frame = if let Some(begun) = self.frame.take() {
                *begun
            } else {
                let Some((header, length)) = self.read_header(&input[consumed..])? else {
                    return Ok(Step { consumed: input.len(), event: Event::NeedMore });
                };
                consumed += length;
                if !header.opcode.is_control() {
                    self.begin_fragment(&header, limits, inflaters)?;
                }
                Frame { header, position: 0, control: Vec::new() }
            };
            let header = frame.header;
            let rest = &mut input[consumed..];
            let taken = (rest.len() as u64).min(header.length - frame.position) as usize;
            let payload = &mut rest[..taken];
            apply_mask(payload, header.mask, frame.position);
            frame.position += taken as u64;
            consumed += taken;
            let is_complete = frame.position == header.length;
            let event = if header.opcode.is_control() {
                if !is_complete {
                    frame.control.extend_from_slice(payload);
                    None
                } else if frame.control.is_empty() {
                    Some(self.control_event(header.opcode, payload, replies)?)
                } else {
                    frame.control.extend_from_slice(payload);
                    Some(self.control_event(header.opcode, &frame.control, replies)?)
                }
            } else {
                self.data_event(&header, payload, is_complete, limits, inflaters)?.map(Event::Message)
            };
            match event {
                Some(event) => return Ok(Step { consumed, event }),
                None if is_complete => {}
                None => {
                    self.frame = Some(Box::new(frame));
                    return Ok(Step { consumed, event: Event::NeedMore });
                }
            }
        }
    }

    /// Reads the header of a frame, and how much of `input` it takes. What is there of one that is not complete is
    /// kept.
    fn read_header(&mut self, input: &[u8]) -> Result<Option<(FrameHeader, usize)>, WebSocketError> {
        let deflate_agreed = self.deflate.is_some();
        let kept = usize::from(self.head_length);
        if kept == 0 {
            let found = FrameHeader::parse(input, deflate_agreed)?;
            if found.is_none() {
                self.head[..input.len()].copy_from_slice(input);
                self.head_length = input.len() as u8;
            }
            return Ok(found);
        }
        let added = input.len().min(HEADER_BYTES_MAX - kept);
        self.head[kept..kept + added].copy_from_slice(&input[..added]);
        let found = FrameHeader::parse(&self.head[..kept + added], deflate_agreed)?;
        self.head_length = if found.is_none() { (kept + added) as u8 } else { 0 };
        Ok(found.map(|(header, length)| (header, length - kept)))
    }

    /// Checks a data frame against the message in which it comes (RFC 6455 section 5.4), and its length against the
    /// limit, before any of it is kept.
    fn begin_fragment(
        &mut self,
        header: &FrameHeader,
        limits: Limits,
        inflaters: &mut Inflaters,
    ) -> Result<(), WebSocketError> {
        let kind = match (header.opcode, &self.message) {
            (Opcode::Continuation, None) => return Err(WebSocketError::NothingToContinue),
            (Opcode::Continuation, Some(_)) => None,
            (_, Some(_)) => return Err(WebSocketError::MessageInsideMessage),
            (opcode, None) => Some(kind_of(opcode)),
        };
        if let Some(kind) = kind {
            if header.is_final && !header.is_compressed {
                // Most likely it is all there and needs no reader.
                return if header.length > limits.message_bytes_max as u64 {
                    Err(WebSocketError::MessageTooBig)
                } else {
                    Ok(())
                };
            }
            self.message = Some(Box::new(self.reader(kind, header.is_compressed, inflaters)));
        }
        let reader = self.message.as_mut().expect("a message is continued, or was begun above");
        reader.announce(header.length, limits.message_bytes_max)
    }

    fn reader(&mut self, kind: MessageKind, is_compressed: bool, inflaters: &mut Inflaters) -> MessageReader {
        let inflater = is_compressed.then(|| match self.window.take() {
            Some(window) => *window,
            None => inflaters.take(),
        });
        MessageReader::new(kind, inflater)
    }

    /// Takes a piece of the payload of a data frame; the message, if it ends with it.
    fn data_event(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
        is_complete: bool,
        limits: Limits,
        inflaters: &mut Inflaters,
    ) -> Result<Option<Message>, WebSocketError> {
        let reader = match &mut self.message {
            Some(reader) => reader,
            None if is_complete => return whole_message(kind_of(header.opcode), payload).map(Some),
            // Its first piece is what costs a reader, not its header.
            None if payload.is_empty() => return Ok(None),
            none => none.insert(Box::new(MessageReader::new(kind_of(header.opcode), None))),
        };
        reader.push(payload, limits.message_bytes_max)?;
        if !(is_complete && header.is_final) {
            return Ok(None);
        }
        let reader = self.message.take().expect("it was pushed to above");
        let keeps_window = self.deflate.is_some_and(|agreed| agreed.client_context_takeover());
        reader.finish(limits.message_bytes_max, inflaters, keeps_window.then_some(&mut self.window)).map(Some)
    }

    fn control_event(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        replies: &mut Vec<u8>,
    ) -> Result<Event, WebSocketError> {
        match opcode {
            Opcode::Ping => {
                // After our Close frame nothing more is sent (RFC 6455 section 5.5.1).
                if self.state == State::Open {
                    encode_frame(replies, Opcode::Pong, payload);
                }
                Ok(Event::Ping(payload.to_vec()))
            }
            Opcode::Pong => Ok(Event::Pong(payload.to_vec())),
            _ => {
                let close = parse_close(payload)?;
                if self.state == State::Open {
                    encode_close(replies, Some(close.code).filter(|&code| code != NO_STATUS), "");
                }
                self.end(State::Closed);
                Ok(Event::Close(close))
            }
        }
    }

    /// Nothing more is read: what was kept is dropped.
    fn end(&mut self, state: State) {
        self.state = state;
        self.frame = None;
        self.message = None;
        self.window = None;
    }

    /// Begins the closing handshake (RFC 6455 section 7.1.2): appends a Close frame to `out`, after which nothing may be
    /// sent. False, and nothing is written, if a Close frame was sent or received before.
    ///
    /// Messages that come before the peer's Close frame are still read; what they are worth is the caller's decision.
    /// So is for how long it waits.
    ///
    /// # Errors
    ///
    /// [`CloseError`] if the code or the reason fits no Close frame. The connection is as before.
    ///
    /// ```
    /// use ushabti_proto::websocket::connection::Connection;
    ///
    /// let (mut connection, mut out) = (Connection::new(None), Vec::new());
    /// assert_eq!(connection.close(1001, "bye", &mut out), Ok(true));
    /// assert_eq!(out, b"\x88\x05\x03\xe9bye");
    /// assert_eq!(connection.close(1001, "bye", &mut out), Ok(false));
    /// ```
    pub fn close(&mut self, code: u16, reason: &str, out: &mut Vec<u8>) -> Result<bool, CloseError> {
        check_close(code, reason)?;
        let is_first = self.state == State::Open;
        if is_first {
            encode_close(out, Some(code), reason);
            self.state = State::Closing;
        }
        Ok(is_first)
    }

    /// Whether messages and pings may be sent: neither side has sent a Close frame, and the peer has made no fault.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether nothing is kept for this connection: no frame has begun, no message is incomplete.
    pub fn is_between_messages(&self) -> bool {
        self.head_length == 0 && self.frame.is_none() && self.message.is_none()
    }

    /// What it means that the peer sends no more.
    pub fn end_of_input(&self) -> EndOfInput {
        if self.state == State::Closed { EndOfInput::Clean } else { EndOfInput::Abnormal }
    }
}

/// Whether a Close frame can hold this (RFC 6455 section 5.5.1): to be asked before it is handed to another thread.
///
/// # Errors
///
/// [`CloseError`].
pub fn check_close(code: u16, reason: &str) -> Result<(), CloseError> {
    if !may_be_sent(code) {
        return Err(CloseError::Code(code));
    }
    if reason.len() > REASON_BYTES_MAX {
        return Err(CloseError::ReasonTooLong(reason.len()));
    }
    Ok(())
}

fn kind_of(opcode: Opcode) -> MessageKind {
    if opcode == Opcode::Text { MessageKind::Text } else { MessageKind::Binary }
}

/// Reads the payload of a Close frame (RFC 6455 section 5.5.1).
fn parse_close(payload: &[u8]) -> Result<Close, WebSocketError> {
    let Some((&code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(Close { code: NO_STATUS, reason: String::new() })
        } else {
            Err(WebSocketError::ClosePayload)
        };
    };
    let code = u16::from_be_bytes(code);
    if !may_be_sent(code) {
        return Err(WebSocketError::CloseCode(code));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| WebSocketError::CloseReason)?;
    Ok(Close { code, reason: reason.to_owned() })
}

fn encode_close(out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
    let mut payload = Vec::with_capacity(2 + reason.len());
    if let Some(code) = code {
        payload.extend_from_slice(&code.to_be_bytes());
        payload.extend_from_slice(reason.as_bytes());
    }
    encode_frame(out, Opcode::Close, &payload);
}
