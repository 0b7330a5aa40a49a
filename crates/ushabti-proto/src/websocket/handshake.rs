//! The opening handshake as the server sees it (RFC 6455 section 4.2): what the request must hold, and what the 101
//! says. Over HTTP/2 there is less of it (RFC 8441 section 5): the request asks for the protocol by itself, so there is
//! nothing to prove with a key, and what agrees is a 200.
//!
//! Which subprotocol is chosen, whether an Origin is welcome and whether messages are compressed is decided by others;
//! nothing here keeps the request.

use std::fmt;

use sha1::{Digest, Sha1};

use crate::fields::{is_token, is_token_byte, list_elements, trim_ows};
use crate::http1::head::{RequestHead, Version};
use crate::websocket::deflate::DeflateAgreement;

/// The one version that is spoken here (RFC 6455 section 4.1).
pub const VERSION: &str = "13";
/// What is hashed together with the client's key (RFC 6455 section 1.3).
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Sixteen bytes in base64, padding included.
const KEY_LENGTH: usize = 24;

/// Why an upgrade request cannot be granted. It is answered with [`status`](Self::status), and the connection stays a
/// connection of HTTP/1.1.
///
/// ```
/// use ushabti_proto::websocket::handshake::HandshakeError;
///
/// let error = HandshakeError::VersionUnsupported;
/// assert_eq!((error.status(), error.section()), (426, "RFC 6455 section 4.4"));
/// assert_eq!(error.fields(), [("Sec-WebSocket-Version", "13")]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The method is not GET.
    Method,
    /// The request is one of HTTP/1.0.
    HttpVersion,
    /// Host is missing or empty.
    Host,
    /// Connection does not name Upgrade.
    ConnectionWithoutUpgrade,
    /// Sec-WebSocket-Key is missing.
    KeyMissing,
    /// Sec-WebSocket-Key is given more than once.
    KeyRepeated,
    /// Sec-WebSocket-Key is not the base64 of 16 bytes.
    KeySyntax,
    /// Sec-WebSocket-Version is missing.
    VersionMissing,
    /// Sec-WebSocket-Version is given more than once.
    VersionRepeated,
    /// Sec-WebSocket-Version is not 13.
    VersionUnsupported,
    /// Sec-WebSocket-Protocol is not a list of tokens.
    ProtocolSyntax,
    /// A subprotocol is offered more than once.
    ProtocolRepeated,
    /// Sec-WebSocket-Extensions is malformed.
    ExtensionSyntax,
}

impl HandshakeError {
    /// The status of the response: 400, 405 or 426.
    pub fn status(&self) -> u16 {
        self.facts().0
    }

    /// The RFC and section that the client did not keep to.
    pub fn section(&self) -> &'static str {
        self.facts().1
    }

    /// The fields that the response must have because of its status: Allow for 405 (RFC 9110 section 15.5.6), the
    /// version that is spoken here for 426 (RFC 6455 section 4.4).
    pub fn fields(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Method => &[("Allow", "GET")],
            Self::VersionUnsupported => &[("Sec-WebSocket-Version", VERSION)],
            _ => &[],
        }
    }

    /// Status, section and sentence: one row for each error, as in [`crate::error`].
    #[rustfmt::skip]
    fn facts(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Method => (405, "RFC 6455 section 4.2.1", "the method of a WebSocket handshake is GET"),
            Self::HttpVersion => (400, "RFC 6455 section 4.2.1", "a WebSocket handshake needs HTTP/1.1"),
            Self::Host => (400, "RFC 6455 section 4.2.1", "Host is empty"),
            Self::ConnectionWithoutUpgrade => (400, "RFC 6455 section 4.2.1", "Connection does not name Upgrade"),
            Self::KeyMissing => (400, "RFC 6455 section 4.2.1", "Sec-WebSocket-Key is missing"),
            Self::KeyRepeated => (400, "RFC 6455 section 11.3.1", "Sec-WebSocket-Key is given more than once"),
            Self::KeySyntax => (400, "RFC 6455 section 4.2.1", "Sec-WebSocket-Key is not the base64 of 16 bytes"),
            Self::VersionMissing => (400, "RFC 6455 section 4.2.1", "Sec-WebSocket-Version is missing"),
            Self::VersionRepeated => (400, "RFC 6455 section 11.3.5", "Sec-WebSocket-Version is given more than once"),
            Self::VersionUnsupported => (426, "RFC 6455 section 4.4", "only version 13 of WebSocket is spoken here"),
            Self::ProtocolSyntax => (400, "RFC 6455 section 4.1", "Sec-WebSocket-Protocol is not a list of tokens"),
            Self::ProtocolRepeated => (400, "RFC 6455 section 4.1", "a subprotocol is offered more than once"),
            Self::ExtensionSyntax => (400, "RFC 6455 section 9.1", "Sec-WebSocket-Extensions is malformed"),
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.facts().2)
    }
}

