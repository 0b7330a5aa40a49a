//! The IO thread of ushabti. It knows nothing of Python.

pub mod routes;
