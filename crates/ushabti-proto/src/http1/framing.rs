//! Which body follows a request head (RFC 9112 section 6).
//!
//! Everything about which two servers could differ is refused. A proxy and this server that disagree about where a
//! request ends is what request smuggling lives on, so the choices that section 6.3 leaves to the recipient are all
//! made the strict way.

use crate::error::ProtocolError;
use crate::fields::{is_token, trim_ows};

/// How the end of a request's content is found (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFraming {
    /// Neither Content-Length nor Transfer-Encoding: there is no content.
    None,
    /// Content-Length: this many bytes, which may be 0.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Leading zeros are decimal digits like others, but more digits than this say that somebody is trying something.
pub(crate) const SIZE_DIGITS_MAX: usize = 64;

/// Reads the value of Content-Length (RFC 9110 section 8.6): digits and nothing else.
///
/// Leading zeros are allowed. Lists are not, nor are equal repetitions such as `5, 5`, which section 6.3 of RFC
/// 9112 lets a recipient take for one: nobody sends them in good faith.
///
/// # Errors
///
/// [`ProtocolError::ContentLengthSyntax`] or, where it does not fit in 64 bits,
/// [`ProtocolError::ContentLengthOverflow`].
///
/// ```
/// use ushabti_proto::error::ProtocolError;
/// use ushabti_proto::http1::framing::parse_content_length;
///
/// assert_eq!(parse_content_length(b"0042"), Ok(42));
/// assert_eq!(parse_content_length(b"+42"), Err(ProtocolError::ContentLengthSyntax));
/// assert_eq!(parse_content_length(b"99999999999999999999"), Err(ProtocolError::ContentLengthOverflow));
/// ```
pub fn parse_content_length(value: &[u8]) -> Result<u64, ProtocolError> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(ProtocolError::ContentLengthSyntax);
    }
    if value.len() > SIZE_DIGITS_MAX {
        return Err(ProtocolError::ContentLengthOverflow);
    }
    value
        .iter()
        .try_fold(0_u64, |length, &digit| length.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
        .ok_or(ProtocolError::ContentLengthOverflow)
}

/// What the Content-Length and Transfer-Encoding lines of one head said so far.
#[derive(Debug, Default)]
pub(crate) struct FramingFields {
    content_length: Option<u64>,
    codings: Codings,
}

/// The transfer codings in the order in which they were applied, as far as the decision needs them.
#[derive(Debug, Default, Clone, Copy)]
enum Codings {
    /// No Transfer-Encoding line.
    #[default]
    Absent,
    /// Nothing but one `chunked`.
    Chunked,
    /// Other codings, and `chunked` as the last of all.
    OthersThenChunked,
    /// `chunked` twice or more, the last coding included.
    ChunkedTwice,
    /// The last coding is not `chunked`; whether it came before is kept to tell a repetition.
    NotChunked { chunked_before: bool },
}

impl FramingFields {
    /// Takes the value of a Content-Length line.
    pub(crate) fn content_length(&mut self, value: &[u8]) -> Result<(), ProtocolError> {
        if self.content_length.is_some() {
            return Err(ProtocolError::ContentLengthRepeated);
        }
        self.content_length = Some(parse_content_length(value)?);
        Ok(())
    }

    /// Takes the value of a Transfer-Encoding line. Several lines are one list (RFC 9110 section 5.3).
    pub(crate) fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), ProtocolError> {
        for element in value.split(|&byte| byte == b',') {
            // An empty element is allowed in lists at large. Here it is a way to hide a coding from a sloppy peer.
            let coding = trim_ows(element);
            let name = coding.split(|&byte| byte == b';').next().unwrap_or_default();
            if !is_token(trim_ows(name)) {
                return Err(ProtocolError::TransferCodingSyntax);
            }
            self.codings = if coding.eq_ignore_ascii_case(b"chunked") {
                self.codings.then_chunked()
            } else if trim_ows(name).eq_ignore_ascii_case(b"chunked") {
                // Chunked has no parameters (RFC 9112 section 7.1).
                return Err(ProtocolError::TransferCodingSyntax);
            } else {
                self.codings.then_other()
            };
        }
        Ok(())
    }

    /// Decides once all fields are known (RFC 9112 section 6.3).
    pub(crate) fn decide(&self, is_http10: bool) -> Result<BodyFraming, ProtocolError> {
        match (self.codings, self.content_length) {
            (Codings::Absent, None) => Ok(BodyFraming::None),
            (Codings::Absent, Some(length)) => Ok(BodyFraming::Length(length)),
            _ if is_http10 => Err(ProtocolError::TransferCodingInHttp10),
            (_, Some(_)) => Err(ProtocolError::LengthAndCoding),
            (Codings::Chunked, None) => Ok(BodyFraming::Chunked),
            (Codings::OthersThenChunked, None) => Err(ProtocolError::TransferCodingUnknown),
            (Codings::ChunkedTwice, None) => Err(ProtocolError::TransferCodingRepeated),
            (Codings::NotChunked { .. }, None) => Err(ProtocolError::TransferCodingNotChunked),
        }
    }
}

impl Codings {
    fn then_chunked(self) -> Self {
        match self {
            Self::Absent => Self::Chunked,
            Self::NotChunked { chunked_before: false } => Self::OthersThenChunked,
            _ => Self::ChunkedTwice,
        }
    }

    fn then_other(self) -> Self {
        let chunked_before = !matches!(self, Self::Absent | Self::NotChunked { chunked_before: false });
        Self::NotChunked { chunked_before }
    }
}
