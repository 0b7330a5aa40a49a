//! From the value that a handler returned to the bytes of an answer.
//!
//! Text, bytes and responses are converted here, because they are what most handlers return; every other value goes
//! through `as_response` of `ushabti.responses`, which also knows what to say of a value that is no answer.

use std::borrow::Cow;
use std::sync::Arc;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use ushabti_core::reply::{BodyProblem, BodyWriter, Length, Promise, Responder};
use ushabti_core::request::Request as CoreRequest;

use crate::application::Application;
use crate::call::{call, iterate, next};
use crate::exceptions::exception;
use crate::request::Request;

/// Up to this size a body is copied behind its head, which is cheaper than a write of two parts.
const COPY_MAX: usize = 16 * 1024;

/// An answer whose head is encoded, ready to be sent by who has the right to.
pub(crate) struct Prepared {
    responder: Responder,
    promise: Promise,
    body: Body,
}

enum Body {
    /// Behind the head in the buffer.
    Copied,
    /// Too large to copy.
    Bytes(Py<PyBytes>),
    /// Made piece by piece.
    Pieces(Py<PyAny>),
}

/// A field's name and value.
pub(crate) type Field<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// Encodes the answer that `value` stands for into `buffer`, and takes the right to give it; `None`: another answer was given
/// before. Attached; nothing is sent yet.
///
/// # Errors
///
/// Whatever makes `value` no answer: the request can still be answered otherwise then, by anybody and at any time.
pub(crate) fn prepare(
    py: Python<'_>,
    application: &Application,
    value: &Bound<'_, PyAny>,
    request: &Request,
    buffer: &mut Vec<u8>,
) -> PyResult<Option<Prepared>> {
    buffer.clear();
    if let Ok(text) = value.cast_exact::<PyString>() {
        return prepare_plain(&application.text_type, text.to_str()?.as_bytes(), None, request, buffer);
    }
    if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        return prepare_plain(&application.bytes_type, bytes.as_bytes(), Some(bytes), request, buffer);
    }
    if value.is_instance(application.response.bind(py))? {
        return prepare_response(value, request, buffer);
    }
    prepare_response(&call(application.as_response.bind(py), [value], None)?, request, buffer)
}

fn prepare_plain(
    content_type: &str,
    body: &[u8],
    object: Option<&Bound<'_, PyBytes>>,
    request: &Request,
    buffer: &mut Vec<u8>,
) -> PyResult<Option<Prepared>> {
    let fields = [(b"content-type".as_slice(), content_type.as_bytes())];
    let length = Length::Known(body.len() as u64);
    let claimed = request.claim(|responder| responder.encode(buffer, 200, fields.into_iter(), length))?;
    Ok(claimed.map(|(responder, promise)| {
        let body = match object {
            Some(object) if body.len() > COPY_MAX => Body::Bytes(object.clone().unbind()),
            _ => copied(promise, body, buffer),
        };
        Prepared { responder, promise, body }
    }))
}

fn copied(promise: Promise, body: &[u8], buffer: &mut Vec<u8>) -> Body {
    if !promise.is_bodiless() {
        buffer.extend_from_slice(body);
    }
    Body::Copied
}

fn prepare_response(
    response: &Bound<'_, PyAny>,
    request: &Request,
    buffer: &mut Vec<u8>,
) -> PyResult<Option<Prepared>> {
    let py = response.py();
    let status: u16 = response.getattr(intern!(py, "status"))?.extract()?;
    let fields = fields_of(&response.getattr(intern!(py, "headers"))?)?;
    let body = response.getattr(intern!(py, "body"))?;
    let whole = body.cast::<PyBytes>().ok();
    let length = match &whole {
        Some(bytes) => Length::Known(bytes.as_bytes().len() as u64),
        None => promised_length(&fields),
    };
    let borrowed = fields.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
    let claimed = request.claim(|responder| responder.encode(buffer, status, borrowed, length))?;
    Ok(claimed.map(|(responder, promise)| {
        let body = match whole {
            Some(bytes) if bytes.as_bytes().len() > COPY_MAX => Body::Bytes(bytes.clone().unbind()),
            Some(bytes) => copied(promise, bytes.as_bytes(), buffer),
            None => Body::Pieces(body.clone().unbind()),
        };
        Prepared { responder, promise, body }
    }))
}

/// A piecewise body whose length the handler knows is sent with that length.
fn promised_length(fields: &[Field<'_>]) -> Length {
    fields
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(b"content-length"))
        .and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok())
        .map_or(Length::Stream, Length::Known)
}

