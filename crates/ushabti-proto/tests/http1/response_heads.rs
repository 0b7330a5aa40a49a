//! Heads of responses (RFC 9112 sections 4 and 6, RFC 9110 sections 6.6.1, 8.6 and 15).

use ushabti_proto::http1::encode::{
    BodyLength, ConnectionField, EncodeError, body_forbidden, encode_head, encode_interim, http_date, reason_phrase,
};

type Fields<'a> = &'a [(&'a str, &'a str)];

const DATE: &str = "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
/// What is in the buffer before: the response to an earlier request.
const BEFORE: &[u8] = b"before\r\n\r\n";

fn bytes(fields: Fields<'_>) -> impl Iterator<Item = (&[u8], &[u8])> {
    fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
}

/// Checks that what was there before is still there, and nothing more if there was an error.
fn appended(out: &[u8], result: Result<(), EncodeError>) -> Result<String, EncodeError> {
    let written = out.strip_prefix(BEFORE).expect("what was there before stays");
    if result.is_err() {
        assert_eq!(written, b"", "a refused head leaves nothing behind");
    }
    result.map(|()| String::from_utf8_lossy(written).into_owned())
}

fn encoded(
    status: u16,
    fields: Fields,
    length: BodyLength,
    connection: ConnectionField,
    server: Option<&[u8]>,
) -> Result<String, EncodeError> {
    let mut out = BEFORE.to_vec();
    let result = encode_head(&mut out, status, bytes(fields), length, connection, &http_date(0), server);
    appended(&out, result)
}

fn ok(fields: Fields, length: BodyLength) -> Result<String, EncodeError> {
    encoded(200, fields, length, ConnectionField::Omit, None)
}

fn interim(status: u16, fields: Fields) -> Result<String, EncodeError> {
    let mut out = BEFORE.to_vec();
    let result = encode_interim(&mut out, status, bytes(fields));
    appended(&out, result)
}

#[test]
fn each_length_and_connection_field_is_written() {
    for (length, framing) in [
        (BodyLength::None, ""),
        (BodyLength::Known(0), "Content-Length: 0\r\n"),
        (BodyLength::Known(5), "Content-Length: 5\r\n"),
        (BodyLength::Known(1_234_567_890), "Content-Length: 1234567890\r\n"),
        (BodyLength::Known(u64::MAX), "Content-Length: 18446744073709551615\r\n"),
        (BodyLength::Chunked, "Transfer-Encoding: chunked\r\n"),
        (BodyLength::UntilClose, ""),
    ] {
        for (connection, field) in [
            (ConnectionField::Omit, ""),
            (ConnectionField::Close, "Connection: close\r\n"),
            (ConnectionField::KeepAlive, "Connection: keep-alive\r\n"),
        ] {
            let head = encoded(200, &[("X-Test", "v")], length, connection, None).expect("nothing is wrong with it");
            assert_eq!(head, format!("HTTP/1.1 200 OK\r\nX-Test: v\r\n{framing}{field}{DATE}\r\n"));
        }
    }
}

#[test]
fn fields_keep_their_order_case_and_bytes() {
    let fields = [("B", "1"), ("a", ""), ("B", "2"), ("Set-Cookie", "c=\"d\"; Path=/"), ("X", "gr\u{fc}\u{df}\te")];
    let head = ok(&fields, BodyLength::None).expect("all are valid");
    assert_eq!(
        head,
        format!(
            "HTTP/1.1 200 OK\r\nB: 1\r\na: \r\nB: 2\r\nSet-Cookie: c=\"d\"; Path=/\r\nX: gr\u{fc}\u{df}\te\r\n{DATE}\r\n"
        )
    );
}

