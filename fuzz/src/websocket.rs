//! WebSocket connections: what comes of bytes does not depend on how they arrive, no message passes the limit, and
//! what is not compressed is what a plain reading of the frames says (RFC 6455 section 5).

use ushabti_proto::websocket::WebSocketError;
use ushabti_proto::websocket::close_code::{NO_STATUS, may_be_sent};
use ushabti_proto::websocket::connection::{Close, Connection, EndOfInput, Event, Limits, Step};
use ushabti_proto::websocket::deflate::{DeflateAgreement, DeflatePolicy, Inflaters};
use ushabti_proto::websocket::handshake::parse_extensions;
use ushabti_proto::websocket::message::{Message, MessageKind};

use crate::settings::Settings;

/// Under what a connection is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) limits: Limits,
    pub(crate) deflate: Option<DeflateAgreement>,
    /// After so many bytes the server begins the closing handshake.
    pub(crate) closes_at: Option<usize>,
}

/// What is agreed with a client that offers compression, and may refer back to earlier messages or not.
pub(crate) fn agreed(client_context_takeover: bool) -> DeflateAgreement {
    let offers = parse_extensions(b"permessage-deflate; client_max_window_bits").expect("it is well formed");
    let policy = DeflatePolicy { client_context_takeover, ..DeflatePolicy::default() };
    DeflateAgreement::negotiate(&offers, policy).expect("it can be met")
}

