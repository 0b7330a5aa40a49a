//! Heads of HTTP/2, whose request line comes in parts and whose fields come without lines: they are written down as the head
//! that they would be in HTTP/1.1, and read as that.

use super::{HeadReader, RequestHead, Version, check_method, locate};
use crate::error::ProtocolError;
use crate::http1::connection::Limits;
use crate::uri::TargetForm;

/// What surrounds name and value in the line of a field: `: ` and CRLF.
const LINE_REST: usize = 4;
/// How the request line of HTTP/2 would end, if it had one.
const HTTP2_LINE_END: &[u8] = b" HTTP/2";
/// Room for the head of a usual request of HTTP/2, so that it need not grow.
const HTTP2_BYTES_EXPECTED: usize = 512;

impl HeadReader {
    /// A head of HTTP/2, whose request line comes in parts and whose fields come without lines. Returns its bytes too, which
    /// [`HeadReader::add`] goes on with.
    pub(crate) fn of_http2(method: &[u8], target: &[u8], limits: &Limits) -> Result<(Self, Vec<u8>), ProtocolError> {
        check_method(method)?;
        let mut bytes = Vec::with_capacity(HTTP2_BYTES_EXPECTED);
        for part in [method, b" ", target, HTTP2_LINE_END] {
            bytes.extend_from_slice(part);
        }
        let mut reader = Self::new();
        reader.begin_http2(&bytes, method.len(), target.len(), limits)?;
        bytes.extend_from_slice(b"\r\n");
        reader.line_start = bytes.len();
        Ok((reader, bytes))
    }

    /// Takes in the request line of a head of HTTP/2, with which `bytes` begin.
    fn begin_http2(
        &mut self,
        bytes: &[u8],
        method_len: usize,
        target_len: usize,
        limits: &Limits,
    ) -> Result<(), ProtocolError> {
        let line = locate(bytes, method_len, target_len, Version::Http2, limits.target_bytes_max)?;
        // A path, or the asterisk, or for CONNECT an authority: the rest is in fields of its own (RFC 9113 section 8.3.1).
        if line.form == TargetForm::Absolute {
            return Err(ProtocolError::TargetForm);
        }
        self.line = Some(line);
        Ok(())
    }

    /// Adds a field to a head of HTTP/2, as the line that it would be in HTTP/1.1.
    pub(crate) fn add(
        &mut self,
        bytes: &mut Vec<u8>,
        name: &[u8],
        value: &[u8],
        limits: &Limits,
    ) -> Result<(), ProtocolError> {
        if self.fields.len() >= limits.fields_max {
            return Err(ProtocolError::TooManyFields);
        }
        if bytes.len() + name.len() + value.len() + LINE_REST > limits.head_bytes_max.min(u32::MAX as usize) {
            return Err(ProtocolError::HeadTooLarge);
        }
        for part in [name, b": ", value] {
            bytes.extend_from_slice(part);
        }
        let line_end = bytes.len();
        self.read_field(bytes, line_end, Version::Http2)?;
        bytes.extend_from_slice(b"\r\n");
        self.line_start = bytes.len();
        Ok(())
    }

    /// The whole head of HTTP/2.
    pub(crate) fn end(mut self, bytes: Vec<u8>) -> Result<RequestHead, ProtocolError> {
        let line = self.line.expect("a head of HTTP/2 begins with its request line");
        self.finish(line, bytes.into_boxed_slice())
    }

    /// Takes in the request line with which `head` begins, if it is one of HTTP/2.
    pub(super) fn skip_http2_line(&mut self, head: &[u8], limits: &Limits) -> Result<(), ProtocolError> {
        let line_end = memchr::memchr(b'\r', head).unwrap_or(0);
        let Some(line) = head[..line_end].strip_suffix(HTTP2_LINE_END) else { return Ok(()) };
        let method_len = memchr::memchr(b' ', line).ok_or(ProtocolError::RequestLineSyntax)?;
        self.begin_http2(head, method_len, line.len() - method_len - 1, limits)?;
        self.line_start = line_end + 2;
        self.scanned = self.line_start;
        Ok(())
    }
}
