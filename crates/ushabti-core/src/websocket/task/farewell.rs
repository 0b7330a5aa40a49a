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
use crate::link::Wake;

/// How long messages keep a Close frame from being answered.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is still to be done.
pub(super) struct Farewell {
    close: Close,
    /// The last frames, of which the Close frame is the last.
    frames: Vec<u8>,
    /// The client has closed its side of the connection, too.
    pub(super) is_mute: bool,
}

impl Task {
    /// The client's Close frame was read; `frames` are to be sent, and end with ours unless that was sent before.
    pub(super) fn closed_by_peer(&mut self, close: Close, frames: &[u8]) {
        if self.phase == Phase::Open && self.socket.inbox.is_at_work() {
            self.farewell = Some(Box::new(Farewell { close, frames: frames.to_vec(), is_mute: false }));
            self.phase = Phase::Answering(self.carrier.io.clock.now() + ticks(PATIENCE));
            self.arm();
        } else {
            self.answer_close(&close, frames);
        }
    }

    /// Goes on in [`Phase::Answering`].
    pub(super) fn go_on_answering(&mut self, wake: Wake) {
        match wake {
            // Nothing comes behind a Close frame.
            Wake::Bytes(_) | Wake::Expired => self.look_at_clocks(),
            Wake::Signal if self.socket.closing().is_some() || !self.socket.inbox.is_at_work() => self.say_farewell(),
            // Who closes its side of the connection may still read.
            Wake::EndOfInput => {
                if let Some(farewell) = &mut self.farewell {
                    farewell.is_mute = true;
                }
            }
            Wake::Lost => {
                self.say_farewell();
                self.phase = Phase::Lost;
            }
            // What is going on is waited for anyway.
            Wake::Signal | Wake::Drain | Wake::Finished { .. } => {}
        }
    }

    /// Does what is still to be done, if anything is.
    pub(super) fn say_farewell(&mut self) {
        if let Some(farewell) = self.farewell.take() {
            self.answer_close(&farewell.close, &farewell.frames);
        }
    }

    fn answer_close(&mut self, close: &Close, frames: &[u8]) {
        self.socket.decide(close.code, &close.reason);
        self.socket.closed_cleanly();
        self.send_last(frames);
        self.phase = Phase::Over;
    }
}
