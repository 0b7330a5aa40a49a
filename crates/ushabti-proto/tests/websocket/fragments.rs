//! Random conversations: however a client cuts its messages into frames and TCP its frames into pieces, the messages
//! are the same. Random bytes may be refused, but neither panic nor are read differently when cut differently.

use ushabti_proto::websocket::connection::Event;
use ushabti_proto::websocket::deflate::Deflater;
use ushabti_proto::websocket::frame::Opcode;

use crate::harness::{Outcome, binary, deflating, frame, ping, pong, read_once, reply, taking_over, text};
use crate::xorshift::Xorshift;

const TEXTS: [&str; 5] = ["", "a", "κόσμε", "0123456789 😀 0123456789", "ąęśćż ąęśćż ąęśćż ąęśćż ąęśćż"];

struct Conversation {
    bytes: Vec<u8>,
    events: Vec<Event>,
    replies: Vec<u8>,
}

impl Conversation {
    fn random(random: &mut Xorshift, deflater: &mut Deflater) -> Self {
        let mut made = Self { bytes: Vec::new(), events: Vec::new(), replies: Vec::new() };
        for _ in 0..=random.below(6) {
            made.add_message(random, deflater);
        }
        made
    }

    fn add_message(&mut self, random: &mut Xorshift, deflater: &mut Deflater) {
        let is_text = random.one_in(2);
        let data: Vec<u8> = if is_text {
            random.choose(&TEXTS).repeat(random.below(30)).into_bytes()
        } else {
            (0..random.below(500)).map(|_| random.below(256) as u8).collect()
        };
        let is_compressed = random.one_in(2);
        let payload = if is_compressed { deflater.deflate(&data).to_vec() } else { data.clone() };
        let opcode = if is_text { 0x1 } else { 0x2 };
        let mut first = if is_compressed { 0x40 | opcode } else { opcode };
        let mut rest = payload.as_slice();
        while !random.one_in(4) {
            let (fragment, after) = rest.split_at(random.below(rest.len() + 1));
            self.bytes.extend(frame(first, fragment));
            (first, rest) = (0, after);
            if random.one_in(3) {
                self.add_control(random);
            }
        }
        self.bytes.extend(frame(0x80 | first, rest));
        self.events.push(if is_text { text(data) } else { binary(data) });
    }

    fn add_control(&mut self, random: &mut Xorshift) {
        let payload = vec![b'p'; random.below(126)];
        if random.one_in(2) {
            self.bytes.extend(frame(0x89, &payload));
            self.replies.extend(reply(Opcode::Pong, &payload));
            self.events.push(ping(payload));
        } else {
            self.bytes.extend(frame(0x8a, &payload));
            self.events.push(pong(payload));
        }
    }
}

/// Rising places to cut at.
fn cuts(random: &mut Xorshift, length: usize) -> Vec<usize> {
    let step = 1 + random.below(50);
    let mut cuts = Vec::new();
    let mut at = 0;
    loop {
        at += 1 + random.below(step);
        if at >= length {
            return cuts;
        }
        cuts.push(at);
    }
}

#[test]
fn conversations_are_read_however_they_are_cut() {
    let mut random = Xorshift::new(0x5eed);
    let mut deflater = Deflater::new(6, 12);
    for round in 0..400 {
        let made = Conversation::random(&mut random, &mut deflater);
        let rules = if random.one_in(2) { deflating(4096) } else { taking_over(4096) };
        for _ in 0..3 {
            let cuts = cuts(&mut random, made.bytes.len());
            let reading = read_once(&rules, &made.bytes, cuts);
            assert_eq!(reading.events, made.events, "round {round}");
            assert_eq!(reading.replies, made.replies, "round {round}");
            assert_eq!(reading.outcome, Outcome::Idle, "round {round}");
        }
    }
}

#[test]
fn mutated_conversations_are_read_the_same_however_they_are_cut() {
    let mut random = Xorshift::new(0xfa11);
    let mut deflater = Deflater::new(6, 15);
    let mut refused = 0;
    for round in 0..2000 {
        let mut bytes = Conversation::random(&mut random, &mut deflater).bytes;
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
        let rules = if random.one_in(2) { deflating(4096) } else { taking_over(4096) };
        let whole = read_once(&rules, &bytes, []);
        let cuts = cuts(&mut random, bytes.len());
        assert_eq!(read_once(&rules, &bytes, cuts), whole, "round {round}: {bytes:?}");
        refused += usize::from(matches!(whole.outcome, Outcome::Failed(_)));
    }
    assert!(refused > 300, "only {refused} mutations were faults");
}

#[test]
fn random_bytes_are_read_the_same_however_they_are_cut() {
    let mut random = Xorshift::new(0xdead);
    for round in 0..3000 {
        let mut bytes: Vec<u8> = (0..2 + random.below(60)).map(|_| random.below(256) as u8).collect();
        // Most random bytes are refused by the first two.
        bytes[0] &= 0xcb;
        bytes[1] |= 0x80;
        let whole = read_once(&deflating(64), &bytes, []);
        assert_eq!(read_once(&deflating(64), &bytes, 1..bytes.len()), whole, "round {round}: {bytes:?}");
    }
}
