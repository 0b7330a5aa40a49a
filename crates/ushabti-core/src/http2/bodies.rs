//! What the bodies of one connection may hold together, and which of them waits.
//!
//! The limit of one body is none of the connection, which may have a hundred. A stream whose body would pass that of the
//! connection *waits*: it is not read, so its window does not open, until requests before it are answered. The oldest that
//! comes goes on where no complete request holds anything: nobody else would make room.

use std::sync::Arc;

use super::{STREAM_WINDOW, Task};
use crate::clock::ticks;
use crate::connection::Progress;
use crate::reply::Refusal;

/// Bodies of the greatest size that a connection may hold, beside the one that comes.
const BODIES_MAX: u64 = 4;
/// So many streams may wait. Each has sent a window by then, and a window of the connection has room for 16: the others need some.
const WAITING_MAX: usize = 12;

impl Task {
    /// Has a stream wait whose body comes, if that of the connection is more than they may hold.
    pub(super) fn bound_bodies(&mut self, key: usize) {
        let entry = &self.entries[key];
        let is_read = entry.incoming.as_ref().is_some_and(|incoming| !incoming.waits);
        if !is_read || self.held <= self.held_max(key) || self.may_go_on(key) {
            return;
        }
        let entry = &mut self.entries[key];
        let incoming = entry.incoming.as_mut().expect("it was looked at just now");
        if self.waiting.len() < WAITING_MAX {
            incoming.waits = true;
            self.waiting.push(Arc::clone(&entry.stream));
            return;
        }
        let subject = entry.stop_reading();
        self.held -= std::mem::take(&mut entry.held);
        let refusal = Refusal {
            fields: vec![("retry-after", "1".to_owned())],
            ..Refusal::of(503, "the requests of this connection hold as much as they may")
        };
        self.refuse(key, subject.asked(), &refusal);
    }

    /// Lets streams that wait go on, as far as there is room.
    pub(super) fn resume_bodies(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let (now, time) = (self.place.io.clock.now(), self.server.config.body_timeout);
        let mut expected = self.held;
        for stream in std::mem::take(&mut self.waiting) {
            let key = stream.key;
            if !self.has(&stream) {
                continue;
            }
            if expected > self.held_max(key) && !self.may_go_on(key) {
                self.waiting.push(stream);
                continue;
            }
            if let Some(incoming) = &mut self.entries[key].incoming {
                // The time that it waited is not the client's.
                (incoming.waits, incoming.progress) = (false, Progress::from(now));
                expected += u64::from(STREAM_WINDOW);
                self.arm(now.saturating_add(ticks(time)), time);
                self.noted.push(stream);
            }
        }
    }

    /// Whether nobody but this stream could make room: no complete request holds anything, and no older one comes.
    fn may_go_on(&self, key: usize) -> bool {
        let began = |key: usize| self.entries[key].incoming.as_ref().map(|incoming| incoming.number);
        let mut others = self.entries.iter().filter(|(other, entry)| *other != key && entry.held > 0);
        others.all(|(other, _)| began(other).is_some_and(|number| Some(number) > began(key)))
    }

    /// How much all bodies may hold while that of one stream comes: some of the greatest that the server takes, beside its own.
    fn held_max(&self, key: usize) -> u64 {
        let own = self.entries[key].incoming.as_ref().map_or(0, |incoming| incoming.bytes_max);
        self.server.config.body_bytes_max.saturating_mul(BODIES_MAX).saturating_add(own)
    }
}
