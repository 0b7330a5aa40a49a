//! The load of the publish bench: N subscribers of one topic and one publisher, over loopback, in one thread.
//!
//! Every message holds its number, and every subscriber must get every number once and in order: anything else ends the
//! run with exit status 1. A phase ends with a line of JSON on standard output; the next one begins when a line comes on
//! standard input, so that the caller can read the server's clocks while nothing happens.
//!
//! 1. open: all connections are upgraded.
//! 2. warm (not with `--warmup 0`): until every subscriber has got `--warmup` messages. A server may subscribe a
//!    connection after its 101 has left; what is lost before that is no fault.
//! 3. run: the messages that are measured.
//!
//! Needs Linux and the standard library alone: `rustc --edition 2024 -O load.rs`.

use std::collections::VecDeque;
use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::{Duration, Instant};

/// Without a delivery for so long a message counts as lost.
const STALL: Duration = Duration::from_secs(10);
/// After so long without every receipt a message of the warm-up is given up and followed by another.
const WARM_PATIENCE: Duration = Duration::from_millis(500);
/// Far below any listen queue: a full one would cost a SYN its second.
const BATCH: usize = 100;
/// Well below the ephemeral ports of one source address (28,232 by default).
const PER_ADDRESS: usize = 10_000;
/// A window's worth of frames fits every socket's send buffer, so a write never has to wait.
const WINDOW_MAX: usize = 256;

const DIGITS: usize = 16;
const FILL: &[u8; 16] = b" of the bench...";
const SIZE: usize = DIGITS + FILL.len();

/// The key and its answer of RFC 6455 section 1.3. The key need not be random where no intermediary is.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const TEXT: u8 = 1;
const PING: u8 = 9;
const PONG: u8 = 10;

/// `struct epoll_event`, which Linux packs on x86-64 and nowhere else.
#[cfg_attr(target_arch = "x86_64", repr(C, packed))]
#[cfg_attr(not(target_arch = "x86_64"), repr(C))]
#[derive(Clone, Copy)]
struct Event {
    events: u32,
    data: u64,
}

/// `struct sockaddr_in`; port and address in network order.
#[repr(C)]
struct Address {
    family: u16,
    port: u16,
    host: u32,
    zero: [u8; 8],
}

unsafe extern "C" {
    fn alarm(seconds: u32) -> u32;
    fn socket(domain: i32, kind: i32, protocol: i32) -> i32;
    fn bind(fd: i32, address: *const Address, length: u32) -> i32;
    fn connect(fd: i32, address: *const Address, length: u32) -> i32;
    fn setsockopt(fd: i32, level: i32, name: i32, value: *const i32, length: u32) -> i32;
    fn epoll_create1(flags: i32) -> i32;
    fn epoll_ctl(epoll: i32, operation: i32, fd: i32, event: *mut Event) -> i32;
    fn epoll_wait(epoll: i32, events: *mut Event, max: i32, timeout_ms: i32) -> i32;
}

struct Options {
    port: u16,
    subscribers: usize,
    messages: usize,
    window: usize,
    warmup: usize,
    limit_s: u32,
    /// Source addresses to pass over, where several loads run at once.
    skip: usize,
}

struct Connection {
    stream: TcpStream,
    /// The number of the newest message that came.
    last: u64,
    /// The beginning of a frame whose end has not come yet.
    rest: Vec<u8>,
}

/// A message that has been published and not yet come to every subscriber.
struct Flight {
    sent: Instant,
    missing: usize,
}

struct Load {
    epoll: i32,
    /// The subscribers, and the publisher after them.
    connections: Vec<Connection>,
    subscribers: usize,
    flights: VecDeque<Flight>,
    /// The number of the oldest message in flight, or of the next one.
    oldest: u64,
    /// From this number on a gap is a loss.
    strict_from: u64,
    /// Microseconds from publishing a message to its last receipt.
    took_us: Vec<u64>,
    progress: Instant,
    events: Vec<Event>,
    buffer: Vec<u8>,
}

fn main() {
    let outcome = options().and_then(|options| {
        // SAFETY: takes and returns a number. The signal's default action ends this process, whatever it hangs in.
        unsafe { alarm(options.limit_s) };
        run(&options)
    });
    if let Err(problem) = outcome {
        eprintln!("load: {problem}");
        std::process::exit(1);
    }
}

