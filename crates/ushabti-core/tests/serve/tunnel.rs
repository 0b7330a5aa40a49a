//! WebSockets over HTTP/2 (RFC 8441): what the client gets, and which events the workers are told.

use std::time::Duration;

use bytes::Bytes;
use h2::client::Builder;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request};

use crate::churn::Random;
use crate::client::take_frame;
use crate::http2::{Client, get, in_time, send_part};
use crate::running::{Running, config};
use crate::sockets::text;
use crate::websocket::{self, assert_asked_and_given_up, close, frame, orders, up_to_close};

fn connect(path: &str, protocol: &'static str) -> Request<()> {
    Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://test{path}"))
        .extension(Protocol::from_static(protocol))
        .header("sec-websocket-version", "13")
        .body(())
        .expect("a valid request")
}

/// The client's end of one WebSocket.
pub(crate) struct Tunnel<'a> {
    client: &'a Client,
    pub(crate) sender: SendStream<Bytes>,
    receiver: RecvStream,
    bytes: Vec<u8>,
}

impl<'a> Tunnel<'a> {
    /// Opens one, and reads what is sent before it is open.
    pub(crate) fn open(client: &'a Client) -> Self {
        let mut tunnel = Self::ask(client, &[]);
        assert_eq!(tunnel.frame(), (1, b"before".to_vec()));
        tunnel
    }

