//! The classes of `ushabti.errors`, raised from native code. They are defined there, once.

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::call::call;

mod imported {
    pyo3::import_exception!(ushabti.errors, AlreadyResponded);
    pyo3::import_exception!(ushabti.errors, ConfigError);
    pyo3::import_exception!(ushabti.errors, DeadlineExceeded);
    pyo3::import_exception!(ushabti.errors, Disconnected);
    pyo3::import_exception!(ushabti.errors, HTTPError);
    pyo3::import_exception!(ushabti.errors, ServerStateError);
    pyo3::import_exception!(ushabti.errors, WebSocketError);
}

pub(crate) use imported::{
    AlreadyResponded, ConfigError, DeadlineExceeded, Disconnected, HTTPError, ServerStateError, WebSocketError,
};

/// `HTTPError(status, detail)`.
pub(crate) fn http_error(status: u16, detail: String) -> PyErr {
    HTTPError::new_err((status, detail))
}

/// `BindError(message)` with its `errno`.
pub(crate) fn bind_error(py: Python<'_>, problem: &ushabti_core::listener::BindError) -> PyErr {
    let build = || -> PyResult<PyErr> {
        let class = py.import("ushabti.errors")?.getattr("BindError")?;
        let error = class.call1((problem.message.as_str(),))?;
        error.setattr("errno", problem.errno)?;
        Ok(PyErr::from_value(error))
    };
    build().unwrap_or_else(|error| error)
}

/// The exception object of an error, with its traceback, which before Python 3.12 is kept beside it.
pub(crate) fn exception<'py>(py: Python<'py>, error: &PyErr) -> Bound<'py, PyBaseException> {
    let exception = error.value(py).clone();
    let Some(traceback) = error.traceback(py) else { return exception };
    if let Err(failure) = exception.setattr(pyo3::intern!(py, "__traceback__"), traceback) {
        failure.write_unraisable(py, None);
    }
    exception
}

/// Calls a function of `logging` with a message and, if given, the exception to show.
pub(crate) fn log_error(py: Python<'_>, message: &str, error: Option<&PyErr>) {
    let write = || -> PyResult<()> {
        let logger = py.import("logging")?.call_method1("getLogger", ("ushabti",))?;
        let options = PyDict::new(py);
        if let Some(error) = error {
            options.set_item("exc_info", exception(py, error))?;
        }
        let error = logger.getattr("error")?;
        call(&error, [PyString::new(py, "%s").as_any(), PyString::new(py, message).as_any()], Some(&options))?;
        Ok(())
    };
    if let Err(failure) = write() {
        failure.write_unraisable(py, None);
    }
}