/// Reads a connection in several ways.
pub fn check(input: &[u8]) {
    let Some((settings, input)) = Settings::split(input) else { return };
    let deflate = settings.choose(0, [None, Some(false), Some(true), Some(false)]).map(agreed);
    let message_bytes_max = settings.choose(2, [1 << 20, 0, 1, 125, 126, 1000, 65_536, usize::MAX]);
    let closes_at = settings.flag(5).then(|| settings.random().below(input.len() + 1));
    let rules = Rules { limits: Limits { message_bytes_max }, deflate, closes_at };
    let whole = read(rules, input, &[]);
    let cuts = settings.cuts(input.len());
    assert_eq!(read(rules, input, &cuts), whole, "cut at {cuts:?}");
    check_messages(rules, &whole);
    check_replies(rules, &whole);
    if closes_at.is_none() {
        Plain::default().hold_against(rules, input, &whole);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Between two messages, or inside of one.
    Waiting {
        is_between: bool,
    },
    Closed,
    Failed(WebSocketError),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Each with the position behind it.
    pub(crate) events: Vec<(usize, Event)>,
    pub(crate) replies: Vec<u8>,
    pub(crate) outcome: Outcome,
}

pub(crate) fn read(rules: Rules, input: &[u8], cuts: &[usize]) -> Reading {
    let mut connection = Connection::new(rules.deflate);
    let (mut inflaters, mut events, mut replies) = (Inflaters::new(), Vec::new(), Vec::new());
    let mut start = 0;
    let mut ends: Vec<usize> = cuts.iter().copied().chain(rules.closes_at).chain([input.len()]).collect();
    ends.sort_unstable();
    for end in ends {
        // Unmasked in place, so each reading has its own.
        let mut piece = input[start..end].to_vec();
        let mut rest = piece.as_mut_slice();
        loop {
            let offered = rest.len();
            match connection.step(rest, rules.limits, &mut inflaters, &mut replies) {
                Ok(Step { consumed, event: Event::NeedMore }) => {
                    assert_eq!(consumed, offered, "all input is consumed when more is needed");
                    break;
                }
                Ok(Step { consumed, event }) => {
                    rest = &mut rest[consumed..];
                    events.push((end - rest.len(), event));
                }
                Err(error) => {
                    let again = connection.step(&mut [], rules.limits, &mut inflaters, &mut Vec::new());
                    assert_eq!(again, Err(error), "an error does not change");
                    assert!(!connection.is_open());
                    assert_eq!(connection.end_of_input(), EndOfInput::Abnormal);
                    return Reading { events, replies, outcome: Outcome::Failed(error) };
                }
            }
        }
        start = end;
        if rules.closes_at == Some(end) {
            let was_open = connection.is_open();
            let closed = connection.close(1001, "bye", &mut replies);
            // Two cuts may lie here: then it was closed at the first one.
            assert_eq!(closed, Ok(was_open));
        }
    }
    let outcome = match connection.end_of_input() {
        EndOfInput::Clean => Outcome::Closed,
        EndOfInput::Abnormal => Outcome::Waiting { is_between: connection.is_between_messages() },
    };
    Reading { events, replies, outcome }
}

fn check_messages(rules: Rules, reading: &Reading) {
    let limit = rules.limits.message_bytes_max;
    for (_, event) in &reading.events {
        if let Event::Message(Message { kind, data }) = event {
            assert!(data.len() <= limit, "a message of {} bytes passed the limit of {limit}", data.len());
            // One byte more is what shows that the limit is passed.
            assert!(data.capacity() <= limit.saturating_add(1), "{} bytes are held", data.capacity());
            assert!(*kind == MessageKind::Binary || std::str::from_utf8(data).is_ok());
        }
    }
}

/// The replies are frames of a server: a pong for each ping, then one Close frame at most.
fn check_replies(rules: Rules, reading: &Reading) {
    let (mut rest, mut answered, mut closes) = (reading.replies.as_slice(), Vec::new(), 0);
    while let [first, length, after @ ..] = rest {
        let (payload, after) = after.split_at(usize::from(*length));
        assert_eq!(closes, 0, "nothing is sent behind a Close frame");
        match first {
            0x8a => answered.push(payload.to_vec()),
            0x88 => {
                closes += 1;
                assert!(payload.len() != 1);
            }
            _ => panic!("a reply begins with {first:#x}"),
        }
        rest = after;
    }
    assert!(rest.is_empty(), "half a reply");
    let told = matches!(reading.outcome, Outcome::Closed | Outcome::Failed(_)) || rules.closes_at.is_some();
    assert_eq!(closes == 1, told, "who ends says so, and nobody else");
    let pings: Vec<_> = reading.events.iter().filter_map(|(_, event)| ping(event)).collect();
    assert!(pings.starts_with(&answered), "each pong is that of its ping");
    assert!(rules.closes_at.is_some() || pings.len() == answered.len(), "each ping is answered");
}

fn ping(event: &Event) -> Option<Vec<u8>> {
    if let Event::Ping(payload) = event { Some(payload.clone()) } else { None }
}

/// A reading of whole frames, which knows nothing of compression and gives up where it begins.
#[derive(Default)]
struct Plain {
    events: Vec<Event>,
    /// The message that has begun.
    message: Option<(MessageKind, Vec<u8>)>,
}

enum End {
    /// In the middle of a frame, of which it is not known whether it is right.
    Begun,
    /// After a whole frame.
    Between,
    Wrong,
    Closed,
    /// Here compression begins.
    Compressed,
}

impl Plain {
    fn hold_against(mut self, rules: Rules, input: &[u8], reading: &Reading) {
        let end = self.read(rules, input);
        let events: Vec<&Event> = reading.events.iter().map(|(_, event)| event).collect();
        let expected: Vec<&Event> = self.events.iter().collect();
        let is_failed = matches!(reading.outcome, Outcome::Failed(_));
        match end {
            End::Compressed => assert!(events.starts_with(&expected)),
            End::Begun => assert!(events == expected && reading.outcome != Outcome::Closed),
            End::Between => {
                let is_between = self.message.is_none();
                assert_eq!(events, expected);
                assert_eq!(reading.outcome, Outcome::Waiting { is_between });
            }
            End::Closed => {
                assert_eq!(events, expected);
                assert_eq!(reading.outcome, Outcome::Closed);
            }
            End::Wrong => assert!(events == expected && is_failed, "{events:?} {:?}", reading.outcome),
        }
    }

    fn read(&mut self, rules: Rules, input: &[u8]) -> End {
        let mut rest = input;
        while !rest.is_empty() {
            let Some(Frame { first, payload, rest: after }) = Frame::read(rest) else { return End::Begun };
            let Some(payload) = payload else { return End::Wrong };
            if first & 0x40 != 0 && rules.deflate.is_some() {
                return End::Compressed;
            }
            match self.take(rules, first, payload) {
                None => return End::Wrong,
                Some(Event::Close(_)) => return End::Closed,
                Some(_) => {}
            }
            rest = after;
        }
        End::Between
    }

    /// Takes a whole frame; `None` if it is wrong. An event comes back in any case, so that a Close frame is seen.
    fn take(&mut self, rules: Rules, first: u8, payload: Vec<u8>) -> Option<Event> {
        let is_final = first & 0x80 != 0;
        if first & 0x70 != 0 {
            return None;
        }
        let event = match first & 0x0f {
            0x8..=0xa if !is_final || payload.len() > 125 => return None,
            0x8 => Event::Close(close(&payload)?),
            0x9 => Event::Ping(payload),
            0xa => Event::Pong(payload),
            opcode @ 0..=2 => {
                let kind = match opcode {
                    0 => None,
                    1 => Some(MessageKind::Text),
                    _ => Some(MessageKind::Binary),
                };
                let (kind, mut data) = match (kind, self.message.take()) {
                    (None, Some(begun)) => begun,
                    (Some(kind), None) => (kind, Vec::new()),
                    _ => return None,
                };
                data.extend_from_slice(&payload);
                if data.len() > rules.limits.message_bytes_max {
                    return None;
                }
                // Of text that goes on, only an end that is cut off may be wrong.
                let wrong = std::str::from_utf8(&data).err().filter(|_| kind == MessageKind::Text);
                if wrong.is_some_and(|wrong| is_final || wrong.error_len().is_some()) {
                    return None;
                }
                if !is_final {
                    self.message = Some((kind, data));
                    return Some(Event::NeedMore);
                }
                Event::Message(Message { kind, data })
            }
            _ => return None,
        };
        self.events.push(event.clone());
        Some(event)
    }
}

/// A frame, and what follows it.
struct Frame<'a> {
    /// FIN, reserved bits, opcode.
    first: u8,
    /// Unmasked; `None` if it is not masked, or its length is not in the shortest form.
    payload: Option<Vec<u8>>,
    rest: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame with which `input` begins; `None` if it is not complete.
    fn read(input: &'a [u8]) -> Option<Self> {
        let (&[first, second], rest) = input.split_first_chunk()?;
        let (length, is_shortest, rest) = match second & 0x7f {
            126 => {
                let (bytes, rest) = rest.split_first_chunk()?;
                let length = u64::from(u16::from_be_bytes(*bytes));
                (length, length > 125, rest)
            }
            127 => {
                let (bytes, rest) = rest.split_first_chunk()?;
                let length = u64::from_be_bytes(*bytes);
                (length, length > 0xffff && length < 1 << 63, rest)
            }
            short => (u64::from(short), true, rest),
        };
        if second & 0x80 == 0 || !is_shortest {
            return Some(Self { first, payload: None, rest });
        }
        let (key, rest) = rest.split_first_chunk::<4>()?;
        let (masked, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        let payload = masked.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        Some(Self { first, payload: Some(payload), rest })
    }
}

fn close(payload: &[u8]) -> Option<Close> {
    match payload {
        [] => Some(Close { code: NO_STATUS, reason: String::new() }),
        [high, low, reason @ ..] => {
            let code = u16::from(*high) << 8 | u16::from(*low);
            let reason = String::from_utf8(reason.to_vec()).ok()?;
            may_be_sent(code).then_some(Close { code, reason })
        }
        _ => None,
    }
}
