//! The meter counts alike however the bytes are cut.

use ushabti_proto::http2::PREFACE;
use ushabti_proto::http2::meter::Meter;

fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
    let length = (length as u32).to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 1], &vec![0xff; u32::from_be_bytes(length) as usize]].concat()
}

/// Kind, flags, length; whether it is of no use, and whether something else may follow it.
const FRAMES: [(u8, u8, usize, bool, bool); 12] = [
    (0, 0, 10, false, true),
    (0, 1, 0, false, true),
    (0, 0, 0, true, true),
    (1, 4, 300, false, true),
    (1, 0, 5, false, false),
    (9, 0, 0, true, false),
    (9, 4, 7, true, true),
    (3, 0, 4, true, true),
    (4, 0, 0, true, true),
    (6, 1, 8, true, true),
    (8, 0, 4, true, true),
    (0xee, 0xff, 1, true, true),
];

#[test]
fn frames_of_no_use_are_counted_however_they_are_cut() {
    let mut input = PREFACE.to_vec();
    for (kind, flags, length, ..) in FRAMES {
        input.extend(frame(kind, flags, length));
    }
    let expected = FRAMES.iter().filter(|(_, _, _, useless, _)| *useless).count() as u32;
    for size in [1, 2, 3, 7, 24, 64, input.len()] {
        let mut meter = Meter::new();
        let count: u32 = input.chunks(size).map(|piece| meter.feed(piece)).sum();
        assert_eq!((count, meter.begun(), meter.is_midway()), (expected, 10, false), "in pieces of {size}");
    }
}

#[test]
fn a_frame_that_is_not_whole_is_midway_unless_it_is_content() {
    let mut meter = Meter::new();
    meter.feed(PREFACE);
    for (kind, flags, length, _, ends) in FRAMES {
        let bytes = frame(kind, flags, length);
        for (at, byte) in bytes.iter().enumerate() {
            meter.feed(&[*byte]);
            let is_last = at + 1 == bytes.len();
            let is_content = kind == 0 && at >= 8;
            assert_eq!(meter.is_midway(), !(is_content || (is_last && ends)), "{kind} {flags} {length}, byte {at}");
        }
    }
}

#[test]
fn the_first_frame_is_settings_of_the_client() {
    for (kind, flags, is_right) in [(4, 0, true), (4, 0xfe, true), (4, 1, false), (1, 5, false), (6, 0, false)] {
        let mut meter = Meter::new();
        meter.feed(PREFACE);
        let bytes = frame(kind, flags, 0);
        meter.feed(&bytes[..8]);
        assert!(!meter.lacks_settings(), "it has not come");
        meter.feed(&bytes[8..]);
        meter.feed(&frame(6, 0, 8));
        assert_eq!(meter.lacks_settings(), !is_right, "{kind} {flags}");
    }
}
