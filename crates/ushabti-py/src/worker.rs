//! The loop of a worker thread: the only place where a thread waits for work, and it waits detached.
//!
//! A worker is a Python thread that enters here once and stays attached for life. It detaches in one section, in which it
//! writes the answer, takes the next job, and sleeps if there is none: attaching is what costs under the GIL. While jobs
//! are ready it stays attached for a turn, and writes short answers so: a write never blocks.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use pyo3::prelude::*;
use ushabti_core::desk::{Desk, Work};
use ushabti_core::queue::{Growing, Queue, Seat, Taken};
use ushabti_core::request::{Job, Ready};
use ushabti_core::{Shared, fork};

use crate::application::Application;
use crate::call::call;
use crate::calls;
use crate::context::Context;
use crate::exceptions::{exception, log_error};
use crate::gil;
use crate::reply::{Outgoing, prepare};
use crate::request::Request;
use crate::sockets;

/// The largest buffer that a worker keeps between two answers.
const KEEP_BYTES: usize = 64 * 1024;

thread_local! {
    static CURRENT: RefCell<Option<Py<Request>>> = const { RefCell::new(None) };
}

/// The request that the calling thread is handling, or `None`.
#[pyfunction]
pub(crate) fn current(py: Python<'_>) -> Option<Py<Request>> {
    CURRENT.with_borrow(|current| current.as_ref().map(|request| request.clone_ref(py)))
}

/// Makes `request` the one that the calling thread is handling; returns the one before.
#[pyfunction]
#[pyo3(signature = (request, /))]
pub(crate) fn work_for(request: Option<Py<Request>>) -> Option<Py<Request>> {
    CURRENT.with_borrow_mut(|current| std::mem::replace(current, request))
}

/// Says that this process is a forked child. Called by `os.register_at_fork`.
#[pyfunction]
pub(crate) fn in_forked_child() {
    fork::in_child();
}

/// Runs jobs until the server stops or needs this worker no more. `thread`: the interpreter's number of it.
pub(crate) fn run(py: Python<'_>, shared: &Shared, lane: usize, application: &Py<Application>, thread: u64) {
    let queue = &shared.lanes[lane].queue;
    let desk = shared.desks.enter(shared, lane, thread);
    let seat = queue.enter();
    let unwinding = Unwinding(queue, &seat);
    let mut buffer = Vec::with_capacity(1024);
    let mut outgoing: Option<Outgoing> = None;
    let mut turn = Turn::new();
    loop {
        // Taken out, so that it is dropped attached.
        let body = outgoing.as_mut().and_then(Outgoing::take_body);
        let body = body.as_ref().map_or(&[][..], |body| body.as_bytes(py));
        let mut job = None;
        // A large body is copied for so long that others should have the interpreter meanwhile.
        if body.is_empty() && turn.goes_on(queue) {
            if let Some(outgoing) = outgoing.take() {
                outgoing.send(&buffer, body);
            }
            job = turn.next(queue);
        }
        let job = if let Some(job) = job {
            job
        } else {
            turn.end(queue, &seat);
            let head = &buffer;
            let leaving = outgoing.take();
            let (taken, since) = py.detach(|| {
                if let Some(outgoing) = leaving {
                    outgoing.send(head, body);
                }
                (queue.take(&seat), Instant::now())
            });
            let Taken::Job(job) = taken else {
                std::mem::forget(unwinding);
                return;
            };
            seat.note_usage();
            if turn.begin(since, queue) {
                gil::waited(py, shared);
            }
            desk.waited_to_attach(turn.now.saturating_duration_since(since));
            job
        };
        turn.running(queue, &seat);
        if buffer.capacity() > KEEP_BYTES {
            buffer = Vec::with_capacity(1024);
        }
        match job {
            Job::Request(ready) => {
                if let Some(ready) = ready.start(turn.now) {
                    desk.waited_in_queue(ready.request.waited());
                    desk.begin(Work::Request(Arc::clone(&ready.request)), turn.now);
                    outgoing = run_request(py, shared, application, ready, &mut buffer, &desk);
                }
            }
            Job::Events(socket) => {
                sockets::tell(py, shared, application.get(), socket, &desk, turn.now);
            }
            Job::Call(number) => calls::help(py, shared, lane, application.get(), number, &desk),
        }
        if shared.is_forked() {
            // The handler has forked, and this is the child. The parent answers; this thread ends, and being the
            // only one of the process, ends that.
            std::mem::forget(outgoing.take());
            std::mem::forget(unwinding);
            return;
        }
        turn.finished(queue, &seat);
    }
}

