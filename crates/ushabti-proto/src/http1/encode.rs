//! Response heads and chunks as bytes (RFC 9112 sections 4 to 7).
//!
//! Framing is not the handler's to choose: the fields that decide where a message ends are written from
//! [`BodyLength`] and [`ConnectionField`] alone, and a handler that sets them otherwise is refused. So is every
//! field that could end its own line.

use std::fmt;

use crate::fields::{forbidden_value_byte, is_token, trim_ows};
use crate::http1::framing::parse_content_length;

pub use crate::http1::date::http_date;

/// How the end of a response's content is found (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// No content can follow, and no length is said: 204 and 304.
    None,
    /// Content-Length. For the response to HEAD, the length that GET would have had.
    Known(u64),
    /// `Transfer-Encoding: chunked`: HTTP/1.1 clients only.
    Chunked,
    /// Content ends with the connection: HTTP/1.0 clients, with [`ConnectionField::Close`].
    UntilClose,
}

/// The Connection field of a response (RFC 9112 section 9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionField {
    /// None: an HTTP/1.1 connection persists without it.
    Omit,
    /// `close`: this response is the last.
    Close,
    /// `keep-alive`: what an HTTP/1.0 client that asked for it must be told.
    KeepAlive,
}

/// Why a response head was refused. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EncodeError {
    /// The status is outside of 200 to 599, or for an interim response outside of 100 to 199.
    Status(u16),
    /// A field name is not a token; the name as text.
    Name(String),
    /// The value of this field holds this control character, which could end the field and begin another.
    Value(String, u8),
    /// This field decides the framing of the connection and is written by the server alone.
    Framing(String),
    /// Content-Length is not the length of the content, or is given where there is none.
    ContentLength(String),
    /// Content in a response whose status allows none.
    Content(u16),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => {
                write!(f, "status {status} is none that a response can have here")
            }
            Self::Name(name) => write!(f, "header name {name:?} is not a token: use letters, digits and hyphens"),
            Self::Value(name, byte) => {
                write!(
                    f,
                    "value of header {name:?} holds the control character 0x{byte:02x}: remove line breaks from it"
                )
            }
            Self::Framing(name) => write!(f, "header {name:?} is set by the server alone: leave it out"),
            Self::ContentLength(value) => {
                write!(f, "header \"Content-Length: {value}\" is not the length of the content: leave it out")
            }
            Self::Content(status) => {
                write!(f, "a response with status {status} has no content: send it with an empty body")
            }
        }
    }
}

impl std::error::Error for EncodeError {}

/// Whether no content may follow this status, whatever the method (RFC 9112 section 6.3).
pub fn body_forbidden(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

/// Appends the head of a final response to `out` (RFC 9112 section 4): always `HTTP/1.1`, whatever the client
/// speaks.
///
/// Date and Server in `fields` win over `date` and `server`. Connection in `fields` is not written: the caller
/// reads it and chooses `connection`. A Content-Length in `fields` must say what `length` says; with 304 it may say
/// what GET would have (RFC 9110 section 8.6).
///
/// # Errors
///
/// [`EncodeError`], `out` being as before: a status outside of 200 to 599, content where the status allows none, a
/// malformed name or value, or a field that is not the handler's to set: Transfer-Encoding, Trailer, and Upgrade but in
/// 426 (Upgrade Required), which must have it (RFC 9110 section 15.5.22).
///
/// ```
/// use ushabti_proto::http1::encode::{BodyLength, ConnectionField, encode_head, http_date};
///
/// let mut out = Vec::new();
/// let fields = [(b"Content-Type".as_slice(), b"text/plain".as_slice())].into_iter();
/// let date = http_date(784_111_777);
/// encode_head(&mut out, 200, fields, BodyLength::Known(5), ConnectionField::Omit, &date, None)?;
/// assert_eq!(
///     out,
///     b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\
///       Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
/// );
/// # Ok::<(), ushabti_proto::http1::encode::EncodeError>(())
/// ```
pub fn encode_head<'a>(
    out: &mut Vec<u8>,
    status: u16,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    length: BodyLength,
    connection: ConnectionField,
    date: &[u8; 29],
    server: Option<&[u8]>,
) -> Result<(), EncodeError> {
    encode_as::<Lines>(out, status, fields, length, connection, date, server)
}

