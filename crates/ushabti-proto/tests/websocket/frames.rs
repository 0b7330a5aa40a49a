//! Frames (RFC 6455 sections 5.1 and 5.2): headers as they are read and written.

use ushabti_proto::websocket::WebSocketError;
use ushabti_proto::websocket::frame::{FrameHeader, HEADER_BYTES_MAX, Opcode, encode_frame, encode_header};

use crate::harness::{
    KEY, Outcome, RULES, assert_read, assert_read_under, assert_refused, assert_refused_under, binary, deflating,
    frame, ping, pong, read_under, reply, text,
};

/// A header with its length as it stands, and the masking key.
fn header(first: u8, second: u8, length: &[u8]) -> Vec<u8> {
    [&[first, second], length, &KEY].concat()
}

#[test]
fn the_examples_of_the_rfc_are_read() {
    let hello = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_read("a single-frame masked text message", hello, &[text("Hello")]);
    let answer = b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_read("a masked pong", answer, &[pong("Hello")]);
    let question = frame(0x89, "Hello");
    assert_read_under(&RULES, "a masked ping", &question, &[ping("Hello")], b"\x8a\x05Hello");
    let fragments = [frame(0x01, "Hel"), frame(0x80, "lo")].concat();
    assert_read("a fragmented message", &fragments, &[text("Hello")]);
}

#[test]
fn the_examples_of_the_rfc_are_written() {
    assert_eq!(reply(Opcode::Text, "Hello"), b"\x81\x05Hello");
    assert_eq!(reply(Opcode::Ping, "Hello"), b"\x89\x05Hello");
    assert_eq!(reply(Opcode::Pong, "Hello"), b"\x8a\x05Hello");
    assert_eq!(reply(Opcode::Binary, [7; 256])[..5], [0x82, 0x7e, 0x01, 0x00, 7]);
    assert_eq!(reply(Opcode::Binary, vec![7; 65536])[..11], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0, 7]);
}

#[test]
fn lengths_are_written_in_their_shortest_form() {
    for (length, expected) in [
        (0, b"\x82\x00".as_slice()),
        (125, b"\x82\x7d"),
        (126, b"\x82\x7e\x00\x7e"),
        (0xffff, b"\x82\x7e\xff\xff"),
        (0x1_0000, b"\x82\x7f\0\0\0\0\0\x01\0\0"),
    ] {
        let mut out = Vec::new();
        encode_header(&mut out, Opcode::Binary, false, length);
        assert_eq!(out, expected, "{length}");
    }
}

#[test]
fn every_form_of_length_is_read() {
    for length in [0, 1, 125, 126, 127, 255, 256, 65535, 65536, 70000] {
        let data = vec![b'x'; length];
        assert_read(&format!("{length} bytes"), &frame(0x82, &data), &[binary(&data)]);
    }
}

#[test]
fn headers_are_complete_with_their_last_byte() {
    for (length, bytes) in [(0, 6), (125, 6), (126, 8), (65535, 8), (65536, 14)] {
        let frame = frame(0x82, vec![0; length]);
        for end in 0..bytes {
            assert_eq!(FrameHeader::parse(&frame[..end], false), Ok(None), "{end} of {bytes}");
        }
        let parsed = FrameHeader::parse(&frame, false);
        let header = FrameHeader {
            is_final: true,
            is_compressed: false,
            opcode: Opcode::Binary,
            length: length as u64,
            mask: KEY,
        };
        assert_eq!(parsed, Ok(Some((header, bytes))));
        assert!(bytes <= HEADER_BYTES_MAX);
    }
}

#[test]
fn faults_of_headers_are_refused() {
    for (name, bytes, error) in [
        ("RSV1 without an extension", frame(0xc1, ""), WebSocketError::ReservedBits),
        ("RSV2", frame(0xa1, ""), WebSocketError::ReservedBits),
        ("RSV3", frame(0x91, ""), WebSocketError::ReservedBits),
        ("RSV2 on a ping", frame(0xa9, ""), WebSocketError::ReservedBits),
        ("no mask", b"\x81\x05Hello".to_vec(), WebSocketError::Unmasked),
        ("no mask on a ping", b"\x89\x00".to_vec(), WebSocketError::Unmasked),
        ("no mask on a Close frame", b"\x88\x00".to_vec(), WebSocketError::Unmasked),
        ("125 in two bytes", header(0x82, 0xfe, &[0, 125]), WebSocketError::LengthNotMinimal),
        ("0 in two bytes", header(0x82, 0xfe, &[0, 0]), WebSocketError::LengthNotMinimal),
        ("125 in eight bytes", header(0x82, 0xff, &125_u64.to_be_bytes()), WebSocketError::LengthNotMinimal),
        ("65535 in eight bytes", header(0x82, 0xff, &65535_u64.to_be_bytes()), WebSocketError::LengthNotMinimal),
        ("the highest bit", header(0x82, 0xff, &(1_u64 << 63).to_be_bytes()), WebSocketError::LengthOverflow),
        ("all bits", header(0x82, 0xff, &[0xff; 8]), WebSocketError::LengthOverflow),
        ("63 bits", header(0x82, 0xff, &(u64::MAX >> 1).to_be_bytes()), WebSocketError::MessageTooBig),
    ] {
        assert_refused(name, &bytes, error);
    }
}

#[test]
fn reserved_opcodes_are_refused() {
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        let name = format!("opcode 0x{opcode:x}");
        assert_refused(&name, &frame(0x80 | opcode, ""), WebSocketError::OpcodeReserved(opcode));
        assert_refused(&name, &frame(opcode, "x"), WebSocketError::OpcodeReserved(opcode));
    }
}

#[test]
fn rsv1_marks_only_the_first_frame_of_a_message() {
    let rules = deflating(1024);
    for (name, bytes) in [
        ("ping", frame(0xc9, "")),
        ("pong", frame(0xca, "")),
        ("close", frame(0xc8, "")),
        ("continuation", [frame(0x41, ""), frame(0xc0, "")].concat()),
        ("continuation of a plain message", [frame(0x01, ""), frame(0x40, "")].concat()),
    ] {
        assert_eq!(assert_refused_under(&rules, name, &bytes, WebSocketError::Rsv1Misplaced), []);
    }
    assert_refused_under(&rules, "RSV2", &frame(0xe1, ""), WebSocketError::ReservedBits);
}

#[test]
fn a_frame_that_has_begun_is_waited_for() {
    let whole = frame(0x82, [0; 300]);
    for end in 1..whole.len() {
        let reading = read_under(&RULES, "begun", &whole[..end]);
        assert_eq!((reading.events, reading.outcome), (vec![], Outcome::Inside), "{end} bytes");
        if end > 16 {
            break;
        }
    }
}

#[test]
#[should_panic(expected = "a control frame holds 125 bytes at most")]
fn long_control_frames_are_not_written() {
    encode_frame(&mut Vec::new(), Opcode::Ping, &[0; 126]);
}
