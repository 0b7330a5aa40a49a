//! Reads bytes through a [`Connection`] in every way in which they can be cut, and holds the results against each
//! other.
//!
//! A table names a case, its bytes, and what comes of them; that the pieces in which TCP delivers bytes, the frames
//! before and what follows do not change it is checked here, for each case alike.

use ushabti_proto::websocket::WebSocketError;
use ushabti_proto::websocket::connection::{Close, Connection, EndOfInput, Event, Limits, Step};
use ushabti_proto::websocket::deflate::{DeflateAgreement, DeflatePolicy, Inflaters};
use ushabti_proto::websocket::frame::{Opcode, encode_frame};
use ushabti_proto::websocket::handshake::parse_extensions;
use ushabti_proto::websocket::mask::apply_mask;
use ushabti_proto::websocket::message::{Message, MessageKind};

/// The masking key of RFC 6455 section 5.7.
pub(crate) const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// What is no frame: refused by its first byte, if it is looked at.
const GARBAGE: &[u8] = b"\xff\xff garbage";
/// Inputs up to this length are split at every position, longer ones near their ends and at some places between.
const SPLIT_EVERYWHERE_MAX: usize = 1024;

/// Under what a case is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) limits: Limits,
    pub(crate) deflate: Option<DeflateAgreement>,
}

/// The limit of the server's defaults, and no compression.
pub(crate) const RULES: Rules = Rules { limits: Limits { message_bytes_max: 1024 * 1024 }, deflate: None };

pub(crate) fn limited(message_bytes_max: usize) -> Rules {
    Rules { limits: Limits { message_bytes_max }, deflate: None }
}

/// What is agreed if a client offers this.
pub(crate) fn agreed(offer: &str, policy: DeflatePolicy) -> Option<DeflateAgreement> {
    let offers = parse_extensions(offer.as_bytes()).expect("the offer is well formed");
    DeflateAgreement::negotiate(&offers, policy)
}

/// Compression as it is agreed by default, and this limit.
pub(crate) fn deflating(message_bytes_max: usize) -> Rules {
    Rules { deflate: agreed("permessage-deflate", DeflatePolicy::default()), ..limited(message_bytes_max) }
}

/// Compression in which the client refers back to its earlier messages.
pub(crate) fn taking_over(message_bytes_max: usize) -> Rules {
    let policy = DeflatePolicy { client_context_takeover: true, ..DeflatePolicy::default() };
    Rules { deflate: agreed("permessage-deflate", policy), ..limited(message_bytes_max) }
}

/// A frame of a client: `first` is FIN, reserved bits and opcode.
pub(crate) fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let mut payload = payload.as_ref().to_vec();
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            bytes.push(0xfe);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0xff);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&KEY);
    apply_mask(&mut payload, KEY, 0);
    bytes.extend_from_slice(&payload);
    bytes
}

/// A frame of the server, not compressed.
pub(crate) fn reply(opcode: Opcode, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_frame(&mut bytes, opcode, payload.as_ref());
    bytes
}

pub(crate) fn text(data: impl AsRef<[u8]>) -> Event {
    Event::Message(Message { kind: MessageKind::Text, data: data.as_ref().to_vec() })
}

pub(crate) fn binary(data: impl AsRef<[u8]>) -> Event {
    Event::Message(Message { kind: MessageKind::Binary, data: data.as_ref().to_vec() })
}

pub(crate) fn ping(payload: impl AsRef<[u8]>) -> Event {
    Event::Ping(payload.as_ref().to_vec())
}

pub(crate) fn pong(payload: impl AsRef<[u8]>) -> Event {
    Event::Pong(payload.as_ref().to_vec())
}

pub(crate) fn close(code: u16, reason: &str) -> Event {
    Event::Close(Close { code, reason: reason.to_owned() })
}

/// Where a connection stands when its input is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It waits for the first byte of a message or frame.
    Idle,
    /// It waits inside of one.
    Inside,
    /// The peer's Close frame has come.
    Closed,
    Failed(WebSocketError),
}

/// What was read from one input. Equal readings are equal to whoever owns the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) events: Vec<Event>,
    pub(crate) replies: Vec<u8>,
    pub(crate) outcome: Outcome,
}

/// Reads `input` as it arrives when it is cut at `cuts`, in rising order.
pub(crate) fn read_once(rules: &Rules, input: &[u8], cuts: impl IntoIterator<Item = usize>) -> Reading {
    let mut connection = Connection::new(rules.deflate);
    read_through(&mut connection, rules, input, cuts)
}