impl std::error::Error for HandshakeError {}

/// The application chose a subprotocol that the client has not offered (RFC 6455 section 4.2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtocolNotOffered {
    /// What was chosen.
    pub chosen: String,
    /// What it could have been.
    pub offered: Vec<String>,
}

impl fmt::Display for ProtocolNotOffered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chosen, offered } = self;
        write!(f, "subprotocol {chosen:?} was not offered by the client: choose one of {offered:?}, or none")
    }
}

impl std::error::Error for ProtocolNotOffered {}

/// An extension that a client offers (RFC 6455 section 9.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Its name, a token.
    pub name: String,
    /// Its parameters in their order; a value that was quoted is without its quotes here.
    pub parameters: Vec<(String, Option<String>)>,
}

/// A valid upgrade request: what of it the answer depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// `None` over HTTP/2.
    accept: Option<String>,
    /// The subprotocols that the client offers, in the order of its preference.
    pub protocols: Vec<String>,
    /// The extensions that the client offers, in the order of its preference.
    pub extensions: Vec<Extension>,
}

impl Handshake {
    /// Whether it is one of HTTP/2, which a 200 answers.
    pub fn is_http2(&self) -> bool {
        self.accept.is_none()
    }

    /// Reads the handshake of a request; `None` if no Upgrade field names WebSocket, so that it is no upgrade request at
    /// all. A resource that is nothing but a WebSocket answers that with 426 (RFC 9110 section 15.5.22).
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] if it is one, but lacks something or is malformed.
    pub fn read(head: &RequestHead) -> Result<Option<Self>, HandshakeError> {
        let names_websocket = |value| list_elements(value).any(|offer| offer.eq_ignore_ascii_case(b"websocket"));
        if !head.field_values("upgrade").any(names_websocket) {
            return Ok(None);
        }
        if head.method() != "GET" {
            return Err(HandshakeError::Method);
        }
        // There the Upgrade is what `http2::request_head` has made of the protocol that was asked for.
        let is_http2 = head.version() == Version::Http2;
        if head.version() != Version::Http11 && !is_http2 {
            return Err(HandshakeError::HttpVersion);
        }
        if head.host().is_none_or(str::is_empty) {
            return Err(HandshakeError::Host);
        }
        if !is_http2 && !head.offers_upgrade("websocket") {
            return Err(HandshakeError::ConnectionWithoutUpgrade);
        }
        // Before the key: a later version may have none.
        let version = only(head, "sec-websocket-version", HandshakeError::VersionRepeated)?;
        match version {
            Some(version) if version == VERSION.as_bytes() => {}
            Some(_) => return Err(HandshakeError::VersionUnsupported),
            None => return Err(HandshakeError::VersionMissing),
        }
        let mut accept = None;
        if !is_http2 {
            let key = only(head, "sec-websocket-key", HandshakeError::KeyRepeated)?;
            let key = key.ok_or(HandshakeError::KeyMissing)?;
            if !is_key(key) {
                return Err(HandshakeError::KeySyntax);
            }
            accept = Some(accept_key(key));
        }
        let mut protocols = Vec::new();
        for protocol in head.field_values("sec-websocket-protocol").flat_map(list_elements) {
            let protocol = token(protocol).ok_or(HandshakeError::ProtocolSyntax)?;
            if protocols.contains(&protocol) {
                return Err(HandshakeError::ProtocolRepeated);
            }
            protocols.push(protocol);
        }
        let mut extensions = Vec::new();
        for value in head.field_values("sec-websocket-extensions") {
            extensions.extend(parse_extensions(value)?);
        }
        Ok(Some(Self { accept, protocols, extensions }))
    }

    /// The fields of the 101 (RFC 6455 section 4.2.2), for [`encode_interim`](crate::http1::encode::encode_interim), or
    /// over HTTP/2 those of the 200.
    ///
    /// # Errors
    ///
    /// [`ProtocolNotOffered`]: a client fails a connection whose subprotocol it did not offer.
    pub fn response_fields(
        &self,
        protocol: Option<&str>,
        deflate: Option<&DeflateAgreement>,
    ) -> Result<Vec<(&'static str, String)>, ProtocolNotOffered> {
        let mut fields = Vec::new();
        if let Some(accept) = &self.accept {
            fields.push(("Upgrade", "websocket".to_owned()));
            fields.push(("Connection", "Upgrade".to_owned()));
            fields.push(("Sec-WebSocket-Accept", accept.clone()));
        }
        if let Some(chosen) = protocol {
            if !self.protocols.iter().any(|offered| offered == chosen) {
                return Err(ProtocolNotOffered { chosen: chosen.to_owned(), offered: self.protocols.clone() });
            }
            fields.push(("Sec-WebSocket-Protocol", chosen.to_owned()));
        }
        if let Some(agreed) = deflate {
            fields.push(("Sec-WebSocket-Extensions", agreed.answer()));
        }
        Ok(fields)
    }
}

