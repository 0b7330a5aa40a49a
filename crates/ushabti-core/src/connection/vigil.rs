//! From the hand-over to the workers on: what the IO task does when they are late, or the client leaves.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ushabti_proto::http1::head::Version;

use super::{Connection, Flow};
use crate::access_log::Entry;
use crate::admission::Admission;
use crate::alerts::Alert;
use crate::channel::Channel;
use crate::reply::{self, Asked};
use crate::request::{Ready, Request};
use crate::server::Shared;
use crate::stats::{Counters, Reason};
use crate::whereabouts::Stage;

/// How long a client that has closed its side is left in peace. Most that do so and mean to stay have their answer by then.
const PROBE_AFTER: Duration = Duration::from_millis(100);
/// After the question, the socket is looked at in these intervals.
const PROBE_FIRST: Duration = Duration::from_millis(100);
const PROBE_AGAIN: Duration = Duration::from_secs(1);

/// A moment to wait for, and how long it is from where it was set.
type Moment = (Instant, Duration);

/// What is due while a request is with the workers.
#[derive(Default)]
pub(crate) struct Vigil {
    request: Weak<Request>,
    /// It is answered 503 if no worker has taken it.
    queue: Option<Moment>,
    /// It is answered 504 if its answer has not begun.
    deadline: Option<Moment>,
    /// The client has closed its side: it is asked, and looked at then, whether it is there still.
    probe: Option<Moment>,
    has_asked: bool,
}

impl Vigil {
    /// Notes in a request that is complete when it is due, and returns what is to be done then; `None` if nothing is. IO task.
    pub(crate) fn of(request: &mut Arc<Request>, server: &Shared) -> Option<Self> {
        let now = if request.body.is_empty() { request.received } else { Instant::now() };
        let policy = server.routing.policy(request.route);
        let time = policy.and_then(|policy| policy.deadline).or(server.config.deadline);
        // 0 is a route that has none though the server has.
        let deadline = time.filter(|time| !time.is_zero()).and_then(|time| moment(now, time));
        let queue = server.config.queue_timeout.and_then(|time| moment(now, time));
        let own = Arc::get_mut(request).expect("a request is shared only when it is dispatched");
        own.ready = now;
        own.deadline = deadline.map(|(at, _)| at);
        (deadline.is_some() || queue.is_some()).then(|| Self {
            request: Arc::downgrade(request),
            queue,
            deadline,
            ..Self::default()
        })
    }

    /// What is due first.
    pub(crate) fn due(&self) -> Option<Moment> {
        [self.queue, self.deadline, self.probe].into_iter().flatten().min()
    }

    /// Answers in the place of workers that are late at `now`. `keep_alive`: as far as the caller knows. IO task.
    pub(crate) fn keep(&mut self, channel: &Channel, keep_alive: bool, now: Instant) {
        let request = self.request.upgrade();
        let answer_for = |status, reason| answer_for(channel, request.as_deref(), keep_alive, status, reason);
        // Whoever runs it has it still, or has run it.
        let give_up = || request.is_some() && channel.server().give_up(channel.whereabouts(), Stage::Answered);
        if Self::take_due(&mut self.queue, now) && give_up() {
            self.deadline = None;
            answer_for(503, Reason::QueueTimeout);
        }
        if Self::take_due(&mut self.deadline, now) {
            // In this order: what cannot be given up was begun, and its handler is late; or a worker has just found that it is
            // late, and gives it up itself.
            let is_begun = request.is_some() && !give_up() && channel.whereabouts().stage() == Stage::Begun;
            if answer_for(504, Reason::Deadline) && is_begun {
                channel.tell_watcher();
                let late = request.clone().expect("it was looked at just now");
                channel.server().alerts.tell(Alert::Late(late));
            }
        }
    }

    fn take_due(moment: &mut Option<Moment>, now: Instant) -> bool {
        let is_due = moment.is_some_and(|(at, _)| now >= at);
        if is_due {
            *moment = None;
        }
        is_due
    }
}

fn moment(from: Instant, time: Duration) -> Option<Moment> {
    from.checked_add(time).map(|at| (at, time))
}

