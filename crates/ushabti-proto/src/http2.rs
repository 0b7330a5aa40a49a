//! HTTP/2 as far as it is HTTP (RFC 9113 section 8): request heads from fields, response heads as fields. Frames are not
//! here. With what a WebSocket asks for (RFC 8441).

use std::ops::Range;

use crate::error::ProtocolError;
use crate::fields::{forbidden_value_byte, is_token, trim_ows};
use crate::http1::connection::Limits;
use crate::http1::encode::{BodyLength, ConnectionField, EncodeError, Form, encode_as};
use crate::http1::head::{HeadReader, RequestHead};

pub mod meter;

/// The first bytes of a client (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is served, as a target with a scheme may name it in HTTP/1.1, too.
const SCHEMES: [&[u8]; 2] = [b"http", b"https"];

/// A request's pseudo-header fields (RFC 9113 section 8.3.1).
#[derive(Debug, Clone, Copy)]
pub struct Pseudo<'a> {
    /// `:method`.
    pub method: &'a [u8],
    /// `:scheme`; CONNECT has none.
    pub scheme: Option<&'a [u8]>,
    /// `:path`; CONNECT has none.
    pub path: Option<&'a [u8]>,
    /// `:authority`.
    pub authority: Option<&'a [u8]>,
    /// `:protocol` (RFC 8441 section 4).
    pub protocol: Option<&'a [u8]>,
}

/// Makes a request head of its fields, by the rules that hold for one of HTTP/1.1.
///
/// The authority stands in it as Host, unless there is a Host that says the same. Crumbs of Cookie are put together (RFC
/// 9113 section 8.2.3). A CONNECT that asks for a WebSocket becomes the GET that it would be in HTTP/1.1, with the protocol
/// in an Upgrade, which no client can send here: so it finds the same routes.
///
/// # Errors
///
/// A fault of the peer. It is one of this request alone: the connection can go on.
///
/// ```
/// use ushabti_proto::http1::connection::Limits;
/// use ushabti_proto::http2::{Pseudo, request_head};
///
/// let limits = Limits { head_bytes_max: 32768, fields_max: 128, target_bytes_max: 16384 };
/// let scheme = Some(b"https".as_slice());
/// let pseudo = Pseudo { method: b"GET", scheme, path: Some(b"/a?b"), authority: Some(b"example.com"), protocol: None };
/// let fields: [(&[u8], &[u8]); 3] = [(b"cookie", b"a=1"), (b"accept", b"*/*"), (b"cookie", b"b=2")];
/// let head = request_head(pseudo, fields.into_iter(), &limits)?;
/// assert_eq!((head.path(), head.host()), ("/a", Some("example.com")));
/// assert_eq!(head.field("cookie"), Some(b"a=1; b=2".as_slice()));
/// # Ok::<(), ushabti_proto::error::ProtocolError>(())
/// ```
pub fn request_head<'a>(
    pseudo: Pseudo<'_>,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    limits: &Limits,
) -> Result<RequestHead, ProtocolError> {
    let (method, target): (&[u8], _) = match (pseudo.method, pseudo.protocol) {
        (b"CONNECT", Some(protocol)) if protocol.eq_ignore_ascii_case(b"websocket") => (b"GET", pseudo.path),
        (_, Some(_)) => return Err(ProtocolError::ProtocolUnknown),
        (b"CONNECT", None) => (b"CONNECT", pseudo.authority),
        (method, None) => (method, pseudo.path),
    };
    if pseudo.scheme.is_some_and(|scheme| !SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme))) {
        return Err(ProtocolError::SchemeUnknown);
    }
    let target = target.ok_or(ProtocolError::TargetMissing)?;
    let (mut reader, mut bytes) = HeadReader::of_http2(method, target, limits)?;
    if let Some(authority) = pseudo.authority {
        if authority.is_empty() {
            return Err(ProtocolError::HostEmpty);
        }
        reader.add(&mut bytes, b"host", authority, limits)?;
    }
    if let Some(protocol) = pseudo.protocol {
        reader.add(&mut bytes, b"upgrade", protocol, limits)?;
    }
    let mut cookies = Vec::new();
    for (name, value) in fields {
        check_field(name, value)?;
        match (name, pseudo.authority) {
            (b"host", Some(authority)) if value.eq_ignore_ascii_case(authority) => {}
            (b"host", Some(_)) => return Err(ProtocolError::HostDiffers),
            // Only a client of HTTP/1.1 may have no host to name.
            (b"host", None) if value.is_empty() => return Err(ProtocolError::HostEmpty),
            // A crumb without anything in it would leave a separator behind.
            (b"cookie", _) if value.is_empty() => {}
            (b"cookie", _) => {
                if !cookies.is_empty() {
                    cookies.extend_from_slice(b"; ");
                }
                cookies.extend_from_slice(value);
            }
            _ => reader.add(&mut bytes, name, value, limits)?,
        }
    }
    if !cookies.is_empty() {
        reader.add(&mut bytes, b"cookie", &cookies, limits)?;
    }
    reader.end(bytes)
}

