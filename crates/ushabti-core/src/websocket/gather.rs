//! Many frames as one write: what a handler sends to its own socket while more of that socket's messages wait for it.
//!
//! A client that has sent sixteen messages in one packet gets its sixteen answers in one. The price is that an answer waits
//! for the next ones, which is right only while handlers take microseconds. One that suddenly takes long is noticed by the
//! watch of the queue, a tick of the IO thread, which then lets the frames go.
//!
//! Why nothing is held for long: the worker enters its hold in the list, passes a full fence and looks whether the watch is
//! kept; if not, it does not hold. The watch ends by saying so, a full fence, and a look at the list. So either the worker
//! sees that nobody watches, or the watch sees the hold and goes on.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use parking_lot::Mutex;

use super::Socket;
use crate::channel::Channel;
use crate::link::Link;
use crate::server::Shared;

/// The sockets whose frames are being gathered, each by the worker that tells its events.
#[derive(Default)]
pub(crate) struct Gathering {
    holds: Mutex<Vec<Hold>>,
}

struct Hold {
    link: Arc<Link>,
    /// A tick of the watch has seen it.
    is_old: bool,
}

impl Gathering {
    pub(crate) fn is_empty(&self) -> bool {
        self.holds.lock().is_empty()
    }

    /// Lets the frames of handlers go that have been at it since the last tick. IO thread.
    pub(crate) fn tick(&self) {
        self.holds.lock().retain_mut(|hold| {
            if hold.is_old {
                hold.link.release();
            }
            !std::mem::replace(&mut hold.is_old, true)
        });
    }
}

/// Gathers the frames that are sent to one socket until this is dropped.
pub struct Gathered<'a> {
    server: &'a Shared,
    link: Arc<Link>,
}

impl<'a> Gathered<'a> {
    /// Begins to gather; `None` where nobody would notice a handler that takes long, and for streams, whose frames the IO thread
    /// gathers in any case. The worker that has the socket, while it has more events.
    pub fn begin(server: &'a Shared, socket: &Socket) -> Option<Self> {
        if !server.is_watching() {
            return None;
        }
        let Channel::Link(link) = socket.channel()? else { return None };
        server.gathering.holds.lock().push(Hold { link: Arc::clone(&link), is_old: false });
        let gathered = Self { server, link };
        fence(Ordering::SeqCst);
        if !server.is_watching() {
            return None;
        }
        gathered.link.hold();
        Some(gathered)
    }
}

impl Drop for Gathered<'_> {
    fn drop(&mut self) {
        if self.server.is_forked() {
            return;
        }
        let mut holds = self.server.gathering.holds.lock();
        if let Some(at) = holds.iter().position(|hold| Arc::ptr_eq(&hold.link, &self.link)) {
            holds.swap_remove(at);
        }
        drop(holds);
        self.link.release();
    }
}
