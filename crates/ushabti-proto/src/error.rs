//! What a peer can do wrong, which section of which RFC says so, and the status that answers it.
//!
//! One enum for all of HTTP/1.1, small and `Copy`: an error is made on the hot path of an attack and must cost
//! nothing. The sentence of each error stands here once; the response body and the log line both use it.

use std::fmt;

/// A fault of the peer, after which its connection must be answered with [`status`](Self::status) and closed.
///
/// The framing of whatever follows a fault cannot be trusted, so there is no error after which reading goes on.
///
/// ```
/// use ushabti_proto::error::ProtocolError;
///
/// let error = ProtocolError::ContentLengthRepeated;
/// assert_eq!(error.status(), 400);
/// assert_eq!(error.section(), "RFC 9112 section 6.3");
/// assert_eq!(error.to_string(), "Content-Length is given more than once");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The first byte of a request cannot begin a method, as in a TLS handshake on a plain port.
    NotHttp(u8),
    /// LF without CR before it.
    BareLineFeed,
    /// CR without LF after it.
    BareCarriageReturn,
    /// The request line has not exactly the three parts method, target and version.
    RequestLineSyntax,
    /// The method is not a token.
    MethodSyntax,
    /// The method is longer than any method there is.
    MethodTooLong,
    /// A byte that no request target may hold.
    TargetSyntax(u8),
    /// The request target is in none of the four forms, or in a form that its method does not take.
    TargetForm,
    /// The authority inside the request target is malformed, has user information, or lacks a host or port.
    TargetAuthority,
    /// The request line passes the limit of its length.
    TargetTooLong,
    /// The HTTP version is malformed.
    VersionSyntax,
    /// A well-formed HTTP version of another major number.
    VersionUnsupported,
    /// Request line and fields together pass the limit of bytes.
    HeadTooLarge,
    /// More field lines than the limit.
    TooManyFields,
    /// A field line without a colon.
    FieldWithoutColon,
    /// A field line that begins with its colon.
    FieldNameEmpty,
    /// A byte in a field name that no token may hold.
    FieldNameSyntax(u8),
    /// White space between a field name and its colon.
    SpaceBeforeColon,
    /// White space before the first field line.
    SpaceBeforeFields,
    /// A field line continued on the next line (obs-fold).
    LineFolding,
    /// A control character in a field value.
    FieldValueSyntax(u8),
    /// An HTTP/1.1 request without Host.
    HostMissing,
    /// More than one Host.
    HostRepeated,
    /// A Host that is not `uri-host [ ":" port ]`.
    HostSyntax,
    /// HTTP/2: an authority, or a Host in its place, without anything in it.
    HostEmpty,
    /// HTTP/2: a Host that names another than the authority does.
    HostDiffers,
    /// HTTP/2: a field about the connection, which frames it by itself.
    FieldOfConnection,
    /// HTTP/2: a field value that begins or ends with white space.
    SpaceAroundValue,
    /// HTTP/2: a scheme that is neither `http` nor `https`.
    SchemeUnknown,
    /// HTTP/2: a request without a target.
    TargetMissing,
    /// HTTP/2: a CONNECT for another protocol than WebSocket.
    ProtocolUnknown,
    /// A Content-Length that is not a plain decimal number.
    ContentLengthSyntax,
    /// A Content-Length of more digits than any length has.
    ContentLengthOverflow,
    /// More than one Content-Length, equal or not.
    ContentLengthRepeated,
    /// Both Content-Length and Transfer-Encoding.
    LengthAndCoding,
    /// A malformed Transfer-Encoding.
    TransferCodingSyntax,
    /// A Transfer-Encoding whose last coding is not chunked: the end of the body cannot be found.
    TransferCodingNotChunked,
    /// Chunked more than once.
    TransferCodingRepeated,
    /// A coding below chunked that this server does not know.
    TransferCodingUnknown,
    /// Transfer-Encoding in HTTP/1.0.
    TransferCodingInHttp10,
    /// An expectation other than 100-continue.
    ExpectationUnknown,
    /// The content passes the limit that applies to this request.
    ContentTooLarge,
    /// A chunk line that does not begin with a hexadecimal number.
    ChunkSizeSyntax(u8),
    /// A chunk size of more digits than any size has.
    ChunkSizeOverflow,
    /// A malformed chunk extension.
    ChunkExtensionSyntax(u8),
    /// Chunk extensions that are longer than a line may be, or that outweigh the content.
    ChunkExtensionsTooLong,
    /// Chunk data that is not followed by CRLF: its size was a lie.
    ChunkDataEnd,
    /// A trailer section that passes the limits of a header section.
    TrailersTooLarge,
    /// The peer closed in the middle of a request head.
    HeadIncomplete,
    /// The peer closed in the middle of a request body.
    BodyIncomplete,
    /// The head was not complete in time. Raised by the owner of the clocks.
    HeadTimeout,
    /// The body stalled for too long. Raised by the owner of the clocks.
    BodyTimeout,
}

