//! From the fields of an HTTP/2 request to a head like any other, and to where it goes.

use h2::ext::Protocol;
use ushabti_proto::error::ProtocolError;
use ushabti_proto::http1::framing::BodyFraming;
use ushabti_proto::http1::head::RequestHead;
use ushabti_proto::http2::{Pseudo, request_head};

use super::entry::Refused;
use crate::connection::Place;
use crate::destination::Destination;
use crate::reply::Refusal;

/// Makes a head of what `h2` has read, and finds out where it goes. A fragment in the path, which may not be there (RFC 9113
/// section 8.3.1), is not seen here: the type that the path comes in has cut it off. Nor is a scheme beside which there is no
/// authority, but a Host.
///
/// # Errors
///
/// What is answered to a request that goes nowhere.
pub(super) fn direct(parts: &http::request::Parts, place: &Place) -> Result<(RequestHead, Destination), Box<Refused>> {
    let server = &place.io.server;
    let pseudo = Pseudo {
        method: parts.method.as_str().as_bytes(),
        scheme: parts.uri.scheme_str().map(str::as_bytes),
        path: parts.uri.path_and_query().map(|path| path.as_str().as_bytes()),
        authority: parts.uri.authority().map(|authority| authority.as_str().as_bytes()),
        protocol: parts.extensions.get::<Protocol>().map(AsRef::as_ref),
    };
    let fields = parts.headers.iter().map(|(name, value)| -> (&[u8], &[u8]) { (name.as_ref(), value.as_bytes()) });
    let is_head = parts.method == http::Method::HEAD;
    let head = request_head(pseudo, fields, &server.config.head)
        .map_err(|problem| Box::new(Refused { head: None, is_head, refusal: fault(place, problem) }))?;
    match server.destination(&head) {
        Ok(destination) => {
            if matches!(head.framing(), BodyFraming::Length(bytes) if bytes > destination.body_bytes_max) {
                let refusal = Refusal::of_fault(ProtocolError::ContentTooLarge);
                return Err(Box::new(Refused { head: Some(head), is_head, refusal }));
            }
            Ok((head, destination))
        }
        Err(refusal) => Err(Box::new(Refused { head: Some(head), is_head, refusal })),
    }
}

/// Whether it asks for a tunnel (RFC 9113 section 8.5), such as a WebSocket (RFC 8441 section 4): what follows is no body.
pub(super) fn asks_for_tunnel(parts: &http::request::Parts) -> bool {
    parts.method == http::Method::CONNECT
}

/// Notes what is wrong with a request, and says what is answered.
pub(super) fn fault(place: &Place, problem: ProtocolError) -> Refusal {
    let refusal = Refusal::of_fault(problem);
    let (peer, status) = (place.link.peer(), refusal.status);
    let notice = || format!("{peer}: {problem} ({}); answered {status}", problem.section());
    place.io.server.journal.peer_notice(notice);
    refusal
}
