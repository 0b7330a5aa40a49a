//! Transfer-Encoding (RFC 9112 sections 6.1, 6.3 and 7).

use ushabti_proto::error::ProtocolError;
use ushabti_proto::http1::framing::BodyFraming;

use crate::harness::{HOST, accepted, assert_refused, get, head, post};

const BODY: &str = "5\r\nhello\r\n0\r\n\r\n";

#[test]
fn chunked_in_any_case_frames_the_content() {
    for field in [
        "Transfer-Encoding: chunked",
        "transfer-encoding:chunked",
        "TRANSFER-ENCODING: \tCHUNKED \t",
        "Transfer-Encoding: Chunked",
    ] {
        let request = accepted(field, &post(&[field], BODY));
        assert_eq!((request.framing, request.content.as_slice()), (BodyFraming::Chunked, b"hello".as_slice()));
    }
}

#[test]
fn other_codings_and_malformed_lists_are_refused() {
    for (value, error) in [
        ("gzip", ProtocolError::TransferCodingNotChunked),
        ("identity", ProtocolError::TransferCodingNotChunked),
        ("xchunked", ProtocolError::TransferCodingNotChunked),
        ("chunkedx", ProtocolError::TransferCodingNotChunked),
        ("chunked, gzip", ProtocolError::TransferCodingNotChunked),
        ("chunked, identity", ProtocolError::TransferCodingNotChunked),
        ("chunked, chunked, gzip", ProtocolError::TransferCodingNotChunked),
        ("gzip;q=1", ProtocolError::TransferCodingNotChunked),
        ("gzip, chunked", ProtocolError::TransferCodingUnknown),
        ("gzip,chunked", ProtocolError::TransferCodingUnknown),
        ("gzip, deflate, CHUNKED", ProtocolError::TransferCodingUnknown),
        ("identity, chunked", ProtocolError::TransferCodingUnknown),
        ("gzip;level=1, chunked", ProtocolError::TransferCodingUnknown),
        ("chunked, chunked", ProtocolError::TransferCodingRepeated),
        ("chunked,Chunked", ProtocolError::TransferCodingRepeated),
        ("chunked, gzip, chunked", ProtocolError::TransferCodingRepeated),
        ("gzip, chunked, chunked", ProtocolError::TransferCodingRepeated),
        ("chunked, chunked, chunked", ProtocolError::TransferCodingRepeated),
        ("", ProtocolError::TransferCodingSyntax),
        (",", ProtocolError::TransferCodingSyntax),
        (", chunked", ProtocolError::TransferCodingSyntax),
        ("chunked,", ProtocolError::TransferCodingSyntax),
        ("chunked, ", ProtocolError::TransferCodingSyntax),
        ("gzip,, chunked", ProtocolError::TransferCodingSyntax),
        ("\"chunked\"", ProtocolError::TransferCodingSyntax),
        ("'chunked", ProtocolError::TransferCodingNotChunked),
        ("chunked;", ProtocolError::TransferCodingSyntax),
        ("chunked;q=1", ProtocolError::TransferCodingSyntax),
        ("chunked ;a=b", ProtocolError::TransferCodingSyntax),
        (";chunked", ProtocolError::TransferCodingSyntax),
        ("chunked chunked", ProtocolError::TransferCodingSyntax),
        ("chunked gzip", ProtocolError::TransferCodingSyntax),
        ("chunked: x", ProtocolError::TransferCodingSyntax),
        ("chun ked", ProtocolError::TransferCodingSyntax),
        ("[chunked]", ProtocolError::TransferCodingSyntax),
        ("\u{a0}chunked", ProtocolError::TransferCodingSyntax),
        ("chun\u{212a}ed", ProtocolError::TransferCodingSyntax),
        ("\x0bchunked", ProtocolError::FieldValueSyntax(0x0b)),
        ("chunked\x0c", ProtocolError::FieldValueSyntax(0x0c)),
        ("chunked\0", ProtocolError::FieldValueSyntax(0)),
        ("\x08chunked", ProtocolError::FieldValueSyntax(0x08)),
    ] {
        assert_refused(value, &post(&[&format!("Transfer-Encoding: {value}")], BODY), error);
    }
}

