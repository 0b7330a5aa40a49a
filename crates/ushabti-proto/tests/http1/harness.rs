//! Reads bytes through a [`Connection`] in every way in which they can be cut, and holds the results against each
//! other.
//!
//! A table names a case, its bytes, and what comes of them; that the pieces in which TCP delivers bytes, the bytes
//! that follow and the requests before do not change it is checked here, for each case alike.

use ushabti_proto::error::ProtocolError;
use ushabti_proto::http1::connection::{Connection, EndOfInput, Event, Limits, Next, Step};
use ushabti_proto::http1::framing::BodyFraming;
use ushabti_proto::http1::head::{RequestHead, Version};
use ushabti_proto::uri::TargetForm;

/// The field that each valid HTTP/1.1 request has.
pub(crate) const HOST: &str = "Host: a";
/// The request that comes before or after the one of a case. It is short, so that it passes tight limits.
pub(crate) const NEIGHBOUR: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
/// What is no request: refused by its first byte, if it is looked at.
const GARBAGE: &[u8] = b"\0\r\n\r\n\n garbage";
/// Inputs up to this length are split at every position, longer ones near their ends and at some places between.
const SPLIT_EVERYWHERE_MAX: usize = 2048;

/// The limits under which a case is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) limits: Limits,
    pub(crate) body_max: u64,
}

/// The limits of the server's defaults, and no bound on content.
pub(crate) const RULES: Rules = Rules {
    limits: Limits { head_bytes_max: 32 * 1024, fields_max: 128, target_bytes_max: 16 * 1024 },
    body_max: u64::MAX,
};

/// One request: all that its head says, and its content in one piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) form: TargetForm,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) version: Version,
    pub(crate) host: Option<String>,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) framing: BodyFraming,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
    pub(crate) upgrade: Option<String>,
    pub(crate) content: Vec<u8>,
    pub(crate) is_complete: bool,
}

impl Request {
    fn new(head: &RequestHead) -> Self {
        let fields =
            head.fields().map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.to_vec())).collect();
        Self {
            method: head.method().to_owned(),
            target: head.target().to_owned(),
            form: head.form(),
            path: head.path().to_owned(),
            query: head.query().map(str::to_owned),
            version: head.version(),
            host: head.host().map(str::to_owned),
            fields,
            framing: head.framing(),
            keep_alive: head.keep_alive(),
            expects_continue: head.expects_continue(),
            upgrade: head.upgrade().map(str::to_owned),
            content: Vec::new(),
            is_complete: false,
        }
    }

    /// The value of the first field of this name.
    pub(crate) fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
    }
}

/// Where a connection stands when its input is used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It waits for more.
    Waiting { clock: Clock, unconsumed: usize, end_of_input: EndOfInput },
    /// The last response closed it.
    Closed,
    /// The peer made this mistake.
    Refused(ProtocolError),
}

impl Outcome {
    /// All requests are complete and answered, and another one may follow.
    pub(crate) const IDLE: Self = Self::Waiting { clock: Clock::Idle, unconsumed: 0, end_of_input: EndOfInput::Clean };
}

/// Which of the server's clocks runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    Idle,
    Head,
    Body,
}

/// What was read from one input. Equal readings are equal to whoever owns the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) requests: Vec<Request>,
    pub(crate) outcome: Outcome,
}

/// Reads `input` as it arrives when it is cut at `cuts`, in rising order; each request is answered when it is complete.
pub(crate) fn read_once(rules: &Rules, input: &[u8], cuts: impl IntoIterator<Item = usize>) -> Reading {
    let mut connection = Connection::new();
    let mut requests: Vec<Request> = Vec::new();
    let mut used = 0;
    let mut is_closed = false;
    for end in cuts.into_iter().chain([input.len()]) {
        loop {
            let offered = &input[used..end];
            let Step { consumed, event } = match connection.step(offered, &rules.limits) {
                Ok(step) => step,
                Err(error) => return refused(connection, requests, error, rules),
            };
            assert!(consumed <= offered.len(), "more bytes were consumed than offered");
            used += consumed;
            match event {
                Event::NeedMore => break,
                Event::Request(head) => {
                    requests.push(Request::new(&head));
                    if let Err(error) = connection.set_body_max(rules.body_max) {
                        return refused(connection, requests, error, rules);
                    }
                }
                Event::Data(range) => {
                    assert!(!range.is_empty() && range.end == consumed, "content ends where the consumed bytes end");
                    last(&mut requests).content.extend_from_slice(&offered[range]);
                }
                Event::End => {
                    last(&mut requests).is_complete = true;
                    let rest = &input[used..end];
                    assert_eq!(connection.end_of_input(rest), EndOfInput::AwaitingResponse);
                    assert_nothing_is_touched(&mut connection, rest, rules);
                    is_closed = connection.response_done(false) == Next::Close;
                }
            }
        }
        if is_closed {
            assert_eq!(used, end, "a closed connection swallows what still comes");
        }
        // Whoever owns the socket may be woken for nothing.
        assert_nothing_is_touched(&mut connection, &input[used..end], rules);
    }
    let rest = &input[used..];
    let end_of_input = connection.end_of_input(rest);
    let outcome = if is_closed {
        assert_eq!(end_of_input, EndOfInput::Clean);
        Outcome::Closed
    } else {
        Outcome::Waiting { clock: clock(&connection), unconsumed: rest.len(), end_of_input }
    };
    Reading { requests, outcome }
}

fn last(requests: &mut [Request]) -> &mut Request {
    requests.last_mut().expect("content and end follow a head")
}

fn clock(connection: &Connection) -> Clock {
    match (connection.is_between_requests(), connection.head_started(), connection.in_body()) {
        (true, false, false) => Clock::Idle,
        (false, true, false) => Clock::Head,
        (false, false, true) => Clock::Body,
        clocks => panic!("not one clock runs: {clocks:?}"),
    }
}

