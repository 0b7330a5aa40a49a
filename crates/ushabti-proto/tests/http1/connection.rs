//! The states of a connection: bounds on content, responses that come early, the end of input, the clocks.

use ushabti_proto::error::ProtocolError;
use ushabti_proto::http1::connection::{Connection, EndOfInput, Event, Next, Step};

use crate::harness::{HOST, NEIGHBOUR, RULES, chunked, head, post};

fn step(connection: &mut Connection, input: &[u8]) -> Result<Step, ProtocolError> {
    connection.step(input, &RULES.limits)
}

/// A connection on which `input`, a head and not more, was read.
fn after_head(input: &[u8]) -> Connection {
    let mut connection = Connection::new();
    let Ok(Step { consumed, event: Event::Request(_) }) = step(&mut connection, input) else {
        panic!("{input:?} is a head");
    };
    assert_eq!(consumed, input.len());
    connection
}

/// A connection whose last request is complete and not answered.
fn after_request(input: &[u8]) -> Connection {
    let mut connection = after_head(input);
    assert!(matches!(step(&mut connection, b""), Ok(Step { consumed: 0, event: Event::End })));
    connection
}

fn is_need_more(result: &Result<Step, ProtocolError>, consumed: usize) -> bool {
    matches!(result, Ok(Step { consumed: bytes, event: Event::NeedMore }) if *bytes == consumed)
}

/// The three clocks: between requests, head, body.
fn clocks(connection: &Connection) -> (bool, bool, bool) {
    (connection.is_between_requests(), connection.head_started(), connection.in_body())
}

const IDLE: (bool, bool, bool) = (true, false, false);
const IN_HEAD: (bool, bool, bool) = (false, true, false);
const IN_BODY: (bool, bool, bool) = (false, false, true);
/// The time is the server's own: the response is due.
const NO_CLOCK: (bool, bool, bool) = (false, false, false);

#[test]
fn a_length_beyond_the_bound_is_refused_before_any_content() {
    for (bound, refused) in [(4, true), (0, true), (5, false), (6, false), (u64::MAX, false)] {
        let mut connection = after_head(&post(&["Content-Length: 5"], ""));
        let result = connection.set_body_max(bound);
        assert_eq!(result, if refused { Err(ProtocolError::ContentTooLarge) } else { Ok(()) }, "{bound}");
        if refused {
            assert_eq!(step(&mut connection, b"hello").err(), Some(ProtocolError::ContentTooLarge));
        } else {
            assert!(matches!(step(&mut connection, b"hello"), Ok(Step { consumed: 5, event: Event::Data(_) })));
        }
    }
}

#[test]
fn no_content_is_within_any_bound() {
    for input in [NEIGHBOUR, &post(&["Content-Length: 0"], "")] {
        let mut connection = after_head(input);
        assert_eq!(connection.set_body_max(0), Ok(()));
        assert!(matches!(step(&mut connection, b""), Ok(Step { consumed: 0, event: Event::End })));
    }
}

#[test]
fn the_bound_of_a_request_ends_with_it() {
    let mut connection = after_request(NEIGHBOUR);
    connection.set_body_max(0).expect("there is no content");
    assert_eq!(connection.response_done(false), Next::KeepAlive);
    let head = chunked("");
    assert!(matches!(step(&mut connection, &head), Ok(Step { event: Event::Request(_), .. })));
    assert!(matches!(step(&mut connection, b"5\r\nhello\r\n"), Ok(Step { event: Event::Data(_), .. })));
}

#[test]
fn a_bound_that_is_set_late_holds_for_the_next_chunk() {
    let mut connection = after_head(&chunked(""));
    assert!(matches!(step(&mut connection, b"5\r\nhello"), Ok(Step { consumed: 8, event: Event::Data(_) })));
    assert_eq!(connection.set_body_max(5), Ok(()));
    assert!(is_need_more(&step(&mut connection, b"\r\n"), 2));
    assert_eq!(step(&mut connection, b"1\r\nx").err(), Some(ProtocolError::ContentTooLarge));
}

