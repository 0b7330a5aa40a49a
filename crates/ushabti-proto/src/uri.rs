//! Request targets, hosts, percent-decoding and query strings (RFC 9112 section 3.2, RFC 3986, WHATWG URL).

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;
use std::ops::Range;

use crate::error::ProtocolError;

/// The form of a request target (RFC 9112 section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetForm {
    /// A path, and perhaps a query: what clients send to servers.
    Origin,
    /// A whole `http` or `https` URI: what clients send to proxies.
    Absolute,
    /// Host and port: CONNECT, and nothing else.
    Authority,
    /// `*`: OPTIONS, and nothing else.
    Asterisk,
}

/// Where the parts of a request target lie in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TargetParts {
    pub(crate) form: TargetForm,
    pub(crate) authority: Option<Range<usize>>,
    pub(crate) path: Range<usize>,
    pub(crate) query: Option<Range<usize>>,
}

const IN_PATH: u8 = 1;
const IN_QUERY: u8 = 2;
const IN_REG_NAME: u8 = 4;

/// Which bytes may stand where, as bits.
///
/// Paths and queries take the characters of RFC 3986 and the few more that browsers leave as they are (WHATWG URL,
/// "path percent-encode set" and "query percent-encode set"): refusing `?tags[]=a|b` would refuse ordinary web
/// pages. `#` never reaches a server from a correct client (a fragment is not part of a target), and `"`, `<`, `>`,
/// white space, control and 8-bit characters are always encoded.
const URI_BYTES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            // unreserved, the percent sign, sub-delims
            b'0'..=b'9'
            | b'A'..=b'Z'
            | b'a'..=b'z'
            | b'-'
            | b'.'
            | b'_'
            | b'~'
            | b'%'
            | b'!'
            | b'$'
            | b'&'
            | b'\''
            | b'('
            | b')'
            | b'*'
            | b'+'
            | b','
            | b';'
            | b'=' => IN_PATH | IN_QUERY | IN_REG_NAME,
            // the rest of a path's alphabet, then what browsers leave raw in it
            b':' | b'@' | b'/' | b'[' | b']' | b'|' | b'^' => IN_PATH | IN_QUERY,
            // the same of a query
            b'?' | b'\\' | b'`' | b'{' | b'}' => IN_QUERY,
            _ => 0,
        };
        byte += 1;
    }
    table
};

fn first_outside(text: &[u8], class: u8) -> Option<u8> {
    text.iter().copied().find(|&byte| URI_BYTES[byte as usize] & class == 0)
}

/// Splits a request target into its parts and checks each (RFC 9112 section 3.2).
pub(crate) fn split_target(method: &[u8], target: &[u8]) -> Result<TargetParts, ProtocolError> {
    if method == b"CONNECT" {
        return split_authority_form(target);
    }
    match target {
        [b'/', ..] => {
            let (path, query) = split_path(target, 0)?;
            Ok(TargetParts { form: TargetForm::Origin, authority: None, path, query })
        }
        b"*" if method == b"OPTIONS" => {
            Ok(TargetParts { form: TargetForm::Asterisk, authority: None, path: 0..1, query: None })
        }
        _ => split_absolute_form(target),
    }
}

fn split_authority_form(target: &[u8]) -> Result<TargetParts, ProtocolError> {
    if let Some(byte) = target.iter().copied().find(|byte| !byte.is_ascii_graphic()) {
        return Err(ProtocolError::TargetSyntax(byte));
    }
    let (host, port) = split_host_port(target).ok_or(ProtocolError::TargetAuthority)?;
    // An empty or impossible port must be refused (RFC 9110 section 9.3.6).
    if host.is_empty() || !matches!(port, Some(1..)) {
        return Err(ProtocolError::TargetAuthority);
    }
    Ok(TargetParts { form: TargetForm::Authority, authority: Some(0..target.len()), path: 0..0, query: None })
}

fn split_absolute_form(target: &[u8]) -> Result<TargetParts, ProtocolError> {
    // The characters come first, so that a control character is reported as such wherever it stands.
    if let Some(byte) = first_outside(target, IN_PATH | IN_QUERY) {
        return Err(ProtocolError::TargetSyntax(byte));
    }
    // Only these two schemes are served; `http:path` without an authority is not one of theirs (RFC 9110 section
    // 4.2).
    let start = [b"http://".as_slice(), b"https://"]
        .iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme)))
        .map(|scheme| scheme.len())
        .ok_or(ProtocolError::TargetForm)?;
    let end = target[start..].iter().position(|byte| matches!(byte, b'/' | b'?')).map_or(target.len(), |at| start + at);
    let (host, _) = split_host_port(&target[start..end]).ok_or(ProtocolError::TargetAuthority)?;
    // An empty host must be refused (RFC 9110 section 4.2.1). So should user information be (section 4.2.4), and
    // `@` is in no host.
    if host.is_empty() {
        return Err(ProtocolError::TargetAuthority);
    }
    let (path, query) = split_path(&target[end..], end)?;
    Ok(TargetParts { form: TargetForm::Absolute, authority: Some(start..end), path, query })
}

