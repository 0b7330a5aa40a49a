//! WebSockets over real sockets: what the client gets, and which events the workers are told.

use std::time::Duration;

use crate::churn::Random;
use crate::client::Client;
use crate::running::{Running, config};
use crate::sockets::text;

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A client's frame, masked with zeroes.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    if payload.len() < 126 {
        frame.push(0x80 | payload.len() as u8);
    } else {
        frame.push(0xfe);
        frame.extend_from_slice(&u16::try_from(payload.len()).expect("a short payload").to_be_bytes());
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

pub(crate) fn close(code: u16) -> Vec<u8> {
    frame(8, &code.to_be_bytes())
}

/// Some orders to the handler (see `sockets`), a frame each.
pub(crate) fn orders(random: &mut Random) -> Vec<u8> {
    let count = random.below(90);
    let words: [&[u8]; 6] = [b"echo", b"echo", b"slow", b"close", b"fail", b"echo"];
    (0..count).flat_map(|_| frame(1, words[random.below(6) as usize])).collect()
}

/// The next frames, the Close frame being the last of them.
pub(crate) fn up_to_close(mut next: impl FnMut() -> (u8, Vec<u8>)) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while frames.last().is_none_or(|(opcode, _)| *opcode != 8) {
        frames.push(next());
    }
    frames
}

/// The next frames are pings, and then the Close frame for a client that has answered none.
pub(crate) fn assert_asked_and_given_up(mut next: impl FnMut() -> (u8, Vec<u8>)) {
    let mut pings = 0;
    let last = loop {
        match next() {
            (9, payload) => {
                assert_eq!(payload, b"");
                pings += 1;
            }
            last => break last,
        }
    };
    assert!(pings >= 1);
    assert_eq!(last.1[..2], 1008_u16.to_be_bytes());
}

/// Upgrades, and reads what is sent before the socket is open.
pub(crate) fn open(running: &Running) -> Client {
    let mut client = running.connect();
    client.send(UPGRADE.as_bytes());
    assert_eq!(client.answer().status, 101);
    assert_eq!(client.frame(), (1, b"before".to_vec()));
    client
}

#[test]
fn messages_come_back_in_order_and_the_close_is_clean() {
    let running = Running::start(config(), 2);
    let mut client = open(&running);
    client.send(&[frame(1, b"one"), frame(1, b"two"), frame(9, b"?"), close(1000)].concat());
    // The pong is the IO thread's, and overtakes what a worker has to say; the Close frame ends all.
    let frames = up_to_close(|| client.frame());
    assert!(frames.contains(&(10, b"?".to_vec())), "{frames:?}");
    assert_eq!(client.rest(), b"");
    let life = running.ledger.only();
    assert_eq!(life.events, ["open", "one", "two", "close"]);
    let closing = life.closing.expect("it was closed");
    assert_eq!((closing.code, closing.is_clean), (1000, true));
    running.stop();
}

#[test]
fn a_worker_closes_behind_what_it_has_sent() {
    let running = Running::start(config(), 2);
    let mut client = open(&running);
    client.send(&[frame(1, b"last"), frame(1, b"close"), frame(1, b"unheard")].concat());
    assert_eq!(client.frame(), (1, b"last".to_vec()));
    assert_eq!(client.frame(), (8, b"\x03\xe8as told".to_vec()));
    client.send(&close(1000));
    assert_eq!(client.rest(), b"");
    let life = running.ledger.only();
    assert_eq!(life.events, ["open", "last", "close", "close"]);
    assert!(life.closing.is_some_and(|closing| closing.is_clean && closing.reason == "as told"));
    running.stop();
}

#[test]
fn a_failed_handler_closes_with_1011() {
    let running = Running::start(config(), 2);
    let mut client = open(&running);
    client.send(&frame(1, b"fail"));
    assert_eq!(client.frame(), (8, b"\x03\xf3".to_vec()));
    client.vanish();
    let closing = running.ledger.only().closing.expect("it was closed");
    assert_eq!((closing.code, closing.is_clean), (1011, false));
    running.stop();
}

#[test]
fn a_fault_of_the_client_is_told_before_the_end() {
    let running = Running::start(config(), 2);
    let mut client = open(&running);
    client.send(&[frame(1, b"fine"), frame(3, b"reserved")].concat());
    // Whether the echo comes before it depends on who is faster.
    let frames = up_to_close(|| client.frame());
    assert!(frames.last().is_some_and(|(_, payload)| payload.starts_with(b"\x03\xea")), "{frames:?}");
    assert_eq!(running.ledger.only().events, ["open", "fine", "fault 1002", "close"]);
    running.stop();
}

#[test]
fn a_lost_client_is_told_as_1006() {
    let running = Running::start(config(), 2);
    let client = open(&running);
    running.wait_until("it is open", |stats| stats.websockets_open == 1);
    client.vanish();
    let life = running.ledger.only();
    assert_eq!(life.events, ["open", "close"]);
    assert!(life.closing.is_some_and(|closing| closing.code == 1006 && !closing.is_clean));
    running.stop();
}

#[test]
fn a_silent_client_is_asked_and_then_given_up() {
    let mut config = config();
    config.websocket.ping = Duration::from_millis(100);
    config.websocket.idle = Duration::from_millis(400);
    let running = Running::start(config, 2);
    let mut client = open(&running);
    assert_asked_and_given_up(|| client.frame());
    assert_eq!(running.ledger.only().events, ["open", "fault 1008", "close"]);
    running.stop();
}