#[test]
fn a_response_before_the_end_of_the_request_closes() {
    for input in [post(&["Content-Length: 5"], ""), chunked("")] {
        let mut connection = after_head(&input);
        assert_eq!(connection.response_done(false), Next::Close);
        assert!(is_need_more(&step(&mut connection, b"5\r\nhello"), 8), "what still comes is swallowed");
        assert_eq!(connection.end_of_input(b""), EndOfInput::Clean);
    }
    let mut connection = after_head(NEIGHBOUR);
    assert_eq!(connection.response_done(false), Next::Close, "the end was not asked for");
    assert_eq!(Connection::new().response_done(false), Next::Close, "no request was there");
}

#[test]
fn the_server_may_close_after_any_response() {
    let mut connection = after_request(NEIGHBOUR);
    assert_eq!(connection.response_done(true), Next::Close);
    assert!(is_need_more(&step(&mut connection, NEIGHBOUR), NEIGHBOUR.len()));
    assert_eq!(connection.response_done(false), Next::Close, "closed is closed");
    assert_eq!(clocks(&connection), NO_CLOCK);
}

#[test]
fn pipelined_bytes_wait_for_the_response() {
    let mut connection = after_request(NEIGHBOUR);
    for waiting in [NEIGHBOUR, b"\0", b"\n"] {
        assert!(is_need_more(&step(&mut connection, waiting), 0));
    }
    assert_eq!(connection.response_done(false), Next::KeepAlive);
    assert!(matches!(step(&mut connection, NEIGHBOUR), Ok(Step { event: Event::Request(_), .. })));
}

#[test]
fn the_end_of_input_is_judged_by_the_phase() {
    use EndOfInput::{AwaitingResponse, Clean, Incomplete};
    let mut connection = Connection::new();
    assert_eq!(connection.end_of_input(b""), Clean);
    assert_eq!(connection.end_of_input(b"\r\n"), Clean, "an empty line that no step has seen");
    assert_eq!(connection.end_of_input(b"G"), Incomplete(ProtocolError::HeadIncomplete));
    assert_eq!(connection.end_of_input(b"\r\nG"), Incomplete(ProtocolError::HeadIncomplete));
    assert!(is_need_more(&step(&mut connection, b"GET /"), 0));
    assert_eq!(connection.end_of_input(b"GET /"), Incomplete(ProtocolError::HeadIncomplete));

    let connection = after_head(&post(&["Content-Length: 1"], ""));
    assert_eq!(connection.end_of_input(b""), Incomplete(ProtocolError::BodyIncomplete));
    let connection = after_head(&chunked(""));
    assert_eq!(connection.end_of_input(b""), Incomplete(ProtocolError::BodyIncomplete));

    let connection = after_head(NEIGHBOUR);
    assert_eq!(connection.end_of_input(b""), AwaitingResponse, "nothing of the request is missing");
    let mut connection = after_request(NEIGHBOUR);
    assert_eq!(connection.end_of_input(b""), AwaitingResponse);
    assert_eq!(connection.end_of_input(b"GET"), AwaitingResponse, "the response is due all the same");
    connection.response_done(false);
    assert_eq!(connection.end_of_input(b""), Clean);
    assert_eq!(connection.end_of_input(b"GET"), Incomplete(ProtocolError::HeadIncomplete));

    let mut connection = after_request(NEIGHBOUR);
    connection.response_done(true);
    assert_eq!(connection.end_of_input(b"GET"), Clean, "nothing is owed any more");

    let mut connection = Connection::new();
    assert!(step(&mut connection, b"\0").is_err());
    assert_eq!(connection.end_of_input(b""), Incomplete(ProtocolError::NotHttp(0)));
}