fn run(options: &Options) -> Result<(), String> {
    let begun = Instant::now();
    let mut load = Load::open(options)?;
    end_of_phase(&format!("\"phase\": \"open\", \"seconds\": {:.3}", begun.elapsed().as_secs_f64()))?;
    if options.warmup > 0 {
        load.warm_up(options.warmup)?;
        end_of_phase("\"phase\": \"warm\"")?;
    }
    let seconds = load.publish(options.messages, options.window)?;
    let deliveries = options.messages * options.subscribers;
    load.took_us.sort_unstable();
    let quantile = |per_cent: usize| load.took_us[(load.took_us.len() * per_cent).div_ceil(100).max(1) - 1];
    end_of_phase(&format!(
        "\"phase\": \"run\", \"deliveries\": {deliveries}, \"seconds\": {seconds:.6}, \"p50_us\": {}, \"p99_us\": {}",
        quantile(50),
        quantile(99)
    ))
}

/// Says what was measured and waits until the caller has read what it wants to.
fn end_of_phase(facts: &str) -> Result<(), String> {
    println!("{{{facts}}}");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map(|_| ()).map_err(|problem| problem.to_string())
}

fn options() -> Result<Options, String> {
    let mut options =
        Options { port: 0, subscribers: 1000, messages: 1000, window: 1, warmup: 50, limit_s: 120, skip: 0 };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let text = arguments.next().ok_or(format!("{name} needs a value"))?;
        let value: usize = text.parse().map_err(|_| format!("{name} {text}: not a number"))?;
        match name.as_str() {
            "--port" => options.port = u16::try_from(value).map_err(|_| format!("{value} is no port"))?,
            "--subscribers" => options.subscribers = value.clamp(1, 250 * PER_ADDRESS),
            "--messages" => options.messages = value.clamp(1, 10_000_000),
            "--window" => options.window = value.clamp(1, WINDOW_MAX),
            "--warmup" => options.warmup = value,
            "--limit" => options.limit_s = u32::try_from(value).unwrap_or(u32::MAX).clamp(1, 600),
            "--skip-addresses" => options.skip = value.min(100),
            _ => return Err(format!("unknown option {name}")),
        }
    }
    if options.port == 0 { Err("--port is missing".into()) } else { Ok(options) }
}

impl Load {
    fn open(options: &Options) -> Result<Load, String> {
        // SAFETY: takes and returns a number; the descriptor lives as long as the process.
        let epoll = unsafe { epoll_create1(0) };
        if epoll < 0 {
            return Err(system("epoll_create1"));
        }
        let count = options.subscribers;
        let mut connections = Vec::with_capacity(count + 1);
        while connections.len() < count {
            let batch = BATCH.min(count - connections.len());
            for _ in 0..batch {
                let address = options.skip + connections.len() / PER_ADDRESS;
                connections.push(dial(options.port, "/ws?topic=bench", address)?);
            }
            let fresh = connections.len() - batch;
            connections[fresh..].iter_mut().try_for_each(read_answer)?;
        }
        let mut publisher = dial(options.port, "/publish", 0)?;
        read_answer(&mut publisher)?;
        connections.push(publisher);
        for (index, connection) in connections.iter().enumerate() {
            let mut event = Event { events: 1, data: index as u64 };
            // SAFETY: `event` outlives the call, which copies it.
            if unsafe { epoll_ctl(epoll, 1, connection.stream.as_raw_fd(), &raw mut event) } != 0 {
                return Err(system("epoll_ctl"));
            }
        }
        Ok(Load {
            epoll,
            connections,
            subscribers: count,
            flights: VecDeque::new(),
            oldest: 1,
            strict_from: u64::MAX,
            took_us: Vec::with_capacity(options.messages),
            progress: Instant::now(),
            events: vec![Event { events: 0, data: 0 }; 1024],
            buffer: vec![0; 65_536],
        })
    }

    /// Publishes one message after the other until `count` of them came to everyone.
    fn warm_up(&mut self, count: usize) -> Result<(), String> {
        self.progress = Instant::now();
        let mut complete = 0;
        while complete < count {
            let sent = Instant::now();
            self.send()?;
            while !self.flights.is_empty() && sent.elapsed() < WARM_PATIENCE {
                self.turn(50)?;
            }
            if self.flights.pop_front().is_some() {
                self.oldest += 1;
                self.check_progress()?;
            } else {
                complete += 1;
                self.progress = Instant::now();
            }
        }
        self.took_us.clear();
        Ok(())
    }