#[test]
fn an_answered_ping_keeps_a_socket_alive() {
    let mut config = config();
    config.websocket.ping = Duration::from_millis(100);
    config.websocket.idle = Duration::from_millis(400);
    let running = Running::start(config, 2);
    let mut client = open(&running);
    for _ in 0..8 {
        assert_eq!(client.frame(), (9, Vec::new()));
        client.send(&frame(10, b""));
    }
    client.send(&close(1001));
    assert_eq!(client.frame().0, 8);
    assert_eq!(running.ledger.only().closing.map(|closing| closing.code), Some(1001));
    running.stop();
}

#[test]
fn a_stop_says_1001_and_waits_for_the_end() {
    let running = Running::start(config(), 2);
    let mut clients: Vec<Client> = (0..50).map(|_| open(&running)).collect();
    running.wait_until("all are open", |stats| stats.websockets_open == 50);
    running.server.drain();
    for client in &mut clients {
        let (opcode, payload) = client.frame();
        assert_eq!((opcode, &payload[..2]), (8, &1001_u16.to_be_bytes()[..]));
        client.send(&close(1001));
        assert_eq!(client.rest(), b"");
    }
    let ledger = std::sync::Arc::clone(&running.ledger);
    running.stop();
    let lives = ledger.lives();
    assert_eq!(lives.len(), 50);
    assert!(lives.iter().all(|life| life.closing.as_ref().is_some_and(|closing| closing.is_clean)), "{lives:?}");
}

#[test]
fn a_client_that_never_reads_is_closed_and_costs_no_more_than_the_outbox() {
    let mut config = config();
    config.websocket.outbox_bytes_max = 64 * 1024;
    let running = Running::start(config, 2);
    let mut client = open(&running);
    let echo = frame(1, &vec![b'x'; 60_000]);
    client.stream.set_write_timeout(Some(Duration::from_secs(5))).expect("an open socket");
    // Until the system's buffers are full as well.
    while running.ledger.lives().iter().all(|life| life.closing.is_none()) {
        if std::io::Write::write_all(&mut client.stream, &echo).is_err() {
            break;
        }
    }
    let closing = running.ledger.only().closing.expect("it was closed");
    assert_eq!((closing.code, closing.is_clean), (1013, false));
    running.stop();
}

#[test]
fn a_client_that_sends_without_end_is_not_read_while_its_handler_is_busy() {
    let mut running = Running::start(config(), 0);
    running.add_workers(1);
    let mut client = open(&running);
    let mut other = running.connect();
    other.send(b"GET /gate HTTP/1.1\r\nHost: test\r\n\r\n");
    running.gate.wait_for(1);
    client.stream.set_write_timeout(Some(Duration::from_millis(200))).expect("an open socket");
    let flood = frame(1, &vec![b'x'; 10_000]);
    let mut sent = 0;
    while std::io::Write::write_all(&mut client.stream, &flood).is_ok() {
        sent += 1;
        assert!(sent < 100_000, "it is read for ever");
    }
    assert!(running.stats().websocket_messages <= 64, "{:?}", running.stats());
    running.gate.open();
    client.vanish();
    running.wait_until("it has ended", |stats| stats.websockets_open == 0);
    running.stop();
}

#[test]
fn one_message_goes_to_all_subscribers_but_the_one_that_is_left_out() {
    let running = Running::start(config(), 2);
    let mut clients: Vec<Client> = (0..5).map(|_| open(&running)).collect();
    for client in &mut clients {
        client.send(&frame(1, b"subscribe"));
        assert_eq!(client.frame(), (1, b"subscribe".to_vec()));
    }
    let hub = &running.server.shared().hub;
    assert_eq!(hub.count("all"), 5);
    assert_eq!(hub.publish("all", &text(b"hail"), Some(running.ledger.first_id())), 4);
    let skipped = clients.remove(0);
    for client in &mut clients {
        assert_eq!(client.frame(), (1, b"hail".to_vec()));
    }
    skipped.vanish();
    running.wait_until("it has ended", |stats| stats.websockets_open == 4);
    assert_eq!(hub.count("all"), 4);
    drop(clients);
    running.wait_until("all have ended", |stats| stats.websockets_open == 0);
    assert_eq!((hub.count("all"), hub.topics().len()), (0, 0));
    running.stop();
}

#[test]
fn the_books_balance_after_thousands_of_random_lives() {
    const THREADS: u64 = 4;
    const SOCKETS: u64 = 400;
    let running = Running::start(config(), 6);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let running = &running;
            scope.spawn(move || {
                let mut random = Random(0x2545_f491_4f6c_dd1d ^ (thread + 1));
                for _ in 0..SOCKETS {
                    live(running.connect(), &mut random);
                }
            });
        }
    });
    running.wait_until("every connection has ended", |stats| {
        stats.connections_accepted == THREADS * SOCKETS && stats.connections_open == 0
    });
    let ledger = std::sync::Arc::clone(&running.ledger);
    running.stop();
    ledger.assert_ended();
}

/// The life of one socket, some of which end in the midst of their handshake.
fn live(mut client: Client, random: &mut Random) {
    let early = random.below(8) == 0;
    let length = if early { random.below(UPGRADE.len() as u64 + 1) as usize } else { UPGRADE.len() };
    client.send(&UPGRADE.as_bytes()[..length]);
    if early || random.below(8) == 0 {
        return if random.below(2) == 0 { client.vanish() } else { drop(client) };
    }
    assert_eq!(client.answer().status, 101);
    for _ in 0..random.below(6) {
        let batch = orders(random);
        // The server may have closed meanwhile.
        if std::io::Write::write_all(&mut client.stream, &batch).is_err() {
            return;
        }
    }
    match random.below(4) {
        0 => client.vanish(),
        1 => client.end_of_sending(),
        2 => {
            let _ = std::io::Write::write_all(&mut client.stream, &close(1000));
            client.rest();
        }
        _ => {}
    }
}
