//! Limits and clocks: each ends in an answer or an end of the connection, and none strikes the wrong one.
//!
//! The clock has slots of a tenth of a second, so the times here are some of these.

use std::time::{Duration, Instant};

use crate::client::{Client, request};
use crate::running::{Running, config};

const SHORT: Duration = Duration::from_millis(300);

#[test]
fn a_head_that_does_not_come_in_time_is_answered_408() {
    let mut config = config();
    config.header_timeout = SHORT;
    let running = Running::start(config, 1);
    let mut client = running.connect();
    // The first request's end does not start the clock of the second; its first byte does.
    client.send((request("/bytes/1") + "GET /").as_bytes());
    assert_eq!(client.answer().status, 200);
    let began = Instant::now();
    let answer = client.answer();
    assert_eq!(answer.status, 408);
    assert!(began.elapsed() >= SHORT.mul_f32(0.9), "{:?}", began.elapsed());
    assert_eq!(client.rest(), b"");
    drop(client);
    running.stop();
}

#[test]
fn a_body_that_stops_is_answered_408_and_one_that_goes_on_is_not() {
    let mut config = config();
    config.body_timeout = SHORT;
    let running = Running::start(config, 1);
    let head = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n";
    let (mut slow, mut stopped) = (running.connect(), running.connect());
    slow.send(head);
    stopped.send(head);
    for digit in b"0123456789" {
        std::thread::sleep(Duration::from_millis(50));
        slow.send(&[*digit]);
    }
    assert_eq!(slow.answer().body, b"0123456789");
    assert_eq!(stopped.answer().status, 408);
    assert_eq!(stopped.rest(), b"");
    drop((slow, stopped));
    running.stop();
}

#[test]
fn a_connection_rests_for_the_keep_alive_time_after_each_request() {
    let mut config = config();
    config.keep_alive = Duration::from_millis(600);
    let running = Running::start(config, 1);
    let mut client = running.connect();
    for _ in 0..4 {
        assert_eq!(client.get("/bytes/1").status, 200);
        std::thread::sleep(Duration::from_millis(250));
    }
    // A handler that takes longer than the keep-alive time is no rest.
    assert_eq!(client.get("/sleep/800").status, 200);
    let began = Instant::now();
    assert_eq!(client.rest(), b"");
    assert!(began.elapsed() >= Duration::from_millis(450), "{:?}", began.elapsed());
    drop(client);
    running.stop();
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_cut() {
    let mut config = config();
    config.write_timeout = SHORT;
    let running = Running::start(config, 2);
    for path in ["/bytes/30000000", "/stream/2000"] {
        let mut client = running.connect();
        client.send(request(path).as_bytes());
        running.wait_until("it is served", |stats| stats.connections_open == 1);
        running.wait_until("it is cut", |stats| stats.connections_open == 0);
        assert!(client.rest().len() < 30_000_000);
    }
    running.stop();
}

#[test]
fn the_write_timeout_of_an_answer_does_not_strike_what_comes_after_it() {
    let mut config = config();
    config.write_timeout = SHORT;
    let running = Running::start(config, 1);
    let mut clients: Vec<Client> = (0..40).map(|_| running.connect()).collect();
    // Answers of many sizes about that of the system's buffers, so that some end in one flush by the IO thread.
    for (number, client) in clients.iter_mut().enumerate() {
        let size = 2_000_000 + 50_000 * number;
        assert_eq!(client.get(&format!("/bytes/{size}")).body.len(), size);
    }
    std::thread::sleep(SHORT * 2);
    for client in &mut clients {
        assert_eq!(client.get("/bytes/1").status, 200);
    }
    running.stop();
}

#[test]
fn a_connection_too_many_is_told_so_and_makes_no_room() {
    let mut config = config();
    config.connections_max = 3;
    let running = Running::start(config, 1);
    let mut clients: Vec<Client> = (0..3).map(|_| running.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/bytes/1").status, 200);
    }
    let mut surplus = running.connect();
    let answer = surplus.answer();
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("retry-after"), "{answer:?}");
    assert_eq!(surplus.rest(), b"");
    drop((surplus, clients.pop()));
    running.wait_until("there is room", |stats| stats.connections_open == 2);
    assert_eq!(running.connect().get("/bytes/1").status, 200);
    running.stop();
}

#[test]
fn a_request_that_finds_the_queue_full_is_answered_503_and_the_connection_goes_on() {
    let mut config = config();
    config.queue_max = 2;
    let running = Running::start(config, 1);
    let mut held: Vec<Client> = (0..3).map(|_| running.connect()).collect();
    held[0].send(request("/gate").as_bytes());
    running.gate.wait_for(1);
    for (number, client) in held[1..].iter_mut().enumerate() {
        client.send(request("/bytes/1").as_bytes());
        running.wait_until("it is queued", |stats| stats.dispatched == number as u64 + 2);
    }
    let mut client = running.connect();
    assert_eq!(client.get("/bytes/1").status, 503);
    running.gate.open();
    for client in &mut held {
        assert_eq!(client.answer().status, 200);
    }
    assert_eq!(client.get("/bytes/1").status, 200);
    running.stop();
}
