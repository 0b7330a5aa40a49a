//! A client that says exactly which bytes it sends and when.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use socket2::SockRef;

use crate::running::PATIENCE;

pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
    /// Received and not yet read as an answer.
    received: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Client {
    /// Ends the connection with a reset.
    pub(crate) fn vanish(self) {
        SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO)).expect("an open socket");
    }

    pub(crate) fn end_of_sending(&self) {
        self.stream.shutdown(Shutdown::Write).expect("an open socket");
    }

    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("an open socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("an open socket");
        Self::over(stream)
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, received: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server takes what is sent");
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send(request(path).as_bytes());
        self.answer()
    }

    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer")
    }

    /// Reads one answer with a length.
    pub(crate) fn try_answer(&mut self) -> io::Result<Answer> {
        let end = loop {
            if let Some(at) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.receive()?;
        };
        let mut head = String::from_utf8(self.received.drain(..end).collect()).map_err(io::Error::other)?;
        head.make_ascii_lowercase();
        let status = head[9..12].parse().map_err(io::Error::other)?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
        while self.received.len() < length {
            self.receive()?;
        }
        let body = self.received.drain(..length).collect();
        Ok(Answer { status, head, body })
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 8 * 1024];
        let count = loop {
            match self.stream.read(&mut buffer) {
                // A process that was stopped and goes on is told this by waits that have a timeout.
                Err(problem) if problem.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.received.extend_from_slice(&buffer[..count]);
        Ok(())
    }

    /// Reads one frame of a WebSocket: its opcode and its payload.
    pub(crate) fn frame(&mut self) -> (u8, Vec<u8>) {
        loop {
            if let Some(frame) = take_frame(&mut self.received) {
                return frame;
            }
            self.receive().expect("a whole frame");
        }
    }

    /// Everything up to the end of the connection; a reset is an end too.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        loop {
            match self.receive() {
                Ok(()) => {}
                Err(problem)
                    if matches!(problem.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) =>
                {
                    return std::mem::take(&mut self.received);
                }
                Err(problem) => panic!("the connection has not ended: {problem}"),
            }
        }
    }
}

/// Takes the first frame of a WebSocket out of what was received, if it is there whole: its opcode and its payload.
pub(crate) fn take_frame(received: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (&first, &second) = (received.first()?, received.get(1)?);
    assert_eq!(first & 0xf0, 0x80, "the server's frames are final and have no reserved bit set");
    let (start, length) = match second {
        126 => (4, usize::from(u16::from_be_bytes([*received.get(2)?, *received.get(3)?]))),
        short @ 0..126 => (2, usize::from(short)),
        other => panic!("no frame of a test is so long, or masked: {other}"),
    };
    let payload = received.get(start..start + length)?.to_vec();
    received.drain(..start + length);
    Some((first & 0xf, payload))
}

pub(crate) fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
}

pub(crate) fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
