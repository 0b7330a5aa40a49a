//! Chunked bodies: sizes, extensions, data (RFC 9112 sections 7.1 and 7.1.1). Trailers have a file of their own.

use ushabti_proto::error::ProtocolError;
use ushabti_proto::http1::chunked::CHUNK_LINE_BYTES_MAX;
use ushabti_proto::http1::connection::EndOfInput;

use crate::harness::{
    Clock, NEIGHBOUR, Outcome, RULES, Rules, accepted, accepted_under, assert_refused, assert_refused_under, chunked,
    read,
};

const LAST: &str = "0\r\n\r\n";

#[test]
fn chunks_are_joined() {
    for (name, body, content) in [
        ("one", "5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("three", "2\r\nhe\r\n1\r\nl\r\n2\r\nlo\r\n0\r\n\r\n", "hello"),
        ("none", "0\r\n\r\n", ""),
        ("upper-case size", "A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("lower-case size", "b\r\n0123456789a\r\n0\r\n\r\n", "0123456789a"),
        ("size of two digits", "10\r\n0123456789abcdef\r\n0\r\n\r\n", "0123456789abcdef"),
        ("size of two letters", "1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n", "abcdefghijklmnopqrstuvwxyz"),
        ("leading zeros", "0005\r\nhello\r\n000\r\n\r\n", "hello"),
        ("data that looks like a chunk", "5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n"),
        (
            "data that looks like a request",
            "1b\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
    ] {
        assert_eq!(String::from_utf8_lossy(&accepted(name, &chunked(body)).content), content, "{name}");
    }
    let zeros = "0".repeat(63);
    assert_eq!(accepted("64 digits", &chunked(format!("{zeros}5\r\nhello\r\n{zeros}0\r\n\r\n"))).content, b"hello");
}

#[test]
fn many_tiny_chunks_are_taken() {
    let body = ["1\r\nx\r\n".repeat(3000).as_str(), LAST].concat();
    assert_eq!(accepted("3000 chunks of one byte", &chunked(body)).content, "x".repeat(3000).as_bytes());
}

#[test]
fn sizes_outside_the_grammar_are_refused() {
    for (size, error) in [
        ("", ProtocolError::ChunkSizeSyntax(b'\r')),
        ("+5", ProtocolError::ChunkSizeSyntax(b'+')),
        ("-5", ProtocolError::ChunkSizeSyntax(b'-')),
        ("0x5", ProtocolError::ChunkSizeSyntax(b'x')),
        ("x5", ProtocolError::ChunkSizeSyntax(b'x')),
        ("0_5", ProtocolError::ChunkSizeSyntax(b'_')),
        ("5g", ProtocolError::ChunkSizeSyntax(b'g')),
        ("5h", ProtocolError::ChunkSizeSyntax(b'h')),
        ("5.0", ProtocolError::ChunkSizeSyntax(b'.')),
        ("5,5", ProtocolError::ChunkSizeSyntax(b',')),
        ("\"5\"", ProtocolError::ChunkSizeSyntax(b'"')),
        (" 5", ProtocolError::ChunkSizeSyntax(b' ')),
        ("\t5", ProtocolError::ChunkSizeSyntax(b'\t')),
        (";a=b", ProtocolError::ChunkSizeSyntax(b';')),
        ("5\0", ProtocolError::ChunkSizeSyntax(0)),
        ("5\x0b", ProtocolError::ChunkSizeSyntax(0x0b)),
        ("\u{665}", ProtocolError::ChunkSizeSyntax(0xd9)),
        // White space may stand after a size only where an extension follows.
        ("5 ", ProtocolError::ChunkExtensionSyntax(b'\r')),
        ("5\t", ProtocolError::ChunkExtensionSyntax(b'\r')),
        ("5 5", ProtocolError::ChunkExtensionSyntax(b'5')),
        ("0 ", ProtocolError::ChunkExtensionSyntax(b'\r')),
        ("10000000000000000", ProtocolError::ChunkSizeOverflow),
        ("10000000000000005", ProtocolError::ChunkSizeOverflow),
        ("FFFFFFFFFFFFFFFFF", ProtocolError::ChunkSizeOverflow),
        ("100000000000000000000000000000005", ProtocolError::ChunkSizeOverflow),
        (&"0".repeat(65), ProtocolError::ChunkSizeOverflow),
        (&"0".repeat(5000), ProtocolError::ChunkSizeOverflow),
    ] {
        assert_refused(size, &chunked(format!("{size}\r\nhello\r\n0\r\n\r\n")), error);
        assert_refused(size, &chunked(format!("1\r\nx\r\n{size}\r\nhello\r\n0\r\n\r\n")), error);
    }
}

#[test]
fn the_largest_size_can_be_waited_for() {
    let reading = read("2 to the 64th minus 1", &chunked("FFFFFFFFFFFFFFFF\r\nhello"));
    assert_eq!(reading.requests[0].content, b"hello");
    assert!(matches!(reading.outcome, Outcome::Waiting { clock: Clock::Body, unconsumed: 0, .. }));
}

#[test]
fn data_that_is_not_as_long_as_its_size_is_refused() {
    for (name, body) in [
        ("longer by one", "5\r\nhelloX\r\n0\r\n\r\n"),
        ("shorter by one", "5\r\nhell\r\n0\r\n\r\n"),
        ("shorter by two", "5\r\nhel\r\n0\r\n\r\n"),
        ("LF alone after it", "5\r\nhello\n0\r\n\r\n"),
        ("CR alone after it", "5\r\nhello\r0\r\n\r\n"),
        ("nothing after it", "5\r\nhello0\r\n\r\n"),
        ("space after it", "5\r\nhello \r\n0\r\n\r\n"),
        ("CR CR LF after it", "5\r\nhello\r\r\n0\r\n\r\n"),
        ("LF CR after it", "5\r\nhello\n\r0\r\n\r\n"),
    ] {
        assert_refused(name, &chunked(body), ProtocolError::ChunkDataEnd);
    }
    assert_refused(
        "empty line after it",
        &chunked("5\r\nhello\r\n\r\n0\r\n\r\n"),
        ProtocolError::ChunkSizeSyntax(b'\r'),
    );
}

#[test]
fn only_crlf_ends_a_chunk_line() {
    for (name, body, error) in [
        ("LF after a size", "5\nhello\r\n0\r\n\r\n", ProtocolError::BareLineFeed),
        ("CR after a size", "5\rhello\r\n0\r\n\r\n", ProtocolError::BareCarriageReturn),
        ("CR CR LF after a size", "5\r\r\nhello\r\n0\r\n\r\n", ProtocolError::BareCarriageReturn),
        ("LF for a size", "\nhello\r\n0\r\n\r\n", ProtocolError::BareLineFeed),
        ("LF in an extension", "5;a\nhello\r\n0\r\n\r\n", ProtocolError::BareLineFeed),
        ("LF in a value", "5;a=b\nhello\r\n0\r\n\r\n", ProtocolError::BareLineFeed),
        ("LF in quotes", "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n", ProtocolError::BareLineFeed),
        ("LF in white space", "5 \n;a\r\nhello\r\n0\r\n\r\n", ProtocolError::BareLineFeed),
        ("CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n", ProtocolError::BareCarriageReturn),
        ("CR after quotes", "5;a=\"\"\rb\r\nhello\r\n0\r\n\r\n", ProtocolError::BareCarriageReturn),
        ("CRLF in quotes", "5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n", ProtocolError::ChunkExtensionSyntax(b'\r')),
        ("escaped LF in quotes", "5;a=\"\\\n\"\r\nhello\r\n0\r\n\r\n", ProtocolError::BareLineFeed),
        ("LF after the last size", "0\n\r\n", ProtocolError::BareLineFeed),
    ] {
        assert_refused(name, &chunked(body), error);
    }
}

#[test]
fn extensions_in_the_grammar_are_ignored() {
    for extension in [
        ";a",
        ";a=b",
        ";a=b;c;d=\"e\"",
        ";a=\"\"",
        ";a=\"b c\td\"",
        ";a=\"b;c=d,\"",
        ";a=\"\\\"\\\\\\a\"",
        ";a=\"gr\u{fc}\u{df}\"",
        ";!#$%&'*+-.^_`|~=~|`_^.-+*'&%$#!",
        ";5=5",
        // "Bad" white space, which has to be read.
        " ;a",
        "\t;\ta",
        " ; a = b",
        " ; a = \"b\" ; c",
        ";a ;b",
        ";a=b ;c",
        "; a =b",
    ] {
        let body = format!("5{extension}\r\nhello\r\n0{extension}\r\n\r\n");
        assert_eq!(accepted(extension, &chunked(body)).content, b"hello");
    }
}

#[test]
fn extensions_outside_the_grammar_are_refused() {
    for (extension, byte) in [
        (";", b'\r'),
        ("; ", b'\r'),
        (";;a", b';'),
        (";a;", b'\r'),
        (";=b", b'='),
        (";a=", b'\r'),
        (";a= ", b'\r'),
        (";a=;b", b';'),
        (";a==b", b'='),
        (";a=b=c", b'='),
        (";a b", b'b'),
        (";a=b c", b'c'),
        (";a ", b'\r'),
        (";a=b ", b'\r'),
        (";a=\"b\" ", b'\r'),
        (";a=\"b\"c", b'c'),
        (";a=\"b\"\"c\"", b'"'),
        (";a=b\"c\"", b'"'),
        (";\"a\"=b", b'"'),
        (";a=\"b", b'\r'),
        (";a=\"\\", b'\r'),
        (";a=\"\0\"", 0),
        (";a=\"\\\0\"", 0),
        (";a=\"\x7f\"", 0x7f),
        (";a,b", b','),
        (";a/b", b'/'),
        (";a:b", b':'),
        (";a\0", 0),
        (";\u{fc}", 0xc3),
        (";a=\u{fc}", 0xc3),
        (" a", b'a'),
        (" =a", b'='),
    ] {
        for size in ["5", "0"] {
            let body = format!("{size}{extension}\r\nhello\r\n0\r\n\r\n");
            assert_refused(extension, &chunked(body), ProtocolError::ChunkExtensionSyntax(byte));
        }
    }
}

/// A chunk line of `length` bytes, its CR included.
fn line_of(length: usize) -> String {
    format!("5;{}\r\n", "a".repeat(length - 3))
}

#[test]
fn a_chunk_line_has_a_limit() {
    let max = CHUNK_LINE_BYTES_MAX as usize;
    let body = |length: usize| chunked([&line_of(length), "hello\r\n", LAST].concat());
    assert_eq!(accepted("exactly at the limit", &body(max)).content, b"hello");
    for length in [max + 1, max + 2, 1_000_000] {
        assert_refused("beyond the limit", &body(length), ProtocolError::ChunkExtensionsTooLong);
    }
    let quoted = format!("5;a=\"{}", "\\\"".repeat(10_000));
    assert_refused("quoted pairs without end", &chunked(quoted), ProtocolError::ChunkExtensionsTooLong);
    let spaces = format!("5{}", " ".repeat(10_000));
    assert_refused("white space without end", &chunked(spaces), ProtocolError::ChunkExtensionsTooLong);
}

/// The bound is 16 KiB and a sixteenth of the content; of each line 18 bytes are free.
#[test]
fn extensions_may_not_outweigh_the_content() {
    let free = 18;
    let lines = |length: usize, count: usize| [&line_of(length), "hello\r\n"].concat().repeat(count);
    let padded = |last: usize| chunked([lines(free + 1024, 16).as_str(), &lines(last, 1), LAST].concat());
    // Before the last chunk the padding is 16 KiB, the content 80 bytes: 5 more bytes are allowed.
    assert_eq!(accepted("exactly at the bound", &padded(free + 5)).content, "hello".repeat(17).as_bytes());
    assert_refused("one beyond", &padded(free + 6), ProtocolError::ChunkExtensionsTooLong);

    let lean = chunked([lines(free, 5000).as_str(), LAST].concat());
    assert_eq!(accepted("lines within what is free", &lean).content.len(), 25_000);

    // As S3 clients sign each chunk.
    let signed = format!("2000;chunk-signature={}\r\n{}\r\n", "f".repeat(64), "x".repeat(0x2000));
    let signed = chunked([signed.repeat(300).as_str(), LAST].concat());
    let reading = crate::harness::read_once(&RULES, &signed, (1..signed.len()).step_by(1460));
    assert_eq!((reading.requests[0].content.len(), reading.outcome), (300 * 0x2000, Outcome::IDLE));
}

#[test]
fn content_may_reach_its_bound_and_not_pass_it() {
    let rules = Rules { body_max: 10, ..RULES };
    for (name, body) in [
        ("one chunk", "a\r\n0123456789\r\n0\r\n\r\n"),
        ("two chunks", "4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n"),
        ("less", "9\r\n012345678\r\n0\r\n\r\n"),
    ] {
        accepted_under(&rules, name, &chunked(body));
    }
    for (name, body, delivered) in [
        ("one chunk", "b\r\n0123456789a\r\n0\r\n\r\n", ""),
        ("second chunk", "4\r\n0123\r\n7\r\n456789a\r\n0\r\n\r\n", "0123"),
        ("chunk after the bound", "a\r\n0123456789\r\n1\r\na\r\n0\r\n\r\n", "0123456789"),
        ("announced only", "FFFFFFFFFFFFFFFF\r\n", ""),
        ("a sum that wraps", "5\r\nhello\r\nFFFFFFFFFFFFFFFF\r\n", "hello"),
    ] {
        let input = chunked(body);
        assert_refused_under(&rules, name, &input, ProtocolError::ContentTooLarge);
        let reading = crate::harness::read_under(&rules, name, &input);
        assert_eq!(reading.requests[0].content, delivered.as_bytes(), "{name}");
    }
    accepted_under(&Rules { body_max: 0, ..RULES }, "nothing", &chunked(LAST));
    let error = ProtocolError::ContentTooLarge;
    assert_refused_under(&Rules { body_max: 0, ..RULES }, "something", &chunked("1\r\nx\r\n"), error);
}

#[test]
fn a_body_that_is_cut_off_is_incomplete() {
    let body = "5;a=\"b\"\r\nhello\r\n0;c\r\nX-Test: v\r\n\r\n";
    for length in 0..body.len() {
        let reading = read("cut off", &chunked(&body[..length]));
        assert!(!reading.requests[0].is_complete);
        let Outcome::Waiting { clock: Clock::Body, end_of_input, .. } = reading.outcome else {
            panic!("after {length} bytes of the body: {reading:?}");
        };
        assert_eq!(end_of_input, EndOfInput::Incomplete(ProtocolError::BodyIncomplete));
    }
    assert!(accepted("whole", &chunked(body)).is_complete);
}

#[test]
fn a_request_may_follow_the_last_chunk_at_once() {
    let reading = read("pipelined", &[chunked("5\r\nhello\r\n0\r\n\r\n").as_slice(), NEIGHBOUR, NEIGHBOUR].concat());
    assert_eq!((reading.requests.len(), reading.outcome), (3, Outcome::IDLE));
    assert_eq!(reading.requests[0].content, b"hello");
}