/// What the head of a response is written as.
pub(crate) trait Form {
    /// Whether fields about the connection are left out, because the protocol frames it by itself (RFC 9113 section 8.2.2).
    const IS_FRAMED: bool;

    fn begin(out: &mut Vec<u8>, status: u16);

    fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]);

    /// `start` is where it began in `out`.
    fn end(out: &mut Vec<u8>, start: usize);
}

/// The lines of HTTP/1.1.
struct Lines;

impl Form for Lines {
    const IS_FRAMED: bool = false;

    fn begin(out: &mut Vec<u8>, status: u16) {
        write_status_line(out, status);
    }

    fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        write_field(out, name, value);
    }

    fn end(out: &mut Vec<u8>, _start: usize) {
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes a final head in a form of its own; the rules are those of [`encode_head`].
pub(crate) fn encode_as<'a, F: Form>(
    out: &mut Vec<u8>,
    status: u16,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    length: BodyLength,
    connection: ConnectionField,
    date: &[u8; 29],
    server: Option<&[u8]>,
) -> Result<(), EncodeError> {
    if !(200..=599).contains(&status) {
        return Err(EncodeError::Status(status));
    }
    let length = match length {
        // 204 must have no Content-Length, not even 0 (RFC 9110 section 8.6).
        BodyLength::Known(0) | BodyLength::None if body_forbidden(status) => BodyLength::None,
        // 205 has no content either, but a client finds its end as that of any other (RFC 9110 section 15.3.6).
        BodyLength::Known(0) | BodyLength::None if status == 205 => BodyLength::Known(0),
        _ if body_forbidden(status) || status == 205 => return Err(EncodeError::Content(status)),
        length => length,
    };
    let start = out.len();
    write_final_head::<F>(out, status, fields, length, connection, date, server).inspect_err(|_| out.truncate(start))
}

fn write_final_head<'a, F: Form>(
    out: &mut Vec<u8>,
    status: u16,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    length: BodyLength,
    connection: ConnectionField,
    date: &[u8; 29],
    server: Option<&[u8]>,
) -> Result<(), EncodeError> {
    let start = out.len();
    F::begin(out, status);
    let mut has_date = false;
    let mut has_server = false;
    let mut has_content_length = false;
    let mut has_upgrade = false;
    for (name, value) in fields {
        check_field(name, value)?;
        match FieldRole::of(name) {
            FieldRole::Plain if F::IS_FRAMED && is_of_connection(name) => continue,
            FieldRole::Plain => {}
            FieldRole::Upgrade if status == 426 && F::IS_FRAMED => continue,
            FieldRole::Upgrade if status == 426 => has_upgrade = true,
            FieldRole::Date => has_date = true,
            FieldRole::Server => has_server = true,
            FieldRole::Connection => continue,
            FieldRole::Framing | FieldRole::Upgrade => {
                return Err(EncodeError::Framing(lossy(name)));
            }
            FieldRole::ContentLength => match (parse_content_length(trim_ows(value)), length) {
                (Ok(said), BodyLength::Known(known)) if said == known => continue,
                // Two could differ, so one is all there may be.
                (Ok(_), BodyLength::None) if status == 304 && !has_content_length => has_content_length = true,
                _ => return Err(EncodeError::ContentLength(lossy(value))),
            },
        }
        F::field(out, name, value);
    }
    match length {
        BodyLength::None | BodyLength::UntilClose => {}
        BodyLength::Known(bytes) => F::field(out, b"Content-Length", decimal(bytes, &mut [0; 20])),
        BodyLength::Chunked => F::field(out, b"Transfer-Encoding", b"chunked"),
    }
    // Whoever sends Upgrade names it in Connection (RFC 9110 section 7.8).
    let options: &[u8] = match (connection, has_upgrade) {
        (ConnectionField::Omit, false) => b"",
        (ConnectionField::Omit, true) => b"upgrade",
        (ConnectionField::Close, false) => b"close",
        (ConnectionField::Close, true) => b"close, upgrade",
        (ConnectionField::KeepAlive, false) => b"keep-alive",
        (ConnectionField::KeepAlive, true) => b"keep-alive, upgrade",
    };
    if !options.is_empty() {
        F::field(out, b"Connection", options);
    }
    if let Some(server) = server.filter(|_| !has_server) {
        check_field(b"Server", server)?;
        F::field(out, b"Server", server);
    }
    if !has_date {
        F::field(out, b"Date", date);
    }
    F::end(out, start);
    Ok(())
}

