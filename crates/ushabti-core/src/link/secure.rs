//! TLS on a connection: everything that is read is decrypted, everything that is written encrypted.
//!
//! The state of TLS stands behind the lock of the outbox. Who writes encrypts under it, so the order of the records is the
//! order on the wire, as they need; the IO task takes it to decrypt. It is held for [`WRITE_AT_ONCE`] bytes at most.
//!
//! The outbox holds plain bytes. They are encrypted when the socket has room for them, by whoever writes; what it
//! does not take then is kept encrypted, before the rest.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use super::{GONE, Link, Outbox, QUEUED, SECURE};
use crate::tls::{Session, TlsInfo};

/// So many bytes are encrypted before the socket is tried again.
const SEAL_AT_ONCE: usize = 64 * 1024;
/// So many are encrypted and sent under the lock at once; the rest is the IO task's. A client that takes all as quickly as it
/// comes would keep the IO thread from reading what it sends, and with it everybody else, for as long as its answer lasts.
const WRITE_AT_ONCE: usize = 8 * SEAL_AT_ONCE;

/// What an outbox has beside its bytes when the connection speaks TLS.
pub(super) struct Secure {
    session: Session,
    info: Arc<TlsInfo>,
    /// Records that the client has not taken yet.
    sealed: Vec<u8>,
    sent: usize,
    /// The client has been told that nothing more comes.
    is_ended: bool,
}

impl Secure {
    /// Bytes of records that wait for the client.
    pub(super) fn rest(&self) -> &[u8] {
        &self.sealed[self.sent..]
    }

    /// Throws away what waits: the connection is lost.
    pub(super) fn empty(&mut self) {
        (self.sealed, self.sent) = (Vec::new(), 0);
    }

    fn seal(&mut self, data: &[u8]) -> io::Result<()> {
        self.session.seal(data, &mut self.sealed).map_err(io::Error::other)
    }

    /// Writes what waits, once.
    fn flush(&mut self, link: &Link) -> io::Result<usize> {
        if self.rest().is_empty() {
            return Ok(0);
        }
        let count = link.send_now(self.rest(), &[])?;
        self.sent += count;
        if self.rest().is_empty() {
            self.empty();
        }
        Ok(count)
    }

    /// The same; whether nothing waits any more.
    fn try_flush(&mut self, link: &Link) -> io::Result<bool> {
        match self.flush(link) {
            Err(problem) if problem.kind() != io::ErrorKind::WouldBlock => Err(problem),
            _ => Ok(self.rest().is_empty()),
        }
    }
}

impl Link {
    /// Everything from here on is encrypted. What waits in the outbox are the last bytes of the handshake. IO task, before any
    /// exchange.
    pub(crate) fn secure(&self, session: Session, info: Arc<TlsInfo>) {
        let mut outbox = self.outbox.lock();
        let sealed = outbox.take_all();
        outbox.secure = Some(Box::new(Secure { session, info, sealed, sent: 0, is_ended: false }));
        self.state.fetch_or(SECURE, Ordering::AcqRel);
    }

    /// What a handler may know of the TLS of the connection; `None` if it speaks none. Any thread.
    pub(crate) fn tls_info(&self) -> Option<Arc<TlsInfo>> {
        if !self.has(SECURE) {
            return None;
        }
        self.outbox.lock().secure.as_ref().map(|secure| Arc::clone(&secure.info))
    }

    /// Writes what the socket takes of `head` and `body`, nothing of which waits in the outbox. Returns how many bytes
    /// need no more care: they are sent, or kept as records.
    pub(super) fn write(&self, outbox: &mut Outbox, head: &[u8], body: &[u8]) -> io::Result<usize> {
        let Some(secure) = &mut outbox.secure else { return self.send_now(head, body) };
        // One record, if it can be: each costs as much as some hundred bytes.
        let (joined, body) = body.split_at(if head.is_empty() { 0 } else { body.len().min(SEAL_AT_ONCE) });
        let first;
        let first = if joined.is_empty() {
            head
        } else {
            first = [head, joined].concat();
            &first
        };
        let mut taken = 0;
        for piece in first.chunks(SEAL_AT_ONCE).chain(body.chunks(SEAL_AT_ONCE)) {
            secure.seal(piece)?;
            taken += piece.len();
            if !secure.try_flush(self)? || taken >= WRITE_AT_ONCE {
                break;
            }
        }
        Ok(taken)
    }

    /// Writes the next of what is in the outbox, once; returns how many bytes the socket took.
    pub(super) fn write_next(&self, outbox: &mut Outbox) -> io::Result<usize> {
        let Some(mut secure) = outbox.secure.take() else {
            let count = self.send_now(outbox.next(), &[])?;
            outbox.taken(count);
            return Ok(count);
        };
        let mut result = Ok(());
        if secure.rest().is_empty() {
            let next = outbox.next();
            let count = next.len().min(SEAL_AT_ONCE);
            result = secure.seal(&next[..count]);
            outbox.taken(count);
        }
        let result = result.and_then(|()| secure.flush(self));
        outbox.secure = Some(secure);
        result
    }

    /// Reads and decrypts. The second half of `buffer` is for what comes, the first for what becomes of it, which is not longer.
    pub(super) fn poll_read_secure(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let (room, wire) = buffer.split_at_mut(buffer.len() / 2);
        loop {
            {
                let mut outbox = self.outbox.lock();
                let session = &mut outbox.secure.as_mut().expect("the bit says that it is there").session;
                let count = session.take(room);
                if count > 0 || session.is_ended() {
                    return Poll::Ready(Ok(count));
                }
            }
            let count = ready!(self.poll_receive(cx, wire))?;
            if count == 0 {
                // Without a word of TLS before: what a request needs it says itself, so nobody can be deceived by cutting it off
                // (RFC 9112 section 9.8).
                return Poll::Ready(Ok(0));
            }
            let count = self.open(&mut wire[..count], room)?;
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
        }
    }

    fn open(&self, wire: &mut [u8], room: &mut [u8]) -> io::Result<usize> {
        let mut outbox = self.outbox.lock();
        let secure = outbox.secure.as_mut().expect("the bit says that it is there");
        let opened = secure.session.receive(wire, room, &mut secure.sealed);
        // New keys are confirmed, or a fault is told: nothing else waits, so it goes out now or with the next bytes.
        if !self.has(QUEUED) && !secure.try_flush(self)? {
            self.state.fetch_or(QUEUED, Ordering::AcqRel);
            self.task.wake();
        }
        opened.map_err(|problem| {
            self.server.journal.peer_notice(|| format!("{}: TLS: {problem}; connection closed", self.peer));
            io::Error::other(problem)
        })
    }

    /// Says to the client that nothing more will be sent, as TLS does it (RFC 8446 section 6.1). True if that is on its way: the IO
    /// task closes the socket's side when it is out. IO task.
    pub(crate) fn end_secure(&self) -> bool {
        if !self.has(SECURE) {
            return false;
        }
        let mut outbox = self.outbox.lock();
        let Some(secure) = outbox.secure.as_mut().filter(|secure| !secure.is_ended) else { return false };
        secure.is_ended = true;
        // What cannot be encrypted any more was told by whoever found it.
        if self.has(GONE) || secure.session.seal_end(&mut secure.sealed).is_err() {
            return false;
        }
        if !self.has(QUEUED) && !matches!(secure.try_flush(self), Ok(false)) {
            return false;
        }
        outbox.is_last = true;
        self.state.fetch_or(QUEUED, Ordering::AcqRel);
        self.task.wake();
        true
    }
}
