//! Content-Length (RFC 9110 section 8.6, RFC 9112 sections 6.2 and 6.3).

use ushabti_proto::error::ProtocolError;
use ushabti_proto::http1::connection::EndOfInput;
use ushabti_proto::http1::framing::{BodyFraming, parse_content_length};

use crate::harness::{Clock, NEIGHBOUR, Outcome, accepted, assert_refused, head, post, read};

#[test]
fn content_is_as_long_as_it_says() {
    for (field, length) in [
        ("Content-Length: 5", 5),
        ("content-length:5", 5),
        ("CONTENT-LENGTH: \t5 \t", 5),
        ("Content-Length: 0005", 5),
        ("Content-Length: 0", 0),
        ("Content-Length: 000", 0),
        ("Content-Length: 1", 1),
        (&format!("Content-Length: {}5", "0".repeat(63)), 5),
    ] {
        let content = &b"hello"[..length];
        let request = accepted(field, &post(&[field], content));
        assert_eq!((request.framing, request.content.as_slice()), (BodyFraming::Length(length as u64), content));
    }
}

#[test]
fn content_is_any_bytes() {
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(accepted("all bytes", &post(&["Content-Length: 256"], &all)).content, all);
    let request = accepted("a request", &post(&[&format!("Content-Length: {}", NEIGHBOUR.len())], NEIGHBOUR));
    assert_eq!(request.content, NEIGHBOUR);
    let large = vec![b'x'; 100_000];
    assert_eq!(accepted("100 kB", &post(&["Content-Length: 100000"], &large)).content, large);
}

#[test]
fn the_method_does_not_decide_about_content() {
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "TRACE", "POST", "x"] {
        let line = format!("{method} / HTTP/1.1");
        let input = [head(&line, &["Host: a", "Content-Length: 3"]).as_slice(), b"abc"].concat();
        assert_eq!(accepted(method, &input).content, b"abc");
        let request = accepted(method, &head(&line, &["Host: a"]));
        assert_eq!((request.framing, request.content.as_slice()), (BodyFraming::None, b"".as_slice()));
    }
}

const MALFORMED: &[(&str, &[u8], ProtocolError)] = &[
    ("empty", b"", ProtocolError::ContentLengthSyntax),
    ("plus", b"+5", ProtocolError::ContentLengthSyntax),
    ("minus", b"-5", ProtocolError::ContentLengthSyntax),
    ("minus zero", b"-0", ProtocolError::ContentLengthSyntax),
    ("hexadecimal", b"0x5", ProtocolError::ContentLengthSyntax),
    ("hexadecimal without prefix", b"5a", ProtocolError::ContentLengthSyntax),
    ("underscore", b"0_5", ProtocolError::ContentLengthSyntax),
    ("two numbers", b"5 5", ProtocolError::ContentLengthSyntax),
    ("list of equal numbers", b"5, 5", ProtocolError::ContentLengthSyntax),
    ("list of different numbers", b"5, 6", ProtocolError::ContentLengthSyntax),
    ("comma after", b"5,", ProtocolError::ContentLengthSyntax),
    ("comma before", b",5", ProtocolError::ContentLengthSyntax),
    ("fraction", b"5.0", ProtocolError::ContentLengthSyntax),
    ("exponent", b"5e0", ProtocolError::ContentLengthSyntax),
    ("parameter", b"5;a=b", ProtocolError::ContentLengthSyntax),
    ("quoted", b"\"5\"", ProtocolError::ContentLengthSyntax),
    ("chunked", b"chunked", ProtocolError::ContentLengthSyntax),
    ("unit", b"5 bytes", ProtocolError::ContentLengthSyntax),
    ("no-break space", b"\xa05", ProtocolError::ContentLengthSyntax),
    ("Arabic digit", "\u{665}".as_bytes(), ProtocolError::ContentLengthSyntax),
    ("superscript digit", "\u{b2}".as_bytes(), ProtocolError::ContentLengthSyntax),
    ("2 to the 64th", b"18446744073709551616", ProtocolError::ContentLengthOverflow),
    ("5 after wrapping at 64 bits", b"18446744073709551621", ProtocolError::ContentLengthOverflow),
    ("20 nines", b"99999999999999999999", ProtocolError::ContentLengthOverflow),
    ("65 zeros", &[b'0'; 65], ProtocolError::ContentLengthOverflow),
    ("1000 digits", &[b'9'; 1000], ProtocolError::ContentLengthOverflow),
];

#[test]
fn what_is_no_plain_number_is_refused() {
    for &(name, value, error) in MALFORMED {
        assert_eq!(parse_content_length(value), Err(error), "{name}");
        let field = [b"Content-Length: ", value].concat();
        let input =
            [head(b"POST / HTTP/1.1", &[b"Host: a".as_slice(), field.as_slice()]).as_slice(), b"hello"].concat();
        assert_refused(name, &input, error);
        assert_refused(name, &head(b"POST / HTTP/1.0", &[field.as_slice()]), error);
    }
    for (name, value, byte) in [("vertical tab", "\x0b5", 0x0b), ("NUL", "5\0", 0), ("DEL", "5\x7f", 0x7f)] {
        assert_refused(name, &post(&[&format!("Content-Length: {value}")], ""), ProtocolError::FieldValueSyntax(byte));
    }
}

/// Equal ones too: section 6.3 lets a recipient take them for one, but no correct client sends them.
#[test]
fn a_second_content_length_is_refused() {
    for (name, fields) in [
        ("different", ["Content-Length: 5", "Content-Length: 6"]),
        ("equal", ["Content-Length: 5", "Content-Length: 5"]),
        ("equal but for zeros", ["Content-Length: 5", "Content-Length: 05"]),
        ("second malformed", ["Content-Length: 5", "Content-Length: x"]),
        ("second empty", ["Content-Length: 5", "Content-Length:"]),
        ("zero first", ["Content-Length: 0", "content-length: 5"]),
    ] {
        assert_refused(name, &post(&fields, "hello"), ProtocolError::ContentLengthRepeated);
    }
    let input = post(&["Content-Length: x", "Content-Length: 5"], "hello");
    assert_refused("first malformed", &input, ProtocolError::ContentLengthSyntax);
}

#[test]
fn content_that_is_cut_off_is_incomplete() {
    for sent in 0..5 {
        let reading = read("cut off", &post(&["Content-Length: 5"], &b"hello"[..sent]));
        let [request] = reading.requests.as_slice() else { panic!("{:?}", reading.requests) };
        assert_eq!((request.content.as_slice(), request.is_complete), (&b"hello"[..sent], false));
        let end_of_input = EndOfInput::Incomplete(ProtocolError::BodyIncomplete);
        assert_eq!(reading.outcome, Outcome::Waiting { clock: Clock::Body, unconsumed: 0, end_of_input });
    }
}

#[test]
fn the_largest_length_can_be_waited_for() {
    let reading = read("2 to the 64th minus 1", &post(&["Content-Length: 18446744073709551615"], "hello"));
    assert_eq!(reading.requests[0].framing, BodyFraming::Length(u64::MAX));
    assert!(matches!(reading.outcome, Outcome::Waiting { clock: Clock::Body, unconsumed: 0, .. }));
}

#[test]
fn http_1_0_has_content_by_length() {
    let request = accepted("HTTP/1.0", b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(request.content, b"hello");
}
