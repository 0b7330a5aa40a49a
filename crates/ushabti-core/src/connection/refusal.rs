//! Answers that no worker sees: requests that are refused, bytes that are no request, and clients that take too long.

use std::borrow::Cow;
use std::time::Instant;

use ushabti_proto::error::ProtocolError;
use ushabti_proto::http1::framing::BodyFraming;
use ushabti_proto::http1::head::RequestHead;
use ushabti_proto::http2::PREFACE;
use ushabti_proto::uri::TargetForm;

use super::{Connection, Flow, Incoming};
use crate::access_log::Entry;
use crate::channel::Channel;
use crate::clock::Deadline;
use crate::link::Exchange;
use crate::reply::{self, Asked, Refusal};
use crate::stats::Reason;

/// The largest body that is read only to be thrown away, so that the connection of a refused request can go on.
pub(crate) const SWALLOW_MAX: u64 = 64 * 1024;

/// Where the first line of a client's preface ends that speaks HTTP/2, and what it is told where that was not agreed on.
const LINE_OF_HTTP2: &[u8] = PREFACE.split_at(16).0;
const UNCHOSEN: &str = "HTTP/2 over TLS is chosen by ALPN, by which this client has not asked for h2";

/// What is answered where TLS is wanted: the same target, by TLS (RFC 9110 section 15.4.9: with the same method and body).
pub(super) fn redirect(head: &RequestHead, port: u16) -> Refusal {
    if head.form() == TargetForm::Authority {
        return Refusal::of(400, "this port only says where the server is, which is no proxy");
    }
    let Some(host) = head.host().filter(|host| !host.is_empty()) else {
        return Refusal::of(400, "this port only says where the server is, which needs a Host field");
    };
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let name = host.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(host, |(name, _)| name);
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let path = if head.path().starts_with('/') { head.path() } else { "/" };
    let query = head.query().map(|query| format!("?{query}")).unwrap_or_default();
    let fields = vec![("location", format!("https://{name}{port}{path}{query}"))];
    Refusal { status: 308, fields, detail: Cow::Borrowed("this server is reached by https") }
}

/// A request that no worker sees, and what is answered to it.
pub(super) struct Refused {
    pub(super) head: RequestHead,
    refusal: Refusal,
    received: Instant,
}

impl Connection {
    /// Refuses a request whose head is complete. A small body is read first, so that the connection can go on; a
    /// large one, or one that the client has not begun to send, is not worth it: then the connection ends. So it does behind a
    /// CONNECT: what follows may be what somebody else has the client send through the tunnel (RFC 9931).
    pub(super) fn refuse(&mut self, head: RequestHead, refusal: Refusal) -> Result<(), Flow> {
        let small = match head.framing() {
            _ if head.form() == TargetForm::Authority => false,
            BodyFraming::None => true,
            BodyFraming::Length(bytes) => bytes <= SWALLOW_MAX && !self.protocol.continue_wanted(),
            BodyFraming::Chunked => !self.protocol.continue_wanted(),
        };
        let received = Instant::now();
        if small && self.protocol.set_body_max(SWALLOW_MAX).is_ok() {
            self.await_body(Incoming::Refused(Box::new(Refused { head, refusal, received })), received);
            return Ok(());
        }
        Err(self.answer_refusal(&Refused { head, refusal, received }, false))
    }

    pub(super) fn answer_refusal(&mut self, refused: &Refused, keep_alive: bool) -> Flow {
        let Refused { head, refusal: Refusal { status, fields, detail }, received } = refused;
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        self.answer_now(Asked::Head(head), keep_alive, *status, &fields, detail, *received)
    }

    /// Answers bytes that are no valid request, after which nothing that the client sends can be trusted.
    pub(super) fn refuse_bytes(&mut self, problem: ProtocolError, bytes: &[u8]) -> Flow {
        let is_http2 = problem == ProtocolError::VersionUnsupported && bytes.starts_with(LINE_OF_HTTP2);
        let (detail, section) = if is_http2 && self.io.server.config.http2 && self.link.tls_info().is_some() {
            (UNCHOSEN.to_owned(), "RFC 9113 section 3.2")
        } else {
            (problem.to_string(), problem.section())
        };
        self.abort_request(Asked::by(bytes), problem.status(), &detail, &format!(" ({section})"))
    }

    pub(super) fn time_out(&mut self, detail: &str) -> Flow {
        let asked = Asked::by(&self.pending);
        self.abort_request(asked, 408, detail, "")
    }

    /// Answers in the middle of a request, and closes. `asked` is of use in the middle of a head alone; `source` stands behind
    /// `detail` in the log.
    fn abort_request(&mut self, asked: Asked<'_>, status: u16, detail: &str, source: &str) -> Flow {
        self.pending = Vec::new();
        let incoming = self.incoming.take();
        if let Some(Incoming::Refused(refused)) = incoming {
            // What is wrong with a body that would be thrown away is no news beside that.
            return self.answer_refusal(&refused, false);
        }
        let notice = || format!("{}: {detail}{source}; answered {status}", self.link.peer());
        self.io.server.journal.peer_notice(notice);
        match incoming {
            Some(Incoming::Accepted(request)) => {
                self.answer_now(Asked::Head(&request.head), false, status, &[], detail, request.received)
            }
            _ => self.answer_now(asked, false, status, &[], detail, Instant::now()),
        }
    }

    pub(super) fn answer_now(
        &mut self,
        asked: Asked<'_>,
        keep_alive: bool,
        status: u16,
        fields: &[(&[u8], &[u8])],
        detail: &str,
        received: Instant,
    ) -> Flow {
        if self.timed {
            self.timed = false;
            self.io.clock.set(self.place.key, Deadline::WhenQuiet);
        }
        let exchange = self.link.begin_exchange(true);
        answer(&self.channel(), exchange, asked, keep_alive, status, fields, detail, received);
        Flow::Answer
    }
}

/// Answers a request that no worker is given, counts the refusal and writes its line. IO task.
#[expect(clippy::too_many_arguments, reason = "all of it makes the answer or its line")]
pub(crate) fn answer(
    channel: &Channel,
    exchange: Exchange,
    asked: Asked<'_>,
    keep_alive: bool,
    status: u16,
    fields: &[(&[u8], &[u8])],
    detail: &str,
    received: Instant,
) {
    let server = channel.server();
    let (logged, body_bytes) = reply::refuse(channel, exchange, asked, keep_alive, status, fields, detail);
    server.counters.refused(Reason::of_status(status));
    server.log_access(|| Entry {
        peer: channel.peer(),
        head: asked.head(),
        status: logged,
        body_bytes,
        taken: received.elapsed(),
    });
}
