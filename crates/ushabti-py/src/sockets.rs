//! The WebSockets of an application, by the number that the core knows them by, and how workers tell their events.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyo3::exceptions::PyBaseException;
use pyo3::intern;
use pyo3::prelude::*;
use slab::Slab;
use ushabti_core::Shared;
use ushabti_core::desk::{Desk, Work};
use ushabti_core::websocket::{Event, Fault, Gathered, Message as CoreMessage, Socket};

use crate::application::Application;
use crate::call::{call, call_method};
use crate::context::Context;
use crate::exceptions::{WebSocketError, exception, log_error};
use crate::message::Message;
use crate::websocket::{Handler, WebSocket};

/// After so long from its second event on, a socket goes back to the end of the queue if it has more: others wait as well.
const TURN: Duration = Duration::from_micros(100);

/// Sockets whose last event was not told yet.
#[derive(Default)]
pub(crate) struct Sockets {
    by_token: Mutex<Slab<Py<WebSocket>>>,
}

impl Sockets {
    /// Takes a socket in, which is told its number.
    pub(crate) fn add(&self, socket: Py<WebSocket>) {
        let core = Arc::clone(socket.get().core());
        core.set_token(self.by_token.lock().insert(socket) as u32);
    }

    fn get<'py>(&self, py: Python<'py>, socket: &Socket) -> Option<Bound<'py, WebSocket>> {
        self.by_token.lock().get(socket.token() as usize).map(|socket| socket.bind(py).clone())
    }

    /// Takes it out; the caller drops it.
    fn remove(&self, socket: &Socket) -> Option<Py<WebSocket>> {
        self.by_token.lock().try_remove(socket.token() as usize)
    }
}

/// Indices of `Application::events`.
#[derive(Clone, Copy)]
enum Kind {
    Open,
    Message,
    Error,
    Close,
}

/// Tells events of a socket that came from the queue, for the length of a turn that begins `now`. Worker, attached; what it
/// tells lies on its desk.
pub(crate) fn tell(
    py: Python<'_>,
    shared: &Shared,
    application: &Application,
    core: Arc<Socket>,
    desk: &Desk,
    now: Instant,
) {
    tell_in_turn(py, shared, application, core, desk, now);
    if !shared.is_forked() {
        desk.end();
    }
}

fn tell_in_turn(
    py: Python<'_>,
    shared: &Shared,
    application: &Application,
    core: Arc<Socket>,
    desk: &Desk,
    begun: Instant,
) {
    let Some(socket) = application.sockets.get(py, &core) else { return };
    let mut gathered = None;
    // Most turns have one event and need no look at a clock.
    let mut second: Option<Instant> = None;
    // The last moment that was looked at.
    let mut now: Option<Instant> = None;
    let mut told = 0;
    while let Some((event, more)) = core.next_event() {
        if more && gathered.is_none() {
            gathered = Gathered::begin(shared, &core);
        }
        let name = name_of(&event);
        if told == 0 {
            desk.begin(Work::Event(Arc::clone(&core), name), begun);
        } else {
            let now = now.unwrap_or_else(Instant::now);
            second.get_or_insert(now);
            desk.event(name, now);
        }
        told += 1;
        let is_last = matches!(event, Event::Close(_) | Event::Discarded);
        tell_one(py, application, &socket, event);
        if shared.is_forked() {
            return;
        }
        if is_last {
            drop(application.sockets.remove(&core));
            drop(socket.get().release_handler());
            core.told();
            return;
        }
        let Some(second) = second else { continue };
        let ended = Instant::now();
        now = Some(ended);
        if ended.duration_since(second) >= TURN && core.has_event() {
            // Before another worker may have the socket.
            drop(gathered);
            shared.schedule(core, ended);
            return;
        }
    }
}

fn name_of(event: &Event) -> &'static str {
    match event {
        Event::Open => "open",
        Event::Message(_) => "message",
        Event::Fault(_) => "error",
        Event::Close(_) => "close",
        Event::Discarded => "discarded",
    }
}

fn tell_one(py: Python<'_>, application: &Application, socket: &Bound<'_, WebSocket>, event: Event) {
    let Some(handler) = socket.get().handler(py) else { return };
    let _context = Context::enter(py);
    let result = match event {
        Event::Message(message) => on_message(application, socket, &handler, message),
        Event::Open => {
            let result = deliver(application, socket, &handler, Some(Kind::Open), None);
            socket.get().pack_request(py);
            result
        }
        Event::Fault(Fault { code, reason }) => {
            let problem = exception(py, &WebSocketError::new_err((code, reason)));
            return log_failure(
                application,
                socket,
                deliver(application, socket, &handler, Some(Kind::Error), Some(problem)),
            );
        }
        Event::Close(_) => {
            return log_failure(application, socket, deliver(application, socket, &handler, Some(Kind::Close), None));
        }
        Event::Discarded => {
            return log_failure(application, socket, deliver(application, socket, &handler, None, None));
        }
    };
    if let Err(error) = result {
        let problem = exception(py, &error);
        log_failure(application, socket, Err(error));
        log_failure(application, socket, deliver(application, socket, &handler, Some(Kind::Error), Some(problem)));
        socket.get().core().fail();
    }
}

fn on_message<'py>(
    application: &Application,
    socket: &Bound<'py, WebSocket>,
    handler: &Handler,
    message: CoreMessage,
) -> PyResult<Bound<'py, PyAny>> {
    let py = socket.py();
    if !handler.hears {
        return Ok(py.None().into_bound(py));
    }
    let message = Bound::new(py, Message::new(message, socket.get().application(py)))?;
    let target = handler.target.bind(py);
    if handler.takes_event {
        let event = application.events[Kind::Message as usize].bind(py);
        call(target, [socket.as_any(), event, message.as_any()], None)
    } else {
        call_method(intern!(py, "on_message"), [target, socket.as_any(), message.as_any()])
    }
}

fn deliver<'py>(
    application: &Application,
    socket: &Bound<'py, WebSocket>,
    handler: &Handler,
    kind: Option<Kind>,
    problem: Option<Bound<'py, PyBaseException>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = socket.py();
    let none = py.None().into_bound(py);
    let event = kind.map_or(&none, |kind| application.events[kind as usize].bind(py));
    let problem = problem.map_or_else(|| none.clone(), Bound::into_any);
    call(handler.deliver.bind(py), [handler.target.bind(py), socket.as_any(), event, &problem], None)
}

/// Has the application log what a handler raised.
fn log_failure(application: &Application, socket: &Bound<'_, WebSocket>, result: PyResult<Bound<'_, PyAny>>) {
    let Err(error) = result else { return };
    let py = socket.py();
    let problem = exception(py, &error).into_any();
    if let Err(failure) = call(application.socket_failed.bind(py), [socket.as_any(), &problem], None) {
        log_error(py, "the failure of a WebSocket's handler could not be logged", Some(&failure));
    }
}