/// Several lines are one list (RFC 9110 section 5.3).
#[test]
fn lines_are_joined_before_the_last_coding_is_looked_for() {
    const CHUNKED: &str = "Transfer-Encoding: chunked";
    for (other, before, after) in [
        ("chunked", ProtocolError::TransferCodingRepeated, ProtocolError::TransferCodingRepeated),
        ("identity", ProtocolError::TransferCodingUnknown, ProtocolError::TransferCodingNotChunked),
        ("gzip", ProtocolError::TransferCodingUnknown, ProtocolError::TransferCodingNotChunked),
        ("", ProtocolError::TransferCodingSyntax, ProtocolError::TransferCodingSyntax),
    ] {
        let other = format!("transfer-encoding: {other}");
        assert_refused(&other, &post(&[&other, CHUNKED], BODY), before);
        assert_refused(&other, &post(&[CHUNKED, "X-Between: v", &other], BODY), after);
    }
}

/// The oldest smuggling of all. Section 6.1 lets a server take it for chunked; this one takes nobody's word.
#[test]
fn a_coding_beside_a_length_is_refused() {
    for (name, fields) in [
        ("length first", ["Content-Length: 5", "Transfer-Encoding: chunked"]),
        ("coding first", ["Transfer-Encoding: chunked", "Content-Length: 5"]),
        ("length 0", ["Transfer-Encoding: chunked", "Content-Length: 0"]),
        ("identity", ["Transfer-Encoding: identity", "Content-Length: 5"]),
        ("gzip", ["Content-Length: 5", "Transfer-Encoding: gzip"]),
        ("gzip, chunked", ["Content-Length: 5", "Transfer-Encoding: gzip, chunked"]),
        ("chunked twice", ["Content-Length: 5", "Transfer-Encoding: chunked, chunked"]),
    ] {
        assert_refused(name, &post(&fields, BODY), ProtocolError::LengthAndCoding);
    }
}

#[test]
fn http_1_0_has_no_transfer_encoding() {
    for (name, fields) in [
        ("chunked", vec!["Transfer-Encoding: chunked"]),
        ("to be kept alive", vec!["Connection: keep-alive", "Transfer-Encoding: chunked"]),
        ("gzip", vec!["Transfer-Encoding: gzip"]),
        ("with a length", vec!["Content-Length: 5", "Transfer-Encoding: chunked"]),
        ("twice", vec!["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"]),
    ] {
        let input = [head("POST / HTTP/1.0", &fields).as_slice(), BODY.as_bytes()].concat();
        assert_refused(name, &input, ProtocolError::TransferCodingInHttp10);
    }
}

#[test]
fn a_disguised_transfer_encoding_is_no_transfer_encoding() {
    for (name, line, error) in [
        ("space before the colon", "Transfer-Encoding : chunked", ProtocolError::SpaceBeforeColon),
        ("folded after the colon", "Transfer-Encoding:\r\n chunked", ProtocolError::TransferCodingSyntax),
        ("folded after a coding", "Transfer-Encoding: gzip,\r\n chunked", ProtocolError::TransferCodingSyntax),
        ("folded after a list", "Transfer-Encoding: gzip\r\n , chunked", ProtocolError::LineFolding),
        ("folded name", "Transfer-Encoding\r\n: chunked", ProtocolError::FieldWithoutColon),
        ("behind a bare CR", "X: v\rTransfer-Encoding: chunked", ProtocolError::BareCarriageReturn),
        ("behind a bare LF", "X: v\nTransfer-Encoding: chunked", ProtocolError::BareLineFeed),
        ("control in the name", "Transfer-Encoding\x08: chunked", ProtocolError::FieldNameSyntax(8)),
        ("before the first field", " Transfer-Encoding: chunked", ProtocolError::SpaceBeforeFields),
    ] {
        assert_refused(name, &head("POST / HTTP/1.1", &[line, HOST, "Content-Length: 5"]), error);
    }
    let request = accepted("underscore", &get("Transfer_Encoding: chunked"));
    assert_eq!(request.framing, BodyFraming::None);
}

/// TE and Trailer say what a client would take or send; they frame nothing (RFC 9110 sections 10.1.4 and 6.6.2).
#[test]
fn te_and_trailer_frame_nothing() {
    for field in ["TE: trailers", "TE: trailers, deflate;q=0.5", "TE: chunked", "Trailer: X-Test"] {
        assert_eq!(accepted(field, &get(field)).framing, BodyFraming::None, "{field}");
    }
}
