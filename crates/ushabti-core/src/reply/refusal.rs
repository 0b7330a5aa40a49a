//! What is answered to a request that goes nowhere.

use std::borrow::Cow;

use ushabti_proto::error::ProtocolError;
use ushabti_proto::http1::head::RequestHead;

/// What is known of a request that no worker answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked<'a> {
    /// All that its head says.
    Head(&'a RequestHead),
    /// It has none that can be read.
    Unread {
        /// Its method could be, and is HEAD: the answer has no content all the same (RFC 9110 section 9.3.2).
        is_head: bool,
    },
}

impl<'a> Asked<'a> {
    /// Nothing.
    pub(crate) const NOTHING: Self = Self::Unread { is_head: false };

    /// As far as these bytes, which begin with the request, tell.
    pub(crate) fn by(bytes: &[u8]) -> Self {
        let line = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
        Self::Unread { is_head: line.starts_with(b"HEAD ") }
    }

    pub(crate) fn head(self) -> Option<&'a RequestHead> {
        match self {
            Self::Head(head) => Some(head),
            Self::Unread { .. } => None,
        }
    }

    pub(crate) fn is_head(self) -> bool {
        match self {
            Self::Head(head) => head.method() == "HEAD",
            Self::Unread { is_head } => is_head,
        }
    }
}

/// What is answered to a request that is refused: a status, fields, and one sentence.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// Fields that the answer must have.
    pub fields: Vec<(&'static str, String)>,
    /// One sentence; empty where the status says it all.
    pub detail: Cow<'static, str>,
}

impl Refusal {
    /// A status and a sentence.
    pub(crate) fn of(status: u16, detail: &'static str) -> Self {
        Self { status, fields: Vec::new(), detail: Cow::Borrowed(detail) }
    }

    /// What is answered to a request that a fault of the client spoils.
    pub(crate) fn of_fault(problem: ProtocolError) -> Self {
        Self { status: problem.status(), fields: Vec::new(), detail: problem.to_string().into() }
    }

    /// A status that tells the methods of the path (RFC 9110 section 10.2.1).
    pub(crate) fn allowing(status: u16, methods: String) -> Self {
        Self { status, fields: vec![("allow", methods)], detail: Cow::Borrowed("") }
    }
}