    /// Asks for one, and sends `early` behind that.
    fn ask(client: &'a Client, early: &'static [u8]) -> Self {
        let (answer, mut sender) = client.begin(connect("/ws", "websocket"), false);
        if !early.is_empty() {
            client.runtime.block_on(in_time(send_part(&mut sender, Bytes::from_static(early)))).expect("it is open");
        }
        let (head, receiver) = client.runtime.block_on(in_time(answer)).expect("an answer").into_parts();
        assert_eq!(head.status, 200);
        assert!(!head.headers.contains_key("sec-websocket-accept") && !head.headers.contains_key("content-length"));
        Self { client, sender, receiver, bytes: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        self.client.runtime.block_on(in_time(send_part(&mut self.sender, bytes))).expect("the stream is open");
    }

    fn end(&mut self) {
        self.sender.send_data(Bytes::new(), true).expect("the stream is open");
    }

    /// Reads the next DATA; false: there is none.
    pub(crate) fn read(&mut self) -> Result<bool, h2::Error> {
        let Some(data) = self.client.runtime.block_on(in_time(self.receiver.data())) else { return Ok(false) };
        let data = data?;
        self.receiver.flow_control().release_capacity(data.len())?;
        self.bytes.extend_from_slice(&data);
        Ok(true)
    }

    /// The next frame: its opcode and payload.
    fn frame(&mut self) -> (u8, Vec<u8>) {
        loop {
            if let Some(frame) = take_frame(&mut self.bytes) {
                return frame;
            }
            assert!(self.read().expect("the stream is not reset"), "a frame before the end");
        }
    }

    /// The server has ended its side, and nothing came before that.
    fn assert_ended(&mut self) {
        while self.read().expect("the stream is not reset") {}
        assert_eq!(self.bytes, b"");
    }
}

#[test]
fn messages_come_back_in_order_and_the_close_is_clean() {
    let running = Running::start(config(), 2);
    let client = Client::connect(&running);
    let mut tunnel = Tunnel::open(&client);
    tunnel.send(&[frame(1, b"one"), frame(1, b"two"), frame(9, b"?"), close(1000)].concat());
    let frames = up_to_close(|| tunnel.frame());
    assert!(frames.contains(&(10, b"?".to_vec())), "{frames:?}");
    tunnel.assert_ended();
    tunnel.end();
    let life = running.ledger.only();
    assert_eq!(life.events, ["open", "one", "two", "close"]);
    let closing = life.closing.expect("it was closed");
    assert_eq!((closing.code, closing.is_clean), (1000, true));
    assert_eq!(client.get("/bytes/3").status(), 200, "the connection goes on");
    running.stop();
}

#[test]
fn sockets_and_requests_share_a_connection() {
    let running = Running::start(config(), 4);
    let client = Client::connect(&running);
    let mut tunnels: Vec<_> = (0..20).map(|_| Tunnel::open(&client)).collect();
    for round in 0..5 {
        for (number, tunnel) in tunnels.iter_mut().enumerate() {
            tunnel.send(&frame(1, format!("{round} of {number}").as_bytes()));
        }
        assert_eq!(client.get("/bytes/1000").body.len(), 1000);
        for (number, tunnel) in tunnels.iter_mut().enumerate() {
            assert_eq!(tunnel.frame(), (1, format!("{round} of {number}").into_bytes()));
        }
    }
    let stats = running.stats();
    assert_eq!((stats.connections_open, stats.websockets_open), (1, 20));
    drop(tunnels);
    running.wait_until("all have ended", |stats| stats.websockets_open == 0);
    running.stop();
}

#[test]
fn large_messages_go_both_ways_through_small_windows() {
    let running = Running::start(config(), 2);
    let client =
        Client::with(&running, Builder::new().initial_window_size(1000).initial_connection_window_size(70_000));
    let mut tunnel = Tunnel::open(&client);
    let message: Vec<u8> = (0..60_000_u32).map(|number| b'a' + (number % 26) as u8).collect();
    for _ in 0..5 {
        tunnel.send(&frame(1, &message));
        assert!(tunnel.frame() == (1, message.clone()), "it comes back as it was");
    }
    client.vanish();
    running.stop();
}

#[test]
fn what_is_sent_before_the_answer_is_not_lost() {
    static EARLY: &[u8] = b"\x81\x85\0\0\0\0early";
    let running = Running::start(config(), 2);
    let client = Client::connect(&running);
    let mut tunnel = Tunnel::ask(&client, EARLY);
    assert_eq!(tunnel.frame(), (1, b"before".to_vec()));
    assert_eq!(tunnel.frame(), (1, b"early".to_vec()));
    client.vanish();
    running.stop();
}

#[test]
fn a_worker_closes_behind_what_it_has_sent() {
    let running = Running::start(config(), 2);
    let client = Client::connect(&running);
    let mut tunnel = Tunnel::open(&client);
    tunnel.send(&[frame(1, b"last"), frame(1, b"close"), frame(1, b"unheard")].concat());
    assert_eq!(tunnel.frame(), (1, b"last".to_vec()));
    assert_eq!(tunnel.frame(), (8, b"\x03\xe8as told".to_vec()));
    tunnel.send(&close(1000));
    tunnel.assert_ended();
    let life = running.ledger.only();
    assert_eq!(life.events, ["open", "last", "close", "close"]);
    assert!(life.closing.is_some_and(|closing| closing.is_clean && closing.reason == "as told"));
    client.vanish();
    running.stop();
}

#[test]
fn a_fault_of_the_client_is_told_before_the_end() {
    let running = Running::start(config(), 2);
    let client = Client::connect(&running);
    let mut tunnel = Tunnel::open(&client);
    tunnel.send(&[frame(1, b"fine"), frame(3, b"reserved")].concat());
    let frames = up_to_close(|| tunnel.frame());
    assert!(frames.last().is_some_and(|(_, payload)| payload.starts_with(b"\x03\xea")), "{frames:?}");
    assert_eq!(running.ledger.only().events, ["open", "fine", "fault 1002", "close"]);
    client.vanish();
    running.stop();
}

#[test]
fn a_client_that_resets_ends_or_vanishes_is_told_as_1006() {
    let ways: [fn(&mut Tunnel<'_>); 3] =
        [|tunnel| tunnel.sender.send_reset(Reason::CANCEL), |tunnel| tunnel.end(), |tunnel| tunnel.client.vanish()];
    for way in ways {
        let running = Running::start(config(), 2);
        let client = Client::connect(&running);
        let mut tunnel = Tunnel::open(&client);
        running.wait_until("it is open", |stats| stats.websockets_open == 1);
        way(&mut tunnel);
        let life = running.ledger.only();
        assert_eq!(life.events, ["open", "close"]);
        assert!(life.closing.is_some_and(|closing| closing.code == 1006 && !closing.is_clean));
        running.wait_until("it is not counted", |stats| stats.websockets_open == 0);
        running.stop();
    }
}

#[test]
fn trailers_have_no_place_in_a_tunnel() {
    let running = Running::start(config(), 2);
    let client = Client::connect(&running);
    let mut tunnel = Tunnel::open(&client);
    tunnel.sender.send_trailers(HeaderMap::new()).expect("the stream is open");
    let end = std::iter::repeat_with(|| tunnel.read()).find(|read| !matches!(read, Ok(true)));
    assert_eq!(end.expect("it ends").expect_err("it is reset").reason(), Some(Reason::PROTOCOL_ERROR));
    // It may have come before the worker that agrees has given its socket away.
    let life = running.ledger.only();
    assert!(life.discarded || life.closing.as_ref().is_some_and(|closing| closing.code == 1006), "{life:?}");
    running.stop();
}

#[test]
fn a_silent_client_is_asked_and_then_given_up() {
    let mut config = config();
    config.websocket.ping = Duration::from_millis(100);
    config.websocket.idle = Duration::from_millis(400);
    let running = Running::start(config, 2);
    let client = Client::connect(&running);
    let mut tunnel = Tunnel::open(&client);
    assert_asked_and_given_up(|| tunnel.frame());
    assert_eq!(running.ledger.only().events, ["open", "fault 1008", "close"]);
    client.vanish();
    running.stop();
}

#[test]
fn a_stop_says_1001_and_waits_for_the_end() {
    let running = Running::start(config(), 2);
    let client = Client::connect(&running);
    let mut tunnels: Vec<_> = (0..20).map(|_| Tunnel::open(&client)).collect();
    running.wait_until("all are open", |stats| stats.websockets_open == 20);
    running.server.drain();
    for tunnel in &mut tunnels {
        let (opcode, payload) = tunnel.frame();
        assert_eq!((opcode, &payload[..2]), (8, &1001_u16.to_be_bytes()[..]));
        tunnel.send(&close(1001));
        tunnel.assert_ended();
        tunnel.end();
    }
    let ledger = std::sync::Arc::clone(&running.ledger);
    running.stop();
    let lives = ledger.lives();
    assert_eq!(lives.len(), 20);
    assert!(lives.iter().all(|life| life.closing.as_ref().is_some_and(|closing| closing.is_clean)), "{lives:?}");
}

#[test]
fn who_has_ended_its_side_gets_no_socket() {
    let running = Running::start(config(), 2);
    let client = Client::connect(&running);
    let (answer, _) = client.begin(connect("/ws", "websocket"), true);
    assert_eq!(client.finish(answer).expect("an answer").status(), 400);
    assert_eq!(running.ledger.lives().len(), 0);
    running.stop();
}

#[test]
fn the_end_of_a_side_is_answered_by_the_end_of_ours() {
    let running = Running::start(config(), 2);
    let client = Client::connect(&running);
    let mut tunnel = Tunnel::open(&client);
    tunnel.end();
    tunnel.assert_ended();
    assert_eq!(running.ledger.only().closing.map(|closing| closing.code), Some(1006));
    running.stop();
}

#[test]
fn one_message_goes_to_subscribers_on_connections_and_on_streams() {
    let running = Running::start(config(), 2);
    let client = Client::connect(&running);
    let mut tunnel = Tunnel::open(&client);
    let mut other = websocket::open(&running);
    tunnel.send(&frame(1, b"subscribe"));
    other.send(&frame(1, b"subscribe"));
    assert_eq!(tunnel.frame(), (1, b"subscribe".to_vec()));
    assert_eq!(other.frame(), (1, b"subscribe".to_vec()));
    let hub = &running.server.shared().hub;
    assert_eq!(hub.publish("all", &text(b"hail"), None), 2);
    assert_eq!(tunnel.frame(), (1, b"hail".to_vec()));
    assert_eq!(other.frame(), (1, b"hail".to_vec()));
    tunnel.sender.send_reset(Reason::CANCEL);
    running.wait_until("it has ended", |stats| stats.websockets_open == 1);
    assert_eq!(hub.count("all"), 1);
    other.vanish();
    client.vanish();
    running.stop();
}

#[test]
fn what_is_no_websocket_is_answered_as_such() {
    let running = Running::start(config(), 2);
    let client = Client::connect(&running);
    let status = |request| {
        let (answer, mut sender) = client.begin(request, false);
        let answer = client.finish(answer).expect("an answer");
        // It is not read any more, which the client is told when the answer is out.
        let _ = sender.send_data(Bytes::new(), true);
        answer.status()
    };
    assert_eq!(status(connect("/bytes/3", "websocket")), 400, "a success would be taken for a WebSocket");
    assert_eq!(status(connect("/ws", "connect-udp")), 501);
    assert_eq!(status(Request::connect("test:80").body(()).expect("a valid request")), 501, "this is no proxy");
    let mut old = connect("/ws", "websocket");
    old.headers_mut().insert("sec-websocket-version", "8".parse().expect("a value"));
    assert_eq!(status(old), 426);
    let mut foreign = connect("/ws", "websocket");
    foreign.headers_mut().insert("origin", "https://elsewhere.example".parse().expect("a value"));
    assert_eq!(status(foreign), 403);
    assert_eq!(client.get("/ws").status(), 426, "it asks for no protocol");
    assert_eq!(running.ledger.lives().len(), 0);
    running.stop();
}

#[test]
fn a_worker_that_is_late_does_not_agree_any_more() {
    let mut config = config();
    config.deadline = Some(Duration::from_millis(200));
    let mut running = Running::start(config, 0);
    running.add_workers(1);
    let client = Client::connect(&running);
    let (gate, _) = client.begin(get("/gate"), true);
    running.gate.wait_for(1);
    let (answer, _sender) = client.begin(connect("/ws", "websocket"), false);
    assert_eq!(client.finish(answer).expect("an answer").status(), 504);
    running.gate.open();
    assert_eq!(client.finish(gate).expect("an answer").status(), 504);
    running.stop();
}

#[test]
fn the_books_balance_after_hundreds_of_random_lives() {
    const CONNECTIONS: u64 = 24;
    const SOCKETS: u64 = 30;
    let running = Running::start(config(), 6);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let running = &running;
            scope.spawn(move || {
                let mut random = Random(0x2545_f491_4f6c_dd1d ^ (thread + 1));
                for _ in 0..CONNECTIONS / 4 {
                    let client = Client::connect(running);
                    for _ in 0..SOCKETS {
                        live(&client, &mut random);
                    }
                    if random.below(2) == 0 {
                        client.vanish();
                    }
                }
            });
        }
    });
    running.wait_until("every connection has ended", |stats| {
        stats.connections_accepted == CONNECTIONS && stats.connections_open == 0
    });
    let ledger = std::sync::Arc::clone(&running.ledger);
    running.stop();
    ledger.assert_ended();
}

/// The life of one socket, some of which end in the midst of their handshake.
fn live(client: &Client, random: &mut Random) {
    if random.below(6) == 0 {
        let (answer, mut sender) = client.begin(connect("/ws", "websocket"), false);
        if random.below(2) == 0 {
            std::thread::sleep(Duration::from_micros(random.below(300)));
        }
        sender.send_reset(Reason::CANCEL);
        return drop(answer);
    }
    let mut tunnel = Tunnel::ask(client, &[]);
    for _ in 0..random.below(6) {
        let batch = orders(random);
        // The server may have closed meanwhile.
        if client.runtime.block_on(in_time(send_part(&mut tunnel.sender, batch.into()))).is_err() {
            return;
        }
    }
    match random.below(4) {
        0 => tunnel.sender.send_reset(Reason::CANCEL),
        1 => drop(tunnel.sender.send_data(Bytes::new(), true)),
        2 if tunnel.sender.send_data(close(1000).into(), false).is_ok() => {
            while tunnel.read().is_ok_and(|goes_on| goes_on) {}
        }
        _ => {}
    }
}