/// Path and query of `text`, which begins `offset` bytes into the target.
fn split_path(text: &[u8], offset: usize) -> Result<(Range<usize>, Option<Range<usize>>), ProtocolError> {
    let path_end = text.iter().position(|&byte| URI_BYTES[byte as usize] & IN_PATH == 0).unwrap_or(text.len());
    let path = offset..offset + path_end;
    match text.get(path_end) {
        None => Ok((path, None)),
        Some(b'?') => match first_outside(&text[path_end + 1..], IN_QUERY) {
            None => Ok((path, Some(offset + path_end + 1..offset + text.len()))),
            Some(byte) => Err(ProtocolError::TargetSyntax(byte)),
        },
        Some(&byte) => Err(ProtocolError::TargetSyntax(byte)),
    }
}

/// Whether `value` is what Host may hold: `uri-host [ ":" port ]`, or nothing (RFC 9110 section 7.2, RFC 9112
/// section 3.2).
///
/// An empty value is right for a client whose target has no authority, so it passes, with any form of target. A
/// port without a host is not: no `http` URI may have an empty host (RFC 9110 section 4.2.1).
///
/// ```
/// use ushabti_proto::uri::is_host_field;
///
/// assert!(is_host_field(b"example.com:8080") && is_host_field(b"[::1]:80") && is_host_field(b""));
/// assert!(!is_host_field(b"a/b") && !is_host_field(b"user@a") && !is_host_field(b"a:b"));
/// ```
pub fn is_host_field(value: &[u8]) -> bool {
    value.is_empty() || split_host_port(value).is_some_and(|(host, _)| !host.is_empty())
}

/// Host and port of `uri-host [ ":" port ]`; the port of `a:` is `None` like that of `a` (RFC 3986 section 3.2.3).
fn split_host_port(text: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let host_end = if text.starts_with(b"[") {
        text.iter().position(|&byte| byte == b']')? + 1
    } else {
        text.iter().position(|&byte| byte == b':').unwrap_or(text.len())
    };
    let (host, rest) = text.split_at(host_end);
    let host_is_valid = match host {
        [b'[', literal @ .., b']'] => is_ip_literal(literal),
        name => is_reg_name(name),
    };
    let port = match rest {
        [] | [b':'] => None,
        [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => Some(parse_port(digits)?),
        _ => return None,
    };
    host_is_valid.then_some((host, port))
}

/// A port that exists; the grammar sets no bound, TCP does.
fn parse_port(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0_u16, |port, &digit| port.checked_mul(10)?.checked_add(u16::from(digit - b'0')))
}

/// `reg-name` (RFC 3986 section 3.2.2), which covers IPv4 addresses.
fn is_reg_name(name: &[u8]) -> bool {
    let mut rest = name;
    loop {
        match rest {
            [] => return true,
            [b'%', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = tail;
            }
            [b'%', ..] => return false,
            [byte, tail @ ..] if URI_BYTES[*byte as usize] & IN_REG_NAME != 0 => rest = tail,
            _ => return false,
        }
    }
}

/// What stands between the brackets of an `IP-literal` (RFC 3986 section 3.2.2).
fn is_ip_literal(literal: &[u8]) -> bool {
    match literal {
        [b'v' | b'V', rest @ ..] => {
            let Some(dot) = rest.iter().position(|&byte| byte == b'.') else {
                return false;
            };
            let (version, address) = (&rest[..dot], &rest[dot + 1..]);
            let is_address_byte =
                |&byte: &u8| byte == b':' || (byte != b'%' && URI_BYTES[byte as usize] & IN_REG_NAME != 0);
            !version.is_empty()
                && version.iter().all(u8::is_ascii_hexdigit)
                && !address.is_empty()
                && address.iter().all(is_address_byte)
        }
        _ => std::str::from_utf8(literal).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok()),
    }
}

/// Why a text could not be percent-decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UriError {
    /// A percent sign without two hexadecimal digits after it, this many bytes into the text.
    PercentEncoding(usize),
    /// The decoded bytes are not UTF-8.
    NotUtf8,
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PercentEncoding(at) => {
                write!(f, "the percent sign at byte {at} is not followed by two hexadecimal digits")
            }
            Self::NotUtf8 => f.write_str("the decoded text is not UTF-8"),
        }
    }
}

impl std::error::Error for UriError {}

