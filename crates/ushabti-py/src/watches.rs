//! What is to be called when clients leave, by the numbers that the core knows the requests by.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use pyo3::prelude::*;

/// The callbacks of requests that are being handled. The lock is held for moving a few references.
pub(crate) struct Watches {
    next: AtomicU64,
    callbacks: Mutex<HashMap<u64, Vec<Py<PyAny>>>>,
}

impl Default for Watches {
    fn default() -> Self {
        // 0 is the core's word for none.
        Self { next: AtomicU64::new(1), callbacks: Mutex::default() }
    }
}

impl Watches {
    /// A number that no other request has.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn add(&self, number: u64, callback: Py<PyAny>) {
        self.callbacks.lock().entry(number).or_default().push(callback);
    }

    /// Takes out what is to be called for a request; the caller drops it attached, and under no lock.
    pub(crate) fn take(&self, number: u64) -> Vec<Py<PyAny>> {
        self.callbacks.lock().remove(&number).unwrap_or_default()
    }
}
