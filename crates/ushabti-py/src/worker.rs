//! The loop of a worker thread: the only place where a thread waits for work, and it waits detached.
//!
//! A worker is a Python thread that enters here once and stays attached for life. Between two requests it detaches
//! once, and in that one section writes the answer, takes the next job, and sleeps if there is none: attaching is what
//! costs under the GIL, so it is done once for each request.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use ushabti_core::Shared;
use ushabti_core::queue::Taken;
use ushabti_core::request::Job;

use crate::application::Application;
use crate::exceptions::log_error;
use crate::reply::{Outgoing, prepare};
use crate::request::Request;

/// The largest buffer that a worker keeps between two answers.
const KEEP_BYTES: usize = 64 * 1024;

/// A thread that waited so long for the interpreter waited for one that computes.
const CONTENDED: Duration = Duration::from_millis(1);

/// Set in a child process that a handler has forked: it has none of the server's threads, and sockets that are not its
/// own.
static FORKED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static CURRENT: RefCell<Option<Py<Request>>> = const { RefCell::new(None) };
}

/// The request that the calling thread is handling, or `None`.
#[pyfunction]
pub(crate) fn current(py: Python<'_>) -> Option<Py<Request>> {
    CURRENT.with_borrow(|current| current.as_ref().map(|request| request.clone_ref(py)))
}

/// Says that this process is a forked child of one that serves. Called by `os.register_at_fork`.
#[pyfunction]
pub(crate) fn in_forked_child() {
    FORKED.store(true, Ordering::Relaxed);
}

pub(crate) fn is_forked_child() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Runs jobs until the server stops or needs this worker no more.
pub(crate) fn run(py: Python<'_>, shared: &Shared, application: &Py<Application>) {
    let seat = shared.queue.enter();
    let mut buffer = Vec::with_capacity(1024);
    let mut outgoing: Option<(Outgoing, Arc<ushabti_core::request::Request>)> = None;
    loop {
        let sending = outgoing.take().map(|(outgoing, request)| (outgoing.parts(), request));
        let body = sending.as_ref().and_then(|((_, _, body), _)| body.as_ref().map(|body| body.clone_ref(py)));
        let body = body.as_ref().map_or(&[][..], |bytes| bytes.as_bytes(py));
        let head = &buffer;
        let (taken, _sent) = py.detach(|| {
            let sent = sending.map(|((responder, promise, object), request)| {
                // A client that has left is counted in the core.
                let _ = responder.send(&request, promise, head, body);
                object
            });
            (shared.queue.take(&seat), sent)
        });
        let Taken::Job(Job { request, responder }) = taken else { return };
        shared.queue.running(&seat);
        if buffer.capacity() > KEEP_BYTES {
            buffer = Vec::with_capacity(1024);
        }
        let core = Arc::clone(&request);
        let request = Request::new(request, responder, application.clone_ref(py));
        let request = match Bound::new(py, request) {
            Ok(request) => request,
            Err(error) => {
                // Out of memory: the request's right to answer was dropped, which has sent a 500.
                log_error(py, "a request could not be given to its handler", Some(&error));
                continue;
            }
        };
        outgoing = handle(application.get(), &request, &mut buffer).map(|outgoing| (outgoing, core));
        if is_forked_child() {
            // The handler has forked, and this is the child. The parent answers; this thread ends, and being the
            // only one of the process, ends that.
            std::mem::forget(outgoing.take());
            return;
        }
    }
}

/// Runs one handler, and converts what it returns.
fn handle(application: &Application, request: &Bound<'_, Request>, buffer: &mut Vec<u8>) -> Option<Outgoing> {
    let py = request.py();
    CURRENT.with_borrow_mut(|current| current.replace(request.clone().unbind()));
    let result = call(application, request).and_then(|value| answer(application, request, &value, buffer));
    let outgoing = result.or_else(|error| {
        if is_forked_child() {
            return Ok(None);
        }
        let response = application.fail.bind(py).call1((request, error.value(py)))?;
        if request.get().is_answered() { Ok(None) } else { answer(application, request, &response, buffer) }
    });
    CURRENT.with_borrow_mut(Option::take);
    match outgoing {
        Ok(outgoing) => outgoing,
        Err(error) => {
            // The answer to the error failed as well. What is sent now needs nothing of the application.
            log_error(py, "the answer to a failed request failed", Some(&error));
            if let Some(responder) = request.get().take_responder() {
                let core = request.get().core();
                py.detach(|| responder.refuse(core, 500, &[], ""));
            }
            None
        }
    }
}

fn call<'py>(application: &Application, request: &Bound<'py, Request>) -> PyResult<Bound<'py, PyAny>> {
    let py = request.py();
    let core = request.get().core();
    let endpoint = application.endpoint(py, core.route);
    if core.params.is_empty() {
        endpoint.call1((request,))
    } else {
        endpoint.call((request,), Some(&request.get().parameters(py)?))
    }
}

fn answer(
    application: &Application,
    request: &Bound<'_, Request>,
    value: &Bound<'_, PyAny>,
    buffer: &mut Vec<u8>,
) -> PyResult<Option<Outgoing>> {
    let py = request.py();
    if is_forked_child() {
        return Ok(None);
    }
    let Some(responder) = request.get().take_responder() else {
        if !value.is_none() {
            application.surplus.bind(py).call1((request, value))?;
        }
        return Ok(None);
    };
    match prepare(py, application, value, &responder, buffer) {
        Ok(prepared) => Ok(prepared.into_outgoing(py, application, request, responder, buffer)),
        Err(error) => {
            request.get().restore_responder(responder);
            Err(error)
        }
    }
}

/// Waits until the queue wants more workers; `None` when it is closed.
///
/// Starting a thread needs the interpreter. How long that takes to come by tells what the busy workers do: if they
/// wait for something, it is free at once, and all that are wanted may be started; if they compute, more threads
/// would only wait beside them, so they are added one at a time.
pub(crate) fn wait_to_grow(py: Python<'_>, shared: &Shared) -> Option<usize> {
    let (wanted, since) = py.detach(|| (shared.queue.wait_to_grow(), Instant::now()));
    let waited = since.elapsed();
    wanted.map(|count| if waited < CONTENDED { count } else { 1 })
}
