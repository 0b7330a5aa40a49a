//! Connections that speak TLS: handshakes that come to something or nothing, and HTTP over them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use ushabti_core::config::Config;
use ushabti_core::listener::Kind;
use ushabti_core::tls::{Clients, Settings, Tls};

use crate::client::{Client, post, request};
use crate::running::{PATIENCE, Running, config};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A server of TLS, and what its clients trust.
struct Secure {
    running: Running,
    client: Arc<ClientConfig>,
}

impl Secure {
    fn start(config: Config, workers: usize) -> Self {
        Self::start_with(config, workers, &[])
    }

    /// Both sides speak these protocols.
    fn start_with(config: Config, workers: usize, protocols: &[&[u8]]) -> Self {
        let settings = Settings {
            certificates: Vec::new(),
            self_signed: Some(vec!["localhost".to_owned()]),
            clients: Clients::Ignored,
            http2: protocols.contains(&&b"h2"[..]),
        };
        let tls = Tls::load(settings).expect("a certificate can be made");
        let mut roots = RootCertStore::empty();
        let certificate = tls.self_signed_certificate().expect("it was made").to_vec();
        roots.add(CertificateDer::from(certificate)).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let running = Running::start_kind(Config { tls: Some(Arc::new(tls)), ..config }, Kind::Tls, workers);
        Self { running, client: Arc::new(client) }
    }

    fn connect(&self) -> Client<Stream> {
        let stream = self.running.connect().stream;
        let name = "localhost".try_into().expect("a valid name");
        let connection = ClientConnection::new(Arc::clone(&self.client), name).expect("a valid configuration");
        Client::over(StreamOwned::new(connection, stream))
    }
}

#[test]
fn requests_are_answered_as_without_it() {
    let secure = Secure::start(config(), 2);
    let mut client = secure.connect();
    for _ in 0..3 {
        assert_eq!(client.get("/bytes/5").body, b"xxxxx");
    }
    let body = "0123456789".repeat(50_000);
    client.send(post("/echo", &body).as_bytes());
    assert!(client.answer().body == body.as_bytes(), "half a megabyte comes back as it was");
    let (one, two) = (request("/bytes/1"), request("/elsewhere"));
    client.send((one + &two).as_bytes());
    assert_eq!((client.answer().body, client.answer().body), (b"x".to_vec(), b"from elsewhere".to_vec()));
    drop(client);
    secure.running.stop();
}

