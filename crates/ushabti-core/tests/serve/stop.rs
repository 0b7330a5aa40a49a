//! The stop in good order: what was accepted is answered.

use std::os::fd::{AsRawFd, IntoRawFd};
use std::time::{Duration, Instant};

use ushabti_core::listener::Kind;

use crate::client::{Client, request};
use crate::running::{PATIENCE, Running, config};

#[test]
fn a_drain_answers_every_request_that_is_under_way() {
    let mut running = Running::start(config(), 1);
    let mut clients: Vec<Client> = (0..300).map(|_| running.connect()).collect();
    clients[0].send(request("/gate").as_bytes());
    running.gate.wait_for(1);
    for client in &mut clients[1..] {
        client.send(request("/bytes/100").as_bytes());
    }
    running.wait_until("all are dispatched", |stats| stats.dispatched == 300);
    running.server.drain();
    running.gate.open();
    running.add_workers(3);
    for mut client in clients {
        let answer = client.answer();
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains("connection: close"), "{answer:?}");
        assert_eq!(client.rest(), b"");
    }
    assert_eq!(running.stop().dispatched, 300);
}

#[test]
fn a_request_whose_client_has_left_was_not_dropped_by_the_stop() {
    let running = Running::start(config(), 0);
    let mut client = running.connect();
    client.send(request("/bytes/10").as_bytes());
    running.wait_until("it is dispatched", |stats| stats.dispatched == 1);
    client.vanish();
    running.wait_until("its client is gone", |stats| stats.connections_open == 0);
    // Which looks whether the server says that any were.
    assert_eq!(running.stop().answers[0], 1, "the answer was discarded");
}

#[test]
fn a_drain_empties_the_backlog_even_right_after_the_start() {
    for _ in 0..20 {
        let mut running = Running::bind(config());
        let mut clients: Vec<Client> = (0..50).map(|_| running.connect()).collect();
        for client in &mut clients {
            client.send(request("/bytes/10").as_bytes());
        }
        running.add_workers(2);
        running.server.start().expect("the IO thread starts");
        running.server.drain();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for mut client in clients {
                    assert_eq!(client.answer().status, 200);
                }
            });
            assert_eq!(running.stop().dispatched, 50);
        });
    }
}

#[test]
fn a_request_that_was_on_its_way_when_the_drain_began_is_answered() {
    let running = Running::start(config(), 1);
    let mut client = running.connect();
    assert_eq!(client.get("/bytes/1").status, 200);
    running.server.drain();
    assert_eq!(client.get("/bytes/2").status, 200);
    assert_eq!(client.rest(), b"");
    drop(client);
    running.stop();
}

#[test]
fn a_drain_answers_what_was_pipelined_before_it() {
    let running = Running::start(config(), 1);
    let mut client = running.connect();
    client.send((request("/gate") + &request("/bytes/5").repeat(3)).as_bytes());
    running.gate.wait_for(1);
    running.server.drain();
    running.gate.open();
    assert_eq!(client.answer().body, b"passed");
    for _ in 0..3 {
        assert_eq!(client.answer().body, b"xxxxx");
    }
    assert_eq!(client.rest(), b"");
    drop(client);
    running.stop();
}

#[test]
fn a_drain_answers_what_was_pipelined_behind_a_refusal() {
    let running = Running::start(config(), 1);
    let mut client = running.connect();
    client.send((request("/gate") + &request("/%zz") + &request("/bytes/5")).as_bytes());
    running.gate.wait_for(1);
    running.server.drain();
    running.gate.open();
    assert_eq!(client.answer().body, b"passed");
    assert_eq!(client.answer().status, 400);
    assert_eq!(client.answer().body, b"xxxxx");
    assert_eq!(client.rest(), b"");
    drop(client);
    running.stop();
}

#[test]
fn quiet_connections_do_not_hold_up_a_drain() {
    let running = Running::start(config(), 1);
    let mut clients: Vec<Client> = (0..20).map(|_| running.connect()).collect();
    for client in &mut clients[..10] {
        assert_eq!(client.get("/bytes/1").status, 200);
    }
    running.wait_until("all are accepted", |stats| stats.connections_accepted == 20);
    let began = Instant::now();
    running.stop();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn a_half_sent_head_does_not_outlive_its_timeout_during_a_drain() {
    let mut config = config();
    config.header_timeout = Duration::from_millis(500);
    let running = Running::start(config, 1);
    let mut client = running.connect();
    assert_eq!(client.get("/bytes/1").status, 200);
    client.send(b"GET /never");
    running.server.drain();
    assert_eq!(client.answer().status, 408);
    drop(client);
    running.stop();
}

#[test]
fn a_close_without_a_drain_cuts_and_lets_a_streaming_worker_go() {
    let running = Running::start(config(), 1);
    let mut client = running.connect();
    client.send(request("/stream/10000").as_bytes());
    running.wait_until("it is dispatched", |stats| stats.dispatched == 1);
    running.server.close();
    client.rest();
    running.stop();
}

#[test]
fn an_inherited_socket_that_does_not_listen_is_refused_and_left_open() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let running = Running::bind(config());
    let problem = running
        .server
        .bind(&format!("fd://{}", socket.as_raw_fd()), Kind::Plain, false)
        .expect_err("nobody can connect to it");
    assert!(problem.message.contains("does not listen"), "{problem}");
    assert!(socket.local_addr().is_ok());
    running.stop();
}

#[test]
fn a_listener_that_fails_for_good_ends_the_server() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let anywhere: std::net::SocketAddr = "127.0.0.1:0".parse().expect("an address");
    socket.bind(&anywhere.into()).and_then(|()| socket.listen(16)).expect("loopback can be listened on");
    let second = socket.try_clone().expect("a second descriptor");
    let running = Running::bind(config());
    // Owned by the server from here on.
    running.server.bind(&format!("fd://{}", socket.into_raw_fd()), Kind::Plain, false).expect("it listens");
    running.server.start().expect("the IO thread starts");
    second.shutdown(std::net::Shutdown::Both).expect("it was open");
    let began = Instant::now();
    while !running.server.shared().has_failed() {
        assert!(began.elapsed() < PATIENCE, "a deaf server goes on");
        std::thread::yield_now();
    }
    running.stop();
}
