//! The server object that `ushabti.server` drives.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use ushabti_core::access_log::AccessLog;
use ushabti_core::alerts::Alert;
use ushabti_core::config::{Config, LaneConfig};
use ushabti_core::listener::Kind;
use ushabti_core::stats::Reason;
use ushabti_core::tls::{self, Tls};
use ushabti_core::websocket::{self, Origins, Overflow};
use ushabti_core::{Routing, Server as CoreServer};
use ushabti_proto::http1::connection::Limits;
use ushabti_proto::websocket::deflate::DeflatePolicy;

use crate::application::Application;
use crate::desk;
use crate::exceptions::{ConfigError, ServerStateError, bind_error};
use crate::hub::Hub;
use crate::routes::RouteTable;
use crate::tls::{TlsSettings, config_error};
use crate::worker;

/// What the core reads of `ushabti.config.Settings`.
#[derive(FromPyObject)]
struct Settings {
    max_headers: usize,
    max_fields: usize,
    max_body: u64,
    header_timeout: f64,
    body_timeout: f64,
    keep_alive: f64,
    write_timeout: f64,
    min_rate: u64,
    max_queue: usize,
    queue_timeout: Option<f64>,
    deadline: Option<f64>,
    connections_max: usize,
    max_per_client: Option<usize>,
    http2: bool,
    http2_streams: u32,
    backlog: i32,
    lanes: Vec<(String, usize, usize)>,
    thread_idle: f64,
    server_header: Option<String>,
    access_log: String,
    max_message: usize,
    websocket_ping: f64,
    websocket_idle: f64,
    websocket_outbox: usize,
    websocket_overflow: String,
    websocket_compress: bool,
    websocket_origins: Vec<String>,
    tls_redirect_port: Option<u16>,
    max_handshakes: usize,
}

impl Settings {
    fn into_config(self, workers_are_parallel: bool, tls: Option<Arc<Tls>>) -> PyResult<Config> {
        let seconds = |value: f64| {
            Duration::try_from_secs_f64(value).map_err(|problem| ConfigError::new_err(problem.to_string()))
        };
        Ok(Config {
            head: Limits {
                head_bytes_max: self.max_headers,
                fields_max: self.max_fields,
                // A target may use the whole of the head's room; it is refused as 414 instead of 431.
                target_bytes_max: self.max_headers,
            },
            body_bytes_max: self.max_body,
            header_timeout: seconds(self.header_timeout)?,
            body_timeout: seconds(self.body_timeout)?,
            keep_alive: seconds(self.keep_alive)?,
            write_timeout: seconds(self.write_timeout)?,
            rate_min: self.min_rate,
            queue_max: self.max_queue,
            queue_timeout: self.queue_timeout.map(seconds).transpose()?,
            deadline: self.deadline.map(seconds).transpose()?,
            connections_max: self.connections_max,
            client_connections_max: self.max_per_client,
            http2: self.http2,
            http2_streams: self.http2_streams,
            backlog: self.backlog,
            lanes: self
                .lanes
                .into_iter()
                .map(|(name, workers_min, workers_max)| LaneConfig { name, workers_min, workers_max })
                .collect(),
            workers_are_parallel,
            worker_idle: seconds(self.thread_idle)?,
            server_field: self.server_header.filter(|name| !name.is_empty()).map(String::into_bytes),
            access_log: match self.access_log.as_str() {
                "text" => AccessLog::Text,
                "json" => AccessLog::Json,
                _ => AccessLog::Off,
            },
            tls,
            redirect_port: self.tls_redirect_port,
            handshakes_max: self.max_handshakes,
            websocket: websocket::Config {
                message_bytes_max: self.max_message,
                ping: seconds(self.websocket_ping)?,
                idle: seconds(self.websocket_idle)?,
                outbox_bytes_max: self.websocket_outbox,
                overflow: match self.websocket_overflow.as_str() {
                    "drop" => Overflow::Drop,
                    "wait" => Overflow::Wait,
                    _ => Overflow::Close,
                },
                deflate: self.websocket_compress.then(DeflatePolicy::default),
                origins: match self.websocket_origins.as_slice() {
                    [only] if only == "any" => Origins::Any,
                    [only] if only == "same" => Origins::Same,
                    _ => Origins::Only(self.websocket_origins),
                },
            },
        })
    }
}

/// The native server: sockets, IO thread, queue. Driven by `ushabti.server.Server`, which documents its life.
#[pyclass(frozen, module = "ushabti._core")]
pub struct Server {
    core: CoreServer,
}