/// Decodes `%XX`, and `+` as a space if asked to, into text (RFC 3986 section 2.1). Borrows if there is nothing to
/// decode.
///
/// # Errors
///
/// [`UriError`]: strict, for paths. Query strings are read by [`query_pairs`], which keeps what cannot be decoded.
///
/// ```
/// use ushabti_proto::uri::{UriError, percent_decode};
///
/// assert_eq!(percent_decode(b"gr%C3%BC%C3%9F+e", false)?, "grüß+e");
/// assert_eq!(percent_decode(b"a+b", true)?, "a b");
/// assert_eq!(percent_decode(b"100%", false), Err(UriError::PercentEncoding(3)));
/// assert_eq!(percent_decode(b"%FF", false), Err(UriError::NotUtf8));
/// # Ok::<(), UriError>(())
/// ```
pub fn percent_decode(input: &[u8], plus_is_space: bool) -> Result<Cow<'_, str>, UriError> {
    match decode(input, plus_is_space, Malformed::Refuse)? {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| UriError::NotUtf8),
        Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|_| UriError::NotUtf8),
    }
}

/// What becomes of a percent sign without two hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Malformed {
    Refuse,
    Keep,
}

fn decode(input: &[u8], plus_is_space: bool, malformed: Malformed) -> Result<Cow<'_, [u8]>, UriError> {
    let is_special = |&byte: &u8| byte == b'%' || (plus_is_space && byte == b'+');
    let Some(first) = input.iter().position(is_special) else {
        return Ok(Cow::Borrowed(input));
    };
    let mut decoded = Vec::with_capacity(input.len());
    decoded.extend_from_slice(&input[..first]);
    let mut at = first;
    while let Some(&byte) = input.get(at) {
        at += 1;
        match byte {
            b'%' => match input.get(at..at + 2).and_then(hex_pair) {
                Some(value) => {
                    decoded.push(value);
                    at += 2;
                }
                None if malformed == Malformed::Keep => decoded.push(b'%'),
                None => return Err(UriError::PercentEncoding(at - 1)),
            },
            b'+' if plus_is_space => decoded.push(b' '),
            _ => decoded.push(byte),
        }
    }
    Ok(Cow::Owned(decoded))
}

fn hex_pair(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|value| value as u8);
    Some(digit(pair[0])? << 4 | digit(pair[1])?)
}

/// The names and values of a query or form, in order (WHATWG URL, `application/x-www-form-urlencoded` parsing).
///
/// `+` is a space, `%` without two hexadecimal digits stays as it is, invalid UTF-8 becomes U+FFFD, a piece without
/// `=` has an empty value, empty pieces are skipped. It never fails: every query means something.
///
/// ```
/// let pairs: Vec<_> = ushabti_proto::uri::query_pairs("a=1&&b=x+y%21&c&a=%zz").collect();
/// assert_eq!(pairs, [("a", "1"), ("b", "x y!"), ("c", ""), ("a", "%zz")].map(|(n, v)| (n.into(), v.into())));
/// ```
pub fn query_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|piece| !piece.is_empty()).map(|piece| {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        (decode_form_text(name), decode_form_text(value))
    })
}

fn decode_form_text(text: &str) -> Cow<'_, str> {
    match decode(text.as_bytes(), true, Malformed::Keep) {
        Ok(Cow::Owned(bytes)) => Cow::Owned(
            String::from_utf8(bytes).unwrap_or_else(|invalid| String::from_utf8_lossy(invalid.as_bytes()).into_owned()),
        ),
        Ok(Cow::Borrowed(_)) | Err(_) => Cow::Borrowed(text),
    }
}

/// The segments of a path that begins with `/`, not decoded: `/a/` has the segments `a` and an empty one (RFC 3986
/// section 3.3).
///
/// ```
/// use ushabti_proto::uri::path_segments;
///
/// assert_eq!(path_segments("/a%2Fb/c/").collect::<Vec<_>>(), ["a%2Fb", "c", ""]);
/// assert_eq!(path_segments("/").collect::<Vec<_>>(), [""]);
/// ```
pub fn path_segments(raw_path: &str) -> impl Iterator<Item = &str> {
    raw_path.strip_prefix('/').unwrap_or(raw_path).split('/')
}

/// Decodes one segment of a path. A slash written as `%2F` is part of the segment, which is why paths are split
/// before they are decoded.
///
/// # Errors
///
/// [`UriError`]: the path is malformed, and answered 400.
///
/// ```
/// assert_eq!(ushabti_proto::uri::decode_segment("a%2Fb")?, "a/b");
/// # Ok::<(), ushabti_proto::uri::UriError>(())
/// ```
pub fn decode_segment(segment: &str) -> Result<Cow<'_, str>, UriError> {
    percent_decode(segment.as_bytes(), false)
}
