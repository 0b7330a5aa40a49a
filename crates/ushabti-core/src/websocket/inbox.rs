//! The events of one socket on their way from the IO thread to a worker.
//!
//! # The hand-over
//!
//! All of it happens under one lock, held for moving a few words. The IO task puts events in; the first one schedules the
//! socket, which is then in the queue or with a worker, once, until [`Inbox::next`] finds nothing and says so under the
//! same lock. So an event is either found by the worker that has the socket, or schedules it anew: none is left lying,
//! and no two workers have it.
//!
//! Of the four kinds each waits in its own place, and they are told in the order open, messages, fault, end, whatever the
//! order in which threads come by.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use ushabti_proto::websocket::message::Message;

use super::socket::{Closing, Style};
use crate::jitter;

/// Messages that may wait, and their bytes. One more than the bytes allow may pass them: a message is not cut.
const MESSAGES_MAX: usize = 64;
const BYTES_MAX: usize = 256 * 1024;

/// Why a connection has failed; what follows is its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The close code.
    pub code: u16,
    /// One sentence.
    pub reason: String,
}

/// What a worker tells the handler of a socket.
#[derive(Debug)]
pub enum Event {
    /// The 101 is out: the first event.
    Open,
    /// A message.
    Message(Message),
    /// The connection has failed.
    Fault(Fault),
    /// The socket is closed: the last event.
    Close(Closing),
    /// The client was gone before the 101 was out. There was no event before, and there will be none.
    Discarded,
}

/// What [`Inbox::next`] brings.
pub(crate) struct Next {
    pub(super) event: Option<Event>,
    /// There is another one behind it.
    pub(super) more: bool,
    /// The IO task must be signalled: there is room, or the handler has done with everything.
    pub(super) resume: bool,
}

/// What the IO task learns when it puts messages in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// The socket must be scheduled.
    pub(super) schedule: bool,
    /// No more fits in: the task is signalled when it does.
    pub(super) is_full: bool,
}

#[derive(Default)]
struct State {
    is_scheduled: bool,
    is_open_due: bool,
    messages: VecDeque<Message>,
    bytes: usize,
    /// Boxed, as is the end: it is rare, and there are many sockets.
    fault: Option<Box<Fault>>,
    end: End,
    ear: Ear,
    awaits: Awaits,
    /// The thread of a blocking handler has a message, and has not asked for another.
    is_handling: bool,
}

/// What the IO task is to be signalled at.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Awaits {
    #[default]
    Nothing,
    /// There is room: it does not read before.
    Room,
    /// No message waits for the handler, and it is at work on none.
    Rest,
}

/// What becomes of messages.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Ear {
    #[default]
    Open,
    /// They are thrown away: this side has begun to close.
    Deaf,
    /// They are thrown away: a handler has failed, which was told as the fault that there is.
    Failed,
}

/// What is told last.
#[derive(Default)]
enum End {
    #[default]
    NotYet,
    Closed(Box<Closing>),
    Discarded,
    Told,
}

impl State {
    fn is_deaf(&self) -> bool {
        self.ear != Ear::Open
    }

    fn has_ended(&self) -> bool {
        !matches!(self.end, End::NotYet)
    }

    /// Whether the end is still to be told.
    fn is_end_due(&self) -> bool {
        matches!(self.end, End::Closed(_) | End::Discarded)
    }

    fn is_full(&self) -> bool {
        self.messages.len() >= MESSAGES_MAX || self.bytes >= BYTES_MAX
    }

    fn take_message(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.data.len();
        if self.messages.is_empty() && self.messages.capacity() > 4 {
            self.messages = VecDeque::new();
        }
        Some(message)
    }

    /// Whether the IO task may be told that there is room again: not for every message, but when half is free.
    fn resume(&mut self) -> bool {
        let is_half_free = self.messages.len() <= MESSAGES_MAX / 2 && self.bytes <= BYTES_MAX / 2;
        is_half_free && self.has_come(Awaits::Room)
    }

