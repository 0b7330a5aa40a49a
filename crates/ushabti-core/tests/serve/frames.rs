//! HTTP/2 from clients that say exactly which frames they send: floods, frames that stop midway, prefaces that are none.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::running::{PATIENCE, Running, config};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The field block of a request (RFC 7541): indexed where the static table has it, literal where not.
fn fields(method: u8, path: &str) -> Vec<u8> {
    [&[method, 0x86, 0x01, 4], b"test".as_slice(), &[0x04, path.len() as u8], path.as_bytes()].concat()
}

pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &fields(0x82, path))
}

pub(crate) fn begin_post(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &fields(0x83, path))
}

/// Asks for a WebSocket (RFC 8441).
pub(crate) fn connect(stream: u32, path: &str) -> Vec<u8> {
    let literals: [(&[u8], &[u8]); 2] = [(b":protocol", b"websocket"), (b"sec-websocket-version", b"13")];
    // A method that the static table does not have, in the place of the one that it has.
    let mut block = [&[0x02, 7], b"CONNECT".as_slice(), &fields(0x82, path)[1..]].concat();
    for (name, value) in literals {
        block.extend([&[0, name.len() as u8], name, &[value.len() as u8], value].concat());
    }
    frame(HEADERS, END_HEADERS, stream, &block)
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of a reset, or of the frame that ends the connection.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }
}

pub(crate) struct Raw(TcpStream);