    /// Publishes `count` messages, `window` of them in flight, and returns how many seconds that took.
    fn publish(&mut self, count: usize, window: usize) -> Result<f64, String> {
        self.strict_from = self.oldest;
        let end = self.oldest + count as u64;
        let begun = Instant::now();
        self.progress = begun;
        while self.oldest < end {
            while self.flights.len() < window && self.next_number() < end {
                self.send()?;
            }
            if self.turn(100)? > 0 {
                self.progress = Instant::now();
            }
            self.check_progress()?;
        }
        Ok(begun.elapsed().as_secs_f64())
    }

    fn check_progress(&self) -> Result<(), String> {
        if self.progress.elapsed() < STALL {
            return Ok(());
        }
        let missing = self.flights.front().map_or(self.subscribers, |flight| flight.missing);
        Err(format!("message {} has not come to {missing} of {} subscribers", self.oldest, self.subscribers))
    }

    fn next_number(&self) -> u64 {
        self.oldest + self.flights.len() as u64
    }

    fn send(&mut self) -> Result<(), String> {
        let number = self.next_number();
        let mut payload = format!("{number:0DIGITS$}").into_bytes();
        payload.extend_from_slice(FILL);
        self.flights.push_back(Flight { sent: Instant::now(), missing: self.subscribers });
        write_frame(&self.connections[self.subscribers], TEXT, &payload)
    }

    /// Reads what has come, waiting for it up to `timeout_ms`; returns how many messages that were.
    fn turn(&mut self, timeout_ms: i32) -> Result<usize, String> {
        let max = i32::try_from(self.events.len()).expect("a thousand events");
        // SAFETY: the kernel writes at most `max` events to `events`, which has room for them.
        let ready = unsafe { epoll_wait(self.epoll, self.events.as_mut_ptr(), max, timeout_ms) };
        let mut messages = 0;
        for at in 0..usize::try_from(ready).unwrap_or(0) {
            let index = usize::try_from(self.events[at].data).expect("an index of `connections`");
            messages += self.read(index)?;
        }
        Ok(messages)
    }

    /// One `read`, as epoll is level-triggered: a second that finds nothing would be the load's greatest cost.
    fn read(&mut self, index: usize) -> Result<usize, String> {
        let connection = &mut self.connections[index];
        let kept = connection.rest.len();
        self.buffer[..kept].copy_from_slice(&connection.rest);
        connection.rest.clear();
        let end = match connection.stream.read(&mut self.buffer[kept..]) {
            Ok(0) => return Err(format!("the server ended connection {index}")),
            Ok(count) => kept + count,
            Err(problem) if problem.kind() == ErrorKind::WouldBlock => kept,
            Err(problem) => return Err(format!("connection {index}: {problem}")),
        };
        let (mut at, mut messages) = (0, 0);
        while let Some((opcode, start, stop)) = frame(&self.buffer[at..end])? {
            let payload = &self.buffer[at + start..at + stop];
            at += stop;
            if opcode == PING {
                write_frame(&self.connections[index], PONG, payload)?;
                continue;
            }
            let number = number(opcode, payload).ok_or_else(|| {
                format!("connection {index}: not a message of the bench: opcode {opcode}, {payload:?}")
            })?;
            self.receive(index, number)?;
            messages += 1;
        }
        self.connections[index].rest.extend_from_slice(&self.buffer[at..end]);
        Ok(messages)
    }

    fn receive(&mut self, index: usize, number: u64) -> Result<(), String> {
        let connection = &mut self.connections[index];
        let last = std::mem::replace(&mut connection.last, number);
        if number != last + 1 && (number >= self.strict_from || number <= last) {
            return Err(format!("connection {index} got message {number} after {last}"));
        }
        if number >= self.next_number() {
            return Err(format!("connection {index} got message {number}, which was not published"));
        }
        // Older ones are those of the warm-up that were given up.
        if let Some(at) = number.checked_sub(self.oldest) {
            self.flights[usize::try_from(at).expect("less than the window")].missing -= 1;
        }
        while let Some(flight) = self.flights.front().filter(|flight| flight.missing == 0) {
            self.took_us.push(u64::try_from(flight.sent.elapsed().as_micros()).unwrap_or(u64::MAX));
            self.flights.pop_front();
            self.oldest += 1;
        }
        Ok(())
    }
}