#[test]
fn one_clock_runs_at_a_time() {
    let mut connection = Connection::default();
    assert_eq!(clocks(&connection), IDLE);
    let input = post(&["Content-Length: 2"], "");
    assert!(is_need_more(&step(&mut connection, &input[..1]), 0));
    assert_eq!(clocks(&connection), IN_HEAD);
    assert!(matches!(step(&mut connection, &input), Ok(Step { event: Event::Request(_), .. })));
    assert_eq!(clocks(&connection), IN_BODY);
    assert!(matches!(step(&mut connection, b"h"), Ok(Step { event: Event::Data(_), .. })));
    assert_eq!(clocks(&connection), IN_BODY);
    assert!(matches!(step(&mut connection, b"i"), Ok(Step { event: Event::Data(_), .. })));
    assert_eq!(clocks(&connection), NO_CLOCK);
    assert!(matches!(step(&mut connection, b""), Ok(Step { event: Event::End, .. })));
    assert_eq!(clocks(&connection), NO_CLOCK);
    assert_eq!(connection.response_done(false), Next::KeepAlive);
    assert_eq!(clocks(&connection), IDLE);
    assert!(is_need_more(&step(&mut connection, b""), 0));
    assert_eq!(clocks(&connection), IDLE, "no byte came");
    assert!(step(&mut connection, b"\0").is_err());
    assert_eq!(clocks(&connection), NO_CLOCK);
}

#[test]
fn a_chunked_body_runs_its_clock_up_to_the_end_of_the_trailers() {
    let mut connection = after_head(&chunked(""));
    for part in [b"0".as_slice(), b"\r\n", b"X: v\r\n", b"\r"] {
        step(&mut connection, part).expect("each part is valid");
        assert_eq!(clocks(&connection), IN_BODY, "{part:?}");
    }
    assert!(matches!(step(&mut connection, b"\r\n"), Ok(Step { consumed: 2, event: Event::End })));
    assert_eq!(clocks(&connection), NO_CLOCK);
}

/// The end is an event of its own, also where the bytes before it were the last there are.
#[test]
fn the_end_needs_no_further_byte() {
    let input = post(&["Content-Length: 2"], "hi");
    let mut connection = Connection::new();
    let mut used = 0;
    let mut events = Vec::new();
    while used < input.len() {
        let Step { consumed, event } = step(&mut connection, &input[used..]).expect("the request is valid");
        used += consumed;
        events.push(event);
    }
    assert!(matches!(events.as_slice(), [Event::Request(_), Event::Data(range)] if *range == (0..2)));
    assert!(matches!(step(&mut connection, b""), Ok(Step { consumed: 0, event: Event::End })));
    assert!(is_need_more(&step(&mut connection, b""), 0), "it ends once");
}

#[test]
fn a_fault_stays() {
    let mut connection = Connection::new();
    assert_eq!(step(&mut connection, b"\0").err(), Some(ProtocolError::NotHttp(0)));
    assert_eq!(step(&mut connection, NEIGHBOUR).err(), Some(ProtocolError::NotHttp(0)));
    assert_eq!(connection.response_done(false), Next::Close);
    assert!(is_need_more(&step(&mut connection, NEIGHBOUR), NEIGHBOUR.len()), "after the response it is closed");
}

/// Logs show heads; what a head holds may be secret.
#[test]
fn the_debug_text_of_a_head_holds_no_field_values() {
    let mut connection = Connection::new();
    let input = head("GET /path HTTP/1.1", &[HOST, "Authorization: Basic c2VjcmV0"]);
    let Ok(Step { event: Event::Request(head), .. }) = step(&mut connection, &input) else {
        panic!("the head is valid");
    };
    let text = format!("{head:?}");
    assert!(text.contains("\"/path\"") && !text.contains("c2VjcmV0"), "{text}");
    let values: Vec<&[u8]> = head.field_values("HOST").collect();
    assert_eq!(
        (values, head.field("authorization"), head.field("x")),
        (vec![b"a".as_slice()], Some(b"Basic c2VjcmV0".as_slice()), None)
    );
    assert_eq!(head.fields().len(), 2);
}