    /// Whether the IO task waits for this, and is to be signalled; it has come.
    fn has_come(&mut self, what: Awaits) -> bool {
        let is_awaited = self.awaits == what;
        if is_awaited {
            self.awaits = Awaits::Nothing;
        }
        is_awaited
    }

    fn schedule(&mut self) -> bool {
        !std::mem::replace(&mut self.is_scheduled, true)
    }
}

/// The events of a socket that no worker has taken.
pub(crate) struct Inbox {
    state: Mutex<State>,
    /// For the thread of a blocking handler, which takes the messages itself.
    arrived: Condvar,
    style: Style,
}

/// What [`Inbox::receive`] brings.
#[derive(Debug)]
pub enum Received {
    /// A message.
    Message(Message),
    /// There will be no more.
    Closed,
    /// The time was over first.
    TimedOut,
}

impl Inbox {
    pub(super) fn new(style: Style) -> Self {
        Self { state: Mutex::new(State::default()), arrived: Condvar::new(), style }
    }

    /// The 101 is out. True: the socket must be scheduled. IO task.
    pub(super) fn open(&self) -> bool {
        let mut state = self.state.lock();
        state.is_open_due = true;
        state.schedule()
    }

    /// Puts messages in, in their order, and leaves `messages` empty. IO task.
    pub(super) fn push(&self, messages: &mut Vec<Message>) -> Room {
        jitter::point();
        let mut state = self.state.lock();
        if state.is_deaf() {
            messages.clear();
        }
        if messages.is_empty() {
            return Room { schedule: false, is_full: state.awaits == Awaits::Room };
        }
        state.bytes += messages.iter().map(|message| message.data.len()).sum::<usize>();
        state.messages.extend(messages.drain(..));
        let is_full = state.is_full();
        state.awaits = if is_full { Awaits::Room } else { Awaits::Nothing };
        if self.style == Style::Blocking {
            drop(state);
            self.arrived.notify_all();
            return Room { schedule: false, is_full };
        }
        Room { schedule: state.schedule(), is_full }
    }

    /// How many more messages may be read before they are put in, and their bytes, which the last one may pass. IO task.
    pub(super) fn room(&self) -> (usize, usize) {
        let state = self.state.lock();
        if state.is_full() && !state.is_deaf() {
            return (0, 0);
        }
        let messages = MESSAGES_MAX.saturating_sub(state.messages.len()).max(1);
        (messages, BYTES_MAX.saturating_sub(state.bytes).max(1))
    }

    /// Whether messages wait for the handler, or it is at work on one. Then the IO task is signalled when neither is so any more,
    /// unless it asks again before. IO task.
    pub(super) fn is_at_work(&self) -> bool {
        jitter::point();
        let mut state = self.state.lock();
        let is_at_work = match self.style {
            Style::Events => state.is_scheduled,
            Style::Blocking => state.is_handling || !state.messages.is_empty(),
        };
        state.awaits = if is_at_work { Awaits::Rest } else { Awaits::Nothing };
        is_at_work
    }

    /// Gives back memory that a burst of messages has left behind. IO task.
    pub(super) fn shrink(&self) {
        let mut state = self.state.lock();
        if state.messages.is_empty() {
            state.messages = VecDeque::new();
        }
    }

    /// The socket is closed; `fault` says why it has failed, if it has. True: it must be scheduled. IO task.
    pub(super) fn end(&self, fault: Option<Fault>, closing: Closing) -> bool {
        self.finish(End::Closed(Box::new(closing)), fault)
    }

    /// The client was gone before it was open. True: it must be scheduled.
    pub(super) fn discard(&self) -> bool {
        self.finish(End::Discarded, None)
    }

    fn finish(&self, end: End, fault: Option<Fault>) -> bool {
        jitter::point();
        let mut state = self.state.lock();
        if state.has_ended() {
            return false;
        }
        state.fault = fault.filter(|_| state.ear != Ear::Failed).map(Box::new);
        state.end = end;
        let schedule = state.schedule();
        drop(state);
        self.arrived.notify_all();
        schedule
    }

    /// Throws the messages away that wait, and those that come. True: the IO task must be signalled. Any thread.
    pub(super) fn be_deaf(&self) -> bool {
        self.stop_listening(Ear::Deaf)
    }

