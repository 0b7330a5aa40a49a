//! Requests and their answers, however the bytes come.

use std::io::Read;
use std::time::Duration;

use crate::client::{post, request};
use crate::running::{Running, config};

#[test]
fn one_connection_serves_request_after_request() {
    let running = Running::start(config(), 2);
    let mut client = running.connect();
    for size in [0, 1, 1000, 100_000] {
        assert_eq!(client.get(&format!("/bytes/{size}")).body.len(), size);
    }
    client.send(b"GET /bytes/3 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let answer = client.answer();
    assert!(answer.head.contains("connection: close"), "{answer:?}");
    assert_eq!(client.rest(), b"");
    drop(client);
    let stats = running.stop();
    assert_eq!((stats.connections_accepted, stats.dispatched), (1, 5));
}

#[test]
fn pipelined_requests_are_answered_in_order_whatever_each_takes() {
    let running = Running::start(config(), 4);
    let mut client = running.connect();
    let text: String = (0..200)
        .map(|number| if number % 20 == 0 { request("/sleep/3") } else { post("/echo", &format!("body {number}")) })
        .collect();
    client.send(text.as_bytes());
    for number in 0..200 {
        let wanted = if number % 20 == 0 { "slept".to_owned() } else { format!("body {number}") };
        assert_eq!(String::from_utf8_lossy(&client.answer().body), wanted);
    }
    running.stop();
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let running = Running::start(config(), 1);
    let mut client = running.connect();
    for byte in (post("/echo", "one") + &post("/echo", "two")).as_bytes() {
        client.send(&[*byte]);
    }
    assert_eq!(client.answer().body, b"one");
    assert_eq!(client.answer().body, b"two");
    running.stop();
}

#[test]
fn a_client_that_has_ended_its_side_gets_all_answers_and_then_the_end() {
    let running = Running::start(config(), 2);
    for count in 1..4 {
        let mut client = running.connect();
        client.send(request("/sleep/20").repeat(count).as_bytes());
        client.end_of_sending();
        for _ in 0..count {
            assert_eq!(client.answer().body, b"slept");
        }
        // Not only when the keep-alive time is over.
        assert_eq!(client.rest(), b"");
    }
    running.stop();
}

#[test]
fn an_answer_may_come_from_another_thread() {
    let running = Running::start(config(), 1);
    let mut client = running.connect();
    for _ in 0..50 {
        assert_eq!(client.get("/elsewhere").body, b"from elsewhere");
    }
    running.stop();
}

#[test]
fn a_request_that_is_dropped_unanswered_gets_a_500() {
    let running = Running::start(config(), 1);
    let mut client = running.connect();
    assert_eq!(client.get("/drop").status, 500);
    assert_eq!(client.get("/bytes/1").status, 200);
    running.stop();
}

#[test]
fn a_stream_reaches_its_reader_whole() {
    let running = Running::start(config(), 1);
    let mut client = running.connect();
    client.send(b"GET /stream/64 HTTP/1.0\r\n\r\n");
    let bytes = client.rest();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    assert!(bytes[end..] == vec![b'y'; 64 * 64 * 1024]);
    drop(client);
    running.stop();
}

#[test]
fn half_a_request_of_a_client_that_vanishes_reaches_no_worker() {
    let running = Running::start(config(), 1);
    for text in ["GET /ec", "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhalf"] {
        let mut client = running.connect();
        client.send(text.as_bytes());
        client.vanish();
    }
    running.wait_until("both are gone", |stats| stats.connections_accepted == 2 && stats.connections_open == 0);
    assert_eq!(running.stop().dispatched, 0);
}

#[test]
fn a_client_that_vanishes_during_its_answer_lets_the_worker_go() {
    let running = Running::start(config(), 1);
    for path in ["/bytes/30000000", "/stream/1000"] {
        let mut client = running.connect();
        client.send(request(path).as_bytes());
        assert_ne!(client.stream.read(&mut [0; 100]).expect("the answer begins"), 0);
        client.vanish();
    }
    // The only worker is free again.
    assert_eq!(running.connect().get("/bytes/5").body, b"xxxxx");
    running.stop();
}

#[test]
fn a_client_that_vanishes_before_its_answer_counts_as_discarded() {
    let running = Running::start(config(), 1);
    let mut client = running.connect();
    client.send(request("/gate").as_bytes());
    running.gate.wait_for(1);
    client.vanish();
    running.wait_until("the loss is seen", |stats| stats.connections_open == 0);
    running.gate.open();
    assert_eq!(running.stop().answers[0], 1);
}

#[test]
fn a_client_that_reads_slowly_gets_all_of_a_large_answer() {
    let mut config = config();
    config.write_timeout = Duration::from_millis(400);
    let running = Running::start(config, 1);
    let mut client = running.connect();
    client.send(b"GET /bytes/20000000 HTTP/1.0\r\n\r\n");
    // Slowly enough for the write timeout to be over twice.
    for _ in 0..9 {
        std::thread::sleep(Duration::from_millis(100));
        client.stream.read_exact(&mut vec![0; 2_000_000]).expect("the answer goes on");
    }
    assert!(client.rest().len() > 2_000_000);
    drop(client);
    running.stop();
}
