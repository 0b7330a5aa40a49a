//! The WebSockets of an application, by the number that the core knows them by, and how workers tell their events.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyo3::prelude::*;
use slab::Slab;
use ushabti_core::Shared;
use ushabti_core::websocket::{Event, Fault, Gathered, Socket};

use crate::application::Application;
use crate::call::call;
use crate::exceptions::{WebSocketError, exception, log_error};
use crate::message::Message;
use crate::websocket::WebSocket;

/// After so long a socket goes back to the end of the queue, if it has more events: others wait as well.
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

/// Tells events of a socket that came from the queue, for the length of a turn. Worker, attached.
pub(crate) fn tell(py: Python<'_>, shared: &Shared, application: &Application, core: Arc<Socket>) {
    let Some(socket) = application.sockets.get(py, &core) else { return };
    let begun = Instant::now();
    let mut gathered = None;
    while let Some(event) = core.next_event() {
        if gathered.is_none() && core.has_event() {
            gathered = Gathered::begin(shared, &core);
        }
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
        let now = Instant::now();
        if now.duration_since(begun) >= TURN && core.has_event() {
            // Before another worker may have the socket.
            drop(gathered);
            shared.schedule(core, now);
            return;
        }
    }
}

fn tell_one(py: Python<'_>, application: &Application, socket: &Bound<'_, WebSocket>, event: Event) {
    let result = match event {
        Event::Message(message) => {
            let Some((on_message, takes_event)) = socket.get().on_message(py) else { return };
            let message = Message::new(message, socket.get().application(py));
            Bound::new(py, message).and_then(|message| {
                let on_message = on_message.bind(py);
                if takes_event {
                    let event = application.events[Kind::Message as usize].bind(py);
                    call(on_message, [socket.as_any(), event, message.as_any()], None)
                } else {
                    call(on_message, [socket.as_any(), message.as_any()], None)
                }
            })
        }
        Event::Open => deliver(py, application, socket, Some(Kind::Open), None),
        Event::Fault(Fault { code, reason }) => {
            let problem = WebSocketError::new_err((code, reason));
            return report(
                py,
                application,
                socket,
                deliver(py, application, socket, Some(Kind::Error), Some(problem)),
                false,
            );
        }
        Event::Close(_) => {
            return report(py, application, socket, deliver(py, application, socket, Some(Kind::Close), None), false);
        }
        Event::Discarded => {
            return report(py, application, socket, deliver(py, application, socket, None, None), false);
        }
    };
    report(py, application, socket, result, true);
}

fn deliver<'py>(
    py: Python<'py>,
    application: &Application,
    socket: &Bound<'py, WebSocket>,
    kind: Option<Kind>,
    problem: Option<PyErr>,
) -> PyResult<Bound<'py, PyAny>> {
    let none = py.None().into_bound(py);
    let Some(deliver) = socket.get().deliver(py) else { return Ok(none) };
    let event = kind.map_or(&none, |kind| application.events[kind as usize].bind(py));
    let problem = problem.map(|problem| exception(py, &problem).into_any());
    call(deliver.bind(py), [socket.as_any(), event, problem.as_ref().unwrap_or(&none)], None)
}

/// Has the application log what a handler raised; `goes_on`: the socket was alive, and is closed with 1011.
fn report(
    py: Python<'_>,
    application: &Application,
    socket: &Bound<'_, WebSocket>,
    result: PyResult<Bound<'_, PyAny>>,
    goes_on: bool,
) {
    let Err(error) = result else { return };
    let none = py.None().into_bound(py);
    let deliver = if goes_on { socket.get().deliver(py) } else { None };
    let deliver = deliver.as_ref().map_or(&none, |deliver| deliver.bind(py));
    let problem = exception(py, &error).into_any();
    if let Err(failure) = call(application.socket_failed.bind(py), [socket.as_any(), &problem, deliver], None) {
        log_error(py, "the failure of a WebSocket's handler could not be reported", Some(&failure));
    }
    if goes_on {
        socket.get().core().fail();
    }
}
