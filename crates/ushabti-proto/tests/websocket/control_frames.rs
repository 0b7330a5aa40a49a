//! Pings and pongs (RFC 6455 sections 5.5, 5.5.2 and 5.5.3). Close frames have a file of their own.

use ushabti_proto::websocket::WebSocketError;
use ushabti_proto::websocket::connection::Connection;
use ushabti_proto::websocket::frame::Opcode;

use crate::harness::{
    RULES, assert_read, assert_read_under, assert_refused, frame, ping, pong, read_through, reply, text,
};

#[test]
fn pings_are_answered_with_their_payload() {
    for payload in [b"".as_slice(), b"Hello", b"\x00\xff\xfe\x80", &[0xfe; 125]] {
        assert_read_under(&RULES, "ping", &frame(0x89, payload), &[ping(payload)], &reply(Opcode::Pong, payload));
    }
}

#[test]
fn each_ping_is_answered_in_order() {
    let bytes: Vec<u8> = (0..10).flat_map(|number| frame(0x89, [number])).collect();
    let replies: Vec<u8> = (0..10).flat_map(|number| reply(Opcode::Pong, [number])).collect();
    let events: Vec<_> = (0..10).map(|number| ping([number])).collect();
    assert_read_under(&RULES, "ten pings", &bytes, &events, &replies);
}

#[test]
fn pongs_are_not_answered() {
    assert_read("a pong that nobody asked for", &frame(0x8a, "x"), &[pong("x")]);
}

#[test]
fn control_frames_come_between_fragments() {
    let bytes =
        [frame(0x01, "a"), frame(0x89, "1"), frame(0x00, "b"), frame(0x8a, "2"), frame(0x89, ""), frame(0x80, "c")]
            .concat();
    let replies = [reply(Opcode::Pong, "1"), reply(Opcode::Pong, "")].concat();
    assert_read_under(&RULES, "between", &bytes, &[ping("1"), pong("2"), ping(""), text("abc")], &replies);
}

#[test]
fn long_or_fragmented_control_frames_are_refused() {
    for opcode in [0x8, 0x9, 0xa] {
        let name = format!("opcode 0x{opcode:x}");
        assert_refused(&name, &frame(0x80 | opcode, [0; 126]), WebSocketError::ControlTooLong);
        assert_refused(&name, &frame(0x80 | opcode, vec![0; 70000]), WebSocketError::ControlTooLong);
        assert_refused(&name, &frame(opcode, "x"), WebSocketError::ControlFragmented);
    }
}

#[test]
fn nothing_is_sent_after_our_close_frame() {
    let mut connection = Connection::new(None);
    let mut out = Vec::new();
    assert_eq!(connection.close(1000, "", &mut out), Ok(true));
    let bytes = [frame(0x89, "x"), frame(0x81, "late")].concat();
    let reading = read_through(&mut connection, &RULES, &bytes, []);
    assert_eq!((reading.events, reading.replies), (vec![ping("x"), text("late")], vec![]));
}