/// Of the fields that say something of the connection alone, those to which HTTP/1.1 is indifferent here (RFC 9113 section
/// 8.2.2).
fn is_of_connection(name: &[u8]) -> bool {
    [b"keep-alive".as_slice(), b"proxy-connection", b"te"].iter().any(|other| name.eq_ignore_ascii_case(other))
}

/// Appends an interim response (RFC 9110 section 15.2), or 101 (Switching Protocols), the one in which Connection
/// and Upgrade are written.
///
/// Never send one to an HTTP/1.0 client.
///
/// # Errors
///
/// [`EncodeError`], `out` being as before: a status outside of 100 to 199, a malformed name or value, or a field of
/// framing.
///
/// ```
/// let mut out = Vec::new();
/// ushabti_proto::http1::encode::encode_interim(&mut out, 100, std::iter::empty())?;
/// assert_eq!(out, b"HTTP/1.1 100 Continue\r\n\r\n");
/// # Ok::<(), ushabti_proto::http1::encode::EncodeError>(())
/// ```
pub fn encode_interim<'a>(
    out: &mut Vec<u8>,
    status: u16,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<(), EncodeError> {
    if !(100..=199).contains(&status) {
        return Err(EncodeError::Status(status));
    }
    let start = out.len();
    write_interim_head(out, status, fields).inspect_err(|_| out.truncate(start))
}

fn write_interim_head<'a>(
    out: &mut Vec<u8>,
    status: u16,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<(), EncodeError> {
    write_status_line(out, status);
    for (name, value) in fields {
        check_field(name, value)?;
        match FieldRole::of(name) {
            FieldRole::Plain | FieldRole::Date | FieldRole::Server => {}
            FieldRole::Connection | FieldRole::Upgrade if status == 101 => {}
            _ => return Err(EncodeError::Framing(lossy(name))),
        }
        write_field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// What the encoder must know of a field.
enum FieldRole {
    Plain,
    Date,
    Server,
    Connection,
    ContentLength,
    Upgrade,
    /// Would contradict the framing that is really used. Trailer announces what is never sent.
    Framing,
}

impl FieldRole {
    fn of(name: &[u8]) -> Self {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"date") => Self::Date,
            6 if name.eq_ignore_ascii_case(b"server") => Self::Server,
            7 if name.eq_ignore_ascii_case(b"upgrade") => Self::Upgrade,
            7 if name.eq_ignore_ascii_case(b"trailer") => Self::Framing,
            10 if name.eq_ignore_ascii_case(b"connection") => Self::Connection,
            14 if name.eq_ignore_ascii_case(b"content-length") => Self::ContentLength,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => Self::Framing,
            _ => Self::Plain,
        }
    }
}

fn check_field(name: &[u8], value: &[u8]) -> Result<(), EncodeError> {
    if !is_token(name) {
        return Err(EncodeError::Name(lossy(name)));
    }
    match forbidden_value_byte(value) {
        Some(byte) => Err(EncodeError::Value(lossy(name), byte)),
        None => Ok(()),
    }
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

fn write_status_line(out: &mut Vec<u8>, status: u16) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(decimal(u64::from(status), &mut [0; 20]));
    // The space stays where the phrase is empty (RFC 9112 section 4).
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A number's digits, at the end of `digits`.
fn decimal(mut value: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    &digits[start..]
}

/// Appends `data` as one chunk (RFC 9112 section 7.1). Empty data appends nothing: a chunk of size 0 would end the
/// body.
///
/// ```
/// use ushabti_proto::http1::encode::{LAST_CHUNK, encode_chunk};
///
/// let mut out = Vec::new();
/// encode_chunk(&mut out, b"hello, wide world");
/// encode_chunk(&mut out, b"");
/// out.extend_from_slice(LAST_CHUNK);
/// assert_eq!(out, b"11\r\nhello, wide world\r\n0\r\n\r\n");
/// ```
pub fn encode_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let digits = data.len().ilog2() / 4;
    for shift in (0..=digits).rev() {
        out.push(b"0123456789abcdef"[data.len() >> (shift * 4) & 15]);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// The chunk that ends a chunked body, with an empty trailer section (RFC 9112 section 7.1).
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The registered phrase of a status (RFC 9110 section 15 and the IANA registry), empty if it has none.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        510 => "Not Extended",
        511 => "Network Authentication Required",
        _ => "",
    }
}
