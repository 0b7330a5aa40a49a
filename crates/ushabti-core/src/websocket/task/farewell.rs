//! The client has begun to close, and is answered when what it sent before has been.
//!
//! Its Close frame may come right behind a message: an answer to that must go out before ours, behind which nothing may (RFC
//! 6455 section 5.5.1, which lets an endpoint finish what it sends). So ours waits until the handler has done with the
//! messages, for as long as most clients have patience at least.
//!
//! Why it is not forgotten: the task asks under the lock of the inbox whether the handler is at work, and leaves word there
//! if it is; who finds nothing more to tell under the same lock signals the task if there is word.

use std::time::Duration;

use ushabti_proto::websocket::connection::Close;

use super::{Phase, Task};
use crate::clock::ticks;

/// How long messages keep a Close frame from being answered.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is still to be done.
pub(super) struct Farewell {
    close: Close,
    /// The last frames, of which the Close frame is the last.
    frames: Vec<u8>,
}

impl Task {
    /// The client's Close frame was read; `frames` are to be sent, and end with ours unless that was sent before.
    pub(super) fn closed_by_peer(&mut self, close: Close, frames: &[u8]) {
        self.farewell = Some(Box::new(Farewell { close, frames: frames.to_vec() }));
        if self.phase == Phase::Open && self.socket.inbox.is_at_work() {
            self.phase = Phase::Answering(self.carrier.io.clock.now() + ticks(PATIENCE));
            self.arm();
        } else {
            self.say_farewell();
        }
    }

    /// Goes on if nothing has to be waited for any more.
    pub(super) fn look_at_farewell(&mut self) {
        if self.socket.closing().is_some() || !self.socket.inbox.is_at_work() {
            self.say_farewell();
        }
    }

    pub(super) fn say_farewell(&mut self) {
        let Some(farewell) = self.farewell.take() else { return };
        self.socket.decide(farewell.close.code, &farewell.close.reason);
        self.socket.closed_cleanly();
        self.send_last(&farewell.frames);
        self.phase = Phase::Over;
    }
}
