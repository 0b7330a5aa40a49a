//! A WebSocket, as handlers and other threads see it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyTimeoutError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use ushabti_core::request::{Packed, Request as CoreRequest};
use ushabti_core::websocket::{Outgoing, Received, Sent, Socket, Style};

use crate::application::Application;
use crate::call::call;
use crate::message::{Data, Message};
use crate::request::Request;

/// A message up to this size is sent attached: the write takes microseconds, and never blocks.
const SHORT: usize = 16 * 1024;
/// The longest payload of a control frame (RFC 6455 section 5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// What is called for a socket. Made of the application's own objects alone: there are many sockets.
pub(crate) struct Handler {
    /// For a message: `target(socket, event, message)` if it takes the event, else `target.on_message(socket, message)`.
    pub(crate) target: Py<PyAny>,
    /// Whether messages are for it.
    pub(crate) hears: bool,
    pub(crate) takes_event: bool,
    /// `deliver(target, socket, event or None, problem or None)`, for all but messages.
    pub(crate) deliver: Py<PyAny>,
}

impl Handler {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        let Self { hears, takes_event, .. } = *self;
        Self { target: self.target.clone_ref(py), hears, takes_event, deliver: self.deliver.clone_ref(py) }
    }
}

/// One WebSocket connection (RFC 6455).
///
/// Any thread may use it, at any time: what is sent to a socket that is closed is dropped, and the call says so. It is
/// hashable and equal to itself alone.
#[pyclass(frozen, eq, hash, weakref, module = "ushabti._core")]
pub struct WebSocket {
    core: Arc<Socket>,
    style: Style,
    application: Py<Application>,
    subprotocol: Option<Box<str>>,
    /// Whether a message without a time to wait may have to be sent detached: because it is compressed, or waits.
    is_slow: bool,
    /// The objects of Python that come and go. The lock is held for taking a reference. One for all: there are many sockets.
    held: Mutex<Held>,
}

/// The request that became the socket.
enum Kept {
    /// As the handler saw it, or as it was asked for.
    Object(Py<Request>),
    /// Nobody has it, nor has noted anything in it.
    Packed(Box<Packed>),
    /// Somebody of the core had it still.
    Shared(Arc<CoreRequest>),
    /// The garbage collector was here.
    Nothing,
}

struct Held {
    /// Until the last event was told; then it is given up, so that a handler and its socket do not keep each other.
    handler: Option<Handler>,
    request: Kept,
    /// Made when it is asked for.
    state: Option<Py<PyDict>>,
}

impl PartialEq for WebSocket {
    fn eq(&self, other: &Self) -> bool {
        self.core.id() == other.core.id()
    }
}

impl Hash for WebSocket {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.core.id().hash(state);
    }
}

impl WebSocket {
    pub(crate) fn new(
        core: Arc<Socket>,
        style: Style,
        request: &Bound<'_, Request>,
        subprotocol: Option<String>,
        handler: Handler,
    ) -> Self {
        let is_slow = core.may_wait() || core.is_compressed();
        let application = request.get().application().clone_ref(request.py());
        Self {
            core,
            style,
            application,
            subprotocol: subprotocol.map(String::into_boxed_str),
            is_slow,
            held: Mutex::new(Held {
                handler: Some(handler),
                request: Kept::Object(request.clone().unbind()),
                state: None,
            }),
        }
    }

    pub(crate) fn core(&self) -> &Arc<Socket> {
        &self.core
    }

    pub(crate) fn application(&self, py: Python<'_>) -> Py<Application> {
        self.application.clone_ref(py)
    }

    /// What is called; `None` after the last event.
    pub(crate) fn handler(&self, py: Python<'_>) -> Option<Handler> {
        self.held.lock().handler.as_ref().map(|handler| handler.clone_ref(py))
    }

    /// The socket has been opened: from here on most requests are never looked at again.
    pub(crate) fn pack_request(&self, py: Python<'_>) {
        let mut held = self.held.lock();
        let Kept::Object(request) = &held.request else { return };
        if request.get_refcnt(py) > 1 || request.get().has_state() {
            return;
        }
        let core = Arc::clone(request.get().core());
        let seen = std::mem::replace(&mut held.request, Kept::Shared(core));
        drop(held);
        // Outside of the lock: somebody may have a weak reference that calls something.
        drop(seen);
        let mut held = self.held.lock();
        held.request = match std::mem::replace(&mut held.request, Kept::Nothing) {
            Kept::Shared(core) => Packed::pack(core).map_or_else(Kept::Shared, |packed| Kept::Packed(Box::new(packed))),
            other => other,
        };
    }

