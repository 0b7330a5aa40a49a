//! Models of the hand-overs of WebSockets that are streams of HTTP/2, run through their interleavings by loom.
//!
//! They restate `src/http2/tunnel.rs` (the upgrade, and frames on their way out) and `src/http2/stream.rs` (the note that there
//! is something to do); they do not run them, see `model_queue.rs` for why. Each [`Flaw`] takes one step out, and must be
//! found.

use std::sync::Arc;

use loom::sync::Mutex;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use crate::model::{lock, model};

mod model;

/// One step that is left out, or done too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// Who has put the socket down does not look whether the stream is lost.
    UpgradeWithoutLook,
    /// The task of the connection looks for the socket before it notes that the stream is lost.
    LookBeforeLoss,
    /// The stream is noted before the frame is there.
    NoteBeforeFrame,
    /// The task of the connection takes the frames, and then the stream off the list.
    FramesBeforeList,
}

// ---- the upgrade: a worker puts the socket down while the connection's task gives the stream up

fn check_upgrade(flaw: Flaw) {
    model(move || {
        let is_gone = Arc::new(AtomicBool::new(false));
        let slot = Arc::new(Mutex::new(false));
        let worker = {
            let (is_gone, slot) = (Arc::clone(&is_gone), Arc::clone(&slot));
            // `Stream::finish_upgrade`.
            thread::spawn(move || {
                *lock(&slot) = true;
                let is_lost = flaw != Flaw::UpgradeWithoutLook && is_gone.load(Ordering::Acquire);
                u32::from(is_lost && std::mem::take(&mut *lock(&slot)))
            })
        };
        // `Stream::abandon`.
        let mut taken = 0;
        if flaw == Flaw::LookBeforeLoss {
            taken += u32::from(std::mem::take(&mut *lock(&slot)));
        }
        is_gone.store(true, Ordering::Release);
        if flaw != Flaw::LookBeforeLoss {
            taken += u32::from(std::mem::take(&mut *lock(&slot)));
        }
        let answered_for = taken + worker.join().expect("no worker panics");
        assert_eq!(answered_for, 1, "the socket is left lying, or two answer for it");
    });
}

#[test]
fn a_socket_whose_stream_is_lost_is_discarded_once() {
    check_upgrade(Flaw::None);
}

// ---- the way out: frames are put down while the connection's task looks

#[derive(Default)]
struct Shared {
    frames: Mutex<u32>,
    is_noted: Mutex<bool>,
    /// How often the stream stands in the list.
    agenda: Mutex<u32>,
    called: AtomicBool,
}

impl Shared {
    /// `Stream::send_frame`.
    fn send(&self, flaw: Flaw) {
        if flaw == Flaw::NoteBeforeFrame {
            self.note();
        }
        *lock(&self.frames) += 1;
        if flaw != Flaw::NoteBeforeFrame {
            self.note();
        }
    }

    /// `Stream::note`, and `Agenda::note`.
    fn note(&self) {
        if !std::mem::replace(&mut *lock(&self.is_noted), true) {
            let mut agenda = lock(&self.agenda);
            *agenda += 1;
            let is_first = *agenda == 1;
            drop(agenda);
            if is_first {
                self.called.swap(true, Ordering::AcqRel);
            }
        }
    }

    /// One turn of the connection's task; returns how many frames it has sent.
    fn turn(&self, flaw: Flaw) -> u32 {
        if std::mem::take(&mut *lock(&self.agenda)) == 0 {
            return 0;
        }
        if flaw == Flaw::FramesBeforeList {
            let sent = std::mem::take(&mut *lock(&self.frames));
            *lock(&self.is_noted) = false;
            return sent;
        }
        *lock(&self.is_noted) = false;
        std::mem::take(&mut *lock(&self.frames))
    }
}

fn check_frames(flaw: Flaw) {
    model(move || {
        let shared = Arc::new(Shared::default());
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.send(flaw))
            })
            .collect();
        let mut sent = 0;
        if shared.called.swap(false, Ordering::AcqRel) {
            sent += shared.turn(flaw);
        }
        for sender in senders {
            sender.join().expect("no sender panics");
        }
        if shared.called.swap(false, Ordering::AcqRel) {
            sent += shared.turn(flaw);
        }
        assert_eq!(sent, 2, "a frame is left lying");
    });
}

#[test]
fn every_frame_is_seen() {
    check_frames(Flaw::None);
}

// ---- what the models can find

#[test]
#[should_panic(expected = "the socket is left lying")]
fn who_puts_the_socket_down_must_look_whether_the_stream_is_lost() {
    check_upgrade(Flaw::UpgradeWithoutLook);
}

#[test]
#[should_panic(expected = "the socket is left lying")]
fn who_gives_the_stream_up_must_note_that_before_it_looks() {
    check_upgrade(Flaw::LookBeforeLoss);
}

#[test]
#[should_panic(expected = "a frame is left lying")]
fn the_frame_must_be_there_before_the_note() {
    check_frames(Flaw::NoteBeforeFrame);
}

#[test]
#[should_panic(expected = "a frame is left lying")]
fn the_list_must_be_left_before_the_frames_are_taken() {
    check_frames(Flaw::FramesBeforeList);
}
