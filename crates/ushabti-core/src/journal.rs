//! What the core has to say, on its way to Python's `logging`.
//!
//! The IO thread and the workers put finished lines here and never wait; one Python thread takes them out in batches.
//! The journal is bounded: a log that cannot keep up loses access lines, and says how many, but never stalls or fills
//! the memory of the server.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Access lines that may wait, and their bytes: what clients send can make a line long.
const LINES_MAX: usize = 100_000;
const LINE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Notices that may wait.
const NOTICES_MAX: usize = 1_000;
/// Notices about peers in one second; more are only counted. Whoever sends rubbish must not fill the log with it.
const PEER_NOTICES_MAX: u32 = 20;
/// How long lines are gathered before they are handed over as one batch.
const GATHER: Duration = Duration::from_millis(50);

/// How grave a notice is. The numbers are those of Python's `logging`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// What a peer did wrong, and the like.
    Info = 20,
    /// What an operator should look at.
    Warning = 30,
    /// What has failed.
    Error = 40,
}

/// What was written since the last batch.
#[derive(Debug, Default)]
pub struct Batch {
    /// Access lines, in the order of the answers.
    pub lines: Vec<String>,
    /// Access lines that found no room.
    pub lost: usize,
    /// Messages for the server's log.
    pub notices: Vec<(Level, String)>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.notices.is_empty() && self.lost == 0
    }
}

#[derive(Default)]
struct Inner {
    batch: Batch,
    line_bytes: usize,
    closed: bool,
    /// The second in which peers were last complained of, and how often.
    peer_second: Option<Instant>,
    peer_notices: u32,
}

/// Lines and notices that wait for the thread that logs them.
#[derive(Default)]
pub struct Journal {
    /// Held for a push or a swap of vectors.
    inner: Mutex<Inner>,
    filled: Condvar,
}

impl Journal {
    /// Adds an access line. Any thread; never waits.
    pub(crate) fn line(&self, line: String) {
        let mut inner = self.inner.lock();
        if inner.batch.lines.len() >= LINES_MAX || inner.line_bytes + line.len() > LINE_BYTES_MAX {
            inner.batch.lost += 1;
            return;
        }
        inner.line_bytes += line.len();
        let first = inner.batch.is_empty();
        inner.batch.lines.push(line);
        drop(inner);
        if first {
            self.filled.notify_one();
        }
    }

    /// Adds a message for the server's log. Any thread; never waits.
    pub fn notice(&self, level: Level, message: String) {
        let mut inner = self.inner.lock();
        if inner.batch.notices.len() >= NOTICES_MAX {
            return;
        }
        let first = inner.batch.is_empty();
        inner.batch.notices.push((level, message));
        drop(inner);
        if first {
            self.filled.notify_one();
        }
    }

    /// Adds a message about what a peer has done, unless there were many in this second. Any thread; never waits.
    pub(crate) fn peer_notice(&self, message: impl FnOnce() -> String) {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        let begun = *inner.peer_second.get_or_insert(now);
        let mut left_out = 0;
        if now.duration_since(begun) >= Duration::from_secs(1) {
            left_out = inner.peer_notices.saturating_sub(PEER_NOTICES_MAX);
            inner.peer_second = Some(now);
            inner.peer_notices = 0;
        }
        inner.peer_notices += 1;
        let tell = inner.peer_notices <= PEER_NOTICES_MAX;
        drop(inner);
        if left_out > 0 {
            self.notice(Level::Info, format!("{left_out} more faults of peers were not logged one by one"));
        }
        if tell {
            self.notice(Level::Info, message());
        }
    }

    /// Waits for the next batch; `None` when the journal is closed and empty. The thread that logs, detached.
    pub fn take(&self) -> Option<Batch> {
        let mut inner = self.inner.lock();
        while inner.batch.is_empty() {
            if inner.closed {
                return None;
            }
            self.filled.wait(&mut inner);
        }
        if !inner.closed {
            self.filled.wait_for(&mut inner, GATHER);
        }
        inner.line_bytes = 0;
        Some(std::mem::take(&mut inner.batch))
    }

    /// Lets the thread that logs go when it has taken everything.
    pub fn close(&self) {
        self.inner.lock().closed = true;
        self.filled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_before_the_close_is_still_taken() {
        let journal = Journal::default();
        journal.line("a".to_owned());
        journal.notice(Level::Warning, "b".to_owned());
        journal.close();
        let batch = journal.take().expect("two entries wait");
        assert_eq!(batch.lines, ["a"]);
        assert_eq!(batch.notices, [(Level::Warning, "b".to_owned())]);
        assert!(journal.take().is_none());
    }

    #[test]
    fn a_flood_of_faults_is_cut_short() {
        let journal = Journal::default();
        for number in 0..1000 {
            journal.peer_notice(|| number.to_string());
        }
        let batch = journal.take().expect("notices wait");
        // The loop may straddle the end of a second, but not two.
        let limit = PEER_NOTICES_MAX as usize;
        assert!((limit..=2 * limit + 1).contains(&batch.notices.len()), "{}", batch.notices.len());
    }

    #[test]
    fn long_lines_fill_the_journal_sooner() {
        let journal = Journal::default();
        for _ in 0..40 {
            journal.line("x".repeat(1024 * 1024));
        }
        let batch = journal.take().expect("lines wait");
        assert_eq!((batch.lines.len(), batch.lost), (32, 8));
        journal.line("short".to_owned());
        assert_eq!(journal.take().expect("there is room again").lines, ["short"]);
    }

    #[test]
    fn a_full_journal_counts_what_it_loses() {
        let journal = Journal::default();
        for _ in 0..LINES_MAX + 3 {
            journal.line(String::new());
        }
        let batch = journal.take().expect("lines wait");
        assert_eq!((batch.lines.len(), batch.lost), (LINES_MAX, 3));
    }
}
