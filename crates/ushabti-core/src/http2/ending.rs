//! How an HTTP/2 connection ends: in good order, because of what its client does, or because it is lost.

use std::task::{Context, Poll};

use h2::Reason;

use super::{Phase, READS_IN_A_ROW, Task};
use crate::connection::LINGER;
use crate::link::{BROKEN_GREETING, Interest, Wake};

impl Task {
    /// Tells the client to go: what it has begun is served to its end (RFC 9113 section 6.8).
    pub(super) fn leave(&mut self) {
        self.is_leaving = true;
        self.told.get_or_insert(self.place.io.clock.now());
        if let Phase::Open(frames) = &mut self.phase {
            frames.graceful_shutdown();
        }
    }

    /// Ends the connection of a client that keeps the server busy with nothing.
    pub(super) fn calm(&mut self, fault: &str) {
        if let (Phase::Open(frames), false) = (&mut self.phase, std::mem::replace(&mut self.is_calmed, true)) {
            let peer = self.place.link.peer();
            self.server.journal.peer_notice(|| format!("{peer}: HTTP/2: {fault}; connection closed"));
            frames.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
    }

    /// Nothing more is said: reads what still comes, for a moment.
    pub(super) fn close(&mut self, problem: Option<&h2::Error>, cx: &mut Context<'_>) -> Poll<()> {
        let link = &self.place.link;
        let io = problem.and_then(h2::Error::get_io);
        let is_rude = io.is_some_and(|io| io.kind() == BROKEN_GREETING);
        let is_lost = io.is_some() && !is_rude;
        if let Some(problem) = problem.filter(|_| !is_lost && !self.is_calmed) {
            self.server.journal.peer_notice(|| format!("{}: HTTP/2: {problem}; connection closed", link.peer()));
        }
        self.abandon();
        if is_lost {
            return Poll::Ready(());
        }
        let is_new = matches!(std::mem::replace(&mut self.phase, Phase::Lingering), Phase::Greeting(_));
        if is_new || is_rude {
            // Any other was ended by h2, behind its last frame.
            self.place.link.shutdown_write();
        }
        self.place.io.clock.set(self.place.key, self.place.io.clock.after(LINGER));
        self.linger(cx)
    }

    pub(super) fn linger(&self, cx: &mut Context<'_>) -> Poll<()> {
        let interest = Interest { read: true, ..Interest::default() };
        for _ in 0..READS_IN_A_ROW {
            let wake = self.place.link.poll_wait(cx, interest, &mut self.place.io.buffer.lock(), |_| {});
            match wake {
                Poll::Ready(Wake::EndOfInput | Wake::Lost) => return Poll::Ready(()),
                // Its word comes after all bytes.
                Poll::Ready(_) if self.place.io.clock.is_due(self.place.key) => return Poll::Ready(()),
                Poll::Ready(_) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Lets go of whoever is at work for the connection.
    pub(super) fn abandon(&mut self) {
        // All of them before one is dropped: should the frames' code have panicked, it does so again there.
        for (_, entry) in &self.entries {
            entry.stream.abandon();
        }
        self.entries.clear();
    }
}
