//! Field lines in a head (RFC 9112 sections 2.2 and 5, RFC 9110 section 5).

use ushabti_proto::error::ProtocolError;

use crate::harness::{HOST, accepted, assert_refused, get, head};

#[test]
fn white_space_around_a_value_is_cut_off_and_inside_it_is_kept() {
    for (line, value) in [
        ("X-Test: v", "v"),
        ("X-Test:v", "v"),
        ("X-Test: \t v \t", "v"),
        ("X-Test:\tv\t", "v"),
        ("X-Test: a\tb  c", "a\tb  c"),
        ("X-Test:", ""),
        ("X-Test: ", ""),
        ("X-Test:\t \t", ""),
        ("X-Test: :", ":"),
        ("X-Test::v", ":v"),
        ("X-Test: a: b", "a: b"),
        ("X-Test: \"a, b\";c=\"\\\"\"", "\"a, b\";c=\"\\\"\""),
        ("x-tEST: v", "v"),
    ] {
        let request = accepted(line, &get(line));
        assert_eq!(request.field("x-test"), Some(value.as_bytes()), "{line}");
    }
}

#[test]
fn eight_bit_bytes_in_a_value_are_data() {
    let all: Vec<u8> = (0x80..=0xff).collect();
    let request = accepted("obs-text", &get([b"X-Test: ", all.as_slice()].concat()));
    assert_eq!(request.field("x-test"), Some(all.as_slice()));
    // NEL and NBSP are white space to some text functions, and to no HTTP parser.
    let request = accepted("NEL, NBSP", &get(b"X-Test: \x85a\xa0"));
    assert_eq!(request.field("x-test"), Some(b"\x85a\xa0".as_slice()));
}

#[test]
fn any_token_is_a_name_and_is_kept_as_it_came() {
    for name in ["X", "x-test", "X_Test", "!#$%&'*+-.^_`|~09azAZ", "123", &"n".repeat(5000)] {
        let request = accepted(name, &get(format!("{name}: v")));
        assert_eq!(request.fields[1], (name.to_owned(), b"v".to_vec()));
    }
}

#[test]
fn fields_keep_their_order_and_repeated_ones_stay_apart() {
    let request = accepted("repeated", &head("GET / HTTP/1.1", &["B: 1", "Host: a", "b: 2", "A:", "B: 1"]));
    let lines: Vec<(&str, &[u8])> =
        request.fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    assert_eq!(lines, [("B", b"1".as_slice()), ("Host", b"a"), ("b", b"2"), ("A", b""), ("B", b"1")]);
}

#[test]
fn names_that_look_alike_are_other_fields() {
    let request = accepted(
        "underscores, prefixes, suffixes",
        &get(
            "Content_Length: 5\r\nTransfer_Encoding: chunked\r\nX-Host: b\r\nHost2: c\r\nContent-Lengt: 5\r\nExpected: x",
        ),
    );
    assert_eq!((request.host.as_deref(), request.content.len()), (Some("a"), 0));
}

#[test]
fn malformed_field_lines_are_refused() {
    for (name, line, error) in [
        ("no colon", b"garbage".as_slice(), ProtocolError::FieldWithoutColon),
        ("no colon, with a space", b"garbage here", ProtocolError::FieldNameSyntax(b' ')),
        ("empty name", b": v", ProtocolError::FieldNameEmpty),
        ("only a colon", b":", ProtocolError::FieldNameEmpty),
        ("space before the colon", b"X-Test : v", ProtocolError::SpaceBeforeColon),
        ("tab before the colon", b"X-Test\t: v", ProtocolError::SpaceBeforeColon),
        ("much before the colon", b"X-Test \t \t: v", ProtocolError::SpaceBeforeColon),
        ("space inside the name", b"X Test: v", ProtocolError::FieldNameSyntax(b' ')),
        ("space inside the name and before the colon", b"X Test : v", ProtocolError::FieldNameSyntax(b' ')),
        ("delimiter in the name", b"X(Test: v", ProtocolError::FieldNameSyntax(b'(')),
        ("quoted name", b"\"X\": v", ProtocolError::FieldNameSyntax(b'"')),
        ("NUL in the name", b"X-T\0est: v", ProtocolError::FieldNameSyntax(0)),
        ("8 bits in the name", b"X-T\xe9st: v", ProtocolError::FieldNameSyntax(0xe9)),
        ("vertical tab before the colon", b"X-Test\x0b: v", ProtocolError::FieldNameSyntax(0x0b)),
        ("no-break space before the colon", b"X-Test\xa0: v", ProtocolError::FieldNameSyntax(0xa0)),
        ("NUL in the value", b"X-Test: a\0b", ProtocolError::FieldValueSyntax(0)),
        ("NUL at the end of the value", b"X-Test: a\0", ProtocolError::FieldValueSyntax(0)),
        ("vertical tab", b"X-Test: \x0bv", ProtocolError::FieldValueSyntax(0x0b)),
        ("form feed", b"X-Test: v\x0c", ProtocolError::FieldValueSyntax(0x0c)),
        ("backspace", b"X-Test: a\x08b", ProtocolError::FieldValueSyntax(0x08)),
        ("escape", b"X-Test: \x1b[2J", ProtocolError::FieldValueSyntax(0x1b)),
        ("DEL", b"X-Test: \x7f", ProtocolError::FieldValueSyntax(0x7f)),
        ("the first of two", b"X-Test: a\x01b\x02", ProtocolError::FieldValueSyntax(0x01)),
    ] {
        assert_refused(name, &get(line), error);
        assert_refused(name, &head(b"GET / HTTP/1.1", &[line, HOST.as_bytes()]), error);
    }
}