    fn stop_listening(&self, ear: Ear) -> bool {
        jitter::point();
        let mut state = self.state.lock();
        if state.ear != Ear::Failed {
            state.ear = ear;
        }
        if ear == Ear::Failed {
            state.fault = None;
        }
        let dropped = std::mem::take(&mut state.messages);
        state.bytes = 0;
        let resume = state.resume();
        drop(state);
        drop(dropped);
        self.arrived.notify_all();
        resume
    }

    /// The same, because a handler has failed: that was told, and nothing else is told as a fault.
    pub(super) fn fail(&self) -> bool {
        self.stop_listening(Ear::Failed)
    }

    /// Takes the next event out; without one the socket is no longer scheduled. The worker that has the socket.
    pub(super) fn next(&self) -> Next {
        jitter::point();
        let mut state = self.state.lock();
        let event = self.take(&mut state);
        if event.is_none() {
            state.is_scheduled = false;
            return Next { event, more: false, resume: state.has_come(Awaits::Rest) };
        }
        Next { event, more: self.is_due(&state), resume: state.resume() }
    }

    fn take(&self, state: &mut State) -> Option<Event> {
        if std::mem::take(&mut state.is_open_due) {
            return Some(Event::Open);
        }
        if self.style == Style::Events {
            if let Some(message) = state.take_message() {
                return Some(Event::Message(message));
            }
        }
        if let Some(fault) = state.fault.take() {
            return Some(Event::Fault(*fault));
        }
        if !state.is_end_due() {
            return None;
        }
        Some(match std::mem::replace(&mut state.end, End::Told) {
            End::Closed(closing) => Event::Close(*closing),
            _ => Event::Discarded,
        })
    }

    fn is_due(&self, state: &State) -> bool {
        state.is_open_due
            || (self.style == Style::Events && !state.messages.is_empty())
            || state.fault.is_some()
            || state.is_end_due()
    }

    /// Whether the worker that has the socket would find an event now.
    pub(super) fn has_event(&self) -> bool {
        self.is_due(&self.state.lock())
    }

