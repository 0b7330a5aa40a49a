//! Bytes on their way from whoever sends them to the frames' code, in chunks that are worth a frame each.
//!
//! Each piece that the frames' code is given costs it a record of some hundred bytes and a frame, whatever is in the piece. So
//! small ones that wait are put together: what waits costs what it counts for, and is sent in as few steps.

use std::collections::VecDeque;

/// Pieces are put together up to this size.
const CHUNK_MAX: usize = 16 * 1024;
/// While the socket has not taken what was sent before, less than this is not worth a frame: there may be more when it has.
const WORTHWHILE: usize = 4 * 1024;

/// What is to be added, made ready before the lock is taken under which it is.
pub(super) enum Piece<'a> {
    Small(&'a [u8], &'a [u8]),
    /// It may be much, and others must not wait for the copy.
    Large(Vec<u8>),
}

impl<'a> Piece<'a> {
    /// `head` and `body`, one behind the other.
    pub(super) fn of(head: &'a [u8], body: &'a [u8]) -> Self {
        if head.len() + body.len() <= CHUNK_MAX { Self::Small(head, body) } else { Self::Large([head, body].concat()) }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Small(head, body) => head.len() + body.len(),
            Self::Large(all) => all.len(),
        }
    }
}

/// What waits, in order.
#[derive(Default)]
pub(super) struct Chunks {
    all: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Chunks {
    pub(super) fn add(&mut self, piece: Piece<'_>) {
        let length = piece.len();
        self.bytes += length;
        match piece {
            Piece::Large(all) => self.all.push_back(all),
            Piece::Small(head, body) => match self.all.back_mut() {
                Some(last) if last.len() + length <= CHUNK_MAX => {
                    last.extend_from_slice(head);
                    last.extend_from_slice(body);
                }
                _ if length > 0 => self.all.push_back([head, body].concat()),
                _ => {}
            },
        }
    }

    /// Bytes of all of them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// There is something, and so little that it can wait for the socket.
    pub(super) fn is_little(&self) -> bool {
        (1..WORTHWHILE).contains(&self.bytes)
    }

    pub(super) fn take(&mut self) -> VecDeque<Vec<u8>> {
        self.bytes = 0;
        std::mem::take(&mut self.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_are_put_together_and_large_ones_stay_what_they_are() {
        let mut chunks = Chunks::default();
        let large = vec![1; CHUNK_MAX];
        let mut sent = Vec::new();
        for (head, body) in
            [(&b"ab"[..], &b"c"[..]), (b"", b""), (b"d", &large), (b"e", b""), (b"", b"f"), (b"", &large)]
        {
            sent.extend_from_slice(head);
            sent.extend_from_slice(body);
            chunks.add(Piece::of(head, body));
        }
        assert_eq!(chunks.bytes(), sent.len());
        let all: Vec<_> = chunks.take().into();
        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [3, CHUNK_MAX + 1, 2, CHUNK_MAX]);
        assert_eq!(all.concat(), sent);
        assert_eq!((chunks.bytes(), chunks.take().len()), (0, 0));
    }
}
