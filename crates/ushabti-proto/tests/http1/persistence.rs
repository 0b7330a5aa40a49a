//! What may follow a request: the next one, the end, or another protocol (RFC 9112 section 9, RFC 9110 sections 7.6.1
//! and 7.8).

use ushabti_proto::http1::connection::{Connection, Event};
use ushabti_proto::http1::head::RequestHead;

use crate::harness::{HOST, NEIGHBOUR, Outcome, RULES, accepted, chunked, get, head, post, read};

#[test]
fn http_1_1_persists_unless_it_says_close() {
    for (fields, keep_alive) in [
        (&[] as &[&str], true),
        (&["Connection: keep-alive"], true),
        (&["Connection:"], true),
        (&["Connection: x"], true),
        (&["Connection: closed"], true),
        (&["Connection: \"close\""], true),
        (&["Connection: x-close, upgrade"], true),
        (&["X-Connection: close"], true),
        (&["Proxy-Connection: close"], true),
        (&["Keep-Alive: timeout=0"], true),
        (&["Connection: close"], false),
        (&["connection:CLOSE"], false),
        (&["Connection: x, Close"], false),
        (&["Connection: close,x"], false),
        (&["Connection: ,\tclose\t,"], false),
        (&["Connection: keep-alive, close"], false),
        (&["Connection: close, keep-alive"], false),
        (&["Connection: keep-alive", "Connection: close"], false),
        (&["Connection: close", "Connection: keep-alive"], false),
    ] {
        let request = accepted("HTTP/1.1", &head("GET / HTTP/1.1", &[&[HOST], fields].concat()));
        assert_eq!(request.keep_alive, keep_alive, "{fields:?}");
    }
}

#[test]
fn http_1_0_persists_only_if_it_asks_for_it() {
    for (fields, keep_alive) in [
        (&[] as &[&str], false),
        (&["Connection: close"], false),
        (&["Connection: x"], false),
        (&["Proxy-Connection: keep-alive"], false),
        (&["Keep-Alive: timeout=5"], false),
        (&["Connection: keep-alive"], true),
        (&["connection: x, KEEP-ALIVE"], true),
        (&["Connection: keep-alive, close"], false),
        (&["Connection: close", "Connection: keep-alive"], false),
    ] {
        let request = accepted("HTTP/1.0", &head("GET / HTTP/1.0", fields));
        assert_eq!(request.keep_alive, keep_alive, "{fields:?}");
    }
}

#[test]
fn a_later_minor_version_persists_as_http_1_1_does() {
    assert!(accepted("HTTP/1.2", &head("GET / HTTP/1.2", &[HOST])).keep_alive);
}

#[test]
fn pipelined_requests_are_read_in_order() {
    let kept = head("GET /kept HTTP/1.0", &["Connection: keep-alive"]);
    let parts = [
        &head("GET /1 HTTP/1.1", &[HOST]),
        &post(&["Content-Length: 5"], "hello"),
        &chunked("2\r\nhe\r\n3\r\nllo\r\n0\r\nX: v\r\n\r\n"),
        &post(&["Content-Length: 0"], ""),
        &kept,
        &head("HEAD /2 HTTP/1.1", &[HOST]),
        &head("GET /last HTTP/1.1", &[HOST, "Connection: close"]),
        NEIGHBOUR,
    ];
    let reading = read("eight requests", &parts.concat());
    let targets: Vec<&str> = reading.requests.iter().map(|request| request.target.as_str()).collect();
    assert_eq!(targets, ["/1", "/echo", "/echo", "/echo", "/kept", "/2", "/last"], "nothing after the last is read");
    let contents: Vec<&[u8]> = reading.requests.iter().map(|request| request.content.as_slice()).collect();
    assert_eq!(contents, [b"".as_slice(), b"hello", b"hello", b"", b"", b"", b""]);
    assert_eq!(reading.outcome, Outcome::Closed);
}

#[test]
fn a_hundred_requests_in_one_segment_are_read() {
    let reading = read("a hundred", &NEIGHBOUR.repeat(100));
    assert_eq!((reading.requests.len(), reading.outcome), (100, Outcome::IDLE));
}

#[test]
fn upgrade_is_offered_in_http_1_1_where_connection_names_it() {
    for (fields, upgrade) in [
        (&["Connection: Upgrade", "Upgrade: websocket"] as &[&str], Some("websocket")),
        (&["Upgrade: websocket", "connection: keep-alive, UPGRADE"], Some("websocket")),
        (&["Connection: upgrade", "Upgrade: foo/1, websocket"], Some("foo/1, websocket")),
        (&["Connection: upgrade", "Upgrade:"], Some("")),
        (&["Connection: upgrade"], None),
        (&["Upgrade: websocket"], None),
        (&["Connection: close", "Upgrade: websocket"], None),
        (&["Connection: upgraded", "Upgrade: websocket"], None),
    ] {
        let request = accepted("upgrade", &head("GET / HTTP/1.1", &[&[HOST], fields].concat()));
        assert_eq!(request.upgrade.as_deref(), upgrade, "{fields:?}");
        let request = accepted("HTTP/1.0", &head("GET / HTTP/1.0", fields));
        assert_eq!(request.upgrade, None, "HTTP/1.0 has no Upgrade: {fields:?}");
    }
}

/// Reads a head, and returns it with what is left of the input when the request has ended.
fn read_to_end(input: &[u8]) -> (RequestHead, &[u8]) {
    let mut connection = Connection::new();
    let mut used = 0;
    let mut head = None;
    loop {
        let step = connection.step(&input[used..], &RULES.limits).expect("the input is valid");
        used += step.consumed;
        match step.event {
            Event::Request(found) => head = Some(found),
            Event::Data(_) => {}
            Event::End => return (head.expect("a head comes before the end"), &input[used..]),
            Event::NeedMore => panic!("the input holds a whole request"),
        }
    }
}

#[test]
fn a_protocol_is_found_in_any_case_and_any_upgrade_field() {
    for (fields, offers) in [
        ("Connection: Upgrade\r\nUpgrade: websocket", true),
        ("Connection: Upgrade\r\nUpgrade: WebSocket", true),
        ("Connection: Upgrade\r\nUpgrade: foo/1 ,\twebsocket", true),
        ("Connection: Upgrade\r\nUpgrade: foo/1\r\nUpgrade: websocket", true),
        ("Connection: Upgrade\r\nUpgrade: websockets", false),
        ("Connection: Upgrade\r\nUpgrade: websocket/13", false),
        ("Connection: Upgrade\r\nUpgrade:", false),
        ("Connection: Upgrade", false),
        ("Upgrade: websocket", false),
    ] {
        let input = get(fields);
        let (head, _) = read_to_end(&input);
        assert_eq!(head.offers_upgrade("websocket"), offers, "{fields}");
        assert!(!head.offers_upgrade(""), "{fields}");
    }
}

#[test]
fn what_follows_an_upgrade_stays_with_the_caller() {
    let frame = b"\x81\x82\x01\x02\x03\x04\x69\x6b\r\n\r\n\0";
    let offer = get("Connection: Upgrade\r\nUpgrade: websocket");
    let input = [offer.as_slice(), frame].concat();
    let (head, rest) = read_to_end(&input);
    assert!(head.offers_upgrade("websocket"));
    assert_eq!(rest, frame);

    let with_content = post(&["Connection: Upgrade", "Upgrade: websocket", "Content-Length: 5"], "hello");
    let input = [with_content.as_slice(), frame].concat();
    assert_eq!(read_to_end(&input).1, frame, "the new protocol begins after the content");
}