/// The opcode of the first frame and where its payload starts and ends (RFC 6455 section 5.2); none if its end is not
/// there yet.
fn frame(bytes: &[u8]) -> Result<Option<(u8, usize, usize)>, String> {
    let [first, length, ..] = *bytes else { return Ok(None) };
    if first & 0xF0 != 0x80 || length > 125 {
        return Err(format!("a frame that no server of the bench sends: it begins {first:#04x} {length:#04x}"));
    }
    let stop = 2 + usize::from(length);
    Ok((stop <= bytes.len()).then_some((first & 0x0F, 2, stop)))
}

/// The number that a message of the bench holds.
fn number(opcode: u8, payload: &[u8]) -> Option<u64> {
    if opcode != TEXT || payload.len() != SIZE || &payload[DIGITS..] != FILL {
        return None;
    }
    payload[..DIGITS]
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')))
}

fn write_frame(connection: &Connection, opcode: u8, payload: &[u8]) -> Result<(), String> {
    // Any key will do: it protects intermediaries, and there are none (RFC 6455 section 10.3).
    let key = [0x37, 0xFA, 0x21, 0x3D];
    let length = u8::try_from(payload.len()).expect("a short payload");
    let mut bytes = vec![0x80 | opcode, 0x80 | length];
    bytes.extend_from_slice(&key);
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    // A frame is far smaller than what the socket can take at once.
    match (&connection.stream).write(&bytes) {
        Ok(count) if count == bytes.len() => Ok(()),
        Ok(count) => Err(format!("the server reads too slowly: {count} of {} bytes were taken", bytes.len())),
        Err(problem) => Err(format!("a write failed: {problem}")),
    }
}

/// Connects from the `nth` source address and sends the upgrade request (RFC 6455 section 4.1).
fn dial(port: u16, path: &str, nth: usize) -> Result<Connection, String> {
    let source = 0x7F00_0001 + u32::try_from(nth).expect("few addresses");
    let address = |host: u32, port: u16| Address { family: 2, port: port.to_be(), host: host.to_be(), zero: [0; 8] };
    let (from, to) = (address(source, 0), address(0x7F00_0001, port));
    let length = u32::try_from(size_of::<Address>()).expect("16 bytes");
    // SAFETY: numbers alone.
    let fd = unsafe { socket(2, 1 | 0o2_000_000, 0) };
    if fd < 0 {
        return Err(system("socket"));
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    let mut stream = unsafe { TcpStream::from_raw_fd(fd) };
    // SAFETY: the addresses outlive the calls, and `length` is their length.
    let failed = unsafe { bind(fd, &raw const from, length) != 0 || connect(fd, &raw const to, length) != 0 };
    if failed {
        return Err(system("connect"));
    }
    // A reset at the end instead of a minute of TIME_WAIT, which would use up the ports of the next run.
    // SAFETY: SO_LINGER takes two ints, and 8 bytes are given.
    unsafe { setsockopt(fd, 1, 13, [1, 0].as_ptr(), 8) };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    let prepared = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(STALL)));
    prepared.and_then(|()| stream.write_all(request.as_bytes())).map_err(|problem| problem.to_string())?;
    Ok(Connection { stream, last: 0, rest: Vec::new() })
}

/// Reads the 101; what follows it is kept.
fn read_answer(connection: &mut Connection) -> Result<(), String> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        let mut part = [0; 1024];
        match connection.stream.read(&mut part) {
            Ok(count) if count > 0 && bytes.len() < 16_384 => bytes.extend_from_slice(&part[..count]),
            Ok(_) => return Err("the server ended a connection in the handshake".into()),
            Err(problem) => return Err(format!("no answer to the handshake: {problem}")),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    if !head.starts_with("HTTP/1.1 101") || !head.contains(ACCEPT) {
        return Err(format!("no upgrade: {}", head.lines().next().unwrap_or_default()));
    }
    connection.rest = bytes.split_off(end);
    connection.stream.set_nonblocking(true).map_err(|problem| problem.to_string())
}

fn system(call: &str) -> String {
    format!("{call}: {}", std::io::Error::last_os_error())
}