    /// Gives up what is called, after the last event. The caller drops it.
    pub(crate) fn release_handler(&self) -> Option<Handler> {
        self.held.lock().handler.take()
    }

    fn send_data(&self, py: Python<'_>, data: &Data<'_>, wait: Option<Duration>) -> PyResult<bool> {
        let (kind, bytes) = (data.kind(), data.bytes()?);
        let send = || self.core.send(&Outgoing::new(kind, bytes), wait) == Sent::Queued;
        let is_quick = bytes.len() <= SHORT && !self.is_slow && wait.is_none();
        Ok(if is_quick { send() } else { py.detach(send) })
    }

    fn next_message(&self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<Option<Message>> {
        if self.style != Style::Blocking {
            return Err(PyRuntimeError::new_err(
                "the messages of this socket go to its handler: only a blocking one, \
                 router.websocket(path, blocking=True), takes them itself",
            ));
        }
        match py.detach(|| self.core.receive(timeout)) {
            Received::Message(message) => Ok(Some(Message::new(message, self.application.clone_ref(py)))),
            Received::Closed => Ok(None),
            Received::TimedOut => Err(PyTimeoutError::new_err("no message came in time")),
        }
    }
}

fn duration(seconds: Option<f64>, name: &str) -> PyResult<Option<Duration>> {
    seconds
        .map(|seconds| {
            Duration::try_from_secs_f64(seconds)
                .map_err(|problem| PyValueError::new_err(format!("{name} is a number of seconds: {problem}")))
        })
        .transpose()
}

#[pymethods]
impl WebSocket {
    /// A number that no other socket of this process has.
    #[getter]
    fn id(&self) -> u64 {
        self.core.id()
    }

    /// Whether messages can be sent: neither side has begun to close, and the connection is not lost.
    #[getter]
    fn open(&self) -> bool {
        self.core.is_open()
    }

    /// Bytes that wait for the client, because it does not read them as fast as they are sent.
    #[getter]
    fn buffered(&self) -> usize {
        self.core.buffered()
    }

    /// The request that became this socket.
    #[getter]
    fn request(&self, py: Python<'_>) -> PyResult<Py<Request>> {
        let core = match &self.held.lock().request {
            Kept::Object(request) => return Ok(request.clone_ref(py)),
            Kept::Packed(packed) => Arc::new(packed.unpack(&self.application.get().routes.get().table())),
            Kept::Shared(core) => Arc::clone(core),
            Kept::Nothing => return Err(PyRuntimeError::new_err("the socket is being disposed of")),
        };
        // Made outside of the lock: making an object can start the garbage collector, which looks into this one.
        let made = Py::new(py, Request::answered(core, self.application.clone_ref(py)))?;
        let mut held = self.held.lock();
        if let Kept::Object(request) = &held.request {
            return Ok(request.clone_ref(py));
        }
        held.request = Kept::Object(made.clone_ref(py));
        Ok(made)
    }

    /// The subprotocol that was agreed on, or `None`.
    #[getter]
    fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// The topics that it is subscribed to.
    #[getter]
    fn topics(&self) -> Vec<String> {
        self.core.topics().iter().map(ToString::to_string).collect()
    }

    /// A dictionary for the application's own use, for as long as the socket lives.
    #[getter]
    fn state(&self, py: Python<'_>) -> Py<PyDict> {
        if let Some(state) = self.held.lock().state.as_ref() {
            return state.clone_ref(py);
        }
        // Made outside of the lock: making an object can start the garbage collector, which looks into this one.
        let made = PyDict::new(py).unbind();
        self.held.lock().state.get_or_insert(made).clone_ref(py)
    }

    /// The close code: that of the Close frame which was sent or received first; 1006 if there was none, 1005 if it had none
    /// (RFC 6455 section 7.1.5). `None` while the socket is open.
    #[getter]
    fn close_code(&self) -> Option<u16> {
        self.core.closing().map(|closing| closing.code)
    }

    /// The reason in the same Close frame, or empty.
    #[getter]
    fn close_reason(&self) -> String {
        self.core.closing().map_or_else(String::new, |closing| closing.reason)
    }

    /// Whether both sides have sent a Close frame.
    #[getter]
    fn close_clean(&self) -> bool {
        self.core.closing().is_some_and(|closing| closing.is_clean)
    }

