//! Compressed messages (RFC 7692): what was compressed comes back, and whatever is inflated keeps to the limit and
//! does not depend on its pieces.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use ushabti_proto::websocket::connection::{Event, Limits};
use ushabti_proto::websocket::deflate::{Deflater, InflateError, Inflater};
use ushabti_proto::websocket::message::{Message, MessageKind, encode_compressed};

use crate::settings::{Random, Settings};
use crate::websocket::{Outcome, Rules, agreed, read};

/// What a compressor ends a flush with, and a sender leaves out (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// What inflated data may come to here.
const INFLATED_MAX: usize = 1 << 18;

/// Takes the input for messages of a client or of the server, or for compressed data of whoever sends it.
pub fn check(input: &[u8]) {
    let Some((settings, input)) = Settings::split(input) else { return };
    // One of them for each input: a compressor costs more than all that is compressed here.
    settings.choose(8, [check_client, check_server, check_inflater, check_inflater])(settings, input);
}

/// A client compresses messages as it likes and sends them in fragments, with pings between.
fn check_client(settings: Settings, input: &[u8]) {
    let takes_over = settings.flag(0);
    let level = settings.choose(1, [6, 0, 1, 9]);
    let window_bits = settings.choose(3, [15, 9, 12, 10]);
    let mut random = settings.random();
    let mut compress = Compress::new_with_window_bits(Compression::new(level), false, window_bits);
    let (mut wire, mut messages) = (Vec::new(), Vec::new());
    let mut start = 0;
    for end in settings.cuts(input.len()).into_iter().take(6).chain([input.len()]) {
        let message = &input[start..end];
        start = end;
        if random.below(4) == 0 {
            send(&mut wire, &mut random, false, message);
        } else {
            if !takes_over {
                compress.reset();
            }
            let mut payload = Vec::with_capacity(message.len() * 2 + 100);
            compress.compress_vec(message, &mut payload, FlushCompress::Sync).expect("its state is right");
            // Nothing to compress behind a flush makes nothing at all, where one empty block is due.
            let payload = payload.strip_suffix(&TAIL).unwrap_or(&[0]);
            send(&mut wire, &mut random, true, payload);
        }
        messages.push(message);
    }
    let limit = messages.iter().map(|message| message.len()).max().unwrap_or(0);
    let rules =
        Rules { limits: Limits { message_bytes_max: limit }, deflate: Some(agreed(takes_over)), closes_at: None };
    let reading = read(rules, &wire, &settings.cuts(wire.len()));
    let received: Vec<&[u8]> = reading.events.iter().filter_map(|(_, event)| data(event)).collect();
    assert_eq!(received, messages);
    assert_eq!(reading.outcome, Outcome::Waiting { is_between: true });
}

fn data(event: &Event) -> Option<&[u8]> {
    if let Event::Message(Message { data, .. }) = event { Some(data) } else { None }
}

/// Appends one message in up to three masked fragments.
fn send(wire: &mut Vec<u8>, random: &mut Random, is_compressed: bool, payload: &[u8]) {
    let mut first = 0x02 | if is_compressed { 0x40 } else { 0 };
    let mut rest = payload;
    for _ in 0..random.below(3) {
        let (piece, after) = rest.split_at(random.below(rest.len() + 1));
        send_frame(wire, random, first, piece);
        send_frame(wire, random, 0x89, b"ping");
        first = 0;
        rest = after;
    }
    send_frame(wire, random, first | 0x80, rest);
}

fn send_frame(wire: &mut Vec<u8>, random: &mut Random, first: u8, payload: &[u8]) {
    wire.push(first);
    match payload.len() {
        length @ 0..=125 => wire.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            wire.push(0xfe);
            wire.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            wire.push(0xff);
            wire.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    let key = [random.below(256) as u8, random.below(256) as u8, random.below(256) as u8, random.below(256) as u8];
    wire.extend_from_slice(&key);
    wire.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
}

/// What the server compresses is read by any inflater, message for message.
fn check_server(settings: Settings, input: &[u8]) {
    let level = settings.choose(1, [6, 0, 1, 9]);
    let window_bits = settings.choose(3, [15, 9, 12, 10]);
    let mut deflater = Deflater::new(level, window_bits);
    for message in [input, &input[input.len() / 2..]] {
        let payload = deflater.deflate(message).to_vec();
        assert_eq!(inflate_at_once(&payload, message.len() + 1), Some(message.to_vec()));
        let mut inflater = Inflater::new();
        let mut out = Vec::new();
        inflater.inflate(&payload, &mut out, message.len()).expect("it has been deflated");
        inflater.finish(&mut out, message.len(), settings.flag(0)).expect("it is complete");
        assert_eq!(out, message);
        let mut frame = Vec::new();
        encode_compressed(&mut frame, MessageKind::Binary, message, &mut deflater);
        let sent = payload_of(&frame);
        if frame[0] == 0xc2 {
            // Not byte for byte what came out before: zlib-rs finds other matches with a compressor that was used.
            assert!(sent.len() < message.len());
            assert_eq!(inflate_at_once(sent, message.len() + 1), Some(message.to_vec()));
        } else {
            assert_eq!((frame[0], sent), (0x82, message));
        }
    }
}

/// The payload of one whole frame of a server.
fn payload_of(frame: &[u8]) -> &[u8] {
    let (length, start) = match frame[1] {
        126 => (usize::from(u16::from_be_bytes([frame[2], frame[3]])), 4),
        127 => (u64::from_be_bytes(frame[2..10].try_into().expect("eight bytes")) as usize, 10),
        length => (usize::from(length), 2),
    };
    assert_eq!(frame.len(), start + length);
    &frame[start..]
}

/// Takes `payload` for compressed data of whoever sends it.
fn check_inflater(settings: Settings, payload: &[u8]) {
    let limit = settings.choose(5, [INFLATED_MAX, 1000, 1, 0]);
    let keeps = settings.flag(7);
    let whole = inflate(payload, &[], limit, keeps);
    let cuts = settings.cuts(payload.len());
    assert_eq!(inflate(payload, &cuts, limit, keeps), whole, "cut at {cuts:?}");
    if let Ok(out) = whole {
        assert!(out.len() <= limit);
        if let Some(expected) = inflate_at_once(payload, INFLATED_MAX) {
            assert_eq!(out, expected);
        }
    }
}

fn inflate(payload: &[u8], cuts: &[usize], limit: usize, keeps: bool) -> Result<Vec<u8>, InflateError> {
    let mut inflater = Inflater::new();
    let mut out = Vec::new();
    let mut start = 0;
    for end in cuts.iter().copied().chain([payload.len()]) {
        let result = inflater.inflate(&payload[start..end], &mut out, limit);
        assert!(out.len() <= limit + 1 && out.capacity() <= limit + 1, "{} bytes are held", out.capacity());
        result?;
        start = end;
    }
    inflater.finish(&mut out, limit, keeps)?;
    Ok(out)
}

/// The same by the library alone; `None` for what is wrong, too long, or has a final block, behind which it stops.
fn inflate_at_once(payload: &[u8], limit: usize) -> Option<Vec<u8>> {
    let input = [payload, &TAIL].concat();
    let mut out = Vec::with_capacity(limit);
    let mut stream = Decompress::new(false);
    let status = stream.decompress_vec(&input, &mut out, FlushDecompress::Sync).ok()?;
    (status == Status::Ok && stream.total_in() == input.len() as u64).then_some(out)
}