/// The value of a field that may come once.
fn only<'a>(head: &'a RequestHead, name: &str, repeated: HandshakeError) -> Result<Option<&'a [u8]>, HandshakeError> {
    let mut values = head.fields().filter(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()));
    let first = values.next().map(|(_, value)| value);
    if values.next().is_some() { Err(repeated) } else { Ok(first) }
}

/// Whether this is the base64 of 16 bytes (RFC 4648 section 4). The bits that no byte needs are zero, as section 3.5
/// there lets a decoder demand.
fn is_key(key: &[u8]) -> bool {
    let Some(digits) = key.strip_suffix(b"==").filter(|_| key.len() == KEY_LENGTH) else {
        return false;
    };
    digits.iter().all(|digit| BASE64.contains(digit)) && matches!(digits, [.., b'A' | b'Q' | b'g' | b'w'])
}

/// The value of Sec-WebSocket-Accept for a key (RFC 6455 section 4.2.2).
///
/// ```
/// use ushabti_proto::websocket::handshake::accept_key;
///
/// assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
pub fn accept_key(key: &[u8]) -> String {
    let hash = Sha1::new().chain_update(key).chain_update(KEY_SUFFIX).finalize();
    // 20 bytes: six groups of three, and one of two.
    hash.chunks(3)
        .flat_map(|group| {
            let bits = group.iter().fold(0, |bits, &byte| bits << 8 | usize::from(byte)) << (8 * (3 - group.len()));
            let digit = move |at: usize| {
                if at <= group.len() { char::from(BASE64[bits >> (18 - 6 * at) & 0x3f]) } else { '=' }
            };
            (0..4).map(digit)
        })
        .collect()
}

fn token(text: &[u8]) -> Option<String> {
    is_token(text).then(|| text.iter().map(|&byte| char::from(byte)).collect())
}

/// Reads the value of a Sec-WebSocket-Extensions field (RFC 6455 section 9.1). White space may stand between all parts.
///
/// # Errors
///
/// [`HandshakeError::ExtensionSyntax`]; a quoted value that is not a token when it is unquoted is one too.
///
/// ```
/// use ushabti_proto::websocket::handshake::parse_extensions;
///
/// let [extension] = &parse_extensions(b"foo; bar=\"1\\0\"; baz")?[..] else { unreachable!() };
/// assert_eq!(extension.name, "foo");
/// assert_eq!(extension.parameters, [("bar".to_owned(), Some("10".to_owned())), ("baz".to_owned(), None)]);
/// # Ok::<(), ushabti_proto::websocket::handshake::HandshakeError>(())
/// ```
pub fn parse_extensions(value: &[u8]) -> Result<Vec<Extension>, HandshakeError> {
    let mut rest = trim_ows(value);
    let mut extensions = Vec::new();
    while !rest.is_empty() {
        // Empty elements are part of the list grammar (RFC 9110 section 5.6.1).
        if let Some(after) = rest.strip_prefix(b",") {
            rest = trim_ows(after);
            continue;
        }
        let mut extension = Extension { name: take_token(&mut rest)?, parameters: Vec::new() };
        while let Some(after) = rest.strip_prefix(b";") {
            rest = trim_ows(after);
            let name = take_token(&mut rest)?;
            let value = match rest.strip_prefix(b"=") {
                Some(after) => {
                    rest = trim_ows(after);
                    Some(if rest.starts_with(b"\"") { take_quoted(&mut rest)? } else { take_token(&mut rest)? })
                }
                None => None,
            };
            extension.parameters.push((name, value));
        }
        if !matches!(rest, [] | [b',', ..]) {
            return Err(HandshakeError::ExtensionSyntax);
        }
        extensions.push(extension);
    }
    Ok(extensions)
}

/// Takes a token and the white space behind it off the front.
fn take_token(rest: &mut &[u8]) -> Result<String, HandshakeError> {
    let end = rest.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(rest.len());
    let (text, after) = rest.split_at(end);
    *rest = trim_ows(after);
    token(text).ok_or(HandshakeError::ExtensionSyntax)
}

/// Takes a quoted string (RFC 9110 section 5.6.4), whose content must be a token, and the white space behind it off
/// the front.
fn take_quoted(rest: &mut &[u8]) -> Result<String, HandshakeError> {
    let mut content = Vec::new();
    let mut bytes = rest.iter().enumerate().skip(1);
    while let Some((at, &byte)) = bytes.next() {
        match byte {
            b'"' => {
                *rest = trim_ows(&rest[at + 1..]);
                return token(&content).ok_or(HandshakeError::ExtensionSyntax);
            }
            b'\\' => content.extend(bytes.next().map(|(_, &escaped)| escaped)),
            byte => content.push(byte),
        }
    }
    Err(HandshakeError::ExtensionSyntax)
}