/// Checks a field of a head or of trailers (RFC 9113 sections 8.2.1 and 8.2.2).
///
/// # Errors
///
/// A fault of the peer.
pub fn check_field(name: &[u8], value: &[u8]) -> Result<(), ProtocolError> {
    if name.is_empty() {
        return Err(ProtocolError::FieldNameEmpty);
    }
    if let Some(&byte) = name.iter().find(|&byte| byte.is_ascii_uppercase() || !is_token(&[*byte])) {
        return Err(ProtocolError::FieldNameSyntax(byte));
    }
    if trim_ows(value).len() != value.len() {
        return Err(ProtocolError::SpaceAroundValue);
    }
    if let Some(byte) = forbidden_value_byte(value) {
        return Err(ProtocolError::FieldValueSyntax(byte));
    }
    match name {
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
            Err(ProtocolError::FieldOfConnection)
        }
        b"te" if !value.eq_ignore_ascii_case(b"trailers") => Err(ProtocolError::FieldOfConnection),
        _ => Ok(()),
    }
}

/// Numbers in a [`Block`] are of so many bytes.
const NUMBER: usize = size_of::<u32>();

/// A response head on its way to whoever makes a field block of it: its length, its status, and each field with the lengths of
/// its parts. It ends by itself, so content may follow it.
struct Block;

impl Form for Block {
    const IS_FRAMED: bool = true;

    fn begin(out: &mut Vec<u8>, status: u16) {
        out.extend_from_slice(&[0; NUMBER]);
        out.extend_from_slice(&status.to_ne_bytes());
    }

    fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        out.extend_from_slice(&(name.len() as u32).to_ne_bytes());
        out.extend_from_slice(&(value.len() as u32).to_ne_bytes());
        out.extend(name.iter().map(u8::to_ascii_lowercase));
        out.extend_from_slice(value);
    }

    fn end(out: &mut Vec<u8>, start: usize) {
        let length = (out.len() - start) as u32;
        out[start..start + NUMBER].copy_from_slice(&length.to_ne_bytes());
    }
}

/// Appends the head of a final response to `out`, for [`Head::read`]: names in lower case, and no fields about the connection.
///
/// The rules are those of [`http1::encode::encode_head`](crate::http1::encode::encode_head), which it takes them from. Connection,
/// Keep-Alive, Proxy-Connection and TE in `fields` are not written, nor is the Upgrade of 426. `length` is none of those that
/// only HTTP/1.1 has but [`BodyLength::UntilClose`], for content that ends with the stream.
///
/// # Errors
///
/// [`EncodeError`], `out` being as before.
pub fn encode_head<'a>(
    out: &mut Vec<u8>,
    status: u16,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    length: BodyLength,
    date: &[u8; 29],
    server: Option<&[u8]>,
) -> Result<(), EncodeError> {
    encode_as::<Block>(out, status, fields, length, ConnectionField::Omit, date, server)
}

/// A response head that was written by [`encode_head`], and where in the bytes its parts lie.
///
/// ```
/// use ushabti_proto::http1::encode::{BodyLength, http_date};
/// use ushabti_proto::http2::{Head, encode_head};
///
/// let mut out = Vec::new();
/// let fields: [(&[u8], &[u8]); 2] = [(b"X-Test", b"a"), (b"Keep-Alive", b"timeout=5")];
/// encode_head(&mut out, 200, fields.into_iter(), BodyLength::Known(2), &http_date(784_111_777), None)?;
/// out.extend_from_slice(b"hi");
/// let head = Head::read(&out).expect("it was written just now");
/// assert_eq!((head.status, &out[head.length..]), (200, b"hi".as_slice()));
/// let names: Vec<_> = head.fields(&out).map(|(name, _)| &out[name]).collect();
/// assert_eq!(names, [b"x-test".as_slice(), b"content-length", b"date"]);
/// # Ok::<(), ushabti_proto::http1::encode::EncodeError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// Bytes that it takes at the start of those it was read from.
    pub length: usize,
}

impl Head {
    /// Reads a head at the start of `bytes`; `None` if there is no whole one.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let length = number_at(bytes, 0)?;
        let status = bytes.get(NUMBER..NUMBER + 2)?.try_into().ok()?;
        (length <= bytes.len()).then_some(Self { status: u16::from_ne_bytes(status), length })
    }

    /// Where its fields lie in the same bytes: name and value.
    pub fn fields(self, bytes: &[u8]) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let mut at = NUMBER + 2;
        std::iter::from_fn(move || {
            if at >= self.length {
                return None;
            }
            let name_start = at + 2 * NUMBER;
            let value_start = name_start + number_at(bytes, at)?;
            let end = value_start + number_at(bytes, at + NUMBER)?;
            at = end;
            Some((name_start..value_start, value_start..end))
        })
    }
}

fn number_at(bytes: &[u8], at: usize) -> Option<usize> {
    let number = bytes.get(at..at + NUMBER)?.try_into().ok()?;
    Some(u32::from_ne_bytes(number) as usize)
}
