//! What the workers do about the GIL when handlers compute.
//!
//! A thread that computes gives the GIL away only when another has waited for the interpreter's switch interval, 5 ms
//! unless told otherwise, and then to whichever thread the system picks. So a short handler beside four long ones waits
//! for milliseconds each time it attaches. Two things help, and both are done only while workers are seen to wait:
//!
//! - the switch interval is shortened, and put back when nobody has waited for a while;
//! - a worker that has waited makes the most of its turn: it runs all ready jobs, for a bounded time, before it
//!   detaches again. Its writes never block, so holding the GIL over them costs the others microseconds.
//!
//! On a free-threaded build nobody waits, and none of this ever happens.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use ushabti_core::Shared;
use ushabti_core::admission::DEFAULT_LANE;

use crate::exceptions::log_error;

/// A thread that waited so long to attach waited for one that computes.
pub(crate) const CONTENDED: Duration = Duration::from_micros(800);
/// How long a worker that had to wait may keep running ready jobs before it detaches.
pub(crate) const TURN: Duration = Duration::from_micros(400);
/// How long a worker that had to wait looks out for more jobs before it gives its turn away.
pub(crate) const LINGER: Duration = Duration::from_micros(100);
/// The switch interval, in seconds, while workers wait for handlers that compute.
const SHORT_S: f64 = 0.001;
/// After so long without a wait the old interval comes back.
const CALM: Duration = Duration::from_millis(100);

/// The interval that was set before it was shortened; it belongs to the process, as the interval does. The lock is held
/// while the interval is changed, and waited for detached: before Python 3.12 each object that is made may start the garbage
/// collector, and with that anything.
static BEFORE: Mutex<Option<f64>> = Mutex::new(None);
static IS_SHORT: AtomicBool = AtomicBool::new(false);
/// When a worker last had to wait, in milliseconds since `EPOCH`'s first use.
static LAST_WAIT_MS: AtomicU64 = AtomicU64::new(0);

fn now_ms() -> u64 {
    static EPOCH: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    EPOCH.get_or_init(Instant::now).elapsed().as_millis() as u64
}

fn lock(py: Python<'_>) -> MutexGuard<'static, Option<f64>> {
    BEFORE.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
}

/// Notes that a worker had to wait for the GIL, and shortens the switch interval if it is not yet. Attached.
pub(crate) fn waited(py: Python<'_>, shared: &Shared) {
    LAST_WAIT_MS.store(now_ms(), Ordering::Relaxed);
    if IS_SHORT.load(Ordering::Relaxed) {
        return;
    }
    let mut before = lock(py);
    // Of a closed server nobody would put it back.
    if shared.lanes[DEFAULT_LANE].queue.is_closed() || IS_SHORT.swap(true, Ordering::Relaxed) {
        return;
    }
    let set = || -> PyResult<Option<f64>> {
        let sys = py.import("sys")?;
        let interval: f64 = sys.call_method0("getswitchinterval")?.extract()?;
        if interval <= SHORT_S {
            return Ok(None);
        }
        sys.call_method1("setswitchinterval", (SHORT_S,))?;
        Ok(Some(interval))
    };
    let result = set();
    *before = result.as_ref().ok().copied().flatten();
    // Logging runs Python, which may give the GIL away: not under the lock.
    drop(before);
    if let Err(error) = result {
        log_error(py, "the switch interval could not be shortened", Some(&error));
    }
    shared.lanes[DEFAULT_LANE].queue.visit(true);
}

/// Puts the old switch interval back if nobody has waited for a while, or at once with `force`. Attached.
pub(crate) fn calm_down(py: Python<'_>, shared: &Shared, force: bool) {
    if !force && now_ms().saturating_sub(LAST_WAIT_MS.load(Ordering::Relaxed)) < CALM.as_millis() as u64 {
        return;
    }
    shared.lanes[DEFAULT_LANE].queue.visit(false);
    let mut kept = lock(py);
    let restore = |before: f64| -> PyResult<()> {
        let sys = py.import("sys")?;
        let now: f64 = sys.call_method0("getswitchinterval")?.extract()?;
        // Somebody else has set it meanwhile: then it is theirs.
        if (now - SHORT_S).abs() < 1e-6 {
            sys.call_method1("setswitchinterval", (before,))?;
        }
        Ok(())
    };
    let result = kept.take().map_or(Ok(()), restore);
    IS_SHORT.store(false, Ordering::Relaxed);
    drop(kept);
    if let Err(error) = result {
        log_error(py, "the switch interval could not be put back", Some(&error));
    }
}
