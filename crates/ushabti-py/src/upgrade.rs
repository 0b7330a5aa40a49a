//! From a request to a WebSocket.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use ushabti_core::reply::{Refusal, Responder, UpgradeProblem};
use ushabti_core::websocket::{Style, Upgraded};
use ushabti_proto::websocket::handshake::Handshake;

use crate::call::call;
use crate::exceptions::{AlreadyResponded, Disconnected, HTTPError, http_error};
use crate::reply::{Field, fields_of};
use crate::request::Request;
use crate::websocket::{Handler, WebSocket};

/// What the application speaks.
#[derive(FromPyObject)]
pub(crate) enum Subprotocols {
    /// This, and nothing else.
    One(String),
    /// The first of these that the client has offered, or none.
    AnyOf(Vec<String>),
}

/// `Request.upgrade`.
pub(crate) fn upgrade(
    request: &Bound<'_, Request>,
    handler: Option<&Bound<'_, PyAny>>,
    subprotocols: Option<Subprotocols>,
    headers: Option<&Bound<'_, PyAny>>,
) -> PyResult<Py<WebSocket>> {
    let py = request.py();
    let application = request.get().application().get();
    let (target, hears, takes_event, is_blocking, deliver): (Py<PyAny>, bool, bool, bool, Py<PyAny>) =
        call(application.bind.bind(py), [handler.unwrap_or(&py.None().into_bound(py))], None)?.extract()?;
    let fields = fields(py, headers)?;
    let Some(responder) = request.get().take_responder() else {
        return Err(AlreadyResponded::new_err("this request has been answered already"));
    };
    let style = if is_blocking { Style::Blocking } else { Style::Events };
    match agree(request, responder, style, subprotocols, &fields) {
        Ok((upgraded, subprotocol)) => {
            let core = Arc::clone(upgraded.socket());
            let handler = Handler { target, hears, takes_event, deliver };
            let socket = Py::new(py, WebSocket::new(core, style, request, subprotocol, handler))?;
            application.sockets.add(socket.clone_ref(py));
            request.get().set_upgraded(upgraded);
            Ok(socket)
        }
        Err((responder, error)) => {
            if let Some(responder) = responder {
                request.get().restore_responder(responder);
            }
            Err(error)
        }
    }
}

type Refused = (Option<Responder>, PyErr);

fn agree(
    request: &Bound<'_, Request>,
    responder: Responder,
    style: Style,
    subprotocols: Option<Subprotocols>,
    fields: &[Field<'static>],
) -> Result<(Upgraded, Option<String>), Refused> {
    let core = request.get().core();
    let handshake = match responder.check_upgrade(core) {
        Ok(handshake) => handshake,
        Err(Refusal { status, fields, detail }) => {
            return Err((Some(responder), HTTPError::new_err((status, detail.into_owned(), fields))));
        }
    };
    let subprotocol = match choose(subprotocols, &handshake) {
        Ok(subprotocol) => subprotocol,
        Err(error) => return Err((Some(responder), error)),
    };
    let borrowed = fields.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
    match responder.upgrade(core, &handshake, style, subprotocol.as_deref(), borrowed) {
        Ok(upgraded) => Ok((upgraded, subprotocol)),
        Err(UpgradeProblem::Field(responder, problem)) => {
            Err((Some(responder), PyValueError::new_err(problem.to_string())))
        }
        Err(UpgradeProblem::Gone) => {
            Err((None, Disconnected::new_err("the client was gone before it could be answered")))
        }
    }
}

/// Chooses among the subprotocols that the client offers (RFC 6455 section 4.2.2).
fn choose(wanted: Option<Subprotocols>, handshake: &Handshake) -> PyResult<Option<String>> {
    match wanted {
        None => Ok(None),
        Some(Subprotocols::One(only)) if handshake.protocols.contains(&only) => Ok(Some(only)),
        Some(Subprotocols::One(only)) => {
            Err(http_error(400, format!("this WebSocket speaks {only}: offer it in Sec-WebSocket-Protocol")))
        }
        Some(Subprotocols::AnyOf(several)) => {
            Ok(several.into_iter().find(|protocol| handshake.protocols.contains(protocol)))
        }
    }
}

fn fields(py: Python<'_>, headers: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<Field<'static>>> {
    let Some(headers) = headers else { return Ok(Vec::new()) };
    fields_of(&py.import("ushabti.responses")?.getattr("Headers")?.call1((headers,))?)
}
