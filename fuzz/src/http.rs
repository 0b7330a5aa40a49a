//! HTTP connections: what comes of bytes does not depend on how they arrive.
//!
//! The same input is read whole and in pieces. Heads, contents, where in the input each request begins and ends,
//! faults, clocks and what is left over must be the same.

use ushabti_proto::error::ProtocolError;
use ushabti_proto::http1::connection::{Connection, EndOfInput, Event, Limits, Next, Step};

use crate::head::Head;
use crate::settings::Settings;

/// It passes all limits below.
const NEIGHBOUR: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Under what a connection is read, and how its requests are answered.
#[derive(Debug, Clone, Copy)]
struct Rules {
    limits: Limits,
    body_max: u64,
    /// The server wants to close after the first response.
    closes: bool,
    /// Requests are answered before their content is read.
    answers_early: bool,
}

/// Reads a connection in several ways.
pub fn check(input: &[u8]) {
    let Some((settings, input)) = Settings::split(input) else { return };
    let wide = Limits { head_bytes_max: 32 * 1024, fields_max: 128, target_bytes_max: 16 * 1024 };
    let tight = Limits { head_bytes_max: 160, fields_max: 5, target_bytes_max: 40 };
    let rules = Rules {
        limits: settings.choose(0, [wide, tight]),
        body_max: settings.choose(1, [u64::MAX, 1000, 20, 0]),
        closes: settings.flag(3),
        answers_early: settings.flag(4),
    };
    let whole = read(rules, input, []);
    let cut = read(rules, input, settings.cuts(input.len()));
    assert_eq!(cut, whole, "{:?} cut at {:?}", String::from_utf8_lossy(input), settings.cuts(input.len()));
    match whole.outcome {
        // The next request is read as if it were the first.
        Outcome::Waiting { clock: Clock::Idle, unconsumed: 0, .. } => {
            let followed = [input, NEIGHBOUR].concat();
            let next = read(rules, &followed, settings.cuts(followed.len()));
            let alone = read(rules, NEIGHBOUR, []);
            let moved = alone.seen.into_iter().map(|seen| seen.moved(input.len()));
            assert_eq!(next.seen, whole.seen.into_iter().chain(moved).collect::<Vec<_>>());
            assert_eq!(next.outcome, alone.outcome);
        }
        // What comes behind the end is not looked at.
        Outcome::Closed | Outcome::Refused(_) => {
            let followed = [input, b"\0\r\n\r\n"].concat();
            assert_eq!(read(rules, &followed, settings.cuts(followed.len())), whole);
        }
        Outcome::Waiting { .. } => {}
    }
}

/// What was read, in order. Positions are those in the whole input.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Head {
        head: Box<Head>,
        end: usize,
        wants_continue: bool,
    },
    /// The content of one request, in one piece.
    Content(Vec<u8>),
    End(usize),
    Answered(Next),
}

impl Seen {
    fn moved(self, by: usize) -> Self {
        match self {
            Self::Head { head, end, wants_continue } => Self::Head { head, end: end + by, wants_continue },
            Self::End(end) => Self::End(end + by),
            other => other,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Waiting { clock: Clock, unconsumed: usize, end_of_input: EndOfInput },
    Closed,
    Refused(ProtocolError),
}

#[derive(Debug, PartialEq, Eq)]
enum Clock {
    Idle,
    Head,
    Body,
}

#[derive(Debug, PartialEq, Eq)]
struct Reading {
    seen: Vec<Seen>,
    outcome: Outcome,
}

fn read(rules: Rules, input: &[u8], cuts: impl IntoIterator<Item = usize>) -> Reading {
    let mut connection = Connection::new();
    let mut seen = Vec::new();
    let mut used = 0;
    let mut is_closed = false;
    for end in cuts.into_iter().chain([input.len()]) {
        loop {
            let offered = &input[used..end];
            let Step { consumed, event } = match connection.step(offered, &rules.limits) {
                Ok(step) => step,
                Err(error) => return refused(connection, seen, error, rules),
            };
            assert!(consumed <= offered.len(), "more bytes were consumed than offered");
            used += consumed;
            match event {
                Event::NeedMore => break,
                Event::Request(head) => {
                    let wants_continue = connection.continue_wanted();
                    seen.push(Seen::Head { head: Box::new(Head::of(&head)), end: used, wants_continue });
                    if let Err(error) = connection.set_body_max(rules.body_max) {
                        return refused(connection, seen, error, rules);
                    }
                    if rules.answers_early {
                        // What is left of the body would be read as the next request.
                        assert_eq!(connection.response_done(rules.closes), Next::Close);
                        is_closed = true;
                    }
                }
                Event::Data(range) => {
                    assert!(!range.is_empty() && range.end == consumed, "content ends where the consumed bytes end");
                    assert!(!connection.continue_wanted(), "a client that sends does not wait");
                    let piece = &offered[range];
                    match seen.last_mut() {
                        Some(Seen::Content(content)) => content.extend_from_slice(piece),
                        _ => seen.push(Seen::Content(piece.to_vec())),
                    }
                }
                Event::End => {
                    seen.push(Seen::End(used));
                    let rest = &input[used..end];
                    assert_eq!(connection.end_of_input(rest), EndOfInput::AwaitingResponse);
                    assert_untouched(&mut connection, rest, rules);
                    let next = connection.response_done(rules.closes);
                    assert!(!(rules.closes && next == Next::KeepAlive));
                    seen.push(Seen::Answered(next));
                    is_closed = next == Next::Close;
                }
            }
        }
        if is_closed {
            assert_eq!(used, end, "a closed connection swallows what still comes");
        }
        // Whoever owns the socket may be woken for nothing.
        assert_untouched(&mut connection, &input[used..end], rules);
    }
    let rest = &input[used..];
    let end_of_input = connection.end_of_input(rest);
    let outcome = if is_closed {
        assert_eq!(end_of_input, EndOfInput::Clean);
        Outcome::Closed
    } else {
        Outcome::Waiting { clock: clock(&connection), unconsumed: rest.len(), end_of_input }
    };
    Reading { seen, outcome }
}

fn clock(connection: &Connection) -> Clock {
    match (connection.is_between_requests(), connection.head_started(), connection.in_body()) {
        (true, false, false) => Clock::Idle,
        (false, true, false) => Clock::Head,
        (false, false, true) => Clock::Body,
        clocks => panic!("not one clock runs: {clocks:?}"),
    }
}

fn assert_untouched(connection: &mut Connection, rest: &[u8], rules: Rules) {
    match connection.step(rest, &rules.limits) {
        Ok(Step { consumed: 0, event: Event::NeedMore }) => {}
        other => panic!("{rest:?} must wait, but {other:?}"),
    }
}

/// Nothing heals a connection after a fault.
fn refused(mut connection: Connection, seen: Vec<Seen>, error: ProtocolError, rules: Rules) -> Reading {
    for later in [b"".as_slice(), NEIGHBOUR] {
        assert_eq!(connection.step(later, &rules.limits).map(|step| step.consumed), Err(error));
    }
    assert_eq!(connection.end_of_input(b""), EndOfInput::Incomplete(error));
    assert!(matches!(error.status(), 400 | 408 | 413 | 414 | 417 | 431 | 501 | 505) && !error.to_string().is_empty());
    assert_eq!(connection.response_done(false), Next::Close);
    Reading { seen, outcome: Outcome::Refused(error) }
}