#[test]
fn folded_lines_are_refused() {
    for (name, lines) in [
        ("space", "X-Test: a\r\n b"),
        ("tab", "X-Test: a\r\n\tb"),
        ("after an empty value", "X-Test:\r\n v"),
        ("only white space", "X-Test: a\r\n "),
        ("a framing field", "Content-Length: 5\r\n 0"),
        ("what looks like a field", "X-Test: a\r\n Content-Length: 5"),
        ("what has no name", "X-Test: a\r\n : b"),
    ] {
        assert_refused(name, &get(lines), ProtocolError::LineFolding);
    }
}

#[test]
fn white_space_before_the_first_field_is_refused() {
    for (name, line) in [("space", " X-Test: v"), ("tab", "\tX-Test: v"), ("nothing else", " "), ("a colon", " : v")] {
        assert_refused(name, &head("GET / HTTP/1.1", &[line, HOST]), ProtocolError::SpaceBeforeFields);
    }
}

#[test]
fn only_crlf_ends_a_line() {
    for (name, input, error) in [
        ("LF after the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n".as_slice(), ProtocolError::BareLineFeed),
        ("CR after the request line", b"GET / HTTP/1.1\rHost: a\r\n\r\n", ProtocolError::BareCarriageReturn),
        ("LF in the method", b"GE\nT / HTTP/1.1\r\n", ProtocolError::BareLineFeed),
        ("CR in the target", b"GET /\r HTTP/1.1\r\n", ProtocolError::BareCarriageReturn),
        ("CR twice after the request line", b"GET / HTTP/1.1\r\r\n", ProtocolError::BareCarriageReturn),
        ("LF after a field", b"GET / HTTP/1.1\r\nHost: a\nX-Test: v\r\n\r\n", ProtocolError::BareLineFeed),
        ("LF as the empty line", b"GET / HTTP/1.1\r\nHost: a\r\n\n", ProtocolError::BareLineFeed),
        ("CR as the empty line", b"GET / HTTP/1.1\r\nHost: a\r\n\rX", ProtocolError::BareCarriageReturn),
        ("CR CR LF as the empty line", b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n", ProtocolError::BareCarriageReturn),
        ("LF in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\nb\r\n\r\n", ProtocolError::BareLineFeed),
        ("CR in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", ProtocolError::BareCarriageReturn),
        ("CR in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX\rY: a\r\n\r\n", ProtocolError::BareCarriageReturn),
        ("LF alone everywhere", b"GET / HTTP/1.1\nHost: a\n\n", ProtocolError::BareLineFeed),
        ("CR alone everywhere", b"GET / HTTP/1.1\rHost: a\r\r", ProtocolError::BareCarriageReturn),
        ("LF before CR", b"GET / HTTP/1.1\n\rHost: a\r\n\r\n", ProtocolError::BareLineFeed),
        (
            "a hidden field",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rContent-Length: 9\r\n\r\n",
            ProtocolError::BareCarriageReturn,
        ),
        ("a hidden request", b"GET / HTTP/1.1\r\nHost: a\n\nGET / HTTP/1.1\r\n", ProtocolError::BareLineFeed),
    ] {
        assert_refused(name, input, error);
    }
}

/// The first fault in the order of the bytes is the one that is told, so that it does not depend on how much arrived.
#[test]
fn the_first_of_two_faults_is_reported() {
    for (name, input, error) in [
        ("version, then field", head("GET / HTTP/2.0", &["bad"]), ProtocolError::VersionUnsupported),
        ("field, then missing Host", head("GET / HTTP/1.1", &["bad"]), ProtocolError::FieldWithoutColon),
        ("Content-Length, then field", get("Content-Length: x\r\nbad"), ProtocolError::ContentLengthSyntax),
        ("field, then Content-Length", get("bad\r\nContent-Length: x"), ProtocolError::FieldWithoutColon),
        ("name, then bare LF", get("X(Y: v\r\nX: a\nb"), ProtocolError::FieldNameSyntax(b'(')),
    ] {
        assert_refused(name, &input, error);
    }
}
