//! Trailer sections: read by the rules of header fields, and dropped (RFC 9112 section 7.1.2, RFC 9110 section 6.5.1).

use ushabti_proto::error::ProtocolError;
use ushabti_proto::http1::connection::{EndOfInput, Limits};

use crate::harness::{
    Clock, Outcome, Rules, accepted, accepted_under, assert_refused, assert_refused_under, chunked, read,
};

fn with_trailers(lines: &str) -> Vec<u8> {
    chunked(format!("5\r\nhello\r\n0\r\n{lines}\r\n"))
}

/// Whatever their names: a length, a host or credentials that arrive here decide nothing.
#[test]
fn trailers_are_read_and_dropped() {
    let without = accepted("no trailer", &with_trailers(""));
    for lines in [
        "X-Test: v\r\n",
        "X-Test:\r\nX-Test: \t v \t\r\n",
        "x: gr\u{fc}\u{df}\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: x\r\nContent-Length: y\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
        "Host: b\r\nHost: c d\r\n",
        "Connection: close\r\nUpgrade: websocket\r\n",
        "Expect: 100-continue\r\n",
        "Expect: x\r\n",
        "Authorization: Basic YQ==\r\n",
    ] {
        assert_eq!(accepted(lines, &with_trailers(lines)), without, "{lines}");
    }
}

#[test]
fn malformed_trailers_are_refused() {
    for (name, lines, error) in [
        ("no colon", "garbage\r\n", ProtocolError::FieldWithoutColon),
        ("empty name", ": v\r\n", ProtocolError::FieldNameEmpty),
        ("space before the colon", "X-Test : v\r\n", ProtocolError::SpaceBeforeColon),
        ("space in the name", "X Test: v\r\n", ProtocolError::FieldNameSyntax(b' ')),
        ("NUL in the value", "X-Test: \0\r\n", ProtocolError::FieldValueSyntax(0)),
        ("white space before the first", " X-Test: v\r\n", ProtocolError::LineFolding),
        ("folded", "X-Test: v\r\n w\r\n", ProtocolError::LineFolding),
        ("LF", "X-Test: v\nY: w\r\n", ProtocolError::BareLineFeed),
        ("LF as the empty line", "\n", ProtocolError::BareLineFeed),
        ("CR", "X-Test: v\rY: w\r\n", ProtocolError::BareCarriageReturn),
        ("CR CR LF as the empty line", "\r\r\n", ProtocolError::BareCarriageReturn),
        ("the next request without an empty line", "GET / HTTP/1.1\r\n", ProtocolError::FieldNameSyntax(b' ')),
        ("one more chunk", "5\r\nhello\r\n", ProtocolError::FieldWithoutColon),
    ] {
        assert_refused(name, &with_trailers(lines), error);
    }
}

fn rules(head_bytes_max: usize, fields_max: usize) -> Rules {
    Rules { limits: Limits { head_bytes_max, fields_max, target_bytes_max: 100 }, body_max: u64::MAX }
}

#[test]
fn a_trailer_section_may_fill_the_limits_of_a_head_and_not_pass_them() {
    let max = 200;
    let first = "X: v\r\n";
    // The empty line at the end counts.
    let filling = |length: usize| [first, "Y: ", &"v".repeat(length - first.len() - 7), "\r\n"].concat();
    accepted_under(&rules(max, 128), "exactly at the limit", &with_trailers(&filling(max)));
    for length in [max + 1, max + 2, max + 3, max + 50] {
        let input = with_trailers(&filling(length));
        assert_refused_under(&rules(max, 128), "beyond the limit", &input, ProtocolError::TrailersTooLarge);
    }
    let full = chunked(["0\r\n", &filling(max + 2)].concat());
    assert_refused_under(&rules(max, 128), "full and without end", &full, ProtocolError::TrailersTooLarge);
    accepted_under(&rules(max, 5), "as many fields as the limit", &with_trailers(&first.repeat(5)));
    let input = with_trailers(&first.repeat(6));
    assert_refused_under(&rules(max, 5), "one field beyond", &input, ProtocolError::TrailersTooLarge);
}

#[test]
fn trailers_without_end_are_refused() {
    for (name, line) in
        [("one line", "v"), ("many lines", "X: v\r\n"), ("long lines", &format!("X: {}\r\n", "v".repeat(5000)))]
    {
        let body = ["0\r\nX: ", &line.repeat(100_000 / line.len())].concat();
        assert_refused(name, &chunked(body), ProtocolError::TrailersTooLarge);
    }
}

#[test]
fn header_and_trailers_have_the_limit_each() {
    let field = format!("X: {}\r\n", "v".repeat(20_000));
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{field}Transfer-Encoding: chunked\r\n\r\n");
    let input = format!("{head}0\r\n{field}\r\n");
    assert_eq!(accepted("20 kB each", input.as_bytes()).fields.len(), 3);
}

#[test]
fn an_incomplete_trailer_line_is_offered_again() {
    let reading = read("cut off", &chunked("0\r\nX: v\r\nY: w"));
    let end_of_input = EndOfInput::Incomplete(ProtocolError::BodyIncomplete);
    assert_eq!(reading.outcome, Outcome::Waiting { clock: Clock::Body, unconsumed: "Y: w".len(), end_of_input });
}
