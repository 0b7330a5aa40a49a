//! Text is UTF-8 (RFC 6455 section 8.1), and what cannot become UTF-8 is refused at the byte that shows it.

use ushabti_proto::websocket::WebSocketError;
use ushabti_proto::websocket::deflate::Deflater;
use ushabti_proto::websocket::utf8::{InvalidUtf8, check_growing};

use crate::harness::{
    Outcome, RULES, assert_read, assert_refused, assert_refused_under, binary, deflating, frame, read_once, text,
};

/// Text that is wrong at its last byte and not before.
const WRONG_AT_THE_END: [(&str, &[u8]); 14] = [
    ("a continuation byte alone", b"ab\x80"),
    ("an overlong form of two bytes", b"\xc0"),
    ("another", b"x\xc1"),
    ("an overlong form of three bytes", b"\xe0\x9f"),
    ("an overlong form of four bytes", b"\xf0\x8f"),
    ("a surrogate", b"\xed\xa0"),
    ("the last surrogate", b"\xed\xbf"),
    ("beyond U+10FFFF", b"\xf4\x90"),
    ("far beyond", b"\xf5"),
    ("0xff", b"\xff"),
    ("two bytes, the second ASCII", b"\xc3a"),
    ("three bytes, the third ASCII", b"\xe2\x82a"),
    ("four bytes, the fourth a first", b"\xf0\x9f\x98\xc3"),
    ("behind a long text", b"0123456789abcdef0123456789abcdef\xce\xba\xe1\xbd\xb9\xfe"),
];

#[test]
fn text_of_all_lengths_of_characters_is_read() {
    for data in ["", "a", "\0", "κόσμε", "\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}", "\u{d7ff}\u{e000}\u{fffe}"]
    {
        assert_read(data, &frame(0x81, data), &[text(data)]);
        for at in 0..=data.len() {
            let bytes = [frame(0x01, &data.as_bytes()[..at]), frame(0x80, &data.as_bytes()[at..])].concat();
            assert_read(data, &bytes, &[text(data)]);
        }
    }
}

#[test]
fn what_is_not_utf8_is_refused() {
    for (name, data) in WRONG_AT_THE_END {
        assert_refused(name, &frame(0x81, data), WebSocketError::InvalidUtf8);
        assert_refused(name, &[frame(0x01, data), frame(0x80, "")].concat(), WebSocketError::InvalidUtf8);
        for at in 0..=data.len() {
            let bytes = [frame(0x01, &data[..at]), frame(0x80, &data[at..])].concat();
            assert_refused(name, &bytes, WebSocketError::InvalidUtf8);
        }
    }
}

#[test]
fn the_fault_shows_at_its_byte() {
    for (name, data) in WRONG_AT_THE_END {
        // The frame says that more will come.
        let bytes = frame(0x81, [data, &[b'x'; 100]].concat());
        let end = bytes.len() - 100;
        let reading = read_once(&RULES, &bytes[..end], 1..end);
        assert_eq!(reading.outcome, Outcome::Failed(WebSocketError::InvalidUtf8), "{name}");
        let reading = read_once(&RULES, &bytes[..end - 1], 1..end - 1);
        assert_eq!(reading.outcome, Outcome::Inside, "{name}, without its last byte");
    }
}

#[test]
fn text_that_ends_inside_of_a_character_is_refused() {
    for data in [b"\xce".as_slice(), b"a\xe2", b"a\xe2\x82", b"\xf0\x9f\x98"] {
        assert_refused("one frame", &frame(0x81, data), WebSocketError::InvalidUtf8);
        assert_refused("two", &[frame(0x01, data), frame(0x80, "")].concat(), WebSocketError::InvalidUtf8);
    }
}

#[test]
fn compressed_text_is_checked_as_it_is_inflated() {
    for (name, data) in WRONG_AT_THE_END {
        let mut deflater = Deflater::new(6, 15);
        let bytes = frame(0xc1, deflater.deflate(data));
        assert_refused_under(&deflating(1024), name, &bytes, WebSocketError::InvalidUtf8);
    }
}

#[test]
fn binary_messages_are_not_checked() {
    for (name, data) in WRONG_AT_THE_END {
        assert_read(name, &frame(0x82, data), &[binary(data)]);
        assert_read(name, &[frame(0x02, data), frame(0x80, "")].concat(), &[binary(data)]);
    }
}

#[test]
fn the_check_counts_complete_characters() {
    let whole = "aé€😀".as_bytes();
    let mut checked = 0;
    let counts: Vec<usize> = (1..=whole.len())
        .map(|end| {
            check_growing(&whole[..end], &mut checked).expect("it is UTF-8");
            checked
        })
        .collect();
    assert_eq!(counts, [1, 1, 3, 3, 3, 6, 6, 6, 6, 10]);
    assert_eq!(check_growing(&[whole, b"\x80"].concat(), &mut checked), Err(InvalidUtf8));
}