#[test]
fn date_and_server_of_the_handler_win() {
    let with_server = |fields: Fields| encoded(200, fields, BodyLength::None, ConnectionField::Omit, Some(b"ushabti"));
    let head = |middle: &str| Ok(format!("HTTP/1.1 200 OK\r\n{middle}\r\n"));
    assert_eq!(with_server(&[]), head(&format!("Server: ushabti\r\n{DATE}")));
    assert_eq!(with_server(&[("date", "d")]), head("date: d\r\nServer: ushabti\r\n"));
    assert_eq!(with_server(&[("SERVER", "s")]), head(&format!("SERVER: s\r\n{DATE}")));
    assert_eq!(with_server(&[("Date", "d"), ("server", "s")]), head("Date: d\r\nserver: s\r\n"));
    let forged = encoded(200, &[], BodyLength::None, ConnectionField::Omit, Some(b"a\r\nX: b"));
    assert_eq!(forged, Err(EncodeError::Value("Server".to_owned(), b'\r')));
}

/// The handler's wish is read by the caller, who chooses; two Connection fields could contradict each other.
#[test]
fn connection_of_the_handler_is_not_written() {
    for value in ["close", "keep-alive", "Upgrade", ""] {
        let head = encoded(200, &[("connection", value)], BodyLength::Known(0), ConnectionField::Close, None);
        assert_eq!(head, Ok(format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n{DATE}\r\n")));
    }
    let head = ok(&[("Connection", "close")], BodyLength::Known(0)).expect("the field is valid");
    assert!(!head.contains("onnection"), "{head}");
    let refused = ok(&[("Connection", "close\r\nX: v")], BodyLength::None);
    assert_eq!(refused, Err(EncodeError::Value("Connection".to_owned(), b'\r')), "it is checked all the same");
}

#[test]
fn the_status_line_keeps_its_second_space_without_a_phrase() {
    for (status, line) in [
        (200, "HTTP/1.1 200 OK\r\n"),
        (404, "HTTP/1.1 404 Not Found\r\n"),
        (299, "HTTP/1.1 299 \r\n"),
        (599, "HTTP/1.1 599 \r\n"),
    ] {
        let head = encoded(status, &[], BodyLength::Known(0), ConnectionField::Omit, None).expect("it is a status");
        assert!(head.starts_with(line), "{head}");
    }
}

#[test]
fn phrases_are_text() {
    for status in 0..=u16::MAX {
        let phrase = reason_phrase(status);
        assert!(phrase.is_empty() || (100..600).contains(&status), "{status}");
        assert!(phrase.bytes().all(|byte| byte == b' ' || byte == b'-' || byte.is_ascii_alphanumeric()), "{phrase}");
    }
}

#[test]
fn a_final_status_is_between_200_and_599() {
    for status in [0, 1, 99, 100, 101, 199, 600, 999, 1000, u16::MAX] {
        let head = encoded(status, &[], BodyLength::None, ConnectionField::Omit, None);
        assert_eq!(head, Err(EncodeError::Status(status)));
    }
    for status in 200..=599 {
        assert!(encoded(status, &[], BodyLength::Known(0), ConnectionField::Omit, None).is_ok(), "{status}");
    }
}

#[test]
fn an_interim_status_is_between_100_and_199() {
    for status in [0, 99, 200, 304, 599, 1100] {
        assert_eq!(interim(status, &[]), Err(EncodeError::Status(status)));
    }
    assert_eq!(interim(100, &[]), Ok("HTTP/1.1 100 Continue\r\n\r\n".to_owned()));
    assert_eq!(interim(199, &[]), Ok("HTTP/1.1 199 \r\n\r\n".to_owned()));
    let hints = interim(103, &[("Link", "</a.css>"), ("Date", "d"), ("Server", "s")]);
    assert_eq!(hints, Ok("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nDate: d\r\nServer: s\r\n\r\n".to_owned()));
}

#[test]
fn only_101_says_which_protocol_comes_next() {
    let fields: Fields = &[("Upgrade", "websocket"), ("connection", "Upgrade"), ("Sec-WebSocket-Accept", "k")];
    let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nconnection: Upgrade\r\n\
                    Sec-WebSocket-Accept: k\r\n\r\n";
    assert_eq!(interim(101, fields), Ok(expected.to_owned()));
    for status in [100, 102, 103] {
        assert_eq!(interim(status, fields), Err(EncodeError::Framing("Upgrade".to_owned())));
        assert_eq!(interim(status, &fields[1..]), Err(EncodeError::Framing("connection".to_owned())));
    }
    assert_eq!(ok(fields, BodyLength::None), Err(EncodeError::Framing("Upgrade".to_owned())));
}

/// RFC 9110 sections 7.8 and 15.5.22.
#[test]
fn a_426_names_the_protocol_and_the_connection_field_names_that() {
    let fields: Fields = &[("Upgrade", "websocket"), ("connection", "close")];
    for (connection, line) in [
        (ConnectionField::Omit, "upgrade"),
        (ConnectionField::Close, "close, upgrade"),
        (ConnectionField::KeepAlive, "keep-alive, upgrade"),
    ] {
        let head = encoded(426, fields, BodyLength::Known(0), connection, None);
        let expected = format!(
            "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 0\r\nConnection: {line}\r\n{DATE}\r\n"
        );
        assert_eq!(head, Ok(expected));
    }
}

#[test]
fn fields_of_framing_are_the_servers_own() {
    for name in ["Transfer-Encoding", "transfer-encoding", "TRANSFER-ENCODING", "Trailer", "tRAILER", "Upgrade"] {
        for value in ["chunked", "", "identity"] {
            let refused = Err(EncodeError::Framing(name.to_owned()));
            for length in [BodyLength::None, BodyLength::Known(5), BodyLength::Chunked, BodyLength::UntilClose] {
                assert_eq!(ok(&[("X-Test", "v"), (name, value)], length), refused);
            }
            assert_eq!(interim(103, &[(name, value)]), refused);
        }
    }
    for name in ["Content-Length", "content-length", "Transfer-Encoding", "Trailer"] {
        for status in [100, 101, 103] {
            assert_eq!(interim(status, &[(name, "0")]), Err(EncodeError::Framing(name.to_owned())));
        }
    }
}

#[test]
fn content_length_of_the_handler_must_be_right_and_is_written_once() {
    for value in ["5", " 5\t", "005"] {
        let head = ok(&[("content-length", value), ("Content-Length", "5")], BodyLength::Known(5));
        assert_eq!(head, Ok(format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n{DATE}\r\n")));
    }
    for (value, length) in [
        ("4", BodyLength::Known(5)),
        ("6", BodyLength::Known(5)),
        ("", BodyLength::Known(0)),
        ("+5", BodyLength::Known(5)),
        ("5, 5", BodyLength::Known(5)),
        ("0x5", BodyLength::Known(5)),
        ("18446744073709551621", BodyLength::Known(5)),
        ("5", BodyLength::Chunked),
        ("5", BodyLength::UntilClose),
        ("5", BodyLength::None),
        ("0", BodyLength::None),
    ] {
        let refused = Err(EncodeError::ContentLength(value.to_owned()));
        assert_eq!(ok(&[("Content-Length", value)], length), refused, "{length:?}");
    }
    let second = ok(&[("Content-Length", "5"), ("Content-Length", "6")], BodyLength::Known(5));
    assert_eq!(second, Err(EncodeError::ContentLength("6".to_owned())));
}

#[test]
fn statuses_without_content_have_neither_content_nor_framing() {
    for status in [204, 304] {
        for length in [BodyLength::None, BodyLength::Known(0)] {
            let head = encoded(status, &[], length, ConnectionField::Omit, None);
            assert_eq!(head, Ok(format!("HTTP/1.1 {status} {}\r\n{DATE}\r\n", reason_phrase(status))));
        }
        for length in [BodyLength::Known(1), BodyLength::Chunked, BodyLength::UntilClose] {
            let head = encoded(status, &[], length, ConnectionField::Omit, None);
            assert_eq!(head, Err(EncodeError::Content(status)), "{length:?}");
        }
    }
    for value in ["0", "5"] {
        let head = encoded(204, &[("Content-Length", value)], BodyLength::None, ConnectionField::Omit, None);
        assert_eq!(head, Err(EncodeError::ContentLength(value.to_owned())));
    }
}

/// 304 says what GET would have had (RFC 9110 section 8.6), as long as it says one thing.
#[test]
fn not_modified_may_tell_the_length_of_what_is_not_sent() {
    let not_modified = |fields: Fields| encoded(304, fields, BodyLength::Known(0), ConnectionField::Omit, None);
    for value in ["0", "5", "1234567890"] {
        let head = not_modified(&[("Content-Length", value), ("ETag", "\"a\"")]);
        let expected = format!("HTTP/1.1 304 Not Modified\r\nContent-Length: {value}\r\nETag: \"a\"\r\n{DATE}\r\n");
        assert_eq!(head, Ok(expected));
    }
    for value in ["", "+5", "5, 5", "x"] {
        assert_eq!(not_modified(&[("Content-Length", value)]), Err(EncodeError::ContentLength(value.to_owned())));
    }
    for second in ["5", "6"] {
        let twice = not_modified(&[("Content-Length", "5"), ("content-length", second)]);
        assert_eq!(twice, Err(EncodeError::ContentLength(second.to_owned())), "two lengths");
    }
}

/// Unlike 204 it is framed like any other response, with a length of 0 (RFC 9110 section 15.3.6).
#[test]
fn reset_content_has_no_content_and_says_so() {
    let reset = |length| encoded(205, &[], length, ConnectionField::Omit, None);
    assert_eq!(
        reset(BodyLength::Known(0)),
        Ok(format!("HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n{DATE}\r\n"))
    );
    for length in [BodyLength::Known(1), BodyLength::Chunked, BodyLength::UntilClose] {
        assert_eq!(reset(length), Err(EncodeError::Content(205)), "{length:?}");
    }
}

#[test]
fn a_name_that_is_no_token_is_refused() {
    for name in ["", " ", "X Test", "X-Test ", "X:", "X\r\nY", "X\0", "X(Y", "\u{fc}", "\"X\""] {
        let refused = Err(EncodeError::Name(name.to_owned()));
        assert_eq!(ok(&[("X-Test", "v"), (name, "v")], BodyLength::None), refused);
        assert_eq!(interim(103, &[(name, "v")]), refused);
    }
}

/// Response splitting: no value may end its own line.
#[test]
fn a_value_with_a_control_character_is_refused() {
    for byte in (0..0x20).chain([0x7f]).filter(|&byte| byte != b'\t') {
        for value in [format!("{}", byte as char), format!("a{}b", byte as char), format!("a\r{}", byte as char)] {
            let first = if value.starts_with("a\r") { b'\r' } else { byte };
            let refused = Err(EncodeError::Value("X-Test".to_owned(), first));
            assert_eq!(ok(&[("X-Test", &value)], BodyLength::None), refused);
            assert_eq!(interim(103, &[("X-Test", &value)]), refused);
        }
    }
    for value in ["a\r\nSet-Cookie: b=c", "\r\n\r\nHTTP/1.1 200 OK"] {
        for name in ["Location", "Date", "Server", "Content-Length", "Connection"] {
            let refused = Err(EncodeError::Value(name.to_owned(), b'\r'));
            assert_eq!(ok(&[(name, value)], BodyLength::Known(0)), refused);
        }
    }
}

#[test]
fn bodies_are_forbidden_for_interim_responses_204_and_304() {
    for status in 0..1000 {
        assert_eq!(body_forbidden(status), (100..200).contains(&status) || status == 204 || status == 304, "{status}");
    }
}

#[test]
fn errors_say_what_was_wrong_and_what_to_do() {
    for (error, text) in [
        (EncodeError::Status(99), "status 99 is none that a response can have here"),
        (EncodeError::Name("a b".to_owned()), "header name \"a b\" is not a token: use letters, digits and hyphens"),
        (
            EncodeError::Value("X".to_owned(), b'\n'),
            "value of header \"X\" holds the control character 0x0a: remove line breaks from it",
        ),
        (EncodeError::Framing("Trailer".to_owned()), "header \"Trailer\" is set by the server alone: leave it out"),
        (
            EncodeError::ContentLength("6".to_owned()),
            "header \"Content-Length: 6\" is not the length of the content: leave it out",
        ),
        (EncodeError::Content(204), "a response with status 204 has no content: send it with an empty body"),
    ] {
        assert_eq!(error.to_string(), text);
    }
}