impl Raw {
    fn connect(running: &Running) -> Self {
        let stream = TcpStream::connect(running.address).expect("the server listens");
        stream.set_nodelay(true).expect("an open socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("an open socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("an open socket");
        Self(stream)
    }

    /// One that has said its preface and its settings.
    pub(crate) fn open(running: &Running) -> Self {
        Self::open_with(running, &[])
    }

    /// One whose answers may each be so long until it says more.
    pub(crate) fn with_window(running: &Running, bytes: u32) -> Self {
        Self::open_with(running, &[&[0, 4], bytes.to_be_bytes().as_slice()].concat())
    }

    fn open_with(running: &Running, settings: &[u8]) -> Self {
        let mut client = Self::connect(running);
        client.send(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat());
        client
    }

    /// Waits until the server has read all that was sent.
    pub(crate) fn catch_up(&mut self) {
        self.catch_up_into(&mut Vec::new());
    }

    /// The same, and keeps what the server has sent.
    pub(crate) fn catch_up_into(&mut self, frames: &mut Vec<Frame>) {
        self.send(&frame(PING, 0, 0, &[0; 8]));
        let is_answer = |frame: &Frame| frame.kind == PING && frame.flags == 1;
        while !frames.last().is_some_and(is_answer) {
            frames.push(self.next().expect("the connection has not ended"));
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the server takes what is sent");
    }

    pub(crate) fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        match self.0.read_exact(&mut head) {
            Ok(()) => {}
            Err(problem) if matches!(problem.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                return None;
            }
            Err(problem) => panic!("neither a frame nor the end: {problem}"),
        }
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.0.read_exact(&mut payload).expect("a whole frame");
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// The next frame of a kind.
    pub(crate) fn wait_for(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().expect("the connection has not ended");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Everything up to the end.
    fn text(mut self) -> String {
        let mut all = Vec::new();
        self.0.read_to_end(&mut all).expect("the connection ends");
        String::from_utf8_lossy(&all).into_owned()
    }

    /// The same connection, for a thread that reads.
    pub(crate) fn reader(&self) -> Self {
        Self(self.0.try_clone().expect("an open socket"))
    }

    /// Reads in a thread of its own, and tells of the code with which the server ends the connection.
    fn told_to_go(&self) -> Receiver<u32> {
        let mut reader = self.reader();
        let (tell, told) = channel();
        std::thread::spawn(move || {
            while let Some(frame) = reader.next() {
                if frame.kind == GOAWAY {
                    // Whoever does not wait for it any more has failed already.
                    let _ = tell.send(frame.code());
                }
            }
        });
        told
    }
}

/// Makes the next frames of a flood, by their number.
type Next<'a> = Box<dyn FnMut(u32) -> Vec<u8> + 'a>;

/// Sends what `next` makes until the server ends the connection, and returns the code that it gives.
fn flood(running: &Running, begin: &[u8], mut next: impl FnMut(u32) -> Vec<u8>) -> u32 {
    let mut client = Raw::open(running);
    let told = client.told_to_go();
    client.send(begin);
    let until = Instant::now() + PATIENCE;
    for round in 0.. {
        assert!(Instant::now() < until, "the flood goes on and on");
        let some: Vec<u8> = (0..50).flat_map(|at| next(round * 50 + at)).collect();
        if client.0.write_all(&some).is_err() {
            break;
        }
        if let Ok(code) = told.try_recv() {
            return code;
        }
    }
    told.recv_timeout(PATIENCE).expect("the server says why")
}

#[test]
fn floods_are_ended_and_others_are_served() {
    let mut config = config();
    // One worker, so that what a flood gives it to do would keep it from the others.
    config.queue_max = 64;
    let running = Running::start(config, 1);
    let ping = frame(PING, 0, 0, &[0; 8]);
    let too_wide = |stream: u32| frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes());
    let odd = |number: u32| 2 * number + 1;
    let floods: [(&str, Vec<u8>, Next<'_>); 10] = [
        ("resets", vec![], Box::new(|at| [get(odd(at), "/bytes/1"), reset(odd(at))].concat())),
        ("resets of bodies", vec![], Box::new(|at| [begin_post(odd(at), "/echo"), reset(odd(at))].concat())),
        (
            "resets that are asked for",
            vec![],
            Box::new(|at| [begin_post(odd(at), "/echo"), too_wide(odd(at))].concat()),
        ),
        ("pings", vec![], Box::new(|_| ping.clone())),
        ("settings", vec![], Box::new(|_| frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]))),
        ("priorities", vec![], Box::new(|at| frame(PRIORITY, 0, odd(at), &[0, 0, 0, 0, 16]))),
        ("windows", vec![], Box::new(|_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]))),
        ("empty data", begin_post(1, "/echo"), Box::new(|_| frame(DATA, 0, 1, &[]))),
        ("unknown frames", vec![], Box::new(|_| frame(0xfa, 0, 0, b"what"))),
        ("continuations", frame(HEADERS, 0, 1, &fields(0x82, "/")), Box::new(|_| frame(CONTINUATION, 0, 1, &[]))),
    ];
    let mut healthy = running.connect();
    for (name, begin, next) in floods {
        assert_eq!(flood(&running, &begin, next), ENHANCE_YOUR_CALM, "{name}");
        assert_eq!(healthy.get("/bytes/1").status, 200, "{name}");
    }
    drop(healthy);
    running.stop();
}

#[test]
fn a_field_block_that_unfolds_without_end_is_refused() {
    let running = Running::start(config(), 1);
    // A field of 4000 bytes goes into the dynamic table, and is named by one byte many times.
    let large = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e], vec![b'y'; 4000].as_slice()].concat();
    let unfolding = |times| [fields(0x82, "/bytes/1"), large.clone(), vec![0xbe; times]].concat();
    let mut client = Raw::open(&running);
    client.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &unfolding(16)));
    // h2 answers by itself: the status is a literal, 431, in Huffman's code or not.
    let answer = client.wait_for(HEADERS);
    assert_eq!((answer.stream, answer.payload[0], answer.flags), (1, 0x48, END_STREAM | END_HEADERS));
    client.send(&get(3, "/bytes/1"));
    let answer = client.wait_for(HEADERS);
    assert_eq!((answer.stream, answer.payload[0]), (3, 0x88), "the connection goes on");
    client.send(&frame(HEADERS, END_STREAM | END_HEADERS, 5, &unfolding(10_000)));
    assert_eq!(client.wait_for(GOAWAY).code(), ENHANCE_YOUR_CALM, "that is no mistake");
    drop(client);
    running.stop();
}

