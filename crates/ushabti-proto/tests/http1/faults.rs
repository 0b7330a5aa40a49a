//! Each fault of a peer once: the bytes that make it, and what is answered.

use std::collections::HashSet;
use std::mem::discriminant;

use ushabti_proto::error::ProtocolError;
use ushabti_proto::http1::connection::Limits;

use crate::harness::{Outcome, RULES, Rules, assert_refused_under, chunked, get, head, post, read};

const TIGHT: Rules = Rules { limits: Limits { head_bytes_max: 100, fields_max: 2, target_bytes_max: 20 }, body_max: 9 };

/// In the order of [`ProtocolError`].
fn cases() -> Vec<(ProtocolError, u16, &'static Rules, Vec<u8>)> {
    use ProtocolError as Fault;
    let line = |line: &str| head(line, &["Host: a"]);
    let length = |value: &str| post(&[&format!("Content-Length: {value}")], "");
    let coding = |value: &str| post(&[&format!("Transfer-Encoding: {value}")], "");
    let long = "v".repeat(100);
    vec![
        (Fault::NotHttp(0x16), 400, &RULES, b"\x16\x03\x01".to_vec()),
        (Fault::BareLineFeed, 400, &RULES, b"GET / HTTP/1.1\n".to_vec()),
        (Fault::BareCarriageReturn, 400, &RULES, b"GET / HTTP/1.1\r\r".to_vec()),
        (Fault::RequestLineSyntax, 400, &RULES, line("GET /")),
        (Fault::MethodSyntax, 400, &RULES, line("G(T / HTTP/1.1")),
        (Fault::MethodTooLong, 501, &RULES, line(&format!("{long} / HTTP/1.1"))),
        (Fault::TargetSyntax(b'#'), 400, &RULES, line("GET /#a HTTP/1.1")),
        (Fault::TargetForm, 400, &RULES, line("GET a HTTP/1.1")),
        (Fault::TargetAuthority, 400, &RULES, line("GET http://a@b/ HTTP/1.1")),
        (Fault::TargetTooLong, 414, &TIGHT, line("GET /a/target/of/21/bytes HTTP/1.1")),
        (Fault::VersionSyntax, 400, &RULES, line("GET / HTTP/1.1.1")),
        (Fault::VersionUnsupported, 505, &RULES, line("GET / HTTP/2.0")),
        (Fault::HeadTooLarge, 431, &TIGHT, get(format!("X: {long}"))),
        (Fault::TooManyFields, 431, &TIGHT, get("X: v\r\nX: v")),
        (Fault::FieldWithoutColon, 400, &RULES, get("X")),
        (Fault::FieldNameEmpty, 400, &RULES, get(": v")),
        (Fault::FieldNameSyntax(b'('), 400, &RULES, get("X(: v")),
        (Fault::SpaceBeforeColon, 400, &RULES, get("X : v")),
        (Fault::SpaceBeforeFields, 400, &RULES, head("GET / HTTP/1.1", &[" Host: a"])),
        (Fault::LineFolding, 400, &RULES, get(" X: v")),
        (Fault::FieldValueSyntax(0), 400, &RULES, get("X: \0")),
        (Fault::HostMissing, 400, &RULES, head("GET / HTTP/1.1", &[] as &[&str])),
        (Fault::HostRepeated, 400, &RULES, get("Host: a")),
        (Fault::HostSyntax, 400, &RULES, head("GET / HTTP/1.1", &["Host: a/b"])),
        (Fault::ContentLengthSyntax, 400, &RULES, length("+1")),
        (Fault::ContentLengthOverflow, 400, &RULES, length("99999999999999999999")),
        (Fault::ContentLengthRepeated, 400, &RULES, length("1\r\nContent-Length: 1")),
        (Fault::LengthAndCoding, 400, &RULES, length("1\r\nTransfer-Encoding: chunked")),
        (Fault::TransferCodingSyntax, 400, &RULES, coding("chunked,")),
        (Fault::TransferCodingNotChunked, 400, &RULES, coding("gzip")),
        (Fault::TransferCodingRepeated, 400, &RULES, coding("chunked, chunked")),
        (Fault::TransferCodingUnknown, 501, &RULES, coding("gzip, chunked")),
        (Fault::TransferCodingInHttp10, 400, &RULES, head("GET / HTTP/1.0", &["Transfer-Encoding: chunked"])),
        (Fault::ExpectationUnknown, 417, &RULES, get("Expect: x")),
        (Fault::ContentTooLarge, 413, &TIGHT, length("10")),
        (Fault::ChunkSizeSyntax(b'x'), 400, &RULES, chunked("0x")),
        (Fault::ChunkSizeOverflow, 400, &RULES, chunked("10000000000000000")),
        (Fault::ChunkExtensionSyntax(b'\r'), 400, &RULES, chunked("1;\r\n")),
        (Fault::ChunkExtensionsTooLong, 400, &RULES, chunked(format!("1;{}", "a".repeat(5000)))),
        (Fault::ChunkDataEnd, 400, &RULES, chunked("1\r\nxx")),
        (Fault::TrailersTooLarge, 431, &TIGHT, chunked("0\r\nX: v\r\nX: v\r\nX: v\r\n")),
    ]
}

/// These come from the end of input and from the owner of the clocks, not from bytes.
const WITHOUT_BYTES: [(ProtocolError, u16); 4] = [
    (ProtocolError::HeadIncomplete, 400),
    (ProtocolError::BodyIncomplete, 400),
    (ProtocolError::HeadTimeout, 408),
    (ProtocolError::BodyTimeout, 408),
];

#[test]
fn each_fault_is_made_by_its_bytes() {
    for (error, _, rules, input) in cases() {
        assert_refused_under(rules, &format!("{error:?}"), &input, error);
    }
}

#[test]
fn each_fault_has_one_row_and_a_sentence_of_its_own() {
    let from_bytes = cases().into_iter().map(|(error, status, ..)| (error, status));
    let faults: Vec<(ProtocolError, u16)> = from_bytes.chain(WITHOUT_BYTES).collect();
    let mut kinds = HashSet::new();
    let mut sentences = HashSet::new();
    for (error, status) in faults {
        assert_eq!(error.status(), status, "{error:?}");
        assert!(error.section().starts_with("RFC "), "{error:?}: {}", error.section());
        assert!(kinds.insert(discriminant(&error)), "{error:?} stands in two rows");
        let sentence = error.to_string();
        assert!(sentences.insert(sentence.clone()), "{sentence}");
        // It becomes a line of a log and the body of a response.
        assert!(sentence.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{sentence}");
    }
}

#[test]
fn a_sentence_names_the_byte_that_is_at_fault() {
    for error in [
        ProtocolError::NotHttp(0x16),
        ProtocolError::TargetSyntax(0x16),
        ProtocolError::FieldNameSyntax(0x16),
        ProtocolError::FieldValueSyntax(0x16),
        ProtocolError::ChunkSizeSyntax(0x16),
        ProtocolError::ChunkExtensionSyntax(0x16),
    ] {
        assert!(error.to_string().ends_with(" (byte 0x16)"), "{error}");
    }
}

/// A valid request is the control: the tight limits refuse none by themselves.
#[test]
fn the_tight_limits_take_an_ordinary_request() {
    let reading = crate::harness::read_under(&TIGHT, "ordinary", &post(&["Content-Length: 9"], "123456789"));
    assert_eq!((reading.requests.len(), &reading.outcome), (1, &Outcome::IDLE));
    assert_eq!(reading, read("ordinary", &post(&["Content-Length: 9"], "123456789")));
}