fn assert_nothing_is_touched(connection: &mut Connection, rest: &[u8], rules: &Rules) {
    match connection.step(rest, &rules.limits) {
        Ok(Step { consumed: 0, event: Event::NeedMore }) => {}
        other => panic!("{rest:?} must wait, but {other:?}"),
    }
}

/// Checks that nothing heals a connection after a fault.
fn refused(mut connection: Connection, requests: Vec<Request>, error: ProtocolError, rules: &Rules) -> Reading {
    for later in [b"".as_slice(), NEIGHBOUR] {
        match connection.step(later, &rules.limits) {
            Err(again) => assert_eq!(again, error, "an error does not change"),
            Ok(step) => panic!("after {error:?}: {step:?}"),
        }
    }
    assert_eq!(connection.end_of_input(b""), EndOfInput::Incomplete(error));
    assert_eq!(connection.response_done(false), Next::Close);
    Reading { requests, outcome: Outcome::Refused(error) }
}

fn splits(length: usize) -> impl Iterator<Item = usize> {
    let is_near_an_end = move |at: usize| at < 256 || length - at < 256;
    (1..length).filter(move |&at| length <= SPLIT_EVERYWHERE_MAX || is_near_an_end(at) || at % 997 == 0)
}

/// Reads `input` in every way, and returns what all of them saw.
pub(crate) fn read_under(rules: &Rules, name: &str, input: &[u8]) -> Reading {
    let whole = read_once(rules, input, []);
    let check = |way: &str, reading: &Reading, expected: &Reading| {
        assert_eq!(reading, expected, "{name}, {way}, differs: {:?}", String::from_utf8_lossy(input));
    };
    check("byte by byte", &read_once(rules, input, 1..input.len()), &whole);
    for at in splits(input.len()) {
        check(&format!("split at {at}"), &read_once(rules, input, [at]), &whole);
    }

    let neighbour = read_once(rules, NEIGHBOUR, []);
    assert_eq!((neighbour.requests.len(), &neighbour.outcome), (1, &Outcome::IDLE), "the rules refuse any request");
    let behind = [NEIGHBOUR, input].concat();
    let expected = joined(&neighbour, &whole);
    check("behind a request", &read_once(rules, &behind, []), &expected);
    check("behind a request, byte by byte", &read_once(rules, &behind, 1..behind.len()), &expected);

    let garbage = Reading { requests: Vec::new(), outcome: Outcome::Refused(ProtocolError::NotHttp(0)) };
    for (way, bytes, after) in [("before a request", NEIGHBOUR, &neighbour), ("before garbage", GARBAGE, &garbage)] {
        let expected = match whole.outcome {
            Outcome::IDLE => joined(&whole, after),
            // It is not looked at.
            Outcome::Closed | Outcome::Refused(_) => whole.clone(),
            // It would be taken for the rest of the case.
            Outcome::Waiting { .. } => continue,
        };
        let followed = [input, bytes].concat();
        check(way, &read_once(rules, &followed, []), &expected);
        check(&format!("{way}, byte by byte"), &read_once(rules, &followed, 1..followed.len()), &expected);
    }
    whole
}

fn joined(first: &Reading, second: &Reading) -> Reading {
    Reading { requests: [first.requests.as_slice(), &second.requests].concat(), outcome: second.outcome.clone() }
}

pub(crate) fn read(name: &str, input: &[u8]) -> Reading {
    read_under(&RULES, name, input)
}

/// The one request of which `input` consists to its last byte.
pub(crate) fn accepted_under(rules: &Rules, name: &str, input: &[u8]) -> Request {
    let reading = read_under(rules, name, input);
    assert!(matches!(reading.outcome, Outcome::IDLE | Outcome::Closed), "{name}: {reading:#?}");
    let [request] = <[Request; 1]>::try_from(reading.requests).expect("the case is one request");
    assert!(request.is_complete, "{name}: {request:#?}");
    assert_eq!(reading.outcome == Outcome::IDLE, request.keep_alive, "{name}");
    request
}

pub(crate) fn accepted(name: &str, input: &[u8]) -> Request {
    accepted_under(&RULES, name, input)
}

pub(crate) fn assert_refused_under(rules: &Rules, name: &str, input: &[u8], error: ProtocolError) {
    let reading = read_under(rules, name, input);
    assert_eq!(reading.outcome, Outcome::Refused(error), "{name}");
    assert!(reading.requests.iter().all(|request| !request.is_complete), "{name}: {reading:#?}");
}

pub(crate) fn assert_refused(name: &str, input: &[u8], error: ProtocolError) {
    assert_refused_under(&RULES, name, input, error);
}

/// A head of these lines.
pub(crate) fn head<Line: AsRef<[u8]>>(request_line: impl AsRef<[u8]>, fields: &[Line]) -> Vec<u8> {
    let mut bytes = [request_line.as_ref(), b"\r\n"].concat();
    for field in fields {
        bytes.extend_from_slice(field.as_ref());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// A GET with Host and this field line.
pub(crate) fn get(field: impl AsRef<[u8]>) -> Vec<u8> {
    head("GET / HTTP/1.1", &[HOST.as_bytes(), field.as_ref()])
}

/// A POST with Host, these field lines and this body.
pub(crate) fn post(fields: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    let fields = [&[HOST], fields].concat();
    [head("POST /echo HTTP/1.1", &fields).as_slice(), body.as_ref()].concat()
}

/// A POST with a chunked body.
pub(crate) fn chunked(body: impl AsRef<[u8]>) -> Vec<u8> {
    post(&["Transfer-Encoding: chunked"], body)
}