#[test]
fn requests_that_are_reset_while_workers_have_them_are_bounded() {
    let mut config = config();
    config.http2_streams = 2;
    let running = Running::start(config, 8);
    let mut client = Raw::open(&running);
    for number in 0..4 {
        let stream = 2 * number + 1;
        client.send(&get(stream, "/gate"));
        running.gate.wait_for(number as usize + 1);
        client.send(&reset(stream));
    }
    client.send(&get(9, "/gate"));
    let refused = client.wait_for(RST_STREAM);
    assert_eq!((refused.stream, refused.code()), (9, REFUSED_STREAM));
    running.gate.open();
    // The last reset may be seen behind the answer that it comes too late for.
    running.wait_until("the workers are free", |stats| stats.answers.iter().sum::<u64>() == 4);
    client.send(&get(11, "/bytes/1"));
    assert_eq!(client.wait_for(HEADERS).stream, 11);
    drop(client);
    running.stop();
}

#[test]
fn a_frame_that_stops_midway_ends_the_connection_in_time() {
    let mut config = config();
    config.header_timeout = Duration::from_millis(300);
    let running = Running::start(config, 1);
    let whole = get(1, "/bytes/1");
    let block = fields(0x82, "/bytes/1");
    for begun in [&whole[..4], &whole[..12], &frame(HEADERS, END_STREAM, 1, &block)] {
        let mut client = Raw::open(&running);
        client.send(begun);
        let began = Instant::now();
        client.wait_for(GOAWAY);
        assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
    }
    // And one that says nothing after its preface rests, for the keep-alive time.
    let mut quiet = Raw::open(&running);
    std::thread::sleep(Duration::from_millis(600));
    quiet.send(&whole);
    assert_eq!(quiet.wait_for(HEADERS).stream, 1);
    drop(quiet);
    running.stop();
}

#[test]
fn the_grace_of_a_stop_ends_though_an_older_deadline_ends_within_it() {
    let mut config = config();
    config.body_timeout = Duration::from_millis(200);
    let running = Running::start(config, 1);
    let mut client = Raw::open(&running);
    // The clock is set for the body, which has come when that is over.
    client.send(&[begin_post(1, "/echo"), frame(DATA, END_STREAM, 1, b"body")].concat());
    assert_eq!(client.wait_for(DATA).payload, b"body");
    // The client does not go by itself.
    running.stop();
    client.wait_for(GOAWAY);
}

#[test]
fn a_client_that_takes_nothing_is_cut() {
    let mut config = config();
    config.write_timeout = Duration::from_millis(300);
    let running = Running::start(config, 2);
    for path in ["/bytes/30000000", "/stream/2000"] {
        let mut client = Raw::connect(&running);
        // Its windows are as large as can be, and it reads nothing.
        let windows = [
            frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]),
            frame(WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes()),
        ];
        client.send(&[PREFACE, &windows.concat(), &get(1, path)].concat());
        running.wait_until("it is served", |stats| stats.connections_open == 1);
        running.wait_until("it is cut", |stats| stats.connections_open == 0);
    }
    running.stop();
}

#[test]
fn a_body_that_is_not_as_long_as_it_says_resets_its_stream() {
    let running = Running::start(config(), 1);
    let mut client = Raw::open(&running);
    // content-length: 5
    let block = [fields(0x83, "/echo"), vec![0x0f, 13, 1, b'5']].concat();
    client.send(&[frame(HEADERS, END_HEADERS, 1, &block), frame(DATA, END_STREAM, 1, b"four")].concat());
    let reset = client.wait_for(RST_STREAM);
    assert_eq!((reset.stream, reset.code()), (1, PROTOCOL_ERROR));
    client.send(&[begin_post(3, "/echo"), frame(DATA, 0, 3, b"bo"), frame(DATA, END_STREAM, 3, b"dy")].concat());
    let answer = client.wait_for(DATA);
    assert_eq!((answer.stream, answer.payload.as_slice(), answer.flags), (3, b"body".as_slice(), END_STREAM));
    drop(client);
    running.stop();
}

