//! The handshake: what makes a connection of HTTP/1.1 a WebSocket (RFC 6455 section 4.2), or a stream of HTTP/2 (RFC 8441).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use ushabti_proto::http1::encode::{BodyLength, EncodeError, encode_interim};
use ushabti_proto::http1::head::RequestHead;
use ushabti_proto::http2;
use ushabti_proto::websocket::close_code;
use ushabti_proto::websocket::deflate::DeflateAgreement;
use ushabti_proto::websocket::handshake::Handshake;

use super::{Config, Socket, Style};
use crate::channel::Channel;
use crate::date;
use crate::reply::Refusal;
use crate::server::{Counted, Shared};

/// Reads the handshake of a request, and looks at its Origin. The IO thread does so for routes that are WebSockets, a
/// worker for handlers that upgrade.
///
/// # Errors
///
/// [`Refusal`]: 426 if it is no upgrade request at all (RFC 9110 section 15.5.22), 400, 405 or 426 if it is a wrong one, 403
/// if its Origin is not welcome.
pub fn check(head: &RequestHead, config: &Config) -> Result<Handshake, Refusal> {
    let handshake = match Handshake::read(head) {
        Ok(Some(handshake)) => handshake,
        Ok(None) => {
            return Err(Refusal {
                status: 426,
                fields: vec![("upgrade", "websocket".to_owned())],
                detail: Cow::Borrowed("this is a WebSocket"),
            });
        }
        Err(problem) => {
            let status = problem.status();
            let mut fields: Vec<_> = problem.fields().iter().map(|&(name, value)| (name, value.to_owned())).collect();
            if status == 426 {
                fields.push(("upgrade", "websocket".to_owned()));
            }
            return Err(Refusal { status, fields, detail: Cow::Owned(problem.to_string()) });
        }
    };
    if !config.origins.welcome(head) {
        return Err(Refusal::of(403, "pages of this origin may not connect (websocket_origins)"));
    }
    Ok(handshake)
}

/// The subprotocols that a request offers, in the order of its preference; none if it is no valid upgrade request.
pub fn offered_protocols(head: &RequestHead) -> Vec<String> {
    Handshake::read(head).ok().flatten().map_or_else(Vec::new, |handshake| handshake.protocols)
}

/// The status that agrees to a handshake.
pub(crate) fn status(handshake: &Handshake) -> u16 {
    if handshake.is_http2() { 200 } else { 101 }
}

/// Encodes the answer that agrees, and says what compression it agrees to. `protocol` is one of those offered.
///
/// # Errors
///
/// [`EncodeError`] if one of `fields` cannot be sent.
pub(crate) fn encode<'a>(
    handshake: &Handshake,
    server: &Shared,
    protocol: Option<&str>,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
) -> Result<(Vec<u8>, Option<DeflateAgreement>), EncodeError> {
    let agreed =
        server.config.websocket.deflate.and_then(|policy| DeflateAgreement::negotiate(&handshake.extensions, policy));
    let own = handshake.response_fields(protocol, agreed.as_ref()).expect("the caller chose what was offered");
    let mut out = Vec::with_capacity(256);
    let own = own.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    for (name, _) in fields.clone() {
        if own.clone().any(|(taken, _)| taken.eq_ignore_ascii_case(name)) || is_extension(name) {
            return Err(EncodeError::Framing(String::from_utf8_lossy(name).into_owned()));
        }
    }
    let all = own.chain(fields.map(|(name, value)| -> (&[u8], &[u8]) { (name, value) }));
    if handshake.is_http2() {
        let server_field = server.config.server_field.as_deref();
        http2::encode_head(&mut out, status(handshake), all, BodyLength::UntilClose, &date::now(), server_field)?;
    } else {
        encode_interim(&mut out, status(handshake), all)?;
    }
    Ok((out, agreed))
}

/// What a handler cannot agree to in the name of the protocol.
fn is_extension(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"sec-websocket-extensions") || name.eq_ignore_ascii_case(b"sec-websocket-protocol")
}

/// A WebSocket that was agreed to and whose events begin when this is finished, or dropped. It can be sent to before.
pub struct Upgraded {
    socket: Arc<Socket>,
    /// Until it is finished.
    channel: Option<Channel>,
}

impl Upgraded {
    pub(crate) fn new(channel: Channel, socket: Arc<Socket>) -> Self {
        Self { socket, channel: Some(channel) }
    }

    /// The socket.
    pub fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    /// Lets its events begin: the handler that upgraded has returned.
    pub fn finish(mut self) {
        self.release();
    }

    fn release(&mut self) {
        let Some(channel) = self.channel.take() else { return };
        if channel.server().is_forked() {
            std::mem::forget(channel);
            return;
        }
        if let Some(socket) = channel.finish_upgrade(Arc::clone(&self.socket)) {
            discard(socket, channel.server());
        }
    }
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        self.release();
    }
}

/// The client was gone before the IO task had the socket. Whoever took it out of the channel.
pub(crate) fn discard(socket: Arc<Socket>, server: &Shared) {
    socket.decide(close_code::ABNORMAL, "");
    server.hub.leave(&socket);
    if socket.inbox.discard() {
        server.schedule(socket, Instant::now());
    }
}

/// Makes the socket of a connection or stream that is about to be agreed to.
pub(crate) fn socket(channel: &Channel, lane: usize, style: Style, agreed: Option<DeflateAgreement>) -> Arc<Socket> {
    Arc::new(Socket::new(channel, lane, style, agreed, Counted::new(channel.link().shared())))
}