    /// Waits for the next message, and calls `signal` when the IO task must be signalled. The thread of a blocking handler,
    /// detached.
    pub(super) fn receive(&self, timeout: Option<Duration>, signal: impl Fn()) -> Received {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.state.lock();
        state.is_handling = false;
        loop {
            if let Some(message) = state.take_message() {
                state.is_handling = true;
                let resume = state.resume();
                drop(state);
                if resume {
                    signal();
                }
                return Received::Message(message);
            }
            if state.has_ended() || state.is_deaf() {
                return Received::Closed;
            }
            if state.has_come(Awaits::Rest) {
                MutexGuard::unlocked(&mut state, &signal);
                continue;
            }
            match until {
                None => self.arrived.wait(&mut state),
                Some(until) => {
                    if self.arrived.wait_until(&mut state, until).timed_out() && state.messages.is_empty() {
                        let closed = state.has_ended() || state.is_deaf();
                        return if closed { Received::Closed } else { Received::TimedOut };
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ushabti_proto::websocket::message::MessageKind;

    use super::*;

    fn message(bytes: usize) -> Message {
        Message { kind: MessageKind::Binary, data: vec![0; bytes] }
    }

    fn closing() -> Closing {
        Closing { code: 1000, reason: String::new(), is_clean: true }
    }

    #[test]
    fn events_are_told_in_their_order_whatever_comes_first() {
        let inbox = Inbox::new(Style::Events);
        assert!(inbox.open());
        assert!(!inbox.end(Some(Fault { code: 1002, reason: String::new() }), closing()));
        assert!(!inbox.push(&mut vec![message(1)]).schedule, "it is scheduled already");
        assert!(matches!(inbox.next().event, Some(Event::Open)));
        assert!(matches!(inbox.next().event, Some(Event::Message(_))));
        assert!(matches!(inbox.next().event, Some(Event::Fault(_))));
        assert!(matches!(inbox.next().event, Some(Event::Close(_))));
        assert!(inbox.next().event.is_none());
    }

    #[test]
    fn a_socket_is_scheduled_once_until_its_worker_finds_nothing() {
        let inbox = Inbox::new(Style::Events);
        assert!(inbox.open());
        assert!(matches!(inbox.next().event, Some(Event::Open)));
        assert!(!inbox.push(&mut vec![message(1)]).schedule);
        assert!(inbox.next().event.is_some());
        assert!(inbox.next().event.is_none());
        assert!(inbox.push(&mut vec![message(1)]).schedule);
    }

    #[test]
    fn a_full_inbox_asks_for_a_pause_and_ends_it_when_half_is_free() {
        let inbox = Inbox::new(Style::Events);
        for number in 1..=MESSAGES_MAX {
            assert_eq!(inbox.push(&mut vec![message(1)]).is_full, number == MESSAGES_MAX);
        }
        assert_eq!(inbox.room(), (0, 0));
        let signals = (0..MESSAGES_MAX).filter(|_| inbox.next().resume).count();
        assert_eq!(signals, 1);
        assert_eq!(inbox.room(), (MESSAGES_MAX, BYTES_MAX));
        assert!(inbox.push(&mut vec![message(BYTES_MAX)]).is_full);
        assert!(inbox.next().resume);
    }

    #[test]
    fn who_waits_for_the_rest_of_the_handler_is_told_once() {
        let inbox = Inbox::new(Style::Events);
        assert!(!inbox.is_at_work());
        inbox.push(&mut vec![message(1)]);
        assert!(inbox.is_at_work());
        assert!(!inbox.next().resume, "it is given the message, and may answer");
        assert!(inbox.is_at_work());
        assert!(inbox.next().resume);
        assert!(!inbox.is_at_work());
        inbox.push(&mut vec![message(1)]);
        inbox.next();
        assert!(!inbox.next().resume, "it was not asked for");
    }

    #[test]
    fn the_thread_of_a_blocking_handler_rests_when_it_asks_for_more() {
        let told = std::cell::Cell::new(0);
        let signal = || told.set(told.get() + 1);
        let inbox = Inbox::new(Style::Blocking);
        assert!(!inbox.is_at_work(), "one that takes no messages answers none");
        inbox.push(&mut vec![message(1)]);
        assert!(inbox.is_at_work());
        assert!(matches!(inbox.receive(None, signal), Received::Message(_)));
        assert!(inbox.is_at_work());
        assert!(matches!(inbox.receive(Some(Duration::ZERO), signal), Received::TimedOut));
        assert_eq!(told.get(), 1);
        assert!(!inbox.is_at_work());
        assert!(matches!(inbox.receive(Some(Duration::ZERO), signal), Received::TimedOut));
        assert_eq!(told.get(), 1);
    }

    #[test]
    fn the_end_comes_once() {
        let inbox = Inbox::new(Style::Events);
        assert!(inbox.discard());
        assert!(!inbox.end(None, closing()));
        assert!(matches!(inbox.next().event, Some(Event::Discarded)));
        assert!(inbox.next().event.is_none());
    }

    #[test]
    fn a_deaf_socket_hears_of_its_end_alone() {
        let inbox = Inbox::new(Style::Events);
        for _ in 0..MESSAGES_MAX {
            inbox.push(&mut vec![message(1)]);
        }
        assert!(inbox.be_deaf(), "the task waits for room");
        assert!(!inbox.push(&mut vec![message(1)]).is_full);
        inbox.end(None, closing());
        assert!(matches!(inbox.next().event, Some(Event::Close(_))));
    }

    #[test]
    fn a_blocking_reader_gets_what_came_before_the_end() {
        let inbox = Inbox::new(Style::Blocking);
        assert!(matches!(inbox.receive(Some(Duration::ZERO), || {}), Received::TimedOut));
        assert!(!inbox.push(&mut vec![message(1)]).schedule);
        assert!(inbox.end(None, closing()));
        assert!(matches!(inbox.receive(None, || {}), Received::Message(_)));
        assert!(matches!(inbox.receive(None, || {}), Received::Closed));
        assert!(matches!(inbox.next().event, Some(Event::Close(_))));
    }
}