#[test]
fn trailers_are_checked_and_dropped() {
    let running = Running::start(config(), 1);
    let mut client = Raw::open(&running);
    let trailers = |field: &[u8]| frame(HEADERS, END_STREAM | END_HEADERS, 1, field);
    client.send(&[begin_post(1, "/echo"), frame(DATA, 0, 1, b"body"), trailers(b"\x00\x01a\x01b")].concat());
    assert_eq!(client.wait_for(DATA).payload, b"body");
    // The same with white space before the value.
    let mut other = Raw::open(&running);
    other.send(&[begin_post(1, "/echo"), frame(DATA, 0, 1, b"body"), trailers(b"\x00\x01a\x02 b")].concat());
    assert!(String::from_utf8_lossy(&other.wait_for(DATA).payload).starts_with("400 Bad Request: "));
    drop((client, other));
    running.stop();
}

#[test]
fn the_preface_may_come_in_any_pieces() {
    let running = Running::start(config(), 1);
    let mut client = Raw::connect(&running);
    for byte in [PREFACE, &frame(SETTINGS, 0, 0, &[]), &get(1, "/bytes/1")].concat() {
        client.send(&[byte]);
    }
    assert_eq!(client.wait_for(DATA).payload, b"x");
    drop(client);
    running.stop();
}

#[test]
fn a_preface_without_settings_is_none() {
    let running = Running::start(config(), 1);
    let firsts = [get(1, "/bytes/1"), frame(SETTINGS, 1, 0, &[]), frame(PING, 0, 0, &[0; 8]), frame(0xee, 0, 0, &[])];
    for (number, first) in firsts.iter().enumerate() {
        for is_split in [false, true] {
            let mut client = Raw::connect(&running);
            if is_split {
                client.send(PREFACE);
                running.wait_until("it is HTTP/2", |stats| stats.connections_open == 1);
            }
            let start: &[u8] = if is_split { b"" } else { PREFACE };
            client.send(&[start, first, &frame(SETTINGS, 0, 0, &[]), &get(3, "/bytes/1")].concat());
            while let Some(frame) = client.next() {
                assert!(matches!(frame.kind, SETTINGS | WINDOW_UPDATE), "frame {number} was taken for settings");
            }
            drop(client);
            running.wait_until("it is over", |stats| stats.connections_open == 0);
        }
    }
    running.stop();
}

#[test]
fn what_is_no_preface_is_answered_as_http1() {
    let mut limits = config();
    limits.header_timeout = Duration::from_millis(300);
    let running = Running::start(limits, 1);
    let answer = |bytes: &[u8], ends: bool| {
        let mut client = Raw::connect(&running);
        client.send(bytes);
        if ends {
            client.0.shutdown(Shutdown::Write).expect("an open socket");
        }
        client.text()
    };
    let cases: [(&[u8], bool, &str); 6] = [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", true, "HTTP/1.1 505 "),
        (b"PRI * HTTP/2.0\r\n\r\n\r\n\r\n\r\n\r\n", true, "HTTP/1.1 505 "),
        (b"PRI * HTTP/2.0\r\n\r\n", true, "HTTP/1.1 400 "),
        (b"PRI * HTTP/2.0\r\n\r\n", false, "HTTP/1.1 408 "),
        (b"PRI", false, "HTTP/1.1 408 "),
        (b"P", true, "HTTP/1.1 400 "),
    ];
    for (bytes, ends, expected) in cases {
        let text = answer(bytes, ends);
        assert!(text.starts_with(expected), "{:?}: {text}", String::from_utf8_lossy(bytes));
    }
    let text = answer(b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", false);
    assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("hi"), "what begins like it is served: {text}");
    running.stop();
}

#[test]
fn where_it_is_switched_off_the_preface_is_none() {
    let mut config = config();
    config.http2 = false;
    let running = Running::start(config, 1);
    let mut client = Raw::connect(&running);
    client.send(PREFACE);
    assert!(client.text().starts_with("HTTP/1.1 505 "));
    running.stop();
}
