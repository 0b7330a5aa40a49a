//! The request line (RFC 9112 sections 2.2, 2.3, 3 and 3.1).

use ushabti_proto::error::ProtocolError;
use ushabti_proto::http1::connection::EndOfInput;
use ushabti_proto::http1::head::Version;

use crate::harness::{Clock, HOST, NEIGHBOUR, Outcome, Reading, accepted, assert_refused, head, read};

#[test]
fn any_token_of_up_to_32_bytes_is_a_method() {
    for method in ["GET", "HEAD", "M-SEARCH", "get", "UPDATEREDIRECTREF", "!#$%&'*+-.^_`|~09azAZ", "X", &"M".repeat(32)]
    {
        let request = accepted(method, &head(format!("{method} / HTTP/1.1"), &[HOST]));
        assert_eq!(request.method, method);
    }
}

#[test]
fn a_method_of_33_bytes_is_not_implemented() {
    let too_long = "M".repeat(33);
    for (name, line) in [
        ("a whole line", format!("{too_long} / HTTP/1.1")),
        ("not a token either", format!("{too_long}( / HTTP/1.1")),
        ("without end", "M".repeat(40_000)),
    ] {
        assert_refused(name, &head(line, &[HOST]), ProtocolError::MethodTooLong);
    }
}

#[test]
fn malformed_request_lines_are_refused() {
    for (name, line, error) in [
        ("two spaces after the method", "GET  / HTTP/1.1", ProtocolError::RequestLineSyntax),
        ("two spaces after the target", "GET /  HTTP/1.1", ProtocolError::RequestLineSyntax),
        ("space after the version", "GET / HTTP/1.1 ", ProtocolError::RequestLineSyntax),
        ("space inside the target", "GET /a b HTTP/1.1", ProtocolError::RequestLineSyntax),
        ("space inside the version", "GET / HTTP /1.1", ProtocolError::RequestLineSyntax),
        ("only a method", "GET", ProtocolError::RequestLineSyntax),
        ("only a method and a space", "GET ", ProtocolError::RequestLineSyntax),
        ("a method and two spaces", "GET  ", ProtocolError::RequestLineSyntax),
        ("HTTP/0.9, which has no version", "GET /", ProtocolError::RequestLineSyntax),
        ("nothing after the target", "GET / ", ProtocolError::VersionSyntax),
        ("no target", "GET HTTP/1.1", ProtocolError::RequestLineSyntax),
        ("tabs for spaces", "GET\t/\tHTTP/1.1", ProtocolError::RequestLineSyntax),
        ("tab after the method", "GET\t/ HTTP/1.1", ProtocolError::MethodSyntax),
        ("tab before the method's space", "GET\t / HTTP/1.1", ProtocolError::MethodSyntax),
        ("tab after the target", "GET /\tHTTP/1.1", ProtocolError::RequestLineSyntax),
        ("tab after the version", "GET / HTTP/1.1\t", ProtocolError::VersionSyntax),
        ("delimiter in the method", "GE(T / HTTP/1.1", ProtocolError::MethodSyntax),
        ("colon in the method", "GET: / HTTP/1.1", ProtocolError::MethodSyntax),
        ("a field line", "Host: a", ProtocolError::MethodSyntax),
        ("a status line", "HTTP/1.1 200 OK", ProtocolError::MethodSyntax),
        ("another protocol", "SSH-2.0-OpenSSH_9.6", ProtocolError::RequestLineSyntax),
    ] {
        assert_refused(name, &head(line, &[HOST]), error);
    }
}

#[test]
fn versions_1_are_served_and_others_are_not() {
    for (version, served) in [
        ("HTTP/1.0", Ok(Version::Http10)),
        ("HTTP/1.1", Ok(Version::Http11)),
        ("HTTP/1.2", Ok(Version::Http11)),
        ("HTTP/1.9", Ok(Version::Http11)),
        ("HTTP/0.9", Err(ProtocolError::VersionUnsupported)),
        ("HTTP/2.0", Err(ProtocolError::VersionUnsupported)),
        ("HTTP/3.1", Err(ProtocolError::VersionUnsupported)),
        ("HTTP/9.9", Err(ProtocolError::VersionUnsupported)),
        ("HTTP/2", Err(ProtocolError::VersionSyntax)),
        ("HTTP/1", Err(ProtocolError::VersionSyntax)),
        ("HTTP/1.", Err(ProtocolError::VersionSyntax)),
        ("HTTP/.1", Err(ProtocolError::VersionSyntax)),
        ("HTTP/1.10", Err(ProtocolError::VersionSyntax)),
        ("HTTP/01.1", Err(ProtocolError::VersionSyntax)),
        ("HTTP/1.01", Err(ProtocolError::VersionSyntax)),
        ("HTTP/1.x", Err(ProtocolError::VersionSyntax)),
        ("HTTP/x.1", Err(ProtocolError::VersionSyntax)),
        ("HTTP/1.1x", Err(ProtocolError::VersionSyntax)),
        ("HTTP/1,1", Err(ProtocolError::VersionSyntax)),
        ("HTTP/+1.1", Err(ProtocolError::VersionSyntax)),
        ("HTTP-1.1", Err(ProtocolError::VersionSyntax)),
        ("HTTP//1.1", Err(ProtocolError::VersionSyntax)),
        ("HTTP/", Err(ProtocolError::VersionSyntax)),
        ("HTTPS/1.1", Err(ProtocolError::VersionSyntax)),
        ("http/1.1", Err(ProtocolError::VersionSyntax)),
        ("Http/1.1", Err(ProtocolError::VersionSyntax)),
        ("ICY/1.1", Err(ProtocolError::VersionSyntax)),
    ] {
        let input = head(format!("GET / {version}"), &[HOST]);
        match served {
            Ok(version_served) => assert_eq!(accepted(version, &input).version, version_served, "{version}"),
            Err(error) => assert_refused(version, &input, error),
        }
    }
}

