//! Topics, as Python sees them.

use std::sync::Arc;

use pyo3::prelude::*;
use ushabti_core::websocket::{Hub as CoreHub, Outgoing};

use crate::message::Data;
use crate::websocket::WebSocket;

/// A message to so few sockets is written attached: each write takes microseconds, and never blocks.
const FEW: usize = 4;
const SHORT: usize = 16 * 1024;

/// Topics that WebSockets subscribe to. Any thread may publish.
///
/// `Server(..., hub=hub)` or `Router(hub=hub)` joins it to a server; several servers of a process may share one.
#[pyclass(frozen, weakref, module = "ushabti._core")]
pub struct Hub {
    core: Arc<CoreHub>,
}

impl Hub {
    pub(crate) fn core(&self) -> Arc<CoreHub> {
        Arc::clone(&self.core)
    }
}

#[pymethods]
impl Hub {
    #[new]
    fn new() -> Self {
        Self { core: Arc::new(CoreHub::new()) }
    }

    /// Sends a message to every socket that is subscribed to the topic, but `skip`; returns for how many it was queued.
    ///
    /// It is encoded once, and written by the calling thread without the GIL. It never waits for a client: one that does
    /// not keep up is dealt with as the option `websocket_overflow` says (`wait` as `close`).
    #[pyo3(signature = (topic, data, *, skip=None))]
    fn publish(
        &self,
        py: Python<'_>,
        topic: &str,
        data: &Bound<'_, PyAny>,
        skip: Option<&Bound<'_, WebSocket>>,
    ) -> PyResult<usize> {
        let data = Data::of(data)?;
        let (kind, bytes) = (data.kind(), data.bytes()?);
        let skip = skip.map(|socket| socket.get().core().id());
        if bytes.len() <= SHORT && self.core.count(topic) <= FEW {
            return Ok(self.core.publish(topic, &Outgoing::new(kind, bytes), skip));
        }
        Ok(py.detach(|| self.core.publish(topic, &Outgoing::new(kind, bytes), skip)))
    }

    /// How many sockets are subscribed to the topic.
    fn count(&self, topic: &str) -> usize {
        self.core.count(topic)
    }

    /// The topics that have subscribers, in no order.
    #[getter]
    fn topics(&self) -> Vec<String> {
        self.core.topics().iter().map(ToString::to_string).collect()
    }

    fn __repr__(&self) -> String {
        format!("<Hub of {} topics>", self.core.topics().len())
    }
}
