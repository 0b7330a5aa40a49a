//! WebSocket as a server speaks it (RFC 6455), with permessage-deflate (RFC 7692).
//!
//! [`handshake`] reads the upgrade request and says what the 101 holds; from then on [`connection::Connection`] reads
//! what the client sends. [`frame`], [`mask`], [`utf8`], [`message`] and [`deflate`] are its parts, and hold the
//! encoders for what the server sends: frames are appended to a buffer of the caller, so that one encoding can go to
//! many receivers.

use std::fmt;

pub mod connection;
pub mod deflate;
pub mod frame;
pub mod handshake;
pub mod mask;
pub mod message;
pub mod utf8;

/// Close codes that a server gives or reports (RFC 6455 section 7.4.1).
pub mod close_code {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The server is going down, or the client leaves the page.
    pub const GOING_AWAY: u16 = 1001;
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// Data of a kind that the application does not take.
    pub const UNSUPPORTED_DATA: u16 = 1003;
    /// Never sent: what is reported for a Close frame without a code.
    pub const NO_STATUS: u16 = 1005;
    /// Never sent: what is reported when the connection ended without a Close frame.
    pub const ABNORMAL: u16 = 1006;
    /// Data that is not of its kind: text that is no UTF-8, compressed data that cannot be inflated.
    pub const INVALID_DATA: u16 = 1007;
    /// The application's policy forbids what was sent.
    pub const POLICY_VIOLATION: u16 = 1008;
    /// A message beyond the limit.
    pub const MESSAGE_TOO_BIG: u16 = 1009;
    /// The server failed to go on, as when a handler raises.
    pub const INTERNAL_ERROR: u16 = 1011;
    /// The server is overloaded: the client may try again later.
    pub const TRY_AGAIN_LATER: u16 = 1013;

    /// Whether a Close frame may hold this code (RFC 6455 section 7.4, and the codes that IANA has registered since).
    ///
    /// ```
    /// use ushabti_proto::websocket::close_code::may_be_sent;
    ///
    /// assert!(may_be_sent(1000) && may_be_sent(4999));
    /// assert!(!may_be_sent(1005) && !may_be_sent(2000));
    /// ```
    pub const fn may_be_sent(code: u16) -> bool {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// A fault of the peer, for which the connection must be failed with [`close_code`](Self::close_code) (RFC 6455
/// section 7.1.7).
///
/// The framing of whatever follows a fault cannot be trusted, so there is no error after which reading goes on.
///
/// ```
/// use ushabti_proto::websocket::WebSocketError;
///
/// let error = WebSocketError::OpcodeReserved(3);
/// assert_eq!(error.close_code(), 1002);
/// assert_eq!(error.section(), "RFC 6455 section 5.2");
/// assert_eq!(error.to_string(), "the opcode is reserved (0x3)");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WebSocketError {
    /// RSV2 or RSV3 is set, or RSV1 though no extension was agreed that gives it a meaning.
    ReservedBits,
    /// RSV1 on a frame that is not the first of a data message.
    Rsv1Misplaced,
    /// An opcode that no frame has.
    OpcodeReserved(u8),
    /// A control frame that is not final.
    ControlFragmented,
    /// A control frame of more than 125 bytes.
    ControlTooLong,
    /// A frame of a client that is not masked.
    Unmasked,
    /// A length in more bytes than it needs.
    LengthNotMinimal,
    /// A length of 64 bits whose highest bit is set.
    LengthOverflow,
    /// A continuation frame, but no message has begun.
    NothingToContinue,
    /// A new message inside of one that is not complete.
    MessageInsideMessage,
    /// A Close frame with a payload of one byte.
    ClosePayload,
    /// A close code that no Close frame may hold.
    CloseCode(u16),
    /// A close reason that is not UTF-8.
    CloseReason,
    /// A text message that is not UTF-8.
    InvalidUtf8,
    /// Compressed data that cannot be inflated, or ends inside of a block.
    InvalidDeflate,
    /// The message passes the limit, compressed or inflated.
    MessageTooBig,
}

impl WebSocketError {
    /// The code of the Close frame that tells the peer: 1002, 1007 or 1009.
    pub fn close_code(&self) -> u16 {
        self.facts().0
    }

    /// The RFC and section that the peer did not keep to, such as `RFC 6455 section 5.1`.
    pub fn section(&self) -> &'static str {
        self.facts().1
    }

    /// Close code, section and sentence: one row for each error, so that none can lack one of them. It reads as a
    /// table, so it is laid out as one.
    #[rustfmt::skip]
    fn facts(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::ReservedBits => (1002, "RFC 6455 section 5.2", "a reserved bit is set"),
            Self::Rsv1Misplaced => (1002, "RFC 7692 section 6", "a frame that begins no message is marked as compressed"),
            Self::OpcodeReserved(_) => (1002, "RFC 6455 section 5.2", "the opcode is reserved"),
            Self::ControlFragmented => (1002, "RFC 6455 section 5.5", "a control frame is fragmented"),
            Self::ControlTooLong => (1002, "RFC 6455 section 5.5", "a control frame is longer than 125 bytes"),
            Self::Unmasked => (1002, "RFC 6455 section 5.1", "a frame is not masked"),
            Self::LengthNotMinimal => (1002, "RFC 6455 section 5.2", "a length takes more bytes than it needs"),
            Self::LengthOverflow => (1002, "RFC 6455 section 5.2", "a length is beyond 63 bits"),
            Self::NothingToContinue => (1002, "RFC 6455 section 5.4", "there is no message to continue"),
            Self::MessageInsideMessage => (1002, "RFC 6455 section 5.4", "a message begins inside of another"),
            Self::ClosePayload => (1002, "RFC 6455 section 5.5.1", "a Close frame has half a close code"),
            Self::CloseCode(_) => (1002, "RFC 6455 section 7.4", "the close code may not be sent"),
            Self::CloseReason => (1007, "RFC 6455 section 5.5.1", "the close reason is not UTF-8"),
            Self::InvalidUtf8 => (1007, "RFC 6455 section 8.1", "a text message is not UTF-8"),
            Self::InvalidDeflate => (1007, "RFC 7692 section 7.2.2", "a compressed message cannot be inflated"),
            Self::MessageTooBig => (1009, "RFC 6455 section 7.4.1", "the message is too big"),
        }
    }
}

impl fmt::Display for WebSocketError {
    /// One plain sentence, short enough for the reason of a Close frame; where one number is at fault, its value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.facts().2)?;
        match *self {
            Self::OpcodeReserved(opcode) => write!(f, " (0x{opcode:x})"),
            Self::CloseCode(code) => write!(f, " ({code})"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for WebSocketError {}