impl ProtocolError {
    /// The status of the response that ends the connection: one of 400, 408, 413, 414, 417, 431, 501, 505.
    pub fn status(&self) -> u16 {
        self.facts().0
    }

    /// The RFC and section that the peer did not keep to, such as `RFC 9112 section 5.1`.
    pub fn section(&self) -> &'static str {
        self.facts().1
    }

    /// Status, section and sentence: one row for each error, so that none can lack one of them. It reads as a table, so
    /// it is laid out as one.
    #[rustfmt::skip]
    fn facts(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::NotHttp(_) => (400, "RFC 9112 section 3", "the first byte cannot begin an HTTP request"),
            Self::BareLineFeed => (400, "RFC 9112 section 2.2", "a line ends with LF alone instead of CRLF"),
            Self::BareCarriageReturn => (400, "RFC 9112 section 2.2", "a CR is not followed by LF"),
            Self::RequestLineSyntax => (400, "RFC 9112 section 3", "the request line has not three parts"),
            Self::MethodSyntax => (400, "RFC 9112 section 3.1", "the method is not a token"),
            Self::MethodTooLong => (501, "RFC 9112 section 3", "the method is longer than any method known here"),
            Self::TargetSyntax(_) => (400, "RFC 9112 section 3.2", "the target holds a forbidden character"),
            Self::TargetForm => (400, "RFC 9112 section 3.2", "the target has no form that its method takes"),
            Self::TargetAuthority => (400, "RFC 9112 section 3.2", "the authority in the target is malformed"),
            Self::TargetTooLong => (414, "RFC 9110 section 15.5.15", "the request target is too long"),
            Self::VersionSyntax => (400, "RFC 9112 section 2.3", "the HTTP version is malformed"),
            Self::VersionUnsupported => (505, "RFC 9110 section 15.6.6", "only HTTP/1.0 and HTTP/1.1 are spoken here"),
            Self::HeadTooLarge => (431, "RFC 6585 section 5", "the header fields are too large"),
            Self::TooManyFields => (431, "RFC 6585 section 5", "there are too many header fields"),
            Self::FieldWithoutColon => (400, "RFC 9112 section 5", "a field line has no colon"),
            Self::FieldNameEmpty => (400, "RFC 9112 section 5", "a field line has no name"),
            Self::FieldNameSyntax(_) => (400, "RFC 9110 section 5.1", "a field name is not a token"),
            Self::SpaceBeforeColon => (400, "RFC 9112 section 5.1", "there is white space before a colon"),
            Self::SpaceBeforeFields => (400, "RFC 9112 section 2.2", "there is white space before the first field"),
            Self::LineFolding => (400, "RFC 9112 section 5.2", "a field value is folded over several lines"),
            Self::FieldValueSyntax(_) => (400, "RFC 9110 section 5.5", "a field value holds a control character"),
            Self::HostMissing => (400, "RFC 9112 section 3.2", "Host is missing"),
            Self::HostRepeated => (400, "RFC 9112 section 3.2", "Host is given more than once"),
            Self::HostSyntax => (400, "RFC 9112 section 3.2", "Host is not a host with an optional port"),
            Self::HostEmpty => (400, "RFC 9113 section 8.3.1", "the authority is empty"),
            Self::HostDiffers => (400, "RFC 9113 section 8.3.1", "Host and the authority name different hosts"),
            Self::FieldOfConnection => (400, "RFC 9113 section 8.2.2", "a field of the connection has no place in HTTP/2"),
            Self::SpaceAroundValue => (400, "RFC 9113 section 8.2.1", "a field value begins or ends with white space"),
            Self::SchemeUnknown => (400, "RFC 9113 section 8.3.1", "the scheme is neither http nor https"),
            Self::TargetMissing => (400, "RFC 9113 section 8.3.1", "the request has no target"),
            Self::ProtocolUnknown => (501, "RFC 9220 section 3", "the only protocol that a CONNECT may ask for is websocket"),
            Self::ContentLengthSyntax => (400, "RFC 9112 section 6.3", "Content-Length is not a decimal number"),
            Self::ContentLengthOverflow => (400, "RFC 9112 section 6.3", "Content-Length is beyond any length"),
            Self::ContentLengthRepeated => (400, "RFC 9112 section 6.3", "Content-Length is given more than once"),
            Self::LengthAndCoding => (400, "RFC 9112 section 6.1", "Content-Length and Transfer-Encoding are both given"),
            Self::TransferCodingSyntax => (400, "RFC 9112 section 6.1", "Transfer-Encoding is malformed"),
            Self::TransferCodingNotChunked => (400, "RFC 9112 section 6.3", "the last transfer coding is not chunked"),
            Self::TransferCodingRepeated => (400, "RFC 9112 section 6.1", "chunked is applied more than once"),
            Self::TransferCodingUnknown => (501, "RFC 9112 section 6.1", "the transfer coding is unknown here"),
            Self::TransferCodingInHttp10 => (400, "RFC 9112 section 6.1", "HTTP/1.0 has no Transfer-Encoding"),
            Self::ExpectationUnknown => (417, "RFC 9110 section 10.1.1", "the expectation cannot be met"),
            Self::ContentTooLarge => (413, "RFC 9110 section 15.5.14", "the content is too large"),
            Self::ChunkSizeSyntax(_) => (400, "RFC 9112 section 7.1", "a chunk size is not a hexadecimal number"),
            Self::ChunkSizeOverflow => (400, "RFC 9112 section 7.1", "a chunk size is beyond any size"),
            Self::ChunkExtensionSyntax(_) => (400, "RFC 9112 section 7.1.1", "a chunk extension is malformed"),
            Self::ChunkExtensionsTooLong => (400, "RFC 9112 section 7.1.1", "the chunk extensions are too long"),
            Self::ChunkDataEnd => (400, "RFC 9112 section 7.1", "chunk data does not end where its size says"),
            Self::TrailersTooLarge => (431, "RFC 6585 section 5", "the trailer fields are too large"),
            Self::HeadIncomplete => (400, "RFC 9112 section 8", "the connection was closed inside a request head"),
            Self::BodyIncomplete => (400, "RFC 9112 section 8", "the connection was closed inside a request body"),
            Self::HeadTimeout => (408, "RFC 9110 section 15.5.9", "the request head did not arrive in time"),
            Self::BodyTimeout => (408, "RFC 9110 section 15.5.9", "the request body did not arrive in time"),
        }
    }
}

impl fmt::Display for ProtocolError {
    /// One plain sentence; where a single byte is at fault, its value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.facts().2)?;
        match *self {
            Self::NotHttp(byte)
            | Self::TargetSyntax(byte)
            | Self::FieldNameSyntax(byte)
            | Self::FieldValueSyntax(byte)
            | Self::ChunkSizeSyntax(byte)
            | Self::ChunkExtensionSyntax(byte) => write!(f, " (byte 0x{byte:02x})"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ProtocolError {}
