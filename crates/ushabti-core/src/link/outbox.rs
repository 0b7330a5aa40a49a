//! Bytes that the client has not taken yet.

use super::secure::Secure;

/// What is to be written, in order.
#[derive(Default)]
pub(super) struct Outbox {
    pub(super) bytes: Vec<u8>,
    pub(super) written: usize,
    /// How the exchange ends when the outbox is empty; `None` while more may follow.
    pub(super) end: Option<bool>,
    /// The number of the exchange whose answer has begun last.
    pub(super) answering: u32,
    /// A Close frame was put in, or is about to be: nothing else may follow it (RFC 6455 section 5.5.1).
    pub(super) is_sealed: bool,
    /// Frames are gathered, and written when this ends: see `Link::hold`.
    pub(super) is_held: bool,
    /// Senders that wait for room.
    pub(super) waiting: u32,
    /// The state of TLS, if the connection speaks it, and records that wait before the bytes.
    pub(super) secure: Option<Box<Secure>>,
    /// The socket's side is closed when everything is written.
    pub(super) is_last: bool,
}

impl Outbox {
    /// What is neither written nor, with TLS, encrypted.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    fn sealed(&self) -> usize {
        self.secure.as_ref().map_or(0, |secure| secure.rest().len())
    }

    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.rest().len() + self.sealed()
    }

    /// Whether nothing was put in since it was emptied, so that what is written now comes next on the wire.
    pub(super) fn is_clear(&self) -> bool {
        self.bytes.is_empty() && self.sealed() == 0
    }

    /// Whether everything is written.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        // A long stream to a slow client never empties the outbox, so what was written must be cut off on the way.
        if self.written > self.bytes.len() / 2 {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Throws away what is there, with the memory that it took.
    pub(super) fn empty(&mut self) {
        self.bytes = Vec::new();
        self.written = 0;
        self.end = None;
        if let Some(secure) = &mut self.secure {
            secure.empty();
        }
    }
}
