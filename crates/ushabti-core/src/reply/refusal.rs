//! What is answered to a request that goes nowhere.

use std::borrow::Cow;

use ushabti_proto::error::ProtocolError;

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
