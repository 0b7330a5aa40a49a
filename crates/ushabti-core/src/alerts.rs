//! What Python is to be told of that no worker has asked for: clients that left, handlers that are late.
//!
//! Workers may all be stuck, which is when this matters; so a thread of its own takes the alerts.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::jitter;
use crate::request::Request;

/// Something that has happened to a request while a handler has it.
pub enum Alert {
    /// The client of the request that was watched with this number has closed its side, is lost, or was told 504.
    Left(u32),
    /// Its deadline has passed, the client was told 504, and the handler goes on.
    Late(Arc<Request>),
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Alert>,
    closed: bool,
}

/// Alerts on their way from the IO thread to the one thread that takes them. There is at most one of each kind for a
/// request that a handler has.
#[derive(Default)]
pub struct Alerts {
    inner: Mutex<Inner>,
    filled: Condvar,
}

impl Alerts {
    /// Any thread; never waits.
    pub(crate) fn tell(&self, alert: Alert) {
        jitter::point();
        let mut inner = self.inner.lock();
        if !inner.closed {
            inner.waiting.push_back(alert);
            drop(inner);
            jitter::point();
            self.filled.notify_one();
        }
    }

    /// Waits for the next alert; `None` when they were closed. Detached.
    pub fn take(&self) -> Option<Alert> {
        let mut inner = self.inner.lock();
        loop {
            if let Some(alert) = inner.waiting.pop_front() {
                return Some(alert);
            }
            if inner.closed {
                return None;
            }
            self.filled.wait(&mut inner);
        }
    }

    /// Lets the thread that takes them go when it has taken what is there.
    pub fn close(&self) {
        self.inner.lock().closed = true;
        self.filled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_before_the_close_is_still_taken() {
        let alerts = Alerts::default();
        alerts.tell(Alert::Left(1));
        alerts.close();
        alerts.tell(Alert::Left(2));
        assert!(matches!(alerts.take(), Some(Alert::Left(1))));
        assert!(alerts.take().is_none());
    }
}
