//! Bytes that the client has not taken yet.

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
}

impl Outbox {
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.written..]
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
    }
}
