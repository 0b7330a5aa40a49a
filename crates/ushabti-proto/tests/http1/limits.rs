//! Limits of a head: exactly at each of them, and one beyond (RFC 9110 sections 5.4 and 15.5.15, RFC 6585 section 5).

use ushabti_proto::error::ProtocolError;
use ushabti_proto::http1::connection::Limits;

use crate::harness::{
    HOST, NEIGHBOUR, Outcome, Rules, accepted, accepted_under, assert_refused, assert_refused_under, get, head,
    read_once,
};

fn rules(head_bytes_max: usize, fields_max: usize, target_bytes_max: usize) -> Rules {
    Rules { limits: Limits { head_bytes_max, fields_max, target_bytes_max }, body_max: u64::MAX }
}

#[test]
fn a_head_may_fill_its_limit_to_the_last_byte() {
    let input = head("GET /path HTTP/1.1", &[HOST, "X-Test: value", "Y:"]);
    let exact = rules(input.len(), 128, 1000);
    accepted_under(&exact, "exactly at the limit", &input);
    for shorter in NEIGHBOUR.len()..input.len() {
        let error = ProtocolError::HeadTooLarge;
        assert_refused_under(&rules(shorter, 128, 1000), "beyond the limit", &input, error);
    }
}

#[test]
fn an_empty_line_before_the_request_is_no_part_of_its_head() {
    let input = [b"\r\n", NEIGHBOUR].concat();
    accepted_under(&rules(NEIGHBOUR.len(), 128, 1000), "CRLF and a full head", &input);
}

#[test]
fn a_target_may_fill_its_limit_to_the_last_byte() {
    let rules = rules(10_000, 128, 100);
    for method in ["GET", "M", &"M".repeat(32)] {
        let line = |length: usize| format!("{method} /{} HTTP/1.1", "a".repeat(length - 1));
        let request = accepted_under(&rules, "exactly at the limit", &head(line(100), &[HOST]));
        assert_eq!(request.target.len(), 100);
        for length in [101, 102, 150, 500] {
            assert_refused_under(&rules, "beyond", &head(line(length), &[HOST]), ProtocolError::TargetTooLong);
        }
    }
}

#[test]
fn as_many_fields_as_the_limit_are_taken() {
    let fields = |count: usize| {
        let others = (1..count).map(|number| format!("X-{number}: v"));
        head("GET / HTTP/1.1", &[HOST.to_owned()].into_iter().chain(others).collect::<Vec<_>>())
    };
    let rules = rules(10_000, 5, 100);
    assert_eq!(accepted_under(&rules, "exactly at the limit", &fields(5)).fields.len(), 5);
    assert_refused_under(&rules, "one beyond", &fields(6), ProtocolError::TooManyFields);
    assert_eq!(accepted("90 fields", &fields(90)).fields.len(), 90);
    assert_eq!(accepted("128 fields", &fields(128)).fields.len(), 128);
    assert_refused("129 fields", &fields(129), ProtocolError::TooManyFields);
}

#[test]
fn the_field_beyond_the_limit_is_not_looked_at() {
    let input = head("GET / HTTP/1.1", &[HOST, "X: v", "not a field"]);
    assert_refused_under(&rules(10_000, 2, 100), "malformed and too many", &input, ProtocolError::TooManyFields);
}

#[test]
fn eight_kilobytes_of_target_or_field_are_taken() {
    let target = format!("/hello?{}", "a".repeat(8000));
    assert_eq!(accepted("target", &head(format!("GET {target} HTTP/1.1"), &[HOST])).target, target);
    let value = "v".repeat(8000);
    assert_eq!(accepted("field", &get(format!("X-Test: {value}"))).field("x-test"), Some(value.as_bytes()));
}

#[test]
fn what_never_ends_is_refused_at_the_limit() {
    let long = vec![b'a'; 100_000];
    for (name, start, error) in [
        ("target", b"GET /".as_slice(), ProtocolError::TargetTooLong),
        ("query", b"GET /?", ProtocolError::TargetTooLong),
        ("version", b"GET / HTTP/1.1", ProtocolError::TargetTooLong),
        ("method", b"", ProtocolError::MethodTooLong),
        ("field name", b"GET / HTTP/1.1\r\nHost: a\r\n", ProtocolError::HeadTooLarge),
        ("field value", b"GET / HTTP/1.1\r\nHost: a\r\nX-Test: ", ProtocolError::HeadTooLarge),
    ] {
        assert_refused(name, &[start, &long].concat(), error);
    }
}

/// No further byte could make it valid, so none is waited for.
#[test]
fn an_incomplete_head_that_fills_its_limit_is_refused_at_once() {
    let input = head("GET /path HTTP/1.1", &[HOST, "X-Test: value"]);
    for length in NEIGHBOUR.len()..input.len() {
        let part = &input[..length];
        assert_refused_under(&rules(length, 128, 1000), "full", part, ProtocolError::HeadTooLarge);
        let reading = read_once(&rules(length + 1, 128, 1000), part, []);
        assert!(matches!(reading.outcome, Outcome::Waiting { .. }), "one byte is left: {reading:?}");
    }
}

/// Bytes beyond a limit do not count, whatever they are: else the answer would depend on how much arrived at once.
#[test]
fn a_fault_beyond_the_limit_is_not_seen() {
    let limit = 200;
    for fault in ["\n", "\r\r", "\r\n\r\n"] {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        let fill = "v".repeat(limit - start.len());
        let input = [start, fill.as_str(), fault].concat();
        assert_refused_under(&rules(limit, 128, 100), fault, input.as_bytes(), ProtocolError::HeadTooLarge);
    }
}

/// Limits that no head can keep to are the operator's mistake, and still no reason to panic.
#[test]
fn limits_that_are_too_small_for_any_head_refuse_every_head() {
    for head_bytes_max in 0..20 {
        for input in [NEIGHBOUR, &[b"\r\n", NEIGHBOUR].concat()] {
            for end in 1..input.len() {
                let reading = read_once(&rules(head_bytes_max, 0, 0), input, [end]);
                assert!(matches!(reading.outcome, Outcome::Refused(_)), "{head_bytes_max} bytes: {reading:?}");
            }
        }
    }
}
