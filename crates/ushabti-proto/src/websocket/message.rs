//! Messages (RFC 6455 section 5.4 and 5.6): put together from their fragments, and written as one frame.

use crate::websocket::WebSocketError;
use crate::websocket::deflate::{Deflater, InflateError, Inflater, Inflaters, grow};
use crate::websocket::frame::{HEADER_BYTES_MAX, Opcode, encode_frame, encode_header};
use crate::websocket::utf8::check_growing;

/// Room for a message that comes in pieces, at first. It is doubled as the bytes come, up to the limit: what a client
/// says of its length is not believed.
const MESSAGE_BYTES_START: usize = 512;

/// The two kinds of messages (RFC 6455 section 5.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8.
    Text,
    /// Bytes.
    Binary,
}

impl MessageKind {
    const fn opcode(self) -> Opcode {
        match self {
            Self::Text => Opcode::Text,
            Self::Binary => Opcode::Binary,
        }
    }
}

/// A complete message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it holds.
    pub kind: MessageKind,
    /// Its data, inflated. That of a text message is valid UTF-8.
    pub data: Vec<u8>,
}

/// A message of which the end is still to come. It is checked as it grows.
#[derive(Debug)]
pub(crate) struct MessageReader {
    kind: MessageKind,
    data: Vec<u8>,
    /// How much of a text is known to be complete characters.
    checked: usize,
    compressed: Option<Compressed>,
}

#[derive(Debug)]
struct Compressed {
    inflater: Inflater,
    /// Bytes of all frames so far, as their headers say.
    announced: u64,
}

impl MessageReader {
    /// A message of which nothing was read yet; compressed if there is an inflater.
    pub(crate) fn new(kind: MessageKind, inflater: Option<Inflater>) -> Self {
        let compressed = inflater.map(|inflater| Compressed { inflater, announced: 0 });
        Self { kind, data: Vec::new(), checked: 0, compressed }
    }

    /// Checks the length in the header of a further fragment, of which no payload was read yet, against the limit.
    pub(crate) fn announce(&mut self, length: u64, limit: usize) -> Result<(), WebSocketError> {
        let (before, max) = match &self.compressed {
            None => (self.data.len() as u64, limit as u64),
            Some(compressed) => (compressed.announced, compressed_bytes_max(limit)),
        };
        let announced = before.saturating_add(length);
        if announced > max {
            return Err(WebSocketError::MessageTooBig);
        }
        if let Some(compressed) = &mut self.compressed {
            compressed.announced = announced;
        }
        Ok(())
    }

    /// Takes a piece of an announced payload, unmasked.
    pub(crate) fn push(&mut self, piece: &[u8], limit: usize) -> Result<(), WebSocketError> {
        if let Some(compressed) = &mut self.compressed {
            let inflated = compressed.inflater.inflate(piece, &mut self.data, limit);
            self.check_text()?;
            return inflated.map_err(fault_of);
        }
        while self.data.capacity() - self.data.len() < piece.len() {
            let max = limit.max(self.data.len() + piece.len());
            grow(&mut self.data, MESSAGE_BYTES_START.max(piece.len()), max);
        }
        self.data.extend_from_slice(piece);
        self.check_text()
    }

    /// Ends the message. The inflater is given back, or to `kept` if its window is wanted again.
    pub(crate) fn finish(
        mut self,
        limit: usize,
        inflaters: &mut Inflaters,
        kept: Option<&mut Option<Box<Inflater>>>,
    ) -> Result<Message, WebSocketError> {
        if let Some(Compressed { mut inflater, .. }) = self.compressed.take() {
            inflater.finish(&mut self.data, limit, kept.is_some()).map_err(fault_of)?;
            match kept {
                Some(kept) => *kept = Some(Box::new(inflater)),
                None => inflaters.give_back(inflater),
            }
        }
        if self.kind == MessageKind::Text && self.checked < self.data.len() {
            return Err(WebSocketError::InvalidUtf8);
        }
        Ok(Message { kind: self.kind, data: self.data })
    }

    fn check_text(&mut self) -> Result<(), WebSocketError> {
        match self.kind {
            MessageKind::Text => check_growing(&self.data, &mut self.checked).map_err(|_| WebSocketError::InvalidUtf8),
            MessageKind::Binary => Ok(()),
        }
    }
}

/// A message that came whole in one frame, which most do: one copy, and one check of the text.
pub(crate) fn whole_message(kind: MessageKind, payload: &[u8]) -> Result<Message, WebSocketError> {
    if kind == MessageKind::Text && std::str::from_utf8(payload).is_err() {
        return Err(WebSocketError::InvalidUtf8);
    }
    Ok(Message { kind, data: payload.to_vec() })
}

fn fault_of(error: InflateError) -> WebSocketError {
    match error {
        InflateError::Malformed => WebSocketError::InvalidDeflate,
        InflateError::TooBig => WebSocketError::MessageTooBig,
    }
}

/// How long a compressed message may be: data that does not shrink grows a little. Without this bound, blocks that hold
/// nothing could come forever.
fn compressed_bytes_max(limit: usize) -> u64 {
    let limit = limit as u64;
    limit.saturating_add(limit / 8).saturating_add(1024)
}

/// Appends a message as one frame (RFC 6455 section 5.6). It goes to any receiver.
///
/// ```
/// use ushabti_proto::websocket::message::{MessageKind, encode_message};
///
/// let mut out = Vec::new();
/// encode_message(&mut out, MessageKind::Text, "Hello".as_bytes());
/// assert_eq!(out, b"\x81\x05Hello");
/// ```
pub fn encode_message(out: &mut Vec<u8>, kind: MessageKind, data: &[u8]) {
    encode_frame(out, kind.opcode(), data);
}

/// Appends a message as one compressed frame (RFC 7692 section 7.2.1), or as [`encode_message`] does if compression
/// does not make it shorter.
///
/// It goes to any receiver with whom compression with this deflater's window, or a larger one, was agreed.
pub fn encode_compressed(out: &mut Vec<u8>, kind: MessageKind, data: &[u8], deflater: &mut Deflater) {
    let payload = deflater.deflate(data);
    if payload.len() < data.len() {
        out.reserve(payload.len() + HEADER_BYTES_MAX);
        encode_header(out, kind.opcode(), true, payload.len());
        out.extend_from_slice(payload);
    } else {
        encode_message(out, kind, data);
    }
}