#[test]
fn the_preface_of_http_2_is_an_unsupported_version() {
    assert_refused("preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ProtocolError::VersionUnsupported);
}

#[test]
fn only_a_byte_of_a_token_begins_a_request() {
    for (name, input, error) in [
        ("TLS", b"\x16\x03\x01\x02\x00".as_slice(), ProtocolError::NotHttp(0x16)),
        ("SSL 2", b"\x80\x2e\x01", ProtocolError::NotHttp(0x80)),
        ("NUL", b"\0GET / HTTP/1.1\r\n", ProtocolError::NotHttp(0)),
        ("space", b" GET / HTTP/1.1\r\n", ProtocolError::NotHttp(b' ')),
        ("tab", b"\tGET / HTTP/1.1\r\n", ProtocolError::NotHttp(b'\t')),
        ("colon", b": v\r\n", ProtocolError::NotHttp(b':')),
        ("byte order mark", b"\xef\xbb\xbfGET / HTTP/1.1\r\n", ProtocolError::NotHttp(0xef)),
        ("TLS after an empty line", b"\r\n\x16\x03\x01", ProtocolError::NotHttp(0x16)),
        ("space after an empty line", b"\r\n GET / HTTP/1.1\r\n", ProtocolError::NotHttp(b' ')),
    ] {
        assert_refused(name, input, error);
    }
}

#[test]
fn one_empty_line_before_a_request_is_ignored() {
    let request = accepted("an empty line", &[b"\r\n", NEIGHBOUR].concat());
    assert_eq!(request, accepted("no empty line", NEIGHBOUR));
    for (name, input, error) in [
        ("a second one", b"\r\n\r\nGET / HTTP/1.1\r\n".as_slice(), ProtocolError::NotHttp(b'\r')),
        ("LF", b"\nGET / HTTP/1.1\r\n", ProtocolError::BareLineFeed),
        ("CR", b"\rGET / HTTP/1.1\r\n", ProtocolError::NotHttp(b'\r')),
        ("CR twice", b"\r\rGET / HTTP/1.1\r\n", ProtocolError::NotHttp(b'\r')),
        ("CR, CRLF", b"\r\r\nGET / HTTP/1.1\r\n", ProtocolError::NotHttp(b'\r')),
        ("CRLF, LF", b"\r\n\nGET / HTTP/1.1\r\n", ProtocolError::BareLineFeed),
        ("CRLF, CR", b"\r\n\rGET / HTTP/1.1\r\n", ProtocolError::NotHttp(b'\r')),
    ] {
        assert_refused(name, input, error);
    }
}

/// Some clients send CRLF after a body. The connection is idle all the same: it may be closed without a word, and the
/// time of the next head has not begun.
#[test]
fn an_empty_line_between_requests_does_not_begin_a_request() {
    assert_eq!(read("CRLF", b"\r\n"), Reading { requests: Vec::new(), outcome: Outcome::IDLE });
    let separated = [NEIGHBOUR, b"\r\n", NEIGHBOUR, b"\r\n", NEIGHBOUR, b"\r\n"].concat();
    let reading = read("each request followed by CRLF", &separated);
    assert_eq!((reading.requests.len(), reading.outcome), (3, Outcome::IDLE));
}

#[test]
fn the_end_of_input_inside_a_head_leaves_it_incomplete() {
    let incomplete = EndOfInput::Incomplete(ProtocolError::HeadIncomplete);
    for length in 1..NEIGHBOUR.len() {
        let part = &NEIGHBOUR[..length];
        let outcome = Outcome::Waiting { clock: Clock::Head, unconsumed: length, end_of_input: incomplete };
        assert_eq!(read("part of a head", part), Reading { requests: Vec::new(), outcome: outcome.clone() });
        let after_empty_line = [b"\r\n", part].concat();
        assert_eq!(read("part after an empty line", &after_empty_line), Reading { requests: Vec::new(), outcome });
    }
    assert!(
        matches!(read("CR", b"\r").outcome, Outcome::Waiting { unconsumed: 1, end_of_input, .. } if end_of_input == incomplete)
    );
}
