//! Bytes that the client has not taken yet.

use std::collections::VecDeque;

use super::secure::Secure;

/// Pieces are put together up to this size: each costs a system call.
const CHUNK_MAX: usize = 256 * 1024;
/// More than this is copied before the lock is taken. The IO thread may want it, and with that thread everybody would wait: a copy
/// of a gigabyte into new memory takes seconds. As a rule no socket takes more than this at once (`tcp_wmem`), so it is hardly
/// ever copied for nothing.
const COPY_MAX: usize = 4 * 1024 * 1024;

/// What is to be written, in order.
#[derive(Default)]
pub(super) struct Outbox {
    /// What is neither written nor, with TLS, encrypted.
    chunks: VecDeque<Vec<u8>>,
    /// How much of the first chunk is.
    written: usize,
    /// Bytes in all of them, without those.
    plain: usize,
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

/// What is to be sent, in two parts.
pub(super) struct Parts<'a> {
    pub(super) head: &'a [u8],
    pub(super) body: &'a [u8],
    /// The body, to be kept: if it is much.
    copy: Option<Vec<u8>>,
}

impl<'a> Parts<'a> {
    /// Before the lock of the outbox is taken.
    pub(super) fn new(head: &'a [u8], body: &'a [u8]) -> Self {
        Self { head, body, copy: (body.len() > COPY_MAX).then(|| body.to_vec()) }
    }

    pub(super) fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

impl Outbox {
    /// The next bytes that are neither written nor, with TLS, encrypted; empty only if there are none.
    pub(super) fn next(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |first| &first[self.written..])
    }

    /// So many of them are.
    pub(super) fn taken(&mut self, count: usize) {
        self.plain -= count;
        self.written += count;
        // The last chunk stays, as a sign that whoever writes has not noted yet that this was all.
        if self.chunks.len() > 1 && self.chunks[0].len() == self.written {
            self.chunks.pop_front();
            self.written = 0;
        }
    }

    /// Takes them all out.
    pub(super) fn take_all(&mut self) -> Vec<u8> {
        let all =
            std::mem::take(&mut self.chunks).into_iter().flatten().skip(std::mem::take(&mut self.written)).collect();
        self.plain = 0;
        all
    }

    fn sealed(&self) -> usize {
        self.secure.as_ref().map_or(0, |secure| secure.rest().len())
    }

    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.plain + self.sealed()
    }

    /// Whether nothing was put in since it was emptied, so that what is written now comes next on the wire.
    pub(super) fn is_clear(&self) -> bool {
        !self.has_chunks() && self.sealed() == 0
    }

    /// Whether bytes were put in since it was emptied.
    pub(super) fn has_chunks(&self) -> bool {
        !self.chunks.is_empty()
    }

    /// Whether everything is written.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        match self.chunks.back_mut() {
            Some(last) if last.len() + bytes.len() <= CHUNK_MAX => last.extend_from_slice(bytes),
            _ if bytes.is_empty() => {}
            _ => self.chunks.push_back(bytes.to_vec()),
        }
        self.plain += bytes.len();
    }

    /// Appends what is left of `parts` when `sent` bytes of them were written.
    pub(super) fn append_rest(&mut self, parts: Parts<'_>, sent: usize) {
        let Parts { head, body, copy } = parts;
        let (head, sent) = (&head[sent.min(head.len())..], sent.saturating_sub(head.len()));
        self.append(head);
        match copy {
            Some(copy) if sent < copy.len() => {
                if sent > 0 {
                    assert!(!self.has_chunks(), "it was written because nothing was before it");
                    self.written = sent;
                }
                self.plain += copy.len() - sent;
                self.chunks.push_back(copy);
            }
            _ => self.append(&body[sent..]),
        }
    }

    /// Throws away what is there, with the memory that it took.
    pub(super) fn empty(&mut self) {
        self.chunks = VecDeque::new();
        (self.written, self.plain) = (0, 0);
        self.end = None;
        if let Some(secure) = &mut self.secure {
            secure.empty();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so much at a time as a socket would, and returns all.
    fn drained(outbox: &mut Outbox, most: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !outbox.is_empty() {
            let next = outbox.next();
            assert!(!next.is_empty(), "nothing more is shown, and {} bytes wait", outbox.len());
            let count = next.len().min(most);
            all.extend_from_slice(&next[..count]);
            outbox.taken(count);
        }
        assert!(outbox.next().is_empty() && outbox.has_chunks(), "it is not clear before it is emptied");
        outbox.empty();
        assert!(outbox.is_clear());
        all
    }

    #[test]
    fn what_is_put_in_comes_out_in_order() {
        let mut outbox = Outbox::default();
        let mut expected = Vec::new();
        for (number, length) in [1, 0, 100, CHUNK_MAX, 3, CHUNK_MAX - 3, 1, COPY_MAX + 1, 5].into_iter().enumerate() {
            let (head, body) = (vec![number as u8; number], vec![number as u8 + 100; length]);
            outbox.append_rest(Parts::new(&head, &body), 0);
            expected.extend([head, body].concat());
            assert_eq!(outbox.len(), expected.len());
        }
        assert!(drained(&mut outbox, 99_991) == expected);
        assert_eq!(outbox.len(), 0);
    }

    #[test]
    fn what_was_written_at_once_is_left_out() {
        let mut outbox = Outbox::default();
        let (head, body) = ([1; 10], vec![2; COPY_MAX + 1]);
        let all = [&head[..], &body].concat();
        for sent in [0, 1, 9, 10, 11, COPY_MAX, all.len() - 1] {
            for (body, all) in [(&body[..], &all[..]), (&body[..5000], &all[..5010])] {
                let sent = sent.min(all.len() - 1);
                outbox.append_rest(Parts::new(&head, body), sent);
                outbox.append(b"behind");
                assert_eq!(outbox.len(), all.len() - sent + 6);
                assert!(drained(&mut outbox, usize::MAX) == [&all[sent..], b"behind"].concat(), "{sent}");
            }
        }
    }

    #[test]
    fn what_is_little_is_put_together_while_it_is_written() {
        let mut outbox = Outbox::default();
        for _ in 0..100_000 {
            outbox.append(&[1; 100]);
            outbox.taken(50);
        }
        assert_eq!((outbox.len(), outbox.chunks.len()), (5_000_000, 5_000_000_usize.div_ceil(CHUNK_MAX)));
        outbox.append_rest(Parts::new(&[], &[]), 0);
        assert_eq!(drained(&mut outbox, 1000).len(), 5_000_000);
        outbox.append(b"a");
        assert_eq!(outbox.take_all(), b"a");
        assert!(outbox.is_clear());
    }
}
