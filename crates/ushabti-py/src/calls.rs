//! Calls that a request spreads over the workers: how a worker comes to the object that runs them.
//!
//! The core knows a gathering of calls by its number. Here the number becomes a callable, which runs one call of the
//! gathering if one is left; all else is `ushabti.gathering`'s. A number is in the table for as long as its block is open,
//! so nothing is left behind whatever becomes of the jobs in the queue: a worker that comes later finds nothing to do.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use pyo3::prelude::*;
use ushabti_core::Shared;
use ushabti_core::desk::{Desk, Work};
use ushabti_core::request::Request as CoreRequest;

use crate::application::Application;
use crate::call::call;
use crate::exceptions::log_error;
use crate::request::Request;

/// What runs a call of a gathering, and the request that has spread it.
type Block = (Py<PyAny>, Arc<CoreRequest>);

/// The gatherings of an application whose blocks are open.
#[derive(Default)]
pub(crate) struct Calls {
    /// Held for a look or a change.
    by_number: Mutex<HashMap<u64, Block>>,
    last: AtomicU64,
}

impl Calls {
    /// A number that was never given before, so that an old job cannot come to a new gathering.
    fn next_number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed)
    }

    fn get<'py>(&self, py: Python<'py>, number: u64) -> Option<(Bound<'py, PyAny>, Arc<CoreRequest>)> {
        self.by_number.lock().get(&number).map(|(help, request)| (help.bind(py).clone(), Arc::clone(request)))
    }
}

/// Runs one call of a gathering, and sees to it that a worker comes for the next. Worker, attached.
pub(crate) fn help(py: Python<'_>, shared: &Shared, lane: usize, application: &Application, number: u64, desk: &Desk) {
    let Some((help, request)) = application.calls.get(py, number) else { return };
    desk.begin(Work::Call(request), Instant::now());
    let result = call(&help, [], None).and_then(|more| more.is_truthy());
    if !shared.is_forked() {
        desk.end();
    }
    match result {
        // By way of the queue, so that requests that wait have their turn between two calls.
        Ok(true) => {
            shared.schedule_call(lane, number, Instant::now());
        }
        Ok(false) => {}
        Err(error) => log_error(py, "a worker failed while it took up a call", Some(&error)),
    }
}

/// The means by which one gathering of calls has workers come by.
#[pyclass(frozen, module = "ushabti._core")]
pub struct Tickets {
    request: Py<Request>,
    number: u64,
}

impl Tickets {
    pub(crate) fn new(request: &Bound<'_, Request>) -> Self {
        let number = request.get().application().get().calls.next_number();
        Self { request: request.clone().unbind(), number }
    }

    fn calls(&self) -> &Calls {
        &self.request.get().application().get().calls
    }
}

#[pymethods]
impl Tickets {
    /// How many workers there may be, at most.
    #[getter]
    fn workers(&self) -> usize {
        self.request.get().core().workers_max()
    }

    /// Has `help()` called by the workers that come. It runs one call, and says whether more are left.
    fn open(&self, help: Py<PyAny>) {
        let before = self.calls().by_number.lock().insert(self.number, (help, Arc::clone(self.request.get().core())));
        drop(before);
    }

    /// Has one worker come by when one is free. False: none will come.
    fn send(&self) -> bool {
        self.request.get().core().schedule_call(self.number)
    }

    /// Workers that still come find nothing to do.
    fn close(&self) {
        let help = self.calls().by_number.lock().remove(&self.number);
        drop(help);
    }
}