impl Server {
    fn refuse_in_child(&self) -> PyResult<()> {
        if self.core.shared().is_forked() {
            return Err(ServerStateError::new_err(
                "this process was forked from the one that made the server; make a server of its own",
            ));
        }
        Ok(())
    }
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (settings, routes, *, hub, not_found=None, method_not_allowed=None))]
    fn new(
        py: Python<'_>,
        settings: &Bound<'_, PyAny>,
        routes: &RouteTable,
        hub: &Hub,
        not_found: Option<u32>,
        method_not_allowed: Option<u32>,
    ) -> PyResult<Self> {
        // All of it, or the sockets would be open before it is known that a certificate is wrong.
        let (tls, settings) = (settings.extract::<TlsSettings>()?, settings.extract::<Settings>()?);
        let http2 = settings.http2;
        let tls = py.detach(|| tls.load(http2)).map_err(|problem| config_error(&problem))?;
        let config = settings.into_config(!is_gil_enabled(py)?, tls)?;
        let routing = Routing { table: routes.table(), not_found, method_not_allowed };
        Ok(Self { core: CoreServer::new(config, routing, hub.core()) })
    }

    /// Opens the sockets of one address; returns the addresses as bound. `kind`: what is spoken there, `plain`, `tls`, or
    /// `redirect`, where everybody is sent to the first port of TLS. `private`: a Unix socket is for its owner alone. Raises
    /// `BindError`.
    #[pyo3(signature = (address, *, kind="plain", private=false))]
    fn bind(&self, py: Python<'_>, address: &str, kind: &str, private: bool) -> PyResult<Vec<String>> {
        let kind = match kind {
            "plain" => Kind::Plain,
            "tls" if self.core.shared().tls().is_some() => Kind::Tls,
            "redirect" => Kind::Redirect,
            _ => return Err(ConfigError::new_err(format!("{address}: {kind} is not spoken here"))),
        };
        // The addresses of these stand beside those of the server, where nobody would look for them.
        let option = match kind {
            Kind::Redirect => "tls_redirect: ",
            _ if private => "admin: ",
            _ => "",
        };
        let bound = py.detach(|| self.core.bind(address, kind, private));
        bound.map_err(|mut problem| {
            problem.message.insert_str(0, option);
            bind_error(py, &problem)
        })
    }

    /// Starts the IO thread.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        self.refuse_in_child()?;
        py.detach(|| self.core.start()).map_err(PyErr::from)
    }

    /// Reads the certificates again, which the log is told. Raises `ConfigError` if one is not what it should be; the old
    /// ones stay then.
    fn reload_tls(&self, py: Python<'_>) -> PyResult<()> {
        let shared = self.core.shared();
        let Some(tls) = shared.tls() else { return Err(ServerStateError::new_err("the server speaks no TLS")) };
        py.detach(|| tls::reload(shared, tls)).map_err(|problem| config_error(&problem))
    }

    /// Sentences about certificates that clients may soon refuse.
    fn tls_warnings(&self) -> Vec<String> {
        self.core.shared().tls().map_or_else(Vec::new, |tls| tls.warnings())
    }

    /// SHA-256 of the certificate that was made for development, or `None`.
    fn tls_fingerprint(&self) -> Option<String> {
        self.core.shared().tls().and_then(|tls| tls.self_signed_fingerprint())
    }

    /// The certificate that was made for development, in DER form, or `None`.
    fn tls_self_signed_certificate<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        let tls = self.core.shared().tls()?;
        tls.self_signed_certificate().map(|der| PyBytes::new(py, der))
    }

    /// Makes the calling thread a worker of a lane, until the server stops or needs it no more.
    fn run_worker(&self, py: Python<'_>, application: &Bound<'_, Application>, lane: usize) -> PyResult<()> {
        self.refuse_in_child()?;
        let thread = py.import("threading")?.call_method0("get_ident")?.extract()?;
        worker::run(py, self.core.shared(), lane, &application.clone().unbind(), thread);
        Ok(())
    }

    /// Says that so many of the workers that were asked for could not be started.
    fn workers_not_started(&self, lane: usize, count: usize) {
        self.core.shared().lanes[lane].queue.not_starting(count);
    }

    /// Waits until a lane needs more workers; returns how many, or `None` when the server stops.
    fn wait_to_grow(&self, py: Python<'_>, lane: usize) -> Option<usize> {
        worker::wait_to_grow(py, self.core.shared(), lane)
    }

    /// Waits for something that Python is to be told: a list of what is to be called because a client has left, or
    /// `(method, target, handler, seconds, where)` of a request that was not answered before its deadline; `None` when the server has
    /// stopped.
    fn take_alert<'py>(
        &self,
        py: Python<'py>,
        application: &Bound<'py, Application>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(alert) = py.detach(|| self.core.shared().alerts.take()) else { return Ok(None) };
        let application = application.get();
        Ok(Some(match alert {
            Alert::Left(number) => application.watches.take(number).into_pyobject(py)?.into_any(),
            Alert::Late(request) => {
                let (head, handler) = (&request.head, application.endpoint(py, request.route));
                let passed = request.ready.elapsed().as_secs_f64();
                let place = self.core.shared().desks.thread_of(&request);
                (head.method(), head.target(), handler, passed, place).into_pyobject(py)?.into_any()
            }
        }))
    }

    /// Waits for what the core has to log: `(lines, lost, notices)`, or `None` when it has stopped.
    #[expect(clippy::type_complexity, reason = "one tuple, unpacked at its only caller")]
    fn take_journal(&self, py: Python<'_>) -> Option<(Vec<String>, usize, Vec<(i32, String)>)> {
        let batch = py.detach(|| self.core.shared().journal.take())?;
        let notices = batch.notices.into_iter().map(|(level, text)| (level as i32, text)).collect();
        Some((batch.lines, batch.lost, notices))
    }

    /// Stops accepting; connections end as their requests are answered.
    fn drain(&self) {
        self.core.drain();
    }

    /// Waits, at most `timeout` seconds, until no connection is left after `drain`.
    fn wait_drained(&self, py: Python<'_>, timeout: f64) -> bool {
        let timeout = Duration::try_from_secs_f64(timeout.max(0.0)).unwrap_or(Duration::MAX);
        py.detach(|| self.core.wait_drained(timeout))
    }

    /// Ends the IO thread and lets the workers go; returns how many requests no worker had taken.
    fn close(&self, py: Python<'_>) -> usize {
        py.detach(|| self.core.close())
    }

    /// Lets the thread that logs go when it has taken everything.
    fn close_journal(&self) {
        self.core.shared().journal.close();
    }

    /// Whether the IO thread has failed, after which the server can only be stopped.
    fn has_failed(&self) -> bool {
        self.core.shared().has_failed()
    }

    /// The counters of this moment, by name.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let shared = self.core.shared();
        let counts = shared.counters.read();
        let stats = PyDict::new(py);
        stats.set_item("connections_open", counts.connections_open)?;
        stats.set_item("connections_accepted", counts.connections_accepted)?;
        stats.set_item("accept_pauses", counts.accept_pauses)?;
        stats.set_item("requests_dispatched", counts.dispatched)?;
        stats.set_item("requests_abandoned", counts.abandoned)?;
        stats.set_item("answers_without_worker", counts.refused)?;
        let refusals = PyDict::new(py);
        for (reason, count) in Reason::ALL.iter().zip(counts.refusals) {
            refusals.set_item(reason.name(), count)?;
        }
        stats.set_item("refusals", refusals)?;
        stats.set_item("websockets_open", counts.websockets_open)?;
        stats.set_item("websocket_messages", counts.websocket_messages)?;
        let by_class = PyDict::new(py);
        for (digit, count) in counts.answers.iter().enumerate().skip(1) {
            by_class.set_item(format!("{digit}xx"), count)?;
        }
        by_class.set_item("discarded", counts.answers[0])?;
        stats.set_item("answers", by_class)?;
        let lanes = PyDict::new(py);
        let at_gates = if shared.is_forked() { 0 } else { shared.waiting_at_gates() };
        let (mut waiting, mut workers, mut idle) = (at_gates, 0, 0);
        for lane in &shared.lanes {
            let queue = lane.queue.stats();
            (waiting, workers, idle) = (waiting + queue.waiting, workers + queue.workers, idle + queue.idle);
            let entry = PyDict::new(py);
            entry.set_item("queue_waiting", queue.waiting)?;
            entry.set_item("workers", queue.workers)?;
            entry.set_item("workers_idle", queue.idle)?;
            lanes.set_item(&lane.name, entry)?;
        }
        stats.set_item("queue_waiting", waiting)?;
        stats.set_item("workers", workers)?;
        stats.set_item("workers_idle", idle)?;
        stats.set_item("lanes", lanes)?;
        stats.set_item("bytes_received", counts.bytes_received)?;
        stats.set_item("bytes_sent", counts.bytes_sent)?;
        stats.set_item("requests_deferred", if shared.is_forked() { 0 } else { shared.deferred() })?;
        desk::add_to(py, shared, &stats)?;
        Ok(stats)
    }

    /// What every worker does: `(thread, number of the piece of work, None or (kind, method or event, target, number of the
    /// route or socket, age, time in the queue, time with the worker, whether the client is there))`.
    fn desks(&self) -> Vec<desk::Row> {
        desk::look(self.core.shared())
    }

    /// What no worker has in hand: requests as `(deferred or gate, method, target, number of the route, age, time there,
    /// whether the client is there)`, the oldest first; how many more there are; and of each queue that is not empty its
    /// lane, how much waits there, and for how long at most, if that is known.
    fn waiting(&self) -> desk::Waiting {
        desk::waiting(self.core.shared())
    }
}

/// Whether threads take turns here. A free-threaded interpreter can be told to, or made to by a module.
fn is_gil_enabled(py: Python<'_>) -> PyResult<bool> {
    // The function came with the first free-threaded CPython, 3.13.
    match py.import("sys")?.getattr_opt("_is_gil_enabled")? {
        Some(function) => function.call0()?.extract(),
        None => Ok(true),
    }
}
