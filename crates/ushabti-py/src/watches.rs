//! What is to be called when clients leave, by the numbers that the core knows the requests by.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use pyo3::prelude::*;

/// The callbacks of requests that are being handled. The lock is held for moving a few references.
#[derive(Default)]
pub(crate) struct Watches {
    last: AtomicU32,
    callbacks: Mutex<HashMap<u32, Vec<Py<PyAny>>>>,
}

impl Watches {
    /// A number that no other request has: they come again after four thousand million.
    pub(crate) fn number(&self) -> u32 {
        loop {
            let number = self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            // 0 is the core's word for none.
            if number != 0 {
                return number;
            }
        }
    }

    pub(crate) fn add(&self, number: u32, callback: Py<PyAny>) {
        self.callbacks.lock().entry(number).or_default().push(callback);
    }

    /// Takes out what is to be called for a request; the caller drops it attached, and under no lock.
    pub(crate) fn take(&self, number: u32) -> Vec<Py<PyAny>> {
        self.callbacks.lock().remove(&number).unwrap_or_default()
    }
}
