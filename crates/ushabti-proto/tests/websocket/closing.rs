//! The closing handshake and its codes (RFC 6455 sections 5.5.1, 7.1 and 7.4).

use ushabti_proto::websocket::WebSocketError;
use ushabti_proto::websocket::close_code::{NO_STATUS, may_be_sent};
use ushabti_proto::websocket::connection::{CloseError, Connection, EndOfInput, REASON_BYTES_MAX, check_close};
use ushabti_proto::websocket::frame::Opcode;

use crate::harness::{
    Outcome, RULES, assert_read_under, assert_refused, close, frame, read_through, read_under, reply, text,
};

/// The payload of a Close frame.
fn payload(code: u16, reason: impl AsRef<[u8]>) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_ref()].concat()
}

const SENDABLE: [u16; 16] =
    [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
const NOT_SENDABLE: [u16; 12] = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535];

#[test]
fn the_code_is_echoed_without_the_reason() {
    for code in SENDABLE {
        let echo = reply(Opcode::Close, code.to_be_bytes());
        let name = format!("code {code}");
        assert_read_under(&RULES, &name, &frame(0x88, payload(code, "")), &[close(code, "")], &echo);
        assert_read_under(&RULES, &name, &frame(0x88, payload(code, "päx")), &[close(code, "päx")], &echo);
    }
    let longest = "x".repeat(REASON_BYTES_MAX);
    let echo = reply(Opcode::Close, 1000_u16.to_be_bytes());
    assert_read_under(&RULES, "longest", &frame(0x88, payload(1000, &longest)), &[close(1000, &longest)], &echo);
}

#[test]
fn a_close_frame_without_a_code_is_echoed_without_one() {
    assert_read_under(&RULES, "no code", &frame(0x88, ""), &[close(NO_STATUS, "")], &reply(Opcode::Close, ""));
}

#[test]
fn a_close_frame_ends_a_message_that_is_not_complete() {
    let bytes = [frame(0x01, "never"), frame(0x88, payload(1001, ""))].concat();
    let echo = reply(Opcode::Close, 1001_u16.to_be_bytes());
    assert_read_under(&RULES, "inside of a message", &bytes, &[close(1001, "")], &echo);
}

#[test]
fn what_follows_a_close_frame_is_not_looked_at() {
    for later in [frame(0x81, "x"), frame(0x89, "x"), frame(0x88, payload(1000, "")), b"\xff\xff".to_vec()] {
        let bytes = [frame(0x88, payload(1000, "")), later].concat();
        let echo = reply(Opcode::Close, 1000_u16.to_be_bytes());
        assert_read_under(&RULES, "data after close", &bytes, &[close(1000, "")], &echo);
    }
}

#[test]
fn malformed_close_frames_are_refused() {
    assert_refused("half a code", &frame(0x88, [3]), WebSocketError::ClosePayload);
    for code in NOT_SENDABLE {
        assert_refused(&format!("{code}"), &frame(0x88, payload(code, "")), WebSocketError::CloseCode(code));
        assert_refused(&format!("{code}"), &frame(0x88, payload(code, "reason")), WebSocketError::CloseCode(code));
    }
    for reason in [b"\xff".as_slice(), b"ok\xce", b"\xed\xa0\x80"] {
        assert_refused("reason", &frame(0x88, payload(1000, reason)), WebSocketError::CloseReason);
    }
}

#[test]
fn codes_that_may_be_sent_are_those_that_may_be_received() {
    for code in SENDABLE {
        assert!(may_be_sent(code), "{code}");
        assert_eq!(check_close(code, ""), Ok(()), "{code}");
    }
    for code in NOT_SENDABLE {
        assert!(!may_be_sent(code), "{code}");
        assert_eq!(check_close(code, ""), Err(CloseError::Code(code)), "{code}");
    }
}

#[test]
fn a_reason_that_fits_no_control_frame_is_refused_and_nothing_is_written() {
    let (mut connection, mut out) = (Connection::new(None), Vec::new());
    let too_long = "x".repeat(REASON_BYTES_MAX + 1);
    let error = CloseError::ReasonTooLong(REASON_BYTES_MAX + 1);
    assert_eq!(connection.close(1000, &too_long, &mut out), Err(error));
    assert_eq!(error.to_string(), "close reason of 124 bytes exceeds 123 bytes of UTF-8: shorten it");
    assert_eq!(connection.close(1005, "", &mut out), Err(CloseError::Code(1005)));
    assert!(out.is_empty() && connection.is_open());
    let longest = "x".repeat(REASON_BYTES_MAX);
    assert_eq!(connection.close(1000, &longest, &mut out), Ok(true));
    assert_eq!(out, reply(Opcode::Close, payload(1000, &longest)));
}

#[test]
fn our_close_frame_is_answered_once() {
    let (mut connection, mut out) = (Connection::new(None), Vec::new());
    assert_eq!(connection.close(1001, "bye", &mut out), Ok(true));
    assert!(!connection.is_open());
    assert_eq!(connection.end_of_input(), EndOfInput::Abnormal);
    let bytes = [frame(0x81, "late"), frame(0x88, payload(1001, ""))].concat();
    let reading = read_through(&mut connection, &RULES, &bytes, []);
    assert_eq!(reading.events, [text("late"), close(1001, "")]);
    assert_eq!((reading.replies, reading.outcome), (vec![], Outcome::Closed));
    assert_eq!(connection.close(1000, "", &mut out), Ok(false));
}

#[test]
fn a_fault_after_our_close_frame_is_not_told_a_second_time() {
    let (mut connection, mut out) = (Connection::new(None), Vec::new());
    assert_eq!(connection.close(1000, "", &mut out), Ok(true));
    let reading = read_through(&mut connection, &RULES, &frame(0x83, ""), []);
    assert_eq!((reading.replies, reading.outcome), (vec![], Outcome::Failed(WebSocketError::OpcodeReserved(3))));
}

#[test]
fn without_a_close_frame_the_end_is_abnormal() {
    for (name, bytes, outcome) in [
        ("nothing", Vec::new(), Outcome::Idle),
        ("a message", frame(0x81, "x"), Outcome::Idle),
        ("half a Close frame", frame(0x88, payload(1000, ""))[..7].to_vec(), Outcome::Inside),
    ] {
        assert_eq!(read_under(&RULES, name, &bytes).outcome, outcome, "{name}");
    }
}
