//! Messages and their fragments (RFC 6455 section 5.4), and the limit on them (section 7.4.1).

use ushabti_proto::websocket::WebSocketError;
use ushabti_proto::websocket::connection::{Connection, Event};
use ushabti_proto::websocket::deflate::Inflaters;
use ushabti_proto::websocket::message::{MessageKind, encode_message};

use crate::harness::{
    KEY, Outcome, RULES, assert_read, assert_read_under, assert_refused, assert_refused_under, binary, frame, limited,
    read_once, text,
};

#[test]
fn messages_are_read_in_order() {
    let bytes = [frame(0x81, "one"), frame(0x82, [1, 2]), frame(0x81, ""), frame(0x82, "")].concat();
    assert_read("four", &bytes, &[text("one"), binary([1, 2]), text(""), binary("")]);
}

#[test]
fn fragments_are_joined() {
    for (name, frames, event) in [
        ("two", vec![frame(0x01, "Hel"), frame(0x80, "lo")], text("Hello")),
        ("empty first", vec![frame(0x01, ""), frame(0x80, "x")], text("x")),
        ("empty last", vec![frame(0x02, "x"), frame(0x80, "")], binary("x")),
        ("empty all", vec![frame(0x01, ""), frame(0x00, ""), frame(0x80, "")], text("")),
        ("empty between", vec![frame(0x02, "a"), frame(0x00, ""), frame(0x00, "b"), frame(0x80, "c")], binary("abc")),
    ] {
        assert_read(name, &frames.concat(), std::slice::from_ref(&event));
        let twice = [frames.concat(), frames.concat()].concat();
        assert_read(name, &twice, &[event.clone(), event]);
    }
}

#[test]
fn many_fragments_are_joined() {
    let mut bytes = frame(0x02, "");
    for _ in 0..3000 {
        bytes.extend(frame(0x00, "x"));
    }
    bytes.extend(frame(0x80, ""));
    let whole = read_once(&RULES, &bytes, []);
    assert_eq!(whole.events, [binary("x".repeat(3000))]);
    assert_eq!(read_once(&RULES, &bytes, (1..bytes.len()).step_by(13)), whole);
}

#[test]
fn fragments_out_of_order_are_refused() {
    for (name, bytes, error) in [
        ("nothing to continue", frame(0x80, "x"), WebSocketError::NothingToContinue),
        ("nothing to continue, not final", frame(0x00, "x"), WebSocketError::NothingToContinue),
        ("text inside of text", [frame(0x01, ""), frame(0x81, "")].concat(), WebSocketError::MessageInsideMessage),
        ("binary inside of text", [frame(0x01, ""), frame(0x02, "")].concat(), WebSocketError::MessageInsideMessage),
        ("text inside of binary", [frame(0x02, "x"), frame(0x81, "y")].concat(), WebSocketError::MessageInsideMessage),
    ] {
        assert_refused(name, &bytes, error);
    }
    let bytes = [frame(0x81, "done"), frame(0x80, "x")].concat();
    let events = assert_refused_under(&RULES, "after a message", &bytes, WebSocketError::NothingToContinue);
    assert_eq!(events, [text("done")]);
}

#[test]
fn the_limit_is_on_the_sum_of_all_fragments() {
    let rules = limited(10);
    for (name, frames) in [
        ("one frame", vec![frame(0x82, [7; 10])]),
        ("two", vec![frame(0x02, [7; 5]), frame(0x80, [7; 5])]),
        ("empty last", vec![frame(0x02, [7; 10]), frame(0x80, "")]),
    ] {
        assert_read_under(&rules, name, &frames.concat(), &[binary([7; 10])], b"");
    }
    for (name, frames) in [
        ("one frame", vec![frame(0x82, [7; 11])]),
        ("one fragment", vec![frame(0x02, [7; 11])]),
        ("two", vec![frame(0x02, [7; 5]), frame(0x80, [7; 6])]),
        ("the last", vec![frame(0x02, [7; 10]), frame(0x00, ""), frame(0x80, [7])]),
        ("one of text", vec![frame(0x81, "x".repeat(11))]),
    ] {
        let events = assert_refused_under(&rules, name, &frames.concat(), WebSocketError::MessageTooBig);
        assert_eq!(events, [], "{name}");
    }
    assert_read_under(&limited(0), "no data at all", &frame(0x82, ""), &[binary("")], b"");
    assert_refused_under(&limited(0), "one byte", &frame(0x82, "x"), WebSocketError::MessageTooBig);
}

#[test]
fn a_frame_beyond_the_limit_is_refused_by_its_header() {
    let header = [&[0x82, 0xff], (1_u64 << 62).to_be_bytes().as_slice(), &KEY].concat();
    assert_eq!(read_once(&RULES, &header, []).outcome, Outcome::Failed(WebSocketError::MessageTooBig));
    let fragments = [frame(0x02, "x").as_slice(), &[0x00, 0xff], (1_u64 << 62).to_be_bytes().as_slice(), &KEY].concat();
    assert_eq!(read_once(&RULES, &fragments, []).outcome, Outcome::Failed(WebSocketError::MessageTooBig));
    // No sum of lengths wraps.
    let header = [&[0x80, 0xff], (u64::MAX >> 1).to_be_bytes().as_slice(), &KEY].concat();
    let wrapping = [frame(0x02, "x"), header].concat();
    assert_eq!(read_once(&limited(usize::MAX), &wrapping[..20], []).outcome, Outcome::Inside);
}

#[test]
fn memory_grows_with_what_came_and_never_beyond_the_limit() {
    let rules = limited(1_000_000);
    let mut bytes = [&[0x82, 0xff], 1_000_000_u64.to_be_bytes().as_slice(), &KEY].concat();
    bytes.resize(bytes.len() + 1_000_000, 0);
    let (mut connection, mut inflaters, mut replies) = (Connection::new(None), Inflaters::new(), Vec::new());
    let mut data = None;
    for piece in bytes.chunks_mut(16 * 1024 + 1) {
        let mut rest = piece;
        loop {
            let step = connection.step(rest, rules.limits, &mut inflaters, &mut replies).expect("it is valid");
            match step.event {
                Event::NeedMore => break,
                Event::Message(message) => data = Some(message.data),
                other => panic!("one message was sent, but {other:?}"),
            }
            rest = &mut rest[step.consumed..];
        }
    }
    let data = data.expect("the message is complete");
    assert_eq!((data.len(), data.capacity()), (1_000_000, 1_000_000));
}

#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<Connection>() <= 128, "{} bytes", size_of::<Connection>());
}

#[test]
fn messages_are_written_as_one_frame() {
    let mut out = Vec::new();
    encode_message(&mut out, MessageKind::Text, "é".as_bytes());
    encode_message(&mut out, MessageKind::Binary, &[0xff]);
    assert_eq!(out, b"\x81\x02\xc3\xa9\x82\x01\xff");
}
