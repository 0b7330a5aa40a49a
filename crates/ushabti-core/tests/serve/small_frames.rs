//! Small frames of WebSockets over HTTP/2: what they cost is what is in them.

use std::time::Duration;

use crate::frames::{DATA, HEADERS, RST_STREAM, Raw, WINDOW_UPDATE, connect, frame as frame_h2, get};
use crate::running::{Running, config};
use crate::websocket::frame;

const PING: u8 = 9;
const END_STREAM: u8 = 1;

fn ping(stream: u32) -> Vec<u8> {
    frame_h2(DATA, 0, stream, &frame(PING, b""))
}

/// Of how many frames of the stream the next bytes come; others are passed over.
fn frames_of(client: &mut Raw, stream: u32, bytes: usize) -> usize {
    let (mut count, mut left) = (0, bytes);
    while left > 0 {
        let next = client.wait_for(DATA);
        if next.stream == stream {
            left = left.checked_sub(next.payload.len()).expect("no more than that");
            count += 1;
        }
    }
    count
}

#[test]
fn what_waits_for_a_window_is_put_together() {
    let running = Running::start(config(), 2);
    let mut client = Raw::with_window(&running, 0);
    client.send(&connect(1, "/ws"));
    client.wait_for(HEADERS);
    for _ in 0..200 {
        // Each is answered by itself.
        client.send(&ping(1));
        client.catch_up();
    }
    client.send(&frame_h2(WINDOW_UPDATE, 0, 1, &100_000_u32.to_be_bytes()));
    // What the handler has sent first, and two bytes for each.
    let count = frames_of(&mut client, 1, 8 + 200 * 2);
    assert!(count <= 4, "{count} frames");
    drop(client);
    running.stop();
}

#[test]
fn what_waits_for_the_socket_is_put_together() {
    let running = Running::start(config(), 2);
    let mut client = Raw::with_window(&running, 0x7fff_ffff);
    client.send(&frame_h2(WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes()));
    client.send(&connect(1, "/ws"));
    client.wait_for(DATA);
    // More than the system takes for a client that does not read.
    client.send(&get(3, "/stream/1000"));
    let mut sent = 0;
    while sent < 100_000 || running.stats().bytes_sent > sent {
        sent = running.stats().bytes_sent;
        std::thread::sleep(Duration::from_millis(20));
    }
    for _ in 0..300 {
        client.send(&ping(1));
        std::thread::sleep(Duration::from_millis(1));
    }
    let count = frames_of(&mut client, 1, 300 * 2);
    assert!(count < 100, "{count} frames");
    drop(client);
    running.stop();
}

#[test]
fn who_has_ended_its_side_gets_no_socket() {
    let mut running = Running::start(config(), 0);
    let mut client = Raw::open(&running);
    // The request waits for a worker; its end comes after it.
    for sent in [connect(1, "/ws"), frame_h2(DATA, END_STREAM, 1, b"")] {
        client.send(&sent);
        client.catch_up();
    }
    running.add_workers(1);
    assert_eq!(client.wait_for(RST_STREAM).stream, 1);
    client.send(&connect(3, "/ws"));
    assert_eq!(client.wait_for(HEADERS).stream, 3);
    let is_open = |events: &[String]| events.iter().any(|event| event == "open");
    running.wait_until("the other is open", |stats| stats.websockets_open == 1);
    assert!(running.ledger.lives().iter().filter(|life| is_open(&life.events)).count() <= 1);
    drop(client);
    running.stop();
}
