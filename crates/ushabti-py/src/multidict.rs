//! A read-only mapping in which a name may stand several times: header fields and query parameters.

use std::borrow::Cow;

use pyo3::exceptions::PyKeyError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList, PyString};

use crate::request::Request;

/// Where the pairs are.
enum Source {
    /// The header fields of a request; names are compared without regard to case (RFC 9110 section 5.1).
    Fields(Py<Request>),
    /// Pairs of its own.
    Pairs(Vec<(String, String)>),
}

/// A read-only mapping from names to values in which a name may stand several times.
///
/// `m[name]` and `get` give the first value, `all` every one, `pairs` all pairs in the order in which they came. It may
/// be used by several threads.
#[pyclass(frozen, mapping, module = "ushabti._core")]
pub struct MultiDict {
    source: Source,
}

impl MultiDict {
    pub(crate) fn fields(request: Py<Request>) -> Self {
        Self { source: Source::Fields(request) }
    }

    pub(crate) fn of_pairs(pairs: Vec<(String, String)>) -> Self {
        Self { source: Source::Pairs(pairs) }
    }

    fn each(&self) -> Box<dyn Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> + '_> {
        match &self.source {
            Source::Fields(request) => {
                Box::new(request.get().core().head.fields().map(|(name, value)| (latin1(name), latin1(value))))
            }
            Source::Pairs(pairs) => {
                Box::new(pairs.iter().map(|(name, value)| (Cow::from(name.as_str()), Cow::from(value.as_str()))))
            }
        }
    }

    fn same(&self, one: &str, other: &str) -> bool {
        match self.source {
            Source::Fields(_) => one.eq_ignore_ascii_case(other),
            Source::Pairs(_) => one == other,
        }
    }

    fn first(&self, name: &str) -> Option<Cow<'_, str>> {
        self.each().find(|(other, _)| self.same(other, name)).map(|(_, value)| value)
    }

    /// The distinct names with their first values, in order.
    fn distinct(&self) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
        let mut found: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::new();
        for (name, value) in self.each() {
            if !found.iter().any(|(other, _)| self.same(other, &name)) {
                found.push((name, value));
            }
        }
        found
    }
}

#[pymethods]
impl MultiDict {
    fn __getitem__(&self, name: &str) -> PyResult<Cow<'_, str>> {
        self.first(name).ok_or_else(|| PyKeyError::new_err(name.to_owned()))
    }

    fn __contains__(&self, name: &Bound<'_, PyAny>) -> bool {
        name.cast::<PyString>().is_ok_and(|name| name.to_str().is_ok_and(|name| self.first(name).is_some()))
    }

    fn __len__(&self) -> usize {
        self.distinct().len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        self.keys(py)?.try_iter()
    }

    #[expect(clippy::needless_pass_by_value, reason = "the signature is given")]
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.source {
            Source::Fields(request) => visit.call(request),
            Source::Pairs(_) => Ok(()),
        }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("MultiDict({})", self.pairs(py)?.repr()?))
    }

    /// The first value of `name`, or `default`.
    #[pyo3(signature = (name, default=None))]
    fn get<'py>(&self, py: Python<'py>, name: &str, default: Option<Bound<'py, PyAny>>) -> Option<Bound<'py, PyAny>> {
        match self.first(name) {
            Some(value) => Some(PyString::new(py, &value).into_any()),
            None => default,
        }
    }

    /// Every value of `name`, in order; an empty list if there is none.
    fn all(&self, name: &str) -> Vec<Cow<'_, str>> {
        self.each().filter(|(other, _)| self.same(other, name)).map(|(_, value)| value).collect()
    }

    /// The distinct names, in order.
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.distinct().into_iter().map(|(name, _)| name))
    }

    /// The first value of each name.
    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.distinct().into_iter().map(|(_, value)| value))
    }

    /// The distinct names with their first values.
    fn items<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.distinct())
    }

    /// All pairs, names that stand several times included.
    #[getter]
    fn pairs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.each().collect::<Vec<_>>())
    }
}

/// Bytes as text, one character each: header fields have no other encoding (RFC 9110 section 5.5).
pub(crate) fn latin1(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Cow::from(text),
        _ => bytes.iter().map(|&byte| char::from(byte)).collect::<String>().into(),
    }
}
