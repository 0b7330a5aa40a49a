//! A message of the server as frames: encoded once, and compressed at most once for each size of window, however many
//! sockets it goes to.

use std::cell::OnceCell;

use parking_lot::Mutex;
use ushabti_proto::websocket::deflate::{Deflater, WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use ushabti_proto::websocket::frame::{Opcode, encode_header};
use ushabti_proto::websocket::message::{MessageKind, encode_compressed};

/// Up to this size a payload is copied behind its header, which is cheaper than a write of two parts.
const COPY_MAX: usize = 4 * 1024;
/// Shorter messages are not compressed: they gain little, and a compressor costs some microseconds.
const COMPRESS_MIN: usize = 256;
/// zlib's own choice between speed and size.
const LEVEL: u8 = 6;
/// Idle compressors that are kept. One takes up to 300 KiB.
const DEFLATERS_KEPT: usize = 4;
const WINDOWS: usize = (WINDOW_BITS_MAX - WINDOW_BITS_MIN + 1) as usize;

/// A message on its way to one socket or to many.
pub struct Outgoing<'a> {
    kind: MessageKind,
    data: &'a [u8],
    /// The header, and the payload behind it if that is short.
    head: Vec<u8>,
    compressed: [OnceCell<Vec<u8>>; WINDOWS],
}

impl<'a> Outgoing<'a> {
    /// A message; the data of a text must be UTF-8.
    pub fn new(kind: MessageKind, data: &'a [u8]) -> Self {
        let copied = if data.len() <= COPY_MAX { data } else { &[] };
        let mut head = Vec::with_capacity(16 + copied.len());
        let opcode = if kind == MessageKind::Text { Opcode::Text } else { Opcode::Binary };
        encode_header(&mut head, opcode, false, data.len());
        head.extend_from_slice(copied);
        Self { kind, data, head, compressed: [const { OnceCell::new() }; WINDOWS] }
    }

    /// The frame in two parts, for a socket with which compression with this window, if any, was agreed.
    pub(super) fn parts(&self, window_bits: Option<u8>) -> (&[u8], &[u8]) {
        match window_bits {
            Some(bits) if self.data.len() >= COMPRESS_MIN => (self.compressed(bits), &[]),
            _ if self.data.len() <= COPY_MAX => (&self.head, &[]),
            _ => (&self.head, self.data),
        }
    }

    fn compressed(&self, window_bits: u8) -> &[u8] {
        self.compressed[usize::from(window_bits - WINDOW_BITS_MIN)].get_or_init(|| {
            let mut deflater = take_deflater(window_bits);
            let mut frame = Vec::new();
            encode_compressed(&mut frame, self.kind, self.data, &mut deflater);
            give_back(deflater);
            frame
        })
    }
}

/// Compressors that no message uses at the moment. Their number is that of the threads that compress at the same time.
static DEFLATERS: Mutex<Vec<Deflater>> = Mutex::new(Vec::new());

fn take_deflater(window_bits: u8) -> Deflater {
    let mut kept = DEFLATERS.lock();
    let found = kept.iter().position(|deflater| deflater.window_bits() == window_bits);
    let found = found.map(|at| kept.swap_remove(at));
    drop(kept);
    found.unwrap_or_else(|| Deflater::new(LEVEL, window_bits))
}

fn give_back(deflater: Deflater) {
    let mut kept = DEFLATERS.lock();
    if kept.len() < DEFLATERS_KEPT {
        kept.push(deflater);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_payload_is_not_copied() {
        let data = vec![b'a'; COPY_MAX + 1];
        let outgoing = Outgoing::new(MessageKind::Text, &data);
        let (head, payload) = outgoing.parts(None);
        assert_eq!((head, payload.as_ptr()), (&[0x81, 126, 0x10, 0x01][..], data.as_ptr()));
    }

    #[test]
    fn each_window_is_compressed_for_once() {
        let data = vec![b'a'; COMPRESS_MIN];
        let outgoing = Outgoing::new(MessageKind::Binary, &data);
        let (first, _) = outgoing.parts(Some(15));
        assert_eq!(first[0], 0xc2, "a final binary frame with RSV1");
        assert_eq!(first.as_ptr(), outgoing.parts(Some(15)).0.as_ptr());
        assert_ne!(first.as_ptr(), outgoing.parts(Some(9)).0.as_ptr());
    }

    #[test]
    fn short_messages_are_not_compressed() {
        assert_eq!(Outgoing::new(MessageKind::Text, b"Hello").parts(Some(15)).0, b"\x81\x05Hello");
    }
}
