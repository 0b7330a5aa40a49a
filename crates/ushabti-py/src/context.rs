//! Context variables: what one piece of work sets, the next one of its worker does not see.

use pyo3::ffi;
use pyo3::prelude::*;

use crate::exceptions::log_error;

/// A copy of the worker's own context, which is the current one until this is left.
pub(crate) struct Context<'py>(Bound<'py, PyAny>);

impl<'py> Context<'py> {
    /// `None`: there is no memory for it. Whatever is done now is done in the worker's own.
    pub(crate) fn enter(py: Python<'py>) -> Option<Self> {
        Self::try_enter(py).map_err(|error| log_error(py, "there is no context for a piece of work", Some(&error))).ok()
    }

    fn try_enter(py: Python<'py>) -> PyResult<Self> {
        // SAFETY: the thread is attached; the call returns a new reference, or null with an exception set.
        let copy = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) }?;
        // SAFETY: as above; it is a context that nobody has entered.
        if unsafe { ffi::PyContext_Enter(copy.as_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(Self(copy))
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        let py = self.0.py();
        // SAFETY: the thread is attached; it is a context, and the one that was entered last, or the call fails.
        if unsafe { ffi::PyContext_Exit(self.0.as_ptr()) } != 0 {
            PyErr::fetch(py).write_unraisable(py, Some(&self.0));
        }
    }
}
