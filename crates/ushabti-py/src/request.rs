//! The request as a handler sees it: views made when they are asked for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use pyo3::exceptions::{PyLookupError, PyRecursionError, PyUnicodeDecodeError, PyUnicodeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString};
use ushabti_core::listener::Peer;
use ushabti_core::reply::Responder;
use ushabti_core::request::{Request as CoreRequest, Watched};
use ushabti_core::websocket;
use ushabti_proto::http1::head::Version;
use ushabti_proto::uri;

use crate::application::Application;
use crate::call::call;
use crate::calls::Tickets;
use crate::exceptions::{AlreadyResponded, DeadlineExceeded, Disconnected, ServerStateError, http_error};
use crate::multidict::{MultiDict, latin1};
use crate::reply::prepare;
use crate::tls::TlsInfo;
use crate::upgrade::{Subprotocols, upgrade};
use crate::websocket::WebSocket;

mod ending;

use ending::Upgrade;

/// One HTTP request (RFC 9110).
///
/// Read-only; any thread may use it, also after the handler has returned. The body is complete.
#[pyclass(frozen, module = "ushabti._core", weakref)]
pub struct Request {
    core: Arc<CoreRequest>,
    application: Py<Application>,
    /// The right to answer; taken by the first answer. The lock is held for the taking, and for noting that it is deferred.
    responder: Mutex<Option<Responder>>,
    /// The exchange, where there is one to be watched, and the number under which that is done; 0: it is not.
    watched: Option<Watched>,
    watch: AtomicU32,
    /// The handler has left the answer to whoever calls `respond`.
    deferred: AtomicBool,
    /// The WebSocket that it has become, until the handler has returned.
    upgraded: Mutex<Upgrade>,
    body: PyOnceLock<Py<PyBytes>>,
    query: PyOnceLock<Py<MultiDict>>,
    path_params: PyOnceLock<Py<PyDict>>,
    /// Made when it is asked for. The only part through which a request may come to refer to itself, so the garbage
    /// collector may empty it; the lock is held for taking a reference.
    state: Mutex<Option<Py<PyDict>>>,
}

impl Request {
    pub(crate) fn new(core: Arc<CoreRequest>, responder: Responder, application: Py<Application>) -> Self {
        Self::with_responder(core, Some(responder), application)
    }

    fn with_responder(core: Arc<CoreRequest>, responder: Option<Responder>, application: Py<Application>) -> Self {
        Self {
            core,
            application,
            watched: responder.as_ref().map(Responder::watched),
            watch: AtomicU32::new(0),
            responder: Mutex::new(responder),
            deferred: AtomicBool::new(false),
            upgraded: Mutex::new(Upgrade::None),
            body: PyOnceLock::new(),
            query: PyOnceLock::new(),
            path_params: PyOnceLock::new(),
            state: Mutex::new(None),
        }
    }

    /// A request that was answered before.
    pub(crate) fn answered(core: Arc<CoreRequest>, application: Py<Application>) -> Self {
        Self::with_responder(core, None, application)
    }

    /// Whether somebody has asked for its dictionary.
    pub(crate) fn has_state(&self) -> bool {
        self.state.lock().is_some()
    }

    pub(crate) fn core(&self) -> &Arc<CoreRequest> {
        &self.core
    }

    pub(crate) fn application(&self) -> &Py<Application> {
        &self.application
    }

    pub(crate) fn take_responder(&self) -> Option<Responder> {
        self.responder.lock().take()
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.responder.lock().is_none()
    }

    pub(crate) fn is_deferred(&self) -> bool {
        self.deferred.load(Ordering::Relaxed)
    }

    /// Gives back the right to answer, when what was tried could not be sent.
    pub(crate) fn restore_responder(&self, responder: Responder) {
        *self.responder.lock() = Some(responder);
    }

    pub(crate) fn parameters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.application.get().routes.get().parameters(py, &self.core.params)
    }

    fn field(&self, name: &str) -> Option<Cow<'_, str>> {
        self.core.head.field(name).map(latin1)
    }
}

/// What is in the place; made when it is asked for first, and maybe by several at once, of whom one puts it there.
///
/// Made outside of the place: Python may run meanwhile, and a finalizer that comes back to the place would wait for itself.
fn kept<T>(py: Python<'_>, place: &PyOnceLock<Py<T>>, make: impl FnOnce() -> PyResult<Py<T>>) -> PyResult<Py<T>> {
    if place.get(py).is_none() {
        drop(place.set(py, make()?));
    }
    Ok(place.get(py).expect("it is there from the first time on").clone_ref(py))
}

