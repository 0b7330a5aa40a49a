//! Expect (RFC 9110 section 10.1.1).

use ushabti_proto::error::ProtocolError;
use ushabti_proto::http1::connection::{Connection, Event, Next};

use crate::harness::{HOST, RULES, accepted, assert_refused, get, head};

#[test]
fn http_1_1_may_expect_100_continue() {
    for (field, expects) in [
        ("Expect: 100-continue", true),
        ("expect:100-Continue", true),
        ("Expect: 100-continue, 100-continue", true),
        ("Expect: , 100-continue,", true),
        ("Expect: 100-continue\r\nExpect: 100-CONTINUE", true),
        ("Expect: 100-continue\r\nExpect:", true),
        ("Expect:", false),
        ("Expect: ,", false),
        ("X-Expect: 100-continue", false),
        ("Expectation: x", false),
    ] {
        assert_eq!(accepted(field, &get(field)).expects_continue, expects, "{field}");
    }
}

#[test]
fn http_1_0_is_never_told_to_continue() {
    let request = accepted("HTTP/1.0", &head("GET / HTTP/1.0", &["Expect: 100-continue"]));
    assert!(!request.expects_continue);
}

#[test]
fn other_expectations_cannot_be_met() {
    for value in
        ["x", "100", "100-continued", "100-continue;a=b", "100-continue, x", "x, 100-continue", "\"100-continue\""]
    {
        for version in ["HTTP/1.1", "HTTP/1.0"] {
            let input = head(format!("GET / {version}"), &[HOST, &format!("Expect: {value}")]);
            assert_refused(value, &input, ProtocolError::ExpectationUnknown);
        }
    }
}

/// A connection that has read a head of these framing fields, which expects 100 (Continue).
fn expecting(fields: &[&str]) -> Connection {
    let fields = [&[HOST, "Expect: 100-continue"], fields].concat();
    let input = head("POST / HTTP/1.1", &fields);
    let mut connection = Connection::new();
    let step = connection.step(&input, &RULES.limits).expect("the head is valid");
    assert!(matches!(step.event, Event::Request(_)));
    connection
}

const FRAMED: [&str; 2] = ["Content-Length: 5", "Transfer-Encoding: chunked"];

#[test]
fn continue_is_wanted_until_it_is_sent() {
    for framing in FRAMED {
        let mut connection = expecting(&[framing]);
        assert!(connection.continue_wanted(), "{framing}");
        connection.continue_sent();
        assert!(!connection.continue_wanted(), "{framing}");
    }
}

#[test]
fn continue_is_wanted_until_content_comes() {
    for framing in FRAMED {
        let mut connection = expecting(&[framing]);
        connection.step(b"", &RULES.limits).expect("no bytes are no fault");
        assert!(connection.continue_wanted(), "{framing}: nothing came yet");
        connection.step(b"1", &RULES.limits).expect("content or the digit of a size");
        assert!(!connection.continue_wanted(), "{framing}: the client does not wait");
    }
}

#[test]
fn continue_is_not_wanted_where_no_content_is_to_come() {
    for fields in [&[] as &[&str], &["Content-Length: 0"]] {
        let connection = expecting(fields);
        assert!(!connection.continue_wanted(), "{fields:?}");
    }
}

/// The client may send its content or not; nobody can tell which bytes are the next request.
#[test]
fn a_final_response_instead_of_continue_ends_the_connection() {
    for framing in FRAMED {
        let mut connection = expecting(&[framing]);
        assert_eq!(connection.response_done(false), Next::Close, "{framing}");
        assert!(!connection.continue_wanted(), "{framing}");
    }
}
