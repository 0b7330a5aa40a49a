//! How a request ends: answered, become a WebSocket, left by its client, or dropped with its answer owed.

use std::sync::atomic::Ordering;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;
use ushabti_core::reply::{Promise, Responder};
use ushabti_core::websocket::Upgraded;
use ushabti_proto::http1::encode::EncodeError;

use super::Request;
use crate::call::call;

/// Whether a request has become a WebSocket.
pub(super) enum Upgrade {
    /// Not yet.
    None,
    /// Its events begin when the handler has returned.
    Made(Upgraded),
    /// The handler has returned.
    Over,
}

impl Request {
    /// Takes the right to answer if the answer can be encoded, which makes its head; `None`: it was taken before. Who cannot
    /// encode an answer has not kept anybody from giving another meanwhile.
    pub(crate) fn claim(
        &self,
        encode: impl FnOnce(&Responder) -> Result<Promise, EncodeError>,
    ) -> PyResult<Option<(Responder, Promise)>> {
        let mut place = self.responder.lock();
        let Some(responder) = place.as_ref() else { return Ok(None) };
        let result = encode(responder);
        let claimed = result.is_ok().then(|| place.take()).flatten();
        drop(place);
        match result {
            Ok(promise) => Ok(claimed.map(|responder| (responder, promise))),
            Err(problem) => Err(PyValueError::new_err(problem.to_string())),
        }
    }

    /// Notes that it has become a WebSocket, whose events begin with [`Request::begin_events`]; at once where another thread
    /// has made it one and the handler was faster to return.
    pub(crate) fn set_upgraded(&self, upgraded: Upgraded) {
        let mut upgrade = self.upgraded.lock();
        if matches!(*upgrade, Upgrade::Over) {
            drop(upgrade);
            upgraded.finish();
        } else {
            *upgrade = Upgrade::Made(upgraded);
        }
    }

    /// The handler has returned, or `failed`: if it has made a WebSocket, that comes to life, or to its end.
    pub(crate) fn begin_events(&self, failed: bool) {
        let upgrade = std::mem::replace(&mut *self.upgraded.lock(), Upgrade::Over);
        let Upgrade::Made(upgraded) = upgrade else { return };
        if failed {
            upgraded.socket().fail();
        }
        upgraded.finish();
    }

    /// It is answered, or was to be: whether its client leaves concerns nobody any more. Attached.
    pub(crate) fn end_watch(&self) {
        let number = self.watch.swap(0, Ordering::Relaxed);
        if number != 0 {
            drop(self.application.get().watches.take(number));
        }
    }

    /// `Request.on_disconnect`.
    pub(super) fn watch(&self, callback: Bound<'_, PyAny>) -> PyResult<()> {
        if !callback.is_callable() {
            return Err(PyTypeError::new_err(format!("on_disconnect takes a function, not {}", callback.get_type())));
        }
        let Some(exchange) = self.watched.filter(|_| !self.is_answered()) else { return Ok(()) };
        let watches = &self.application.get().watches;
        let number = match self.watch.load(Ordering::Relaxed) {
            0 => {
                let made = watches.number();
                match self.watch.compare_exchange(0, made, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => made,
                    Err(others) => others,
                }
            }
            number => number,
        };
        watches.add(number, callback.unbind());
        if self.watch.load(Ordering::Relaxed) != number {
            // Another thread has answered meanwhile. What it took out under the lock may have been less than this.
            drop(watches.take(number));
            return Ok(());
        }
        self.core.watch_client(exchange, number);
        Ok(())
    }
}

impl Drop for Request {
    /// Nobody can answer any more what was deferred. The thread is attached, and may be in the midst of anything.
    fn drop(&mut self) {
        self.end_watch();
        if !self.is_deferred() {
            return;
        }
        let Some(responder) = self.responder.get_mut().take() else { return };
        let is_awaited = !responder.is_forked() && !self.core.is_lost();
        let is_answered = !responder.is_forked() && responder.refuse(&self.core, 500, &[], "");
        if !is_awaited || !is_answered {
            return;
        }
        Python::try_attach(|py| {
            let raised = PyErr::take(py);
            let application = self.application.get();
            let endpoint = application.endpoint(py, self.core.route);
            let (method, target) = (self.core.head.method(), self.core.head.target());
            let (method, target) = (PyString::new(py, method), PyString::new(py, target));
            let what = [endpoint, method.as_any(), target.as_any()];
            if let Err(failure) = call(application.dropped.bind(py), what, None) {
                failure.write_unraisable(py, None);
            }
            if let Some(raised) = raised {
                raised.restore(py);
            }
        });
    }
}
