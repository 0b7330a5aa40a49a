//! The grammars of HTTP/1.1 once more, written from the RFCs with the plainest means: whole strings, splits and
//! filters, no state.

use std::net::Ipv6Addr;

/// `tchar` (RFC 9110 section 5.6.2).
const TOKEN_SIGNS: &[u8] = b"!#$%&'*+-.^_`|~";
/// `unreserved` and `sub-delims` without letters and digits (RFC 3986 section 2).
const HOST_SIGNS: &[u8] = b"-._~!$&'()*+,;=";
/// What a path may hold beside these: `pchar`, `/`, percent signs, and what browsers leave raw (WHATWG URL).
const PATH_SIGNS: &[u8] = b":@/%[]|^";
/// And a query beside those.
const QUERY_SIGNS: &[u8] = b"?\\`{}";

pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || TOKEN_SIGNS.contains(byte))
}

/// Cuts SP and HTAB off both ends (RFC 9110 section 5.6.3).
pub(crate) fn trim(text: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let start = text.iter().position(is_text).unwrap_or(text.len());
    let end = text.iter().rposition(is_text).map_or(start, |last| last + 1);
    &text[start..end]
}

/// A field line without its CRLF: name and value (RFC 9112 section 5).
pub(crate) fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
    let is_clean = value.iter().all(|&byte| byte == b'\t' || !byte.is_ascii_control());
    (is_token(name) && is_clean).then_some((name, value))
}

/// A line that ends with CRLF, and what follows it.
pub(crate) enum Line<'a> {
    Whole(&'a [u8], &'a [u8]),
    /// Its CRLF has not come.
    Begun,
    /// LF or CR alone are no line ends here (RFC 9112 section 2.2).
    Wrong,
}

pub(crate) fn line(text: &[u8]) -> Line<'_> {
    let end = text.windows(2).position(|pair| pair == b"\r\n");
    let (line, rest) = match end {
        Some(end) => (&text[..end], Some(&text[end + 2..])),
        None => (text.strip_suffix(b"\r").unwrap_or(text), None),
    };
    match rest {
        _ if line.contains(&b'\r') || line.contains(&b'\n') => Line::Wrong,
        Some(rest) => Line::Whole(line, rest),
        None => Line::Begun,
    }
}

pub(crate) fn is_path(text: &[u8]) -> bool {
    text.iter().all(|byte| byte.is_ascii_alphanumeric() || HOST_SIGNS.contains(byte) || PATH_SIGNS.contains(byte))
}

pub(crate) fn is_query(text: &[u8]) -> bool {
    text.iter().all(|byte| QUERY_SIGNS.contains(byte) || is_path(&[*byte]))
}

/// `uri-host [ ":" port ]` (RFC 9110 section 7.2): the host, and the port if there are digits.
pub(crate) fn authority(text: &[u8]) -> Option<(&str, Option<u16>)> {
    let text = std::str::from_utf8(text).ok()?;
    let (host, rest) = if text.starts_with('[') {
        let (literal, rest) = text.split_once(']')?;
        if !is_ip_literal(&literal[1..]) {
            return None;
        }
        (&text[..=literal.len()], rest)
    } else {
        let host = text.split(':').next()?;
        if !is_reg_name(host) {
            return None;
        }
        (host, &text[host.len()..])
    };
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        Some("") => None,
        Some(digits) if digits.chars().all(|digit| digit.is_ascii_digit()) => {
            // No number of leading zeros is too much, as the grammar has no bound.
            let significant = digits.trim_start_matches('0');
            Some(if significant.is_empty() { 0 } else { significant.parse().ok()? })
        }
        None | Some(_) => return None,
    };
    Some((host, port))
}

fn is_ip_literal(literal: &str) -> bool {
    let Some(future) = literal.strip_prefix(['v', 'V']) else {
        return literal.parse::<Ipv6Addr>().is_ok();
    };
    future.split_once('.').is_some_and(|(version, address)| {
        let is_address = |byte: u8| byte == b':' || byte.is_ascii_alphanumeric() || HOST_SIGNS.contains(&byte);
        !version.is_empty()
            && version.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !address.is_empty()
            && address.bytes().all(is_address)
    })
}

fn is_reg_name(name: &str) -> bool {
    let mut pieces = name.split('%');
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || HOST_SIGNS.contains(&byte));
    pieces.next().is_some_and(is_plain)
        && pieces.all(|piece| {
            piece.get(..2).is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
                && is_plain(&piece[2..])
        })
}
