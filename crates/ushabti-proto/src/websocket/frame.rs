//! Frames (RFC 6455 section 5.2): the header of a client's frame as it is read, and of the server's as it is written.
//!
//! Payloads are not touched here: [`crate::websocket::connection`] reads them piece by piece.

use crate::websocket::WebSocketError;

/// The longest payload of a control frame (RFC 6455 section 5.5), in bytes.
pub const CONTROL_BYTES_MAX: usize = 125;
/// The longest header of a client's frame: two bytes, a length of eight, a masking key of four.
pub const HEADER_BYTES_MAX: usize = 14;

/// In the second byte: the length is in the two bytes that follow.
const LENGTH_16: u8 = 126;
/// In the second byte: the length is in the eight bytes that follow.
const LENGTH_64: u8 = 127;
const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_RSV3: u8 = 0x30;
const MASK: u8 = 0x80;

/// What a frame is (RFC 6455 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// A further fragment of a message.
    Continuation = 0x0,
    /// A text message, or its first fragment.
    Text = 0x1,
    /// A binary message, or its first fragment.
    Binary = 0x2,
    /// The closing handshake.
    Close = 0x8,
    /// A question whether the peer is there.
    Ping = 0x9,
    /// The answer to it.
    Pong = 0xa,
}

impl Opcode {
    fn from_bits(bits: u8) -> Result<Self, WebSocketError> {
        match bits {
            0x0 => Ok(Self::Continuation),
            0x1 => Ok(Self::Text),
            0x2 => Ok(Self::Binary),
            0x8 => Ok(Self::Close),
            0x9 => Ok(Self::Ping),
            0xa => Ok(Self::Pong),
            _ => Err(WebSocketError::OpcodeReserved(bits)),
        }
    }

    /// Whether this is a control frame, which may come between the fragments of a message (RFC 6455 section 5.5).
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// The header of a client's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Whether the message ends with this frame.
    pub is_final: bool,
    /// Whether RSV1 is set: the message is compressed (RFC 7692 section 6).
    pub is_compressed: bool,
    /// What the frame is.
    pub opcode: Opcode,
    /// Bytes of payload, less than 2^63. It is what the client says, so nothing may be allocated by it.
    pub length: u64,
    /// The masking key.
    pub mask: [u8; 4],
}

impl FrameHeader {
    /// Reads the header with which `input` begins, and its length in bytes; `None` if it is not complete.
    ///
    /// `deflate_agreed` says whether RSV1 has a meaning. Faults come in the order of the bytes, so they do not depend on
    /// how the bytes were cut.
    ///
    /// # Errors
    ///
    /// What is wrong with a frame whatever came before it: reserved bits and opcodes, control frames that are long or
    /// fragmented, no mask, a length that is not in its shortest form.
    ///
    /// ```
    /// use ushabti_proto::websocket::WebSocketError;
    /// use ushabti_proto::websocket::frame::{FrameHeader, Opcode};
    ///
    /// let (header, length) = FrameHeader::parse(b"\x81\x85\x37\xfa\x21\x3d...", false)?.expect("it is complete");
    /// assert_eq!((header.opcode, header.length, length), (Opcode::Text, 5, 6));
    /// assert_eq!(FrameHeader::parse(b"\x81\x05Hello", false), Err(WebSocketError::Unmasked));
    /// # Ok::<(), WebSocketError>(())
    /// ```
    pub fn parse(input: &[u8], deflate_agreed: bool) -> Result<Option<(Self, usize)>, WebSocketError> {
        let Some((&first, rest)) = input.split_first() else {
            return Ok(None);
        };
        let is_final = first & FIN != 0;
        let is_compressed = first & RSV1 != 0;
        if first & RSV2_RSV3 != 0 || (is_compressed && !deflate_agreed) {
            return Err(WebSocketError::ReservedBits);
        }
        let opcode = Opcode::from_bits(first & 0xf)?;
        if is_compressed && !matches!(opcode, Opcode::Text | Opcode::Binary) {
            return Err(WebSocketError::Rsv1Misplaced);
        }
        if opcode.is_control() && !is_final {
            return Err(WebSocketError::ControlFragmented);
        }
        let Some((&second, rest)) = rest.split_first() else {
            return Ok(None);
        };
        if second & MASK == 0 {
            return Err(WebSocketError::Unmasked);
        }
        let short = second & !MASK;
        if opcode.is_control() && usize::from(short) > CONTROL_BYTES_MAX {
            return Err(WebSocketError::ControlTooLong);
        }
        let (length, rest) = match short {
            LENGTH_16 => match rest.split_first_chunk() {
                Some((&bytes, _)) if u16::from_be_bytes(bytes) < u16::from(LENGTH_16) => {
                    return Err(WebSocketError::LengthNotMinimal);
                }
                Some((&bytes, rest)) => (u64::from(u16::from_be_bytes(bytes)), rest),
                None => return Ok(None),
            },
            LENGTH_64 => {
                if rest.first().is_some_and(|&byte| byte & 0x80 != 0) {
                    return Err(WebSocketError::LengthOverflow);
                }
                match rest.split_first_chunk() {
                    Some((&bytes, _)) if bytes.starts_with(&[0; 6]) => {
                        return Err(WebSocketError::LengthNotMinimal);
                    }
                    Some((&bytes, rest)) => (u64::from_be_bytes(bytes), rest),
                    None => return Ok(None),
                }
            }
            short => (u64::from(short), rest),
        };
        let Some((&mask, rest)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        Ok(Some((Self { is_final, is_compressed, opcode, length, mask }, input.len() - rest.len())))
    }
}

/// Appends the header of a server's frame, final and not masked, with the length in its shortest form (RFC 6455
/// section 5.2). `length` bytes of payload must follow.
///
/// `is_compressed` sets RSV1, which only the frame of a message may have (RFC 7692 section 6).
///
/// ```
/// use ushabti_proto::websocket::frame::{Opcode, encode_header};
///
/// let mut out = Vec::new();
/// encode_header(&mut out, Opcode::Binary, false, 256);
/// assert_eq!(out, [0x82, 126, 1, 0]);
/// ```
pub fn encode_header(out: &mut Vec<u8>, opcode: Opcode, is_compressed: bool, length: usize) {
    let rsv1 = if is_compressed { RSV1 } else { 0 };
    out.push(FIN | rsv1 | opcode as u8);
    match length {
        0..126 => out.push(length as u8),
        126..=0xffff => {
            out.push(LENGTH_16);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(LENGTH_64);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Appends a whole frame of the server, not compressed.
///
/// ```
/// use ushabti_proto::websocket::frame::{Opcode, encode_frame};
///
/// let mut out = Vec::new();
/// encode_frame(&mut out, Opcode::Text, b"Hello");
/// assert_eq!(out, b"\x81\x05Hello");
/// ```
///
/// # Panics
///
/// If a control frame is to hold more than [`CONTROL_BYTES_MAX`].
pub fn encode_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    assert!(!opcode.is_control() || payload.len() <= CONTROL_BYTES_MAX, "a control frame holds 125 bytes at most");
    out.reserve(payload.len() + HEADER_BYTES_MAX);
    encode_header(out, opcode, false, payload.len());
    out.extend_from_slice(payload);
}
