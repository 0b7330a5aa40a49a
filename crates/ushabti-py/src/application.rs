//! What the workers call: the handlers of the routes, and the hooks by which Python converts values and errors.

use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::calls::Calls;
use crate::routes::RouteTable;
use crate::sockets::Sockets;
use crate::watches::Watches;

/// The application as the workers see it, fixed when the server starts.
#[pyclass(frozen, module = "ushabti._core")]
pub struct Application {
    /// `endpoint(request, **parameters) -> value`; the index is the route's number.
    endpoints: Vec<Py<PyAny>>,
    /// The routes, for the names of the paths' parameters.
    pub(crate) routes: Py<RouteTable>,
    /// `as_response(value) -> Response`, for every value but text, bytes and responses.
    pub(crate) as_response: Py<PyAny>,
    /// `fail(request, exception) -> Response`: logs what must be logged and finds the answer.
    pub(crate) fail: Py<PyAny>,
    /// `nothing(endpoint) -> exception`: a handler returned nothing and has answered nothing.
    pub(crate) nothing: Py<PyAny>,
    /// `surplus(request, value)`: a handler returned a value after it had answered.
    pub(crate) surplus: Py<PyAny>,
    /// `cut(request, exception)`: a streamed body failed after its head was sent.
    pub(crate) cut: Py<PyAny>,
    /// `dropped(endpoint, method, target)`: a request whose answer was deferred was dropped without one.
    pub(crate) dropped: Py<PyAny>,
    /// `gather(request, limit, tickets)`: what `Request.gather` returns.
    pub(crate) gather: Py<PyAny>,
    /// The gatherings of calls whose blocks are open.
    pub(crate) calls: Calls,
    /// The class of responses.
    pub(crate) response: Py<PyType>,
    /// `loads(bytes) -> object`, and `dumps(object) -> text or bytes`.
    pub(crate) loads: Py<PyAny>,
    pub(crate) dumps: Py<PyAny>,
    /// `bind(handler) -> (target, hears, takes_event, is_blocking, deliver)`: what is called for a WebSocket.
    pub(crate) bind: Py<PyAny>,
    /// `socket_failed(socket, exception)`: a handler of a WebSocket raised.
    pub(crate) socket_failed: Py<PyAny>,
    /// The members of `Event`: open, message, error, close.
    pub(crate) events: [Py<PyAny>; 4],
    /// The WebSockets whose last event was not told yet.
    pub(crate) sockets: Sockets,
    /// What is to be called when clients leave.
    pub(crate) watches: Watches,
    pub(crate) text_type: String,
    pub(crate) bytes_type: String,
}

impl Application {
    pub(crate) fn endpoint<'py>(&self, py: Python<'py>, route: u32) -> &Bound<'py, PyAny> {
        self.endpoints[route as usize].bind(py)
    }
}

#[pymethods]
impl Application {
    #[new]
    #[pyo3(signature = (*, endpoints, routes, as_response, fail, nothing, surplus, cut, dropped, gather, response, loads, dumps, bind, socket_failed, events, text_type, bytes_type))]
    #[expect(clippy::too_many_arguments, reason = "keyword-only on the side of Python, where it is called once")]
    fn new(
        endpoints: Vec<Py<PyAny>>,
        routes: Py<RouteTable>,
        as_response: Py<PyAny>,
        fail: Py<PyAny>,
        nothing: Py<PyAny>,
        surplus: Py<PyAny>,
        cut: Py<PyAny>,
        dropped: Py<PyAny>,
        gather: Py<PyAny>,
        response: Py<PyType>,
        loads: Py<PyAny>,
        dumps: Py<PyAny>,
        bind: Py<PyAny>,
        socket_failed: Py<PyAny>,
        events: [Py<PyAny>; 4],
        text_type: String,
        bytes_type: String,
    ) -> Self {
        Self {
            endpoints,
            routes,
            as_response,
            fail,
            nothing,
            surplus,
            cut,
            dropped,
            gather,
            calls: Calls::default(),
            response,
            loads,
            dumps,
            bind,
            socket_failed,
            events,
            sockets: Sockets::default(),
            watches: Watches::default(),
            text_type,
            bytes_type,
        }
    }
}