#[test]
fn what_the_client_does_not_take_waits_and_arrives_whole() {
    let secure = Secure::start(config(), 1);
    let mut client = secure.connect();
    let length = 32 * 1024 * 1024;
    client.send(request(&format!("/bytes/{length}")).as_bytes());
    // So long does the system not buffer: most of it waits in the server.
    secure.running.wait_until("the answer is given", |stats| stats.answers[2] == 1);
    assert_eq!(client.answer().body.len(), length);
    client.send(b"GET /stream/100 HTTP/1.0\r\n\r\n");
    // The end of the connection ends the body, and TLS says that nobody has cut it short.
    let rest = client.rest();
    assert_eq!(rest.len() - rest.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") - 4, 6_553_600);
    drop(client);
    secure.running.stop();
}

#[test]
fn the_end_is_told_in_the_words_of_tls() {
    let secure = Secure::start(config(), 1);
    let mut client = secure.connect();
    client.send(b"GET /bytes/1 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert_eq!(client.answer().body, b"x");
    // rustls makes an error of an end that TLS does not tell.
    assert_eq!(client.stream.read(&mut [0; 10]).expect("a clean end"), 0);
    drop(client);
    secure.running.stop();
}

#[test]
fn who_ends_its_side_gets_its_answer() {
    let secure = Secure::start(config(), 1);
    let mut client = secure.connect();
    client.send(request("/sleep/50").as_bytes());
    client.stream.conn.send_close_notify();
    client.stream.flush().expect("the server takes it");
    assert_eq!(client.answer().body, b"slept");
    assert_eq!(client.stream.read(&mut [0; 10]).expect("a clean end"), 0);
    drop(client);
    secure.running.stop();
}

#[test]
fn an_end_without_a_word_is_one() {
    let secure = Secure::start(config(), 1);
    let mut client = secure.connect();
    assert_eq!(client.get("/bytes/1").status, 200);
    client.stream.sock.shutdown(std::net::Shutdown::Both).expect("an open socket");
    secure.running.wait_until("the connection has ended", |stats| stats.connections_open == 0);
    drop(client);
    secure.running.stop();
}

#[test]
fn plain_http_is_answered_400() {
    let secure = Secure::start(config(), 1);
    let mut client = secure.running.connect();
    let answer = client.get("/bytes/1");
    assert_eq!(answer.status, 400);
    assert!(String::from_utf8_lossy(&answer.body).contains("https://"), "{answer:?}");
    assert_eq!(client.rest(), b"");
    drop(client);
    secure.running.stop();
}

#[test]
fn garbage_is_answered_by_an_alert() {
    let secure = Secure::start(config(), 1);
    for garbage in
        [&b"\x16\x03\x01\x00\x04abcdefgh"[..], b"\x00\x01\x02\x03\x04\x05\x06", b"\x80\x2e\x01\x00\x02", &[255; 300]]
    {
        let mut client = secure.running.connect();
        client.send(garbage);
        client.end_of_sending();
        let rest = client.rest();
        assert!(rest.len() >= 7 && rest[0] == 21, "{garbage:?} is answered by {rest:?}");
    }
    secure.running.wait_until("all are counted", |stats| stats.refusals[10] == 4);
    assert_eq!(secure.connect().get("/bytes/1").status, 200);
    secure.running.stop();
}

/// The greeting of a client of TLS 1.1, as OpenSSL writes it.
fn hello_of_tls_1_1() -> Vec<u8> {
    let body = [&[3, 2][..], &[7; 32], &[0, 0, 2, 0xc0, 0x13, 1, 0]].concat();
    let length = body.len() as u8;
    [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat()
}

#[test]
fn a_client_of_an_old_version_is_said_to_be_one() {
    let secure = Secure::start(config(), 1);
    let mut client = secure.running.connect();
    client.send(&hello_of_tls_1_1());
    assert_eq!(client.rest().first(), Some(&21), "an alert");
    drop(client);
    let notices = secure.running.server.shared().journal.take().expect("it is not closed").notices;
    let sentence = "TLS handshake failed: the client offers TLS 1.1 at most; 1.2 and 1.3 are spoken here";
    assert!(notices.iter().any(|(_, text)| text.ends_with(sentence)), "{notices:?}");
    secure.running.stop();
}

#[test]
fn who_speaks_http2_over_tls_without_asking_for_it_is_told_how() {
    for (http2, sentence) in
        [(true, "HTTP/2 over TLS is chosen by ALPN"), (false, "only HTTP/1.0 and HTTP/1.1 are spoken here")]
    {
        let secure = Secure::start(Config { http2, ..config() }, 1);
        let mut client = secure.connect();
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
        let answer = client.answer();
        assert_eq!(answer.status, 505);
        assert!(String::from_utf8_lossy(&answer.body).contains(sentence), "{answer:?}");
        drop(client);
        secure.running.stop();
    }
}

#[test]
fn a_handshake_that_does_not_end_is_cut_off_in_time() {
    let mut config = config();
    config.header_timeout = Duration::from_millis(300);
    let secure = Secure::start(config, 1);
    let (mut silent, mut begun) = (secure.running.connect(), secure.running.connect());
    begun.send(b"\x16\x03\x01\x02");
    assert_eq!(silent.rest()[..7], [21, 3, 3, 0, 2, 1, 90], "it is told so");
    assert_eq!(begun.rest()[..7], [21, 3, 3, 0, 2, 1, 90], "it is told so");
    drop((silent, begun));
    secure.running.stop();
}

#[test]
fn the_oldest_of_too_many_handshakes_has_to_go() {
    let mut config = config();
    config.handshakes_max = 10;
    let secure = Secure::start(config, 1);
    let mut idle: Vec<_> = (0..30).map(|_| secure.running.connect()).collect();
    secure.running.wait_until("all are there", |stats| stats.connections_accepted == 30);
    // Those who came just now are left alone.
    assert_eq!(secure.connect().get("/bytes/1").status, 200);
    assert_eq!(secure.running.stats().refusals[10], 0);
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(secure.connect().get("/bytes/1").status, 200);
    for client in &mut idle[..20] {
        assert_eq!(client.rest(), b"");
    }
    secure.running.wait_until("they are counted", |stats| stats.refusals[10] >= 20);
    idle[29].stream.set_read_timeout(Some(Duration::from_millis(50))).expect("an open socket");
    idle[29].stream.read(&mut [0; 1]).expect_err("the newest is there still");
    drop(idle);
    secure.running.stop();
}

#[test]
fn who_is_turned_away_is_told_so_by_tls() {
    let mut config = config();
    config.connections_max = 1;
    let secure = Secure::start(config, 1);
    let mut first = secure.connect();
    assert_eq!(first.get("/bytes/1").status, 200);
    let mut second = secure.connect();
    second.stream.flush().expect("the handshake");
    assert_eq!(second.answer().status, 503);
    drop((first, second));
    secure.running.stop();
}

#[test]
fn who_is_turned_away_is_told_so_by_http2() {
    let mut config = config();
    config.connections_max = 1;
    let secure = Secure::start_with(config, 1, &[b"h2"]);
    let mut first = secure.connect();
    first.stream.flush().expect("the handshake");
    secure.running.wait_until("it is there", |stats| stats.connections_open == 1);
    let mut second = secure.connect();
    second.stream.flush().expect("the handshake");
    let rest = second.rest();
    assert_eq!(rest[..9], [0, 0, 0, 4, 0, 0, 0, 0, 0], "settings");
    assert_eq!((rest[12], rest[22..26].to_vec()), (7, vec![0, 0, 0, 11]), "ENHANCE_YOUR_CALM");
    assert!(rest.ends_with(b"the server has as many connections as it can take"));
    assert_eq!(secure.running.stats().refusals[5], 1);
    drop((first, second));
    secure.running.stop();
}

#[test]
fn a_stopping_server_waits_for_a_handshake_that_has_begun() {
    let secure = Secure::start(config(), 1);
    let mut client = secure.connect();
    client.stream.conn.write_tls(&mut client.stream.sock).expect("the server takes it");
    secure.running.wait_until("its greeting has come", |stats| stats.bytes_received > 0);
    secure.running.server.drain();
    assert_eq!(client.get("/bytes/1").status, 200);
    drop(client);
    secure.running.stop();
}

#[test]
fn a_port_may_send_everybody_to_the_one_of_tls() {
    let running = Running::start_kind(config(), Kind::Redirect, 1);
    for (head, status, location) in [
        ("GET /a?b=c HTTP/1.1\r\nHost: example.org\r\n\r\n", 308, Some("https://example.org/a?b=c")),
        ("GET / HTTP/1.1\r\nHost: example.org:8080\r\n\r\n", 308, Some("https://example.org/")),
        ("GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", 308, Some("https://[::1]/")),
        ("POST http://other/x HTTP/1.1\r\nHost: other\r\nContent-Length: 2\r\n\r\nhi", 308, Some("https://other/x")),
        ("OPTIONS * HTTP/1.1\r\nHost: example.org\r\n\r\n", 308, Some("https://example.org/")),
        ("CONNECT example.org:80 HTTP/1.1\r\nHost: example.org:80\r\n\r\n", 400, None),
        ("GET / HTTP/1.0\r\n\r\n", 400, None),
    ] {
        let mut client = running.connect();
        client.send(head.as_bytes());
        let answer = client.answer();
        let found = answer.head.lines().find_map(|line| line.strip_prefix("location: "));
        assert_eq!((answer.status, found), (status, location), "{head:?}");
    }
    let second = running.server.bind("127.0.0.1:0", Kind::Tls, false).expect("loopback can be bound");
    let mut client = running.connect();
    client.send(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n");
    let port = second[0].rsplit(':').next().expect("a port");
    assert!(client.answer().head.contains(&format!("https://example.org:{port}/\r\n")));
    drop(client);
    running.stop();
}

#[test]
fn a_port_of_redirects_may_be_told_another_port_than_the_servers_own() {
    for (port, shown) in [(8443, ":8443"), (443, "")] {
        let running = Running::start_kind(Config { redirect_port: Some(port), ..config() }, Kind::Redirect, 1);
        drop(running.server.bind("127.0.0.1:0", Kind::Tls, false).expect("loopback can be bound"));
        let mut client = running.connect();
        client.send(b"GET /a HTTP/1.1\r\nHost: example.org:8080\r\n\r\n");
        let answer = client.answer();
        assert!(answer.head.contains(&format!("location: https://example.org{shown}/a\r\n")), "{answer:?}");
        drop(client);
        running.stop();
    }
}

#[test]
fn a_port_of_redirects_serves_nobody_by_another_protocol() {
    let running = Running::start_kind(config(), Kind::Redirect, 1);
    let mut client = running.connect();
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    assert!(client.rest().starts_with(b"HTTP/1.1 505 "), "HTTP/2 is none of its protocols");
    drop(client);
    assert_eq!(running.stop().dispatched, 0);
}

#[test]
fn a_stopping_server_does_not_wait_for_a_request_that_does_not_come() {
    let secure = Secure::start(config(), 1);
    let mut client = secure.connect();
    client.stream.conn.write_tls(&mut client.stream.sock).expect("the server takes it");
    secure.running.wait_until("its greeting has come", |stats| stats.bytes_received > 0);
    secure.running.server.drain();
    client.stream.conn.complete_io(&mut client.stream.sock).expect("the handshake ends");
    let began = std::time::Instant::now();
    assert_eq!(client.stream.read(&mut [0; 10]).expect("a clean end"), 0);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(client);
    secure.running.stop();
}

#[test]
fn a_large_answer_does_not_hold_up_others() {
    let secure = Secure::start(config(), 2);
    let mut large = secure.connect();
    large.send((request("/bytes/300000000") + &request("/bytes/1")).as_bytes());
    let mut other = secure.connect();
    assert_eq!(other.get("/bytes/1").status, 200);
    let reading = std::thread::spawn(move || {
        // In pieces as large as the socket has them: it is never full.
        assert_eq!(large.answer().body.len(), 300_000_000);
        assert_eq!(large.answer().body, b"x");
    });
    let mut answers = 0;
    while !reading.is_finished() {
        assert_eq!(other.get("/bytes/1").status, 200);
        answers += 1;
    }
    reading.join().expect("it arrives whole");
    assert!(answers > 10, "{answers}");
    secure.running.stop();
}

#[test]
fn a_flood_of_handshakes_that_vanish_leaves_nothing_behind() {
    let secure = Secure::start(config(), 2);
    for round in 0..300 {
        let mut client = secure.connect();
        let mut wire = Vec::new();
        client.stream.conn.write_tls(&mut wire).expect("a vector takes it");
        let sent = wire.len() * (round % 4) / 3;
        client.stream.sock.write_all(&wire[..sent]).expect("the server takes it");
        if round % 3 == 0 {
            drop(client);
        } else {
            Client::over(client.stream.sock).vanish();
        }
    }
    assert_eq!(secure.connect().get("/bytes/1").status, 200);
    let until = std::time::Instant::now() + PATIENCE;
    secure.running.wait_until("they have left", |stats| stats.connections_open == 0);
    assert!(std::time::Instant::now() < until);
    secure.running.stop();
}