    /// Sends a message: `str` as text, `bytes` as binary, a `Message` as what it is.
    ///
    /// Returns whether it is on its way: False if the socket is closed, or if too much waits for the client already (option
    /// `websocket_outbox`) and so it was dropped, or the socket closed with 1013, as the option `websocket_overflow` says.
    /// `wait` waits up to so many seconds for room instead, and drops it after that.
    #[pyo3(signature = (data, wait=None))]
    fn send(&self, py: Python<'_>, data: &Bound<'_, PyAny>, wait: Option<f64>) -> PyResult<bool> {
        self.send_data(py, &Data::of(data)?, duration(wait, "wait")?)
    }

    /// Sends a value as JSON in a text message, with the `dumps` of the router; see `send`.
    #[pyo3(signature = (value, wait=None))]
    fn send_json(&self, py: Python<'_>, value: &Bound<'_, PyAny>, wait: Option<f64>) -> PyResult<bool> {
        let encoded = call(self.application.get().dumps.bind(py), [value], None)?;
        let text = match encoded.cast::<PyBytes>() {
            Ok(bytes) => PyString::new(py, std::str::from_utf8(bytes.as_bytes())?),
            Err(_) => encoded.cast_into::<PyString>()?,
        };
        self.send_data(py, &Data::Text(text), duration(wait, "wait")?)
    }

    /// Sends a ping with at most 125 bytes (RFC 6455 section 5.5.2); the server sends its own as well (option
    /// `websocket_ping`). Returns whether it is on its way.
    #[pyo3(signature = (data=None))]
    fn ping(&self, data: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let data = data.map(Data::of).transpose()?;
        let bytes = data.as_ref().map_or(Ok(&[][..]), Data::bytes)?;
        if bytes.len() > CONTROL_BYTES_MAX {
            return Err(PyValueError::new_err(format!("a ping holds 125 bytes at most, not {}", bytes.len())));
        }
        Ok(self.core.ping(bytes))
    }

    /// Begins to close, behind what was sent before; no message is delivered from here on. The handler is told of the end
    /// when the client has answered, or has not in time.
    ///
    /// Returns False if it had begun before. Raises `ValueError` for a code that no Close frame may have (RFC 6455 section
    /// 7.4), or a reason of more than 123 bytes.
    #[pyo3(signature = (code=1000, reason=""))]
    fn close(&self, code: i64, reason: &str) -> PyResult<bool> {
        // 0 stands for every number that is no code.
        self.core
            .close(u16::try_from(code).unwrap_or(0), reason)
            .map_err(|problem| PyValueError::new_err(problem.to_string()))
    }

    /// Subscribes to a topic of the server's hub. Returns False if it was subscribed before, or is closed.
    fn subscribe(&self, topic: &str) -> bool {
        self.core.subscribe(topic)
    }

    /// Ends a subscription; they end by themselves with the socket. Returns False if there was none.
    fn unsubscribe(&self, topic: &str) -> bool {
        self.core.unsubscribe(topic)
    }

    /// Waits for the next message, in a blocking handler. Returns `None` when the socket is closed.
    ///
    /// Raises `TimeoutError` after `timeout` seconds, and `RuntimeError` if the socket has a handler for its messages.
    #[pyo3(signature = (timeout=None))]
    fn receive(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Message>> {
        self.next_message(py, duration(timeout, "timeout")?)
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Message>> {
        self.next_message(py, None)
    }

    fn __repr__(&self) -> String {
        let state = self.core.closing().map_or_else(|| "open".to_owned(), |closing| format!("closed {}", closing.code));
        let held = self.held.lock();
        let target = match &held.request {
            Kept::Object(request) => request.get().core().head.target(),
            Kept::Packed(packed) => packed.target(),
            Kept::Shared(core) => core.head.target(),
            Kept::Nothing => "",
        };
        format!("<WebSocket {} {target} {state}>", self.core.id())
    }

    #[expect(clippy::needless_pass_by_value, reason = "the signature is given")]
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Where the lock is held the object is in use, and nothing is missed that could be freed.
        let Some(held) = self.held.try_lock() else { return Ok(()) };
        visit.call(held.state.as_ref())?;
        if let Kept::Object(request) = &held.request {
            visit.call(request)?;
        }
        if let Some(handler) = held.handler.as_ref() {
            visit.call(&handler.target)?;
            visit.call(&handler.deliver)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let mut held = self.held.lock();
        let request = std::mem::replace(&mut held.request, Kept::Nothing);
        let all = (held.state.take(), request, held.handler.take());
        drop(held);
        drop(all);
    }
}
