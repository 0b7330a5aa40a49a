//! Percent-encoding, query strings, paths and hosts, held against plain second readings and against encoders that
//! must be undone (RFC 3986, WHATWG URL).

use std::fmt::Write as _;

use ushabti_proto::http1::head::RequestHead;
use ushabti_proto::uri::{UriError, decode_segment, is_host_field, path_segments, percent_decode, query_pairs};

use crate::plain::authority;

/// Reads the input as each of these.
pub fn check(input: &[u8]) {
    for plus_is_space in [false, true] {
        check_decoding(input, plus_is_space);
    }
    check_host(input);
    let text = String::from_utf8_lossy(input);
    check_query(&text);
    check_path(&text);
}

fn check_decoding(input: &[u8], plus_is_space: bool) {
    let found = percent_decode(input, plus_is_space);
    match decode(input, plus_is_space) {
        (_, Some(at)) => assert_eq!(found, Err(UriError::PercentEncoding(at))),
        (bytes, None) => match String::from_utf8(bytes) {
            Err(_) => assert_eq!(found, Err(UriError::NotUtf8)),
            Ok(text) => {
                assert_eq!(found.as_deref(), Ok(text.as_str()));
                // What is decoded is text again, of which nothing is lost by encoding it.
                let encoded = encode(text.as_bytes());
                assert_eq!(percent_decode(encoded.as_bytes(), plus_is_space).as_deref(), Ok(text.as_str()));
                if !text.contains(['%', '+']) {
                    assert_eq!(percent_decode(text.as_bytes(), plus_is_space).as_deref(), Ok(text.as_str()));
                }
            }
        },
    }
}

/// The decoded bytes, percent signs without two digits kept, and where the first of them stands.
fn decode(input: &[u8], plus_is_space: bool) -> (Vec<u8>, Option<usize>) {
    let (mut bytes, mut malformed) = (Vec::new(), None);
    let mut at = 0;
    while at < input.len() {
        let digits = input.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        let value = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let (byte, length) = match (input[at], value) {
            (b'%', Some(digits)) => (u8::from_str_radix(digits, 16).expect("two digits"), 3),
            (b'+', _) if plus_is_space => (b' ', 1),
            (byte, _) => {
                if byte == b'%' {
                    malformed = malformed.or(Some(at));
                }
                (byte, 1)
            }
        };
        bytes.push(byte);
        at += length;
    }
    (bytes, malformed)
}

fn encode(bytes: &[u8]) -> String {
    let mut encoded = String::new();
    for byte in bytes {
        write!(encoded, "%{byte:02x}").expect("a string takes all that is written");
    }
    encoded
}

fn check_query(query: &str) {
    let decoded = |text: &str| String::from_utf8_lossy(&decode(text.as_bytes(), true).0).into_owned();
    let expected: Vec<(String, String)> = query
        .split('&')
        .filter(|piece| !piece.is_empty())
        .map(|piece| match piece.find('=') {
            Some(at) => (decoded(&piece[..at]), decoded(&piece[at + 1..])),
            None => (decoded(piece), String::new()),
        })
        .collect();
    let owned = |query: &str| -> Vec<(String, String)> {
        query_pairs(query).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
    };
    assert_eq!(owned(query), expected, "{query:?}");
    // Written again as a form, it means the same.
    let pairs = expected.iter().map(|(name, value)| [encode(name.as_bytes()), encode(value.as_bytes())].join("="));
    assert_eq!(owned(&pairs.collect::<Vec<_>>().join("&")), expected, "{query:?}");
}

fn check_path(path: &str) {
    let segments: Vec<&str> = path_segments(path).collect();
    assert_eq!(segments.join("/"), path.strip_prefix('/').unwrap_or(path));
    for segment in segments {
        assert_eq!(decode_segment(segment), percent_decode(segment.as_bytes(), false));
        // A path that was encoded whole is one segment, and comes back as that.
        let encoded = encode(segment.as_bytes());
        assert_eq!(path_segments(&encoded).count(), 1);
        assert_eq!(decode_segment(&encoded).as_deref(), Ok(segment));
    }
}

fn check_host(input: &[u8]) {
    let read = authority(input);
    let is_host = input.is_empty() || read.is_some_and(|(host, _)| !host.is_empty());
    assert_eq!(is_host_field(input), is_host, "{:?}", String::from_utf8_lossy(input));
    if !is_host {
        return;
    }
    // Three places of a request that hold a host agree on what one is.
    let in_field = head("GET / HTTP/1.1\r\nHost:", input, "\r\n").expect("it is a host");
    assert_eq!(in_field.host().map(str::as_bytes), Some(input));
    if input.is_empty() {
        return;
    }
    let in_target = head("GET http://", input, "/x HTTP/1.1\r\nHost: other\r\n").expect("it is a host");
    assert_eq!((in_target.host().map(str::as_bytes), in_target.path()), (Some(input), "/x"));
    let has_port = read.is_some_and(|(_, port)| port.is_some_and(|port| port > 0));
    let tunnel = head("CONNECT ", input, " HTTP/1.1\r\nHost: other\r\n");
    assert_eq!(tunnel.is_some(), has_port, "{:?}", String::from_utf8_lossy(input));
}

fn head(before: &str, text: &[u8], after: &str) -> Option<RequestHead> {
    RequestHead::from_lines(&[before.as_bytes(), text, after.as_bytes()].concat()).ok()
}
