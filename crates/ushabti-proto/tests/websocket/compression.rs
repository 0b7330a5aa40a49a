//! Compressed messages (RFC 7692 sections 7.2.1 to 7.2.3): read, written, and stopped at the limit.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use ushabti_proto::websocket::WebSocketError;
use ushabti_proto::websocket::connection::Connection;
use ushabti_proto::websocket::deflate::{Deflater, InflateError, Inflater, WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use ushabti_proto::websocket::frame::Opcode;
use ushabti_proto::websocket::message::{MessageKind, encode_compressed};

use crate::harness::{
    Outcome, Rules, assert_read_under, assert_refused_under, binary, deflating, frame, ping, read_once, read_through,
    reply, taking_over, text,
};
use crate::xorshift::Xorshift;

const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

/// Data of this length, some of it repeated from far behind.
fn sample(random: &mut Xorshift, length: usize) -> Vec<u8> {
    let mut data: Vec<u8> = Vec::with_capacity(length);
    while data.len() < length {
        if data.len() > 16 && !random.one_in(3) {
            let (start, taken) = (random.below(data.len() - 8), 8 + random.below(200));
            let end = data.len().min(start + taken);
            data.extend_from_within(start..end);
        } else {
            data.push(*random.choose(b"abcdefgh"));
        }
    }
    data.truncate(length);
    data
}

#[test]
fn the_examples_of_the_rfc_are_read() {
    let rules = deflating(1024);
    let (first, last) = HELLO.split_at(3);
    for (name, bytes) in [
        ("one block", frame(0xc1, HELLO)),
        ("two fragments", [frame(0x41, first), frame(0x80, last)].concat()),
        ("no compression", frame(0xc1, b"\x00\x05\x00\xfa\xffHello\x00")),
        ("a final block", frame(0xc1, [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00])),
        ("two blocks", frame(0xc1, [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00])),
    ] {
        assert_read_under(&rules, name, &bytes, &[text("Hello")], b"");
        let twice = [bytes.as_slice(), &frame(0x81, "plain"), &bytes].concat();
        assert_read_under(&rules, name, &twice, &[text("Hello"), text("plain"), text("Hello")], b"");
    }
}

#[test]
fn the_example_with_a_shared_window_is_read_where_it_is_agreed() {
    let bytes = [frame(0xc1, HELLO), frame(0xc1, [0xf2, 0x00, 0x11, 0x00, 0x00])].concat();
    assert_read_under(&taking_over(1024), "shared", &bytes, &[text("Hello"), text("Hello")], b"");
    let events = assert_refused_under(&deflating(1024), "not shared", &bytes, WebSocketError::InvalidDeflate);
    assert_eq!(events, [text("Hello")]);
}

#[test]
fn the_examples_of_the_rfc_are_written() {
    let mut deflater = Deflater::new(6, 15);
    assert_eq!(deflater.deflate(b"Hello"), HELLO);
    assert_eq!(deflater.deflate(b"Hello"), HELLO, "nothing is taken over");
    assert_eq!(deflater.deflate(b""), [0x00]);
}

#[test]
fn control_frames_come_between_compressed_fragments() {
    let bytes = [frame(0x41, &HELLO[..2]), frame(0x89, "x"), frame(0x00, ""), frame(0x80, &HELLO[2..])].concat();
    assert_read_under(&deflating(1024), "between", &bytes, &[ping("x"), text("Hello")], b"\x8a\x01x");
}

#[test]
fn empty_compressed_messages_are_read() {
    assert_read_under(&deflating(0), "a byte", &frame(0xc1, [0x00]), &[text("")], b"");
    assert_read_under(&taking_over(0), "a byte", &frame(0xc2, [0x00]), &[binary("")], b"");
}

#[test]
fn what_was_written_is_read_at_all_windows_and_levels() {
    let mut random = Xorshift::new(7);
    for window_bits in WINDOW_BITS_MIN..=WINDOW_BITS_MAX {
        for level in [0, 1, 2, 6, 9] {
            let mut deflater = Deflater::new(level, window_bits);
            for length in [0, 1, 100, 1000, 40_000, 100_000] {
                let data = sample(&mut random, length);
                let bytes = frame(0xc2, deflater.deflate(&data));
                let reading = read_once(&deflating(data.len()), &bytes, (1..bytes.len()).step_by(4099));
                assert_eq!(reading.events, [binary(&data)], "window {window_bits}, level {level}, {length} bytes");
            }
        }
    }
}

#[test]
fn the_agreed_window_is_kept_to() {
    let mut random = Xorshift::new(3);
    // Data that repeats itself after so many bytes and no sooner shrinks only if the compressor looks as far back.
    let mut shrinks = |deflater: &mut Deflater, period: usize| {
        let data: Vec<u8> = (0..period).map(|_| random.below(256) as u8).collect::<Vec<u8>>().repeat(16);
        deflater.deflate(&data).len() < data.len() / 2
    };
    for window_bits in WINDOW_BITS_MIN..=WINDOW_BITS_MAX {
        for level in [1, 6, 9] {
            let mut deflater = Deflater::new(level, window_bits);
            assert_eq!(deflater.window_bits(), window_bits);
            let window = 1 << window_bits;
            assert!(shrinks(&mut deflater, window / 4), "window {window_bits}, level {level}");
            assert!(!shrinks(&mut deflater, window + 1), "window {window_bits}, level {level}");
        }
    }
}

#[test]
fn what_a_client_with_takeover_sends_is_read() {
    let mut random = Xorshift::new(11);
    let mut client = Compress::new(Compression::default(), false);
    let (mut bytes, mut events) = (Vec::new(), Vec::new());
    for length in [10, 0, 3000, 50_000, 1] {
        let data = sample(&mut random, length);
        let mut payload = Vec::with_capacity(data.len() + 1024);
        client.compress_vec(&data, &mut payload, FlushCompress::Sync).expect("it compresses");
        // There is nothing to flush of an empty message: its payload is one byte (RFC 7692 section 7.2.3.6).
        bytes.extend(frame(0xc2, payload.strip_suffix(&[0x00, 0x00, 0xff, 0xff]).unwrap_or(&[0x00])));
        events.push(binary(data));
    }
    let whole = read_once(&taking_over(50_000), &bytes, []);
    assert_eq!((&whole.events, whole.outcome), (&events, Outcome::Idle));
    assert_eq!(read_once(&taking_over(50_000), &bytes, (1..bytes.len()).step_by(7)), whole);
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let bomb = Deflater::new(9, 15).deflate(&vec![0; 10_000_000]).to_vec();
    assert!(bomb.len() < 20_000, "{} bytes become ten millions", bomb.len());
    let limit = 100_000;
    let mut out = Vec::new();
    assert_eq!(Inflater::new().inflate(&bomb, &mut out, limit), Err(InflateError::TooBig));
    assert_eq!((out.len(), out.capacity()), (limit + 1, limit + 1));
    for rules in [deflating(limit), taking_over(limit)] {
        for first in [0xc2, 0x42] {
            let bytes = frame(first, &bomb);
            assert_refused_under(&rules, "bomb", &bytes, WebSocketError::MessageTooBig);
        }
    }
}

#[test]
fn the_limit_is_on_the_inflated_message() {
    for (length, limit) in [(5, 5), (1000, 1000), (4096, 4096)] {
        let data = "x".repeat(length);
        let bytes = frame(0xc1, Deflater::new(6, 15).deflate(data.as_bytes()));
        assert_read_under(&deflating(limit), "at the limit", &bytes, &[text(&data)], b"");
        assert_refused_under(&deflating(limit - 1), "beyond it", &bytes, WebSocketError::MessageTooBig);
    }
}

#[test]
fn blocks_that_hold_nothing_do_not_come_forever() {
    let empty_blocks = [0x00, 0x00, 0x00, 0xff, 0xff].repeat(200);
    let rules = deflating(100);
    let mut bytes = frame(0x42, "");
    for _ in 0..3 {
        bytes.extend(frame(0x00, &empty_blocks));
    }
    assert_refused_under(&rules, "stored blocks", &bytes, WebSocketError::MessageTooBig);
    let final_blocks = [0x03, 0x00].repeat(100);
    assert_refused_under(&rules, "final blocks", &frame(0xc2, final_blocks), WebSocketError::InvalidDeflate);
}

#[test]
fn data_that_cannot_be_inflated_is_refused() {
    for (name, payload) in [
        ("reserved block type", vec![0x07]),
        ("a stored block whose lengths differ", vec![0x00, 0x05, 0x00, 0x00, 0x00]),
        ("a reference to before the message", vec![0xf2, 0x00, 0x11, 0x00, 0x00]),
        ("nothing at all", vec![0x01, 0x05]),
        ("a stored block without its end", b"\x00\x05\x00\xfa\xffHel".to_vec()),
        ("a final block without the byte behind it", vec![0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]),
    ] {
        assert_refused_under(&deflating(1024), name, &frame(0xc2, payload), WebSocketError::InvalidDeflate);
    }
    for end in 1..HELLO.len() - 1 {
        let name = format!("Hello after {end} bytes");
        assert_refused_under(&deflating(1024), &name, &frame(0xc2, &HELLO[..end]), WebSocketError::InvalidDeflate);
    }
}

#[test]
fn messages_that_do_not_shrink_are_sent_plain() {
    let mut deflater = Deflater::new(6, 15);
    let mut out = Vec::new();
    encode_compressed(&mut out, MessageKind::Text, b"Hello", &mut deflater);
    assert_eq!(out, b"\x81\x05Hello");
    out.clear();
    let data = "Hello".repeat(100);
    encode_compressed(&mut out, MessageKind::Text, data.as_bytes(), &mut deflater);
    assert_eq!(out[0], 0xc1);
    assert!(out.len() < 40, "{} bytes", out.len());
    let payload = out[2..].to_vec();
    assert_eq!(usize::from(out[1]), payload.len());
    assert_read_under(&deflating(500), "its own", &frame(0xc1, payload), &[text(data)], b"");
}

#[test]
fn nothing_is_kept_between_messages_without_takeover() {
    let rules: Rules = deflating(1024);
    let mut connection = Connection::new(rules.deflate);
    let reading = read_through(&mut connection, &rules, &[frame(0xc1, HELLO), frame(0x89, "")].concat(), []);
    assert_eq!(reading.replies, reply(Opcode::Pong, ""));
    assert!(connection.is_between_messages());
    assert!(format!("{connection:?}").contains("window: None"));
}

#[test]
fn a_used_compressor_repeats_nothing_of_the_message_before() {
    // It does find other matches than a new one, so what it writes may differ; what it stands for may not.
    let mut random = Xorshift::new(0x2545_f491_4f6c_dd1d);
    let mut differing = 0;
    for round in 0..3000 {
        let window_bits = *random.choose(&[9, 10, 12]);
        let level = *random.choose(&[1, 6, 9]);
        let mut used = Deflater::new(level, window_bits);
        for _ in 0..3 {
            let length = random.below(2000);
            let letters = 1 + random.below(4);
            let message: Vec<u8> = (0..length).map(|_| b'a' + random.below(letters) as u8).collect();
            let payload = used.deflate(&message).to_vec();
            differing += usize::from(payload != Deflater::new(level, window_bits).deflate(&message));
            // No bytes before this message, and none beyond the window.
            let mut reader = Decompress::new_with_window_bits(false, window_bits);
            let mut out = vec![0; length + 1];
            let ended = [payload.as_slice(), &[0, 0, 0xff, 0xff]].concat();
            reader.decompress(&ended, &mut out, FlushDecompress::Sync).expect("it can be inflated");
            assert!(out[..reader.total_out() as usize] == message, "round {round}: it comes back as it was");
        }
    }
    assert!(differing > 0, "the reason for this test is gone");
}
