//! `ushabti._core`: conversions between Python and the core.
use pyo3::prelude::*;

/// The native half of the package.
#[pymodule(gil_used = false)]
mod _core {}