fn run_request(
    py: Python<'_>,
    shared: &Shared,
    application: &Py<Application>,
    ready: Ready,
    buffer: &mut Vec<u8>,
    desk: &Desk,
) -> Option<Outgoing> {
    // Its place is another's when the handler has returned.
    let Ready { request, responder, permit: _permit } = ready;
    match Bound::new(py, Request::new(request, responder, application.clone_ref(py))) {
        Ok(request) => {
            let outgoing = handle(shared, application.get(), &request, buffer, desk);
            if !request.get().is_deferred() || request.get().is_answered() {
                request.get().end_watch();
            }
            outgoing
        }
        Err(error) => {
            desk.end();
            // Out of memory: the request's right to answer was dropped, which has sent a 500.
            log_error(py, "a request could not be given to its handler", Some(&error));
            None
        }
    }
}

/// Strikes a worker off that ends by a panic, which `PyO3` makes an exception of. Forgotten in good order.
struct Unwinding<'a>(&'a Queue<Job>, &'a Seat);

impl Drop for Unwinding<'_> {
    fn drop(&mut self) {
        self.0.abandon(self.1);
    }
}

/// The time for which a worker is attached without a break.
///
/// Detaching between two short handlers costs more than the write: whoever waits for the interpreter gets it then, and
/// the worker waits in turn, with two context switches for each request. So it stays while jobs are ready, but not for
/// long.
struct Turn {
    /// The last moment that was looked at.
    now: Instant,
    ends: Instant,
    /// It was long in coming.
    contended: bool,
}

impl Turn {
    fn new() -> Self {
        let now = Instant::now();
        Self { now, ends: now, contended: false }
    }

    /// The worker is attached and has wanted that `since`. Says whether it was long in coming.
    fn begin(&mut self, since: Instant, queue: &Queue<Job>) -> bool {
        self.now = Instant::now();
        self.ends = self.now + gil::TURN;
        self.contended = !queue.is_parallel() && self.now.duration_since(since) >= gil::CONTENDED;
        self.contended
    }

    fn goes_on(&self, queue: &Queue<Job>) -> bool {
        self.now < self.ends && (self.contended || !queue.is_empty())
    }

    /// Takes the next job without detaching, if there is one or, in a turn that was long in coming, if one comes soon.
    fn next(&mut self, queue: &Queue<Job>) -> Option<Job> {
        let job = queue.try_take();
        if job.is_none() && self.contended && queue.linger(self.ends.min(self.now + gil::LINGER)) {
            self.now = Instant::now();
            return queue.try_take();
        }
        job
    }

    fn running(&self, queue: &Queue<Job>, seat: &Seat) {
        if self.contended {
            queue.running_in_turn(seat, self.now);
        } else {
            queue.running(seat, self.now);
        }
    }

    fn finished(&mut self, queue: &Queue<Job>, seat: &Seat) {
        let started = std::mem::replace(&mut self.now, Instant::now());
        queue.finished(seat, self.now.duration_since(started));
    }

    fn end(&mut self, queue: &Queue<Job>, seat: &Seat) {
        if std::mem::take(&mut self.contended) {
            queue.end_turn(seat);
        }
    }
}

