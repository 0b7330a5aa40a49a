//! WebSockets over HTTP/2 whose client does not take, or whose handler does not come to it.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::client::Builder;

use crate::frames::{DATA, GOAWAY, Raw, SETTINGS, WINDOW_UPDATE, connect as connect_frame, frame as frame_h2};
use crate::http2::{Client, get, send_part};
use crate::running::{Running, config};
use crate::tunnel::Tunnel;
use crate::websocket::frame;

#[test]
fn a_client_that_gives_no_window_is_closed_and_costs_no_more_than_the_outbox() {
    let mut config = config();
    config.websocket.outbox_bytes_max = 64 * 1024;
    let running = Running::start(config, 2);
    let client = Client::with(&running, Builder::new().initial_window_size(1000));
    let mut tunnel = Tunnel::open(&client);
    // What the IO thread has not seen yet is not the client's fault, so it may be some more.
    while running.ledger.lives().iter().all(|life| life.closing.is_none()) {
        tunnel.send(&frame(1, &vec![b'x'; 20_000]));
        std::thread::sleep(Duration::from_millis(1));
    }
    let closing = running.ledger.only().closing.expect("it was closed");
    assert_eq!((closing.code, closing.is_clean), (1013, false));
    assert_eq!(client.get("/bytes/3").status(), 200, "the connection goes on");
    client.vanish();
    running.stop();
}

#[test]
fn a_client_that_takes_nothing_is_cut_after_the_write_timeout() {
    let mut config = config();
    config.write_timeout = Duration::from_millis(300);
    let running = Running::start(config, 2);
    let client = Client::with(&running, Builder::new().initial_window_size(1000));
    let mut tunnel = Tunnel::open(&client);
    tunnel.send(&frame(1, &vec![b'x'; 20_000]));
    let life = running.ledger.only();
    assert_eq!(life.events.last().map(String::as_str), Some("close"), "{:?}", life.events.len());
    assert_eq!(life.closing.map(|closing| closing.code), Some(1006));
    let end = std::iter::repeat_with(|| tunnel.read()).find(|read| !matches!(read, Ok(true)));
    assert_eq!(end.expect("it ends").expect_err("it is reset").reason(), Some(Reason::CANCEL));
    assert_eq!(client.get("/bytes/3").status(), 200, "the connection goes on");
    running.stop();
}

#[test]
fn a_client_that_sends_without_end_is_held_up_while_its_handler_is_busy() {
    let mut running = Running::start(config(), 0);
    running.add_workers(1);
    let client = Client::connect(&running);
    let mut tunnel = Tunnel::open(&client);
    let (answer, _) = client.begin(get("/gate"), true);
    running.gate.wait_for(1);
    let flood = Bytes::from(frame(1, &[b'x'; 10_000]).repeat(1000));
    let sending =
        async { tokio::time::timeout(Duration::from_millis(300), send_part(&mut tunnel.sender, flood)).await };
    assert!(client.runtime.block_on(sending).is_err(), "it is read for ever");
    assert!(running.stats().websocket_messages <= 64, "{:?}", running.stats());
    assert!(running.stats().bytes_received < 3 << 20, "{:?}", running.stats());
    running.gate.open();
    assert_eq!(client.finish(answer).expect("an answer").body, b"passed");
    tunnel.sender.send_reset(Reason::CANCEL);
    running.wait_until("it has ended", |stats| stats.websockets_open == 0);
    running.stop();
}

#[test]
fn small_messages_to_a_busy_handler_are_held_up_and_no_flood() {
    let mut running = Running::start(config(), 0);
    running.add_workers(1);
    let mut client = Raw::open(&running);
    client.send(&connect_frame(1, "/ws"));
    // The window is the one that the server's settings say when they are acknowledged.
    client.wait_for(SETTINGS);
    client.send(&frame_h2(SETTINGS, 1, 0, &[]));
    client.wait_for(DATA);
    let mut other = running.connect();
    other.send(b"GET /gate HTTP/1.1\r\nHost: test\r\n\r\n");
    running.gate.wait_for(1);
    let small = frame_h2(DATA, 0, 1, &frame(1, b"0123456789"));
    // Below the window of the stream: whoever sends beyond it is in the wrong.
    for _ in 0..50 {
        client.send(&small.repeat(1000));
    }
    client.send(&frame_h2(SETTINGS, 0, 0, &[]));
    let mut reader = client.reader();
    loop {
        let next = reader.next().expect("the connection goes on");
        assert_ne!(next.kind, GOAWAY, "{next:?}");
        if next.kind == SETTINGS && next.flags == 1 {
            break;
        }
    }
    assert!(running.stats().websocket_messages <= 64, "{:?}", running.stats());
    running.gate.open();
    drop((client, reader));
    running.wait_until("it has ended", |stats| stats.websockets_open == 0);
    running.stop();
}

#[test]
fn who_says_for_each_small_message_that_it_was_taken_floods_nobody() {
    let running = Running::start(config(), 2);
    let mut client = Raw::open(&running);
    client.send(&connect_frame(1, "/ws"));
    for number in 0..3000 {
        // The first is what is sent before the socket is open.
        let taken = client.wait_for(DATA).payload;
        assert!(number == 0 || taken == b"\x81\x01x", "message {number}: {taken:?}");
        let more = (taken.len() as u32).to_be_bytes();
        let updates = [frame_h2(WINDOW_UPDATE, 0, 0, &more), frame_h2(WINDOW_UPDATE, 0, 1, &more)].concat();
        client.send(&[updates, frame_h2(DATA, 0, 1, &frame(1, b"x"))].concat());
    }
    drop(client);
    running.stop();
}
