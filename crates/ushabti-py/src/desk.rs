//! What the workers do and how long they have waited, as plain values of Python.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use ushabti_core::Shared;
use ushabti_core::desk::{Sight, Subject, WAIT_BOUNDS_US};
use ushabti_core::pending::Place;

/// Thread, number of the piece of work; then nothing, or the kind, method or event, target, number of the route or of the
/// socket, age, time in the queue, time with the worker (in seconds), and whether the client is there.
pub(crate) type Row = (u64, u64, Option<(&'static str, String, String, u64, f64, f64, f64, bool)>);

/// What every worker does at this moment; nothing in a forked child, which has none.
pub(crate) fn look(shared: &Shared) -> Vec<Row> {
    if shared.is_forked() { Vec::new() } else { shared.desks.look().into_iter().map(row).collect() }
}

fn row(sight: Sight) -> Row {
    let task = sight.task.map(|task| {
        let running = task.running.as_secs_f64();
        match task.subject {
            Subject::Request { method, target, route, waited, age } => {
                let (age, waited) = (age.as_secs_f64(), waited.as_secs_f64());
                ("request", method, target, u64::from(route), age, waited, running, task.is_connected)
            }
            Subject::Call { method, target, route } => {
                ("call", method, target, u64::from(route), running, 0.0, running, task.is_connected)
            }
            Subject::Event { id, name } => {
                ("websocket", name.to_owned(), String::new(), id, running, 0.0, running, task.is_connected)
            }
        }
    });
    (sight.thread, sight.number, task)
}

/// Where a request waits, its method, target, number of the route, age, time there (in seconds), and whether the client is
/// there.
pub(crate) type Pending = (&'static str, String, String, u32, f64, f64, bool);

/// Requests, how many more there are; and of each queue its lane, how much waits, and for how many seconds at most.
pub(crate) type Waiting = (Vec<Pending>, usize, Vec<(String, usize, Option<f64>)>);

/// What no worker has in hand at this moment; nothing in a forked child.
pub(crate) fn waiting(shared: &Shared) -> Waiting {
    if shared.is_forked() {
        return Waiting::default();
    }
    let found = shared.look_at_waiting();
    let named = found.named.into_iter().map(|one| {
        let place = match one.place {
            Place::Deferred => "deferred",
            Place::Gate => "gate",
        };
        let (age, waited) = (one.age.as_secs_f64(), one.waited.as_secs_f64());
        (place, one.method, one.target, one.route, age, waited, one.is_connected)
    });
    let queues = found.queues.into_iter().map(|queued| {
        (shared.lanes[queued.lane].name.clone(), queued.waiting, queued.at_most.map(|time| time.as_secs_f64()))
    });
    (named.collect(), found.more, queues.collect())
}

/// Adds what has been waited for, and what connections and workers are at, to the counters.
pub(crate) fn add_to(py: Python<'_>, shared: &Shared, stats: &Bound<'_, PyDict>) -> PyResult<()> {
    if shared.is_forked() {
        // The locks may be held by threads that are not there.
        return Ok(());
    }
    let census = shared.census();
    let connections = PyDict::new(py);
    connections.set_item("idle", census.idle)?;
    connections.set_item("reading", census.reading)?;
    connections.set_item("handling", census.handling)?;
    connections.set_item("writing", census.writing)?;
    connections.set_item("websocket", census.websocket)?;
    connections.set_item("closing", census.closing)?;
    stats.set_item("connections", connections)?;
    stats.set_item("workers_busy", shared.desks.busy())?;
    let (queue, attach) = shared.desks.waits();
    let buckets = WAIT_BOUNDS_US.iter().zip(queue.within);
    let buckets = buckets.map(|(&bound, count)| (Duration::from_micros(bound).as_secs_f64(), count));
    let waits = PyDict::new(py);
    waits.set_item("count", queue.count)?;
    waits.set_item("sum", queue.total.as_secs_f64())?;
    waits.set_item("buckets", PyList::new(py, buckets.collect::<Vec<_>>())?)?;
    stats.set_item("queue_waits", waits)?;
    let waits = PyDict::new(py);
    waits.set_item("count", attach.count)?;
    waits.set_item("sum", attach.total.as_secs_f64())?;
    stats.set_item("gil_waits", waits)
}
