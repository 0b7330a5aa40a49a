//! What comes of requests that were answered before their body had come.
//!
//! The server may tell the client to stop as soon as the answer is out (RFC 9113 section 8.1): `h2` resets the stream when nobody has
//! its body any more. Clients exist that throw the answer away when they find that reset behind it, and show a broken stream in
//! its place: curl 7.88 is one. So the body is kept for a moment. Most clients end the stream themselves when they have read
//! the answer; for the others the reset comes later.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use h2::RecvStream;

use crate::clock::{Tick, ticks};
use crate::connection::LINGER;

/// Together they may keep half of the window of the connection from the others.
const MOST: usize = 8;

/// Bodies that nobody wants, and when they are parted with at the latest, the earliest first.
#[derive(Default)]
pub(super) struct Leftovers(VecDeque<(Tick, RecvStream)>);

impl Leftovers {
    /// Keeps one. Returns when that ends.
    pub(super) fn add(&mut self, body: RecvStream, now: Tick) -> Tick {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        let due = now.saturating_add(ticks(LINGER));
        self.0.push_back((due, body));
        due
    }

    /// Throws away what has come, and does not ask for more: the stream's window stays as far closed as it is.
    pub(super) fn read(&mut self, cx: &mut Context<'_>) {
        self.0.retain_mut(|(_, body)| {
            loop {
                match body.poll_data(cx) {
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(None | Some(Err(_))) => return false,
                    Poll::Pending => return true,
                }
            }
        });
    }

    /// Parts with those that are due. Returns when the next is.
    pub(super) fn expire(&mut self, now: Tick) -> Option<Tick> {
        while self.0.front().is_some_and(|(due, _)| *due <= now) {
            self.0.pop_front();
        }
        self.0.front().map(|(due, _)| *due)
    }
}