#[pymethods]
impl Request {
    /// The method, in the case in which it came: `GET`.
    #[getter]
    fn method<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::intern(py, self.core.head.method())
    }

    /// The request target as it came (RFC 9112 section 3.2).
    #[getter]
    fn target(&self) -> &str {
        self.core.head.target()
    }

    /// The path, percent-decoded.
    #[getter]
    fn path(&self) -> Cow<'_, str> {
        let raw = self.core.head.path();
        // The router has refused paths that cannot be decoded; a handler of everything else sees them as they came.
        uri::percent_decode(raw.as_bytes(), false).unwrap_or(Cow::Borrowed(raw))
    }

    /// The query as it came, without the question mark; empty if there is none.
    #[getter]
    fn query_string(&self) -> &str {
        self.core.head.query().unwrap_or("")
    }

    /// The query's parameters (application/x-www-form-urlencoded).
    #[getter]
    fn query(&self, py: Python<'_>) -> PyResult<Py<MultiDict>> {
        let make = || {
            let pairs = uri::query_pairs(self.core.head.query().unwrap_or(""));
            Py::new(
                py,
                MultiDict::of_pairs(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect()),
            )
        };
        kept(py, &self.query, make)
    }

    /// The header fields.
    #[getter]
    fn headers(slf: Bound<'_, Self>) -> MultiDict {
        MultiDict::fields(slf.unbind())
    }

    /// The cookies by name (RFC 6265 section 5.4); of equal names the first, which is the most specific.
    #[getter]
    fn cookies(&self) -> HashMap<String, String> {
        let mut cookies = HashMap::new();
        for (name, value) in self.core.head.fields() {
            if !name.eq_ignore_ascii_case(b"cookie") {
                continue;
            }
            for (name, value) in latin1(value).split(';').filter_map(|pair| pair.split_once('=')) {
                let value = value.trim();
                let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
                cookies.entry(name.trim().to_owned()).or_insert_with(|| inner.to_owned());
            }
        }
        cookies
    }

    /// The body's bytes; empty if there is none.
    #[getter]
    fn body(&self, py: Python<'_>) -> Py<PyBytes> {
        self.body.get_or_init(py, || PyBytes::new(py, &self.core.body).unbind()).clone_ref(py)
    }

    /// The body as text, by the charset of `Content-Type`, UTF-8 without one.
    ///
    /// Raises `HTTPError`: 400 if the bytes are not of that charset, 415 if it is not known.
    #[getter]
    fn text<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let content_type = self.field("content-type").unwrap_or_default();
        let charset = content_type
            .split(';')
            .skip(1)
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
            .map_or("utf-8", |(_, value)| value.trim().trim_matches('"'));
        self.body(py).bind(py).call_method1("decode", (charset,)).map_err(|error| {
            if error.is_instance_of::<PyUnicodeDecodeError>(py) {
                http_error(400, format!("the body is no {charset} text: {}", error.value(py)))
            } else if error.is_instance_of::<PyLookupError>(py) || error.is_instance_of::<PyUnicodeError>(py) {
                http_error(415, format!("the charset {charset:?} is none that text is written in"))
            } else {
                error
            }
        })
    }

    /// The body, decoded as JSON.
    ///
    /// Raises `HTTPError` 400 if it is none.
    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let loads = self.application.get().loads.bind(py);
        call(loads, [self.body(py).bind(py).as_any()], None).map_err(|error| {
            if error.is_instance_of::<PyValueError>(py) {
                http_error(400, format!("the body is no JSON: {}", error.value(py)))
            } else if error.is_instance_of::<PyRecursionError>(py) {
                http_error(400, "the body is JSON that is nested too deeply".to_owned())
            } else {
                error
            }
        })
    }

    /// The client's IP address; `unix` over a Unix socket.
    #[getter]
    fn client(&self) -> String {
        match &self.core.peer {
            Peer::Inet(address) => address.ip().to_string(),
            Peer::Unix => "unix".to_owned(),
        }
    }

    /// The other end of the connection: `address:port`, or `unix`.
    #[getter]
    fn peer(&self) -> String {
        self.core.peer.to_string()
    }

    /// `http` or `https`.
    #[getter]
    fn scheme(&self) -> &'static str {
        if self.core.tls.is_some() { "https" } else { "http" }
    }

    /// The TLS of the connection: version, cipher, the client's certificate; `None` without it.
    #[getter]
    fn tls(&self) -> Option<TlsInfo> {
        self.core.tls.as_ref().map(|tls| TlsInfo::new(Arc::clone(tls)))
    }

    /// The host that the client asked for, with the port if it named one; empty in HTTP/1.0 without a `Host` field.
    #[getter]
    fn host(&self) -> &str {
        self.core.head.host().unwrap_or("")
    }

    /// `1.0`, `1.1` or `2`.
    #[getter]
    fn http_version(&self) -> &'static str {
        match self.core.head.version() {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
            Version::Http2 => "2",
        }
    }

    /// The values of the path's parameters, converted.
    #[getter]
    fn path_params(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        kept(py, &self.path_params, || self.parameters(py).map(Bound::unbind))
    }

    /// The methods that the path knows, for a handler of 405; empty otherwise.
    #[getter]
    fn allow(&self) -> &str {
        self.core.allow.as_deref().unwrap_or("")
    }

    /// A dictionary for the application's own use, for as long as the request lives.
    #[getter]
    fn state(&self, py: Python<'_>) -> Py<PyDict> {
        if let Some(state) = self.state.lock().as_ref() {
            return state.clone_ref(py);
        }
        // Made outside of the lock: making an object can start the garbage collector, which looks into this one.
        let made = PyDict::new(py).unbind();
        self.state.lock().get_or_insert(made).clone_ref(py)
    }

    /// Whether an answer has been given.
    #[getter]
    fn responded(&self) -> bool {
        self.is_answered()
    }

    /// Whether the client has closed its side of the connection or is lost. Costs no system call.
    #[getter]
    fn disconnected(&self) -> bool {
        self.core.is_disconnected()
    }

    /// How long the request has waited for a worker, in seconds.
    #[getter]
    fn queue_time(&self) -> f64 {
        self.core.waited().as_secs_f64()
    }

    /// The moment of `time.monotonic()` at which the client is told 504 unless its answer has begun, or `None`.
    #[getter]
    fn deadline(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        let Some(remaining) = self.core.deadline else { return Ok(None) };
        let now: f64 = py.import("time")?.call_method0("monotonic")?.extract()?;
        let passed = Instant::now();
        let late = passed.saturating_duration_since(remaining).as_secs_f64();
        Ok(Some(now + remaining.saturating_duration_since(passed).as_secs_f64() - late))
    }

    /// Seconds until the deadline, 0.0 when it has passed; `None` without one. For the timeouts of what the handler calls.
    fn remaining(&self) -> Option<f64> {
        self.core.remaining().map(|left| left.as_secs_f64())
    }

    /// Whether the connection is lost, so that nobody will read an answer. A client that has only closed its side may be
    /// waiting for it.
    #[getter]
    fn lost(&self) -> bool {
        self.core.is_lost()
    }

    /// Returns if there is still somebody to answer. For loops that take long; costs no system call. Any thread.
    ///
    /// Raises `Disconnected` if the client has closed its side or is lost, and `DeadlineExceeded` if the deadline has passed
    /// and the answer has not begun.
    fn check(&self) -> PyResult<()> {
        if self.core.is_disconnected() {
            return Err(Disconnected::new_err("the client has left"));
        }
        if self.core.remaining().is_some_and(|left| left.is_zero()) && !self.is_answered() {
            return Err(DeadlineExceeded::new_err("the deadline of the request has passed"));
        }
        Ok(())
    }

    /// Has `callback()` called when the client closes its side, is lost or is told 504 before the handler is done; at once, if
    /// that has happened. It is called once, by a thread of the server's own, and should be short: cancel a query, set an event. What it raises is
    /// logged. After the answer nothing is called any more. Any thread.
    ///
    /// Raises `TypeError` if it cannot be called.
    fn on_disconnect(&self, callback: Bound<'_, PyAny>) -> PyResult<()> {
        self.watch(callback)
    }

    /// Lets the handler return `None` with nothing answered: any thread answers later, by `respond`. A value that the handler
    /// returns all the same is the answer, and so is that to an exception.
    ///
    /// A request that is dropped with no answer given, by the last one who had a reference, is answered 500, and the log
    /// names its handler.
    ///
    /// Raises `AlreadyResponded` if an answer was given before.
    fn defer(&self) -> PyResult<()> {
        let mut responder = self.responder.lock();
        let Some(responder) = &mut *responder else {
            return Err(AlreadyResponded::new_err("this request has been answered already"));
        };
        responder.defer(&self.core);
        self.deferred.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether its answer was deferred.
    #[getter]
    fn deferred(&self) -> bool {
        self.is_deferred()
    }

    /// Begins a block of calls that run side by side on the server's workers: see `ushabti.gathering.Gather`.
    ///
    /// `limit` is how many run at once, the calling thread's included; `None` is as many as there may be workers.
    #[pyo3(signature = (limit=None))]
    fn gather<'py>(slf: &Bound<'py, Self>, limit: Option<isize>) -> PyResult<Bound<'py, PyAny>> {
        let tickets = Bound::new(slf.py(), Tickets::new(slf))?;
        slf.get().application.get().gather.bind(slf.py()).call1((slf, limit, tickets))
    }

    /// Sends the answer now; the handler may go on working. Any thread.
    ///
    /// Raises `AlreadyResponded` if an answer was given before, and `ValueError` or `TypeError`, with nothing sent, if
    /// this one cannot be sent.
    #[pyo3(signature = (status=200, headers=None, body=None))]
    fn respond(
        slf: &Bound<'_, Self>,
        status: u16,
        headers: Option<Bound<'_, PyAny>>,
        body: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let request = slf.get();
        let application = request.application.get();
        let body = body.unwrap_or_else(|| PyBytes::new(py, b"").into_any());
        let value = match headers {
            Some(headers) => (body, status, headers).into_pyobject(py)?,
            None => (body, status).into_pyobject(py)?,
        };
        let response = call(application.as_response.bind(py), [value.as_any()], None)?;
        let mut buffer = Vec::new();
        let Some(prepared) = prepare(py, application, &response, request, &mut buffer)? else {
            return Err(AlreadyResponded::new_err("this request has been answered already"));
        };
        prepared.finish(py, application, slf, &buffer);
        if request.is_deferred() {
            request.end_watch();
        }
        Ok(())
    }

    /// Makes the connection a WebSocket (RFC 6455 section 4.2). Its events begin when the handler has returned; it can be
    /// sent to before.
    ///
    /// `handler` is a function of `(socket, event, message)` or an object with methods `on_open`, `on_message`, `on_error`
    /// and `on_close`; `None` is the server's `websocket_handler`. `subprotocol` is one that the client must have offered, or
    /// several of which the first that it has offered is taken, or none. `headers` are sent along.
    ///
    /// Raises `HTTPError` if this is no valid upgrade request, `AlreadyResponded` if an answer was given before,
    /// `Disconnected` if the client is gone, `ConfigError` if there is no handler, and `ValueError` or `TypeError` if the
    /// headers cannot be sent.
    #[pyo3(signature = (handler=None, *, subprotocol=None, headers=None))]
    fn upgrade(
        slf: &Bound<'_, Self>,
        handler: Option<&Bound<'_, PyAny>>,
        subprotocol: Option<Subprotocols>,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<WebSocket>> {
        if slf.get().is_deferred() {
            // Its events would begin with the end of a handler, which has ended.
            return Err(ServerStateError::new_err("a request that was deferred cannot become a WebSocket"));
        }
        upgrade(slf, handler, subprotocol, headers)
    }

    /// The subprotocols that the client offers, in the order of its preference; none if this is no valid upgrade request.
    #[getter]
    fn subprotocols(&self) -> Vec<String> {
        websocket::offered_protocols(&self.core.head)
    }

    #[expect(clippy::needless_pass_by_value, reason = "the signature is given")]
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Where the lock is held the object is in use, and nothing is missed that could be freed.
        match self.state.try_lock() {
            Some(state) => visit.call(state.as_ref()),
            None => Ok(()),
        }
    }

    fn __clear__(&self) {
        let state = self.state.lock().take();
        drop(state);
    }

    fn __repr__(&self) -> String {
        format!("<Request {} {}>", self.core.head.method(), self.core.head.target())
    }
}