/// Reads `input` through a connection on which something has happened before.
pub(crate) fn read_through(
    connection: &mut Connection,
    rules: &Rules,
    input: &[u8],
    cuts: impl IntoIterator<Item = usize>,
) -> Reading {
    let (mut inflaters, mut events, mut replies) = (Inflaters::new(), Vec::new(), Vec::new());
    let mut start = 0;
    for end in cuts.into_iter().chain([input.len()]) {
        let mut piece = input[start..end].to_vec();
        let mut rest = piece.as_mut_slice();
        start = end;
        loop {
            let offered = rest.len();
            match connection.step(rest, rules.limits, &mut inflaters, &mut replies) {
                Ok(Step { consumed, event: Event::NeedMore }) => {
                    assert_eq!(consumed, offered, "all input is consumed when more is needed");
                    break;
                }
                Ok(Step { consumed, event }) => {
                    assert!(consumed <= offered, "more bytes were consumed than offered");
                    events.push(event);
                    rest = &mut rest[consumed..];
                }
                Err(error) => {
                    assert_nothing_heals(connection, rules, error);
                    return Reading { events, replies, outcome: Outcome::Failed(error) };
                }
            }
        }
    }
    let outcome = match (connection.end_of_input(), connection.is_between_messages()) {
        (EndOfInput::Clean, _) => Outcome::Closed,
        (EndOfInput::Abnormal, true) => Outcome::Idle,
        (EndOfInput::Abnormal, false) => Outcome::Inside,
    };
    Reading { events, replies, outcome }
}

fn assert_nothing_heals(connection: &mut Connection, rules: &Rules, error: WebSocketError) {
    let mut more = Vec::new();
    for later in [Vec::new(), frame(0x81, "later"), frame(0x88, "")] {
        let result = connection.step(&mut later.clone(), rules.limits, &mut Inflaters::new(), &mut more);
        assert_eq!(result, Err(error), "an error does not change");
    }
    assert_eq!(connection.close(1000, "", &mut more), Ok(false));
    assert_eq!(more, b"", "the Close frame that tells the fault is the last");
    assert_eq!(connection.end_of_input(), EndOfInput::Abnormal);
    assert!(!connection.is_open());
}

fn splits(length: usize) -> impl Iterator<Item = usize> {
    let is_near_an_end = move |at: usize| at < 64 || length - at < 64;
    (1..length).filter(move |&at| length <= SPLIT_EVERYWHERE_MAX || is_near_an_end(at) || at % 9973 == 0)
}

/// Reads `input` in every way, and returns what all of them saw.
pub(crate) fn read_under(rules: &Rules, name: &str, input: &[u8]) -> Reading {
    let whole = read_once(rules, input, []);
    let check = |way: &str, reading: &Reading, expected: &Reading| {
        assert_eq!(reading, expected, "{name}, {way}, differs");
    };
    check("byte by byte", &read_once(rules, input, 1..input.len()), &whole);
    for at in splits(input.len()) {
        check(&format!("split at {at}"), &read_once(rules, input, [at]), &whole);
    }

    let mut behind = whole.clone();
    behind.events.insert(0, pong(""));
    let followed = [frame(0x8a, "").as_slice(), input].concat();
    check("behind a frame", &read_once(rules, &followed, []), &behind);
    check("behind a frame, byte by byte", &read_once(rules, &followed, 1..followed.len()), &behind);

    if matches!(whole.outcome, Outcome::Closed | Outcome::Failed(_)) {
        let followed = [input, GARBAGE].concat();
        check("before garbage", &read_once(rules, &followed, []), &whole);
        check("before garbage, byte by byte", &read_once(rules, &followed, 1..followed.len()), &whole);
    }
    whole
}

/// Checks that `input` is these events to its last byte, and calls for these replies.
pub(crate) fn assert_read_under(rules: &Rules, name: &str, input: &[u8], events: &[Event], replies: &[u8]) {
    let reading = read_under(rules, name, input);
    assert_eq!(reading.events, events, "{name}");
    assert_eq!(reading.replies, replies, "{name}");
    let is_closed = matches!(events.last(), Some(Event::Close(_)));
    assert_eq!(reading.outcome, if is_closed { Outcome::Closed } else { Outcome::Idle }, "{name}");
}

/// Checks that `input` is these events without a reply.
pub(crate) fn assert_read(name: &str, input: &[u8], events: &[Event]) {
    assert_read_under(&RULES, name, input, events, b"");
}

/// Checks that `input` is refused, and that the peer is told so with the code and the sentence of the error. Returns
/// the events before.
pub(crate) fn assert_refused_under(rules: &Rules, name: &str, input: &[u8], error: WebSocketError) -> Vec<Event> {
    let reading = read_under(rules, name, input);
    assert_eq!(reading.outcome, Outcome::Failed(error), "{name}");
    let told = [&error.close_code().to_be_bytes(), error.to_string().as_bytes()].concat();
    let told = reply(Opcode::Close, told);
    assert!(reading.replies.ends_with(&told), "{name}: {:?}", reading.replies);
    reading.events
}

pub(crate) fn assert_refused(name: &str, input: &[u8], error: WebSocketError) {
    assert_eq!(assert_refused_under(&RULES, name, input, error), [], "{name}");
}