/// The fields of a `Headers`.
pub(crate) fn fields_of(headers: &Bound<'_, PyAny>) -> PyResult<Vec<Field<'static>>> {
    let pairs = headers.getattr(intern!(headers.py(), "pairs"))?.cast_into::<PyList>()?;
    let mut fields = Vec::with_capacity(pairs.len());
    for pair in pairs.iter() {
        let pair = pair.cast_into::<PyTuple>()?;
        fields.push((field_bytes(&pair.get_item(0)?)?, field_bytes(&pair.get_item(1)?)?));
    }
    Ok(fields)
}

/// Header text as bytes: ISO 8859-1, one byte a character (RFC 9110 section 5.5).
fn field_bytes(text: &Bound<'_, PyAny>) -> PyResult<Cow<'static, [u8]>> {
    let text = text
        .cast::<PyString>()
        .map_err(|_| PyTypeError::new_err(format!("a header field is made of str, not {}", text.get_type())))?
        .to_str()?;
    if text.is_ascii() {
        return Ok(text.as_bytes().to_vec().into());
    }
    text.chars()
        .map(|character| {
            u8::try_from(u32::from(character)).map_err(|_| {
                PyValueError::new_err(format!(
                    "header text {text:?} has characters outside ISO 8859-1; encode them first"
                ))
            })
        })
        .collect::<PyResult<Vec<u8>>>()
        .map(Cow::from)
}

/// An answer on its way out of the interpreter: everything that can be sent while detached.
pub(crate) struct Outgoing {
    responder: Responder,
    promise: Promise,
    body: Option<Py<PyBytes>>,
    request: Arc<CoreRequest>,
}

impl Prepared {
    /// What remains to be done detached; a piecewise body is sent here and now instead, and leaves nothing.
    pub(crate) fn into_outgoing(
        self,
        py: Python<'_>,
        application: &Application,
        request: &Bound<'_, Request>,
        buffer: &[u8],
    ) -> Option<Outgoing> {
        let responder = self.responder;
        let body = match self.body {
            Body::Copied => None,
            Body::Bytes(bytes) => Some(bytes),
            Body::Pieces(pieces) => {
                let pieces = pieces.into_bound(py);
                stream(application, request, &pieces, responder, self.promise, buffer);
                close(&pieces);
                return None;
            }
        };
        Some(Outgoing { responder, promise: self.promise, body, request: Arc::clone(request.get().core()) })
    }

    /// Sends the answer, waiting for nothing but a piecewise body's reader. Attached; detaches to write.
    pub(crate) fn finish(self, py: Python<'_>, application: &Application, request: &Bound<'_, Request>, buffer: &[u8]) {
        if let Some(mut outgoing) = self.into_outgoing(py, application, request, buffer) {
            let body = outgoing.take_body();
            let body = body.as_ref().map_or(&[][..], |bytes| bytes.as_bytes(py));
            py.detach(|| outgoing.send(buffer, body));
        }
    }
}

impl Outgoing {
    /// Takes out the body, which the caller drops while attached.
    pub(crate) fn take_body(&mut self) -> Option<Py<PyBytes>> {
        self.body.take()
    }

    /// Sends the answer. Never blocks, so the worker may be attached, but need not.
    pub(crate) fn send(self, head: &[u8], body: &[u8]) {
        // A client that has left is counted in the core; there is nothing that a handler could do about it.
        let _ = self.responder.send(&self.request, self.promise, head, body);
    }
}

/// Sends a body piece by piece. The worker waits while the client is slow, detached.
fn stream(
    application: &Application,
    request: &Bound<'_, Request>,
    pieces: &Bound<'_, PyAny>,
    responder: Responder,
    promise: Promise,
    head: &[u8],
) {
    let py = request.py();
    let core = request.get().core();
    let Ok(writer) = py.detach(|| responder.begin(core, promise, head)) else { return };
    if promise.is_bodiless() {
        writer.finish();
        return;
    }
    match send_pieces(py, pieces, writer) {
        Ok(()) => {}
        Err(error) => {
            // The head is out, so there can be no other answer: the connection ends short of the body's end.
            let problem = exception(py, &error).into_any();
            if let Err(failure) = call(application.cut.bind(py), [request.as_any(), &problem], None) {
                failure.write_unraisable(py, Some(pieces));
            }
        }
    }
}

fn send_pieces(py: Python<'_>, pieces: &Bound<'_, PyAny>, mut writer: BodyWriter) -> PyResult<()> {
    let pieces = iterate(pieces)?;
    while let Some(piece) = next(&pieces)? {
        let text;
        let data = if let Ok(bytes) = piece.cast::<PyBytes>() {
            bytes.as_bytes()
        } else if let Ok(string) = piece.cast::<PyString>() {
            text = string.clone();
            text.to_str()?.as_bytes()
        } else {
            return Err(PyTypeError::new_err(format!(
                "a streamed body is made of str or bytes, not {}",
                piece.get_type().qualname()?
            )));
        };
        match py.detach(|| writer.write(data)) {
            Ok(()) => {}
            Err(BodyProblem::Gone) => return Ok(()),
            Err(BodyProblem::TooLong) => {
                return Err(PyValueError::new_err("the streamed body is longer than its Content-Length"));
            }
        }
    }
    let sent = writer.sent();
    if py.detach(|| writer.finish()) {
        Ok(())
    } else {
        Err(PyValueError::new_err(format!("the streamed body ended after {sent} bytes, short of its Content-Length")))
    }
}

/// Calls `close()` of a piecewise body, if it has one, as WSGI's iterables and generators do.
fn close(pieces: &Bound<'_, PyAny>) {
    let py = pieces.py();
    let Ok(method) = pieces.getattr(intern!(py, "close")) else { return };
    if let Err(error) = call(&method, [], None) {
        error.write_unraisable(py, Some(pieces));
    }
}