/// Runs one handler, and converts what it returns.
fn handle(
    shared: &Shared,
    application: &Application,
    request: &Bound<'_, Request>,
    buffer: &mut Vec<u8>,
    desk: &Desk,
) -> Option<Outgoing> {
    let py = request.py();
    let _context = Context::enter(py);
    CURRENT.with_borrow_mut(|current| current.replace(request.clone().unbind()));
    let result = call_endpoint(application, request).and_then(|value| {
        if shared.is_forked() {
            return Ok(None);
        }
        if value.is_none() && request.get().is_deferred() {
            return Ok(None);
        }
        if value.is_none() && !request.get().is_answered() {
            let endpoint = application.endpoint(py, request.get().core().route);
            return Err(PyErr::from_value(call(application.nothing.bind(py), [endpoint], None)?));
        }
        answer(application, request, &value, buffer)
    });
    let failed = result.is_err();
    let outgoing = result.or_else(|error| {
        if shared.is_forked() {
            return Ok(None);
        }
        let response = call(application.fail.bind(py), [request.as_any(), exception(py, &error).as_any()], None)?;
        // None: an error handler has answered, or deferred its answer.
        if response.is_none() || request.get().is_answered() {
            Ok(None)
        } else {
            answer(application, request, &response, buffer)
        }
    });
    CURRENT.with_borrow_mut(Option::take);
    if !shared.is_forked() {
        // Before the events begin: they want the request for themselves. In a child the lock may be held by nobody.
        desk.end();
    }
    match outgoing {
        Ok(None) => {
            request.get().begin_events(failed);
            None
        }
        Ok(outgoing) => outgoing,
        Err(error) => {
            // The answer to the error failed as well. What is sent now needs nothing of the application.
            log_error(py, "the answer to a failed request failed", Some(&error));
            if let Some(responder) = request.get().take_responder() {
                let core = request.get().core();
                py.detach(|| responder.refuse(core, 500, &[], ""));
            }
            request.get().begin_events(true);
            None
        }
    }
}

fn call_endpoint<'py>(application: &Application, request: &Bound<'py, Request>) -> PyResult<Bound<'py, PyAny>> {
    let py = request.py();
    let core = request.get().core();
    let endpoint = application.endpoint(py, core.route);
    let parameters = if core.params.is_empty() { None } else { Some(request.get().parameters(py)?) };
    call(endpoint, [request.as_any()], parameters.as_ref())
}

fn answer(
    application: &Application,
    request: &Bound<'_, Request>,
    value: &Bound<'_, PyAny>,
    buffer: &mut Vec<u8>,
) -> PyResult<Option<Outgoing>> {
    let py = request.py();
    if !request.get().is_answered() {
        if let Some(prepared) = prepare(py, application, value, request.get(), buffer)? {
            return Ok(prepared.into_outgoing(py, application, request, buffer));
        }
    }
    if !value.is_none() {
        call(application.surplus.bind(py), [request.as_any(), value], None)?;
    }
    Ok(None)
}

/// Waits until the queue wants more workers; `None` when it is closed.
///
/// Starting a thread needs the interpreter. How long that takes to come by tells what the busy workers do: if they
/// wait for something, it is free at once, and all that are wanted may be started; if they compute, more threads
/// would only wait beside them, so they are added one at a time.
pub(crate) fn wait_to_grow(py: Python<'_>, shared: &Shared, lane: usize) -> Option<usize> {
    let queue = &shared.lanes[lane].queue;
    loop {
        let (growing, since) = py.detach(|| (queue.wait_to_grow(), Instant::now()));
        let waited = since.elapsed();
        match growing {
            Growing::More(count) => return Some(if waited < gil::CONTENDED { count } else { 1 }),
            Growing::Visit => gil::calm_down(py, shared, false),
            Growing::Closed => {
                gil::calm_down(py, shared, true);
                return None;
            }
        }
    }
}
