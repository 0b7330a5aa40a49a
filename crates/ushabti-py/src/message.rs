//! Messages of WebSockets as handlers see them, and what may be sent as one.

use pyo3::exceptions::{PyTypeError, PyUnicodeDecodeError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PyString};
use ushabti_core::websocket::{Message as CoreMessage, MessageKind};

use crate::application::Application;
use crate::call::call;

/// A message of a client (RFC 6455 section 5.6).
#[pyclass(frozen, module = "ushabti._core")]
pub struct Message {
    core: CoreMessage,
    application: Py<Application>,
}

impl Message {
    pub(crate) fn new(core: CoreMessage, application: Py<Application>) -> Self {
        Self { core, application }
    }

    fn as_text(&self) -> Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(&self.core.data)
    }
}

#[pymethods]
impl Message {
    /// The message: `str` if it is a text message, `bytes` if it is a binary one.
    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.core.kind {
            MessageKind::Text => self.text(py).map(Bound::into_any),
            MessageKind::Binary => Ok(PyBytes::new(py, &self.core.data).into_any()),
        }
    }

    /// Whether it is a text message.
    #[getter]
    fn is_text(&self) -> bool {
        self.core.kind == MessageKind::Text
    }

    /// The message as text; the bytes of a binary message are taken as UTF-8.
    ///
    /// Raises `UnicodeDecodeError`, a `ValueError`, if they are not.
    #[getter]
    fn text<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        match self.as_text() {
            Ok(text) => Ok(PyString::new(py, text)),
            Err(problem) => Err(PyUnicodeDecodeError::new_utf8(py, &self.core.data, problem)?.into()),
        }
    }

    /// The message as bytes; a text in UTF-8.
    #[getter]
    fn bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.core.data)
    }

    /// The message, decoded as JSON, with the `loads` of the router.
    ///
    /// Raises `ValueError` if it is none.
    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        call(self.application.get().loads.bind(py), [self.bytes(py).as_any()], None)
    }

    fn __len__(&self) -> usize {
        self.core.data.len()
    }

    fn __repr__(&self) -> String {
        let kind = if self.is_text() { "text" } else { "binary" };
        format!("<Message {kind}, {} bytes>", self.core.data.len())
    }
}

/// Data that can be sent, as long as it is held.
pub(crate) enum Data<'py> {
    Text(Bound<'py, PyString>),
    Bytes(Bound<'py, PyBytes>),
    Message(Bound<'py, Message>),
}

impl<'py> Data<'py> {
    /// # Errors
    ///
    /// `TypeError` for what is no message.
    pub(crate) fn of(value: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(text) = value.cast::<PyString>() {
            return Ok(Self::Text(text.clone()));
        }
        if let Ok(bytes) = value.cast::<PyBytes>() {
            return Ok(Self::Bytes(bytes.clone()));
        }
        if let Ok(message) = value.cast::<Message>() {
            return Ok(Self::Message(message.clone()));
        }
        if value.is_instance_of::<PyByteArray>() || value.is_instance_of::<PyMemoryView>() {
            // A copy, which nobody changes while it is sent.
            let copy = value.py().get_type::<PyBytes>().call1((value,))?;
            return Ok(Self::Bytes(copy.cast_into()?));
        }
        Err(PyTypeError::new_err(format!(
            "a message is str (text) or bytes (binary), not {}: send_json() sends other values",
            value.get_type().qualname()?
        )))
    }

    pub(crate) fn kind(&self) -> MessageKind {
        match self {
            Self::Text(_) => MessageKind::Text,
            Self::Bytes(_) => MessageKind::Binary,
            Self::Message(message) => message.get().core.kind,
        }
    }

    /// # Errors
    ///
    /// `UnicodeEncodeError` for text with lone surrogates, which UTF-8 does not have.
    pub(crate) fn bytes(&self) -> PyResult<&[u8]> {
        match self {
            Self::Text(text) => Ok(text.to_str()?.as_bytes()),
            Self::Bytes(bytes) => Ok(bytes.as_bytes()),
            Self::Message(message) => Ok(&message.get().core.data),
        }
    }
}
