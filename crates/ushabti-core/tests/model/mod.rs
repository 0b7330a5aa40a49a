//! What models that have locks share.

use loom::model::Builder;
use loom::sync::{Mutex, MutexGuard};

/// Runs `check` through its interleavings.
pub(crate) fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics with this lock")
}