impl Connection {
    /// Hands the request over to the workers (see `link`, `admission` and `queue` for the order).
    pub(super) fn dispatch(&mut self, mut request: Arc<Request>, more: bool) -> Flow {
        let io = Arc::clone(&self.io);
        let server = &io.server;
        if let Some(vigil) = Vigil::of(&mut request, server) {
            **self.vigil.get_or_insert_default() = vigil;
        }
        // A client that has ended its side sends nothing that would wake the task later.
        let exchange = self.link.begin_exchange(more || self.half_closed || server.is_draining());
        self.version = request.head.version();
        hand_over(server, Ready::new(request, self.channel(), exchange));
        if self.half_closed {
            self.expect_reset(PROBE_AFTER);
        }
        if self.vigil.is_some() {
            self.rearm();
        }
        Flow::Answer
    }

    /// The client has closed its side while it is being answered.
    pub(super) fn client_half_closed(&mut self) {
        self.expect_reset(PROBE_AFTER);
        self.rearm();
    }

    fn expect_reset(&mut self, after: Duration) {
        // Clients of HTTP/1.0 know of no answer before the answer (RFC 9110 section 15.2).
        if self.version == Version::Http11 {
            self.vigil.get_or_insert_default().probe = moment(Instant::now(), after);
        }
    }

    /// The exchange is over.
    pub(super) fn end_vigil(&mut self) {
        if let Some(vigil) = &mut self.vigil {
            **vigil = Vigil::default();
        }
    }

    /// Does what is due while the answer is waited for.
    pub(super) fn keep_vigil(&mut self) -> Flow {
        let Some(mut vigil) = self.vigil.take() else {
            self.rearm();
            return Flow::Answer;
        };
        let now = Instant::now();
        vigil.keep(&self.channel(), !self.half_closed, now);
        let mut flow = Flow::Answer;
        if Vigil::take_due(&mut vigil.probe, now) {
            if !std::mem::replace(&mut vigil.has_asked, true) {
                self.link.probe();
                vigil.probe = moment(now, PROBE_FIRST);
            } else if self.link.has_reset() {
                flow = Flow::End;
            } else {
                vigil.probe = moment(now, PROBE_AGAIN);
            }
        }
        self.vigil = Some(vigil);
        self.rearm();
        flow
    }
}

/// Gives a complete request to the workers, or answers that there are too many. IO task, after the exchange has begun.
pub(crate) fn hand_over(server: &Arc<Shared>, ready: Ready) {
    let now = ready.request.ready;
    match server.admit(ready, now) {
        Admission::Admitted => Counters::add(&server.counters.dispatched),
        Admission::Full(Ready { request, responder, .. }) => {
            server.counters.refused(Some(Reason::QueueFull));
            server.journal.peer_notice(|| format!("{}: the queue is full; answered 503", request.peer));
            let fields: &[(&[u8], &[u8])] = &[(b"retry-after", b"1")];
            responder.refuse(&request, 503, fields, "the server has more requests than it can take");
        }
    }
}

/// Answers for the workers, unless one has begun to.
fn answer_for(channel: &Channel, request: Option<&Request>, keep_alive: bool, status: u16, reason: Reason) -> bool {
    let (Some(request), Some(exchange)) = (request, channel.take_back()) else { return false };
    let server = channel.server();
    let (detail, fields): (_, &[(&[u8], &[u8])]) = match reason {
        Reason::QueueTimeout => ("no worker was free in time", &[(b"retry-after", b"1")]),
        _ => (reply::TOO_LATE, &[]),
    };
    server.journal.peer_notice(|| {
        let (method, target) = (request.head.method(), request.head.target());
        format!("{}: {method} {target}: {detail}; answered {status}", channel.peer())
    });
    let keep_alive = request.head.keep_alive() && keep_alive;
    let asked = Asked::Head(&request.head);
    let (status, body_bytes) = reply::refuse(channel, exchange, asked, keep_alive, status, fields, detail);
    server.counters.count_refusal(reason);
    if request.logged {
        let (peer, taken) = (channel.peer(), request.received.elapsed());
        server.log_access(|| Entry { peer, head: asked.head(), status, body_bytes, taken });
    }
    true
}
