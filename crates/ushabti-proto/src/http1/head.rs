//! The head of a request: request line and fields (RFC 9112 sections 2 to 5), read line by line as the bytes come.
//!
//! The parser is our own. `httparse` was the plan, but it lets through what must be refused here (LF alone as a
//! line end, any number of empty lines before a request), starts from the first byte each time it is called with
//! more, and its result has to be walked again for Host, targets and framing. A line at a time, each byte is looked
//! at twice (once for its line's end, once for its grammar), faults show at the end of their line instead of the
//! end of the head, and feeding byte by byte costs no more than feeding whole.

use std::fmt;

use crate::error::ProtocolError;
use crate::fields::{FieldSpan, Fields, Span, find_line_end, is_token, is_token_byte, list_elements, parse_field_line};
use crate::http1::connection::Limits;
use crate::http1::framing::{BodyFraming, FramingFields};
use crate::uri::{self, TargetForm};

mod of_http2;

/// The HTTP version a request is served as (RFC 9112 section 2.3, RFC 9110 section 2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1, and any later minor version, which must be compatible with it.
    Http11,
    /// HTTP/2: see [`crate::http2`].
    Http2,
}

/// The methods in use have at most 17 bytes (`UPDATEREDIRECTREF`); a longer one is answered 501 (RFC 9112 section
/// 3).
const METHOD_BYTES_MAX: usize = 32;
/// What surrounds method and target in a request line: two spaces and `HTTP/1.1`.
const REQUEST_LINE_REST: usize = 10;
/// Browsers send about fifteen fields; room for these at once spares the list its growth.
const FIELDS_EXPECTED: usize = 16;

/// A complete and valid request head: one copy of its bytes, and where in them everything lies.
pub struct RequestHead {
    bytes: Box<[u8]>,
    fields: Vec<FieldSpan>,
    line: RequestLine,
    /// The authority of the target, or the value of Host.
    host: Option<Span>,
    options: ConnectionOptions,
    framing: BodyFraming,
    expects_continue: bool,
}

/// Where the parts of the request line lie.
#[derive(Debug, Clone, Copy)]
struct RequestLine {
    method: Span,
    target: Span,
    /// Empty for a target without a path.
    path: Span,
    query: Option<Span>,
    authority: Option<Span>,
    form: TargetForm,
    version: Version,
}

/// What the Connection fields named (RFC 9110 section 7.6.1).
#[derive(Debug, Default, Clone, Copy)]
struct ConnectionOptions {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

impl RequestHead {
    /// The method, a token in the case in which it came: methods are case-sensitive (RFC 9110 section 9.1).
    pub fn method(&self) -> &str {
        self.text(self.line.method)
    }

    /// The request target as received: visible ASCII characters only (RFC 9112 section 3.2).
    pub fn target(&self) -> &str {
        self.text(self.line.target)
    }

    /// The form of the request target (RFC 9112 section 3.2).
    pub fn form(&self) -> TargetForm {
        self.line.form
    }

    /// The path, not decoded: `*` for the asterisk form, empty for the authority form. An absolute form without a path
    /// has `/`, but for OPTIONS it means `*` (RFC 9112 section 3.2.4).
    pub fn path(&self) -> &str {
        match self.line.form {
            TargetForm::Absolute if self.line.path == Span::default() => {
                if self.method() == "OPTIONS" && self.line.query.is_none() { "*" } else { "/" }
            }
            _ => self.text(self.line.path),
        }
    }

    /// The query, not decoded and without its `?`; `Some("")` if there is nothing but the `?`.
    pub fn query(&self) -> Option<&str> {
        self.line.query.map(|span| self.text(span))
    }

    /// The version the request is served as.
    pub fn version(&self) -> Version {
        self.line.version
    }

    /// Host and port the request is for: the authority of the target where it has one (RFC 9112 section 3.2.2 ranks
    /// it above Host), else the value of Host, which may be empty. `None` only in HTTP/1.0.
    pub fn host(&self) -> Option<&str> {
        self.line.authority.or(self.host).map(|span| self.text(span))
    }

    /// All fields in the order of their arrival, repeated ones included: names as received, values without the
    /// white space around them.
    pub fn fields(&self) -> Fields<'_> {
        Fields::new(&self.bytes, &self.fields)
    }

    /// The value of the first field of this name, whatever its case.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.field_values(name).next()
    }

    /// The values of all fields of this name, whatever its case, in the order of their arrival.
    pub fn field_values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.fields().filter(move |(field, _)| field.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// How the end of the content is found.
    pub fn framing(&self) -> BodyFraming {
        self.framing
    }

    /// Whether the client wants the connection kept after the response (RFC 9112 section 9.3).
    pub fn keep_alive(&self) -> bool {
        !self.options.close && (self.line.version != Version::Http10 || self.options.keep_alive)
    }

    /// Whether the client waits for 100 (Continue) before it sends content (RFC 9110 section 10.1.1). Never in
    /// HTTP/1.0.
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// The value of the first Upgrade field, if this request may be upgraded: HTTP/1.1, and Connection names
    /// Upgrade (RFC 9110 section 7.8).
    pub fn upgrade(&self) -> Option<&str> {
        if self.line.version == Version::Http11 && self.options.upgrade {
            self.field("upgrade").and_then(|value| std::str::from_utf8(value).ok())
        } else {
            None
        }
    }

    /// How many bytes its lines have.
    ///
    /// ```
    /// use ushabti_proto::http1::head::RequestHead;
    ///
    /// let lines = b"GET /live HTTP/1.1\r\nHost: a\r\n";
    /// assert_eq!(RequestHead::from_lines(lines)?.size(), lines.len());
    /// # Ok::<(), ushabti_proto::error::ProtocolError>(())
    /// ```
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The lines of the head as they were received, without what was found in them: for one that is kept for long.
    /// [`RequestHead::from_lines`] makes a head of them again.
    pub fn into_lines(self) -> Box<[u8]> {
        self.bytes
    }

    /// Reads the lines of a head, without the empty one that ends it.
    ///
    /// # Errors
    ///
    /// What is wrong with them; nothing, if they are those of [`RequestHead::into_lines`].
    ///
    /// ```
    /// use ushabti_proto::http1::head::RequestHead;
    ///
    /// let head = RequestHead::from_lines(b"GET /live HTTP/1.1\r\nHost: a\r\n")?;
    /// assert_eq!(RequestHead::from_lines(&head.into_lines())?.path(), "/live");
    /// # Ok::<(), ushabti_proto::error::ProtocolError>(())
    /// ```
    pub fn from_lines(lines: &[u8]) -> Result<Self, ProtocolError> {
        let head = [lines, b"\r\n"].concat();
        let limits = Limits { head_bytes_max: head.len(), fields_max: head.len(), target_bytes_max: head.len() };
        let mut reader = HeadReader::new();
        reader.skip_http2_line(&head, &limits)?;
        let found = reader.read(&head, &limits)?;
        found.map(|(head, _)| head).ok_or(ProtocolError::HeadIncomplete)
    }

    /// Whether the client offers to go on with this protocol, in any case and any Upgrade field (RFC 9110 section
    /// 7.8).
    pub fn offers_upgrade(&self, protocol: &str) -> bool {
        self.upgrade().is_some()
            && self
                .field_values("upgrade")
                .flat_map(list_elements)
                .any(|offer| offer.eq_ignore_ascii_case(protocol.as_bytes()))
    }

    /// The text of a part that the parser has found to be visible ASCII.
    fn text(&self, span: Span) -> &str {
        std::str::from_utf8(span.of(&self.bytes)).expect("the parser let only ASCII through here")
    }
}

impl fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut head = f.debug_struct("RequestHead");
        head.field("method", &self.method()).field("target", &self.target()).field("version", &self.version());
        head.field("framing", &self.framing).field("fields", &self.fields.len()).finish_non_exhaustive()
    }
}

/// A head that is being read. Everything in it points into the bytes that the caller keeps until the head is
/// complete.
#[derive(Debug)]
pub(crate) struct HeadReader {
    /// Bytes that were searched for line ends.
    scanned: usize,
    line_start: usize,
    line: Option<RequestLine>,
    fields: Vec<FieldSpan>,
    host: Option<Span>,
    framing: FramingFields,
    options: ConnectionOptions,
    expects_continue: bool,
}

impl HeadReader {
    pub(crate) fn new() -> Self {
        Self {
            scanned: 0,
            line_start: 0,
            line: None,
            fields: Vec::new(),
            host: None,
            framing: FramingFields::default(),
            options: ConnectionOptions::default(),
            expects_continue: false,
        }
    }

    /// Reads on. `input` begins with the first byte of the head each time; `Some(head, length)` when it is
    /// complete.
    ///
    /// Faults come in the order of the bytes, so they do not depend on how the bytes were cut into pieces.
    pub(crate) fn read(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<Option<(RequestHead, usize)>, ProtocolError> {
        let head_max = limits.head_bytes_max.min(u32::MAX as usize);
        let line = match self.line {
            Some(line) => line,
            None => match self.read_request_line(input, limits, head_max)? {
                Some(line) => line,
                None => return Ok(None),
            },
        };
        let window = &input[..input.len().min(head_max)];
        while let Some(line_end) = find_line_end(window, &mut self.scanned)? {
            if line_end == self.line_start {
                let head = self.finish(line, input[..self.line_start].into())?;
                return Ok(Some((head, self.scanned)));
            }
            if self.fields.len() >= limits.fields_max {
                return Err(ProtocolError::TooManyFields);
            }
            self.read_field(window, line_end, line.version)?;
            self.line_start = self.scanned;
        }
        if input.len() >= head_max { Err(ProtocolError::HeadTooLarge) } else { Ok(None) }
    }

    fn read_request_line(
        &mut self,
        input: &[u8],
        limits: &Limits,
        head_max: usize,
    ) -> Result<Option<RequestLine>, ProtocolError> {
        // TLS on a plain port, or a binary protocol: refused by its first byte, not by the head's timeout.
        match input.first() {
            Some(&byte) if is_token_byte(byte) => {}
            Some(b'\n') => return Err(ProtocolError::BareLineFeed),
            Some(&byte) => return Err(ProtocolError::NotHttp(byte)),
            None => return Ok(None),
        }
        let line_max = limits.target_bytes_max.saturating_add(METHOD_BYTES_MAX + REQUEST_LINE_REST);
        let window_max = head_max.min(line_max.saturating_add(2));
        let window = &input[..input.len().min(window_max)];
        let Some(line_end) = find_line_end(window, &mut self.scanned)? else {
            return if input.len() < window_max {
                Ok(None)
            } else if window.iter().take(METHOD_BYTES_MAX + 1).all(|&byte| byte != b' ') {
                Err(ProtocolError::MethodTooLong)
            } else {
                Err(ProtocolError::TargetTooLong)
            };
        };
        let line = parse_request_line(&window[..line_end], limits.target_bytes_max)?;
        self.line = Some(line);
        self.line_start = self.scanned;
        Ok(Some(line))
    }

    fn read_field(&mut self, window: &[u8], line_end: usize, version: Version) -> Result<(), ProtocolError> {
        let line = &window[self.line_start..line_end];
        let (name, value) = match parse_field_line(line) {
            // Before the first field there is nothing that could be folded (RFC 9112 section 2.2).
            Err(ProtocolError::LineFolding) if self.fields.is_empty() => {
                return Err(ProtocolError::SpaceBeforeFields);
            }
            parsed => parsed?,
        };
        let value_start = self.line_start + offset_in(line, value);
        let span = FieldSpan { name: Span::at(self.line_start, name.len()), value: Span::at(value_start, value.len()) };
        // By length first: most fields are none of these, and say so in one comparison.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if self.host.replace(span.value).is_some() {
                    return Err(ProtocolError::HostRepeated);
                }
                if !uri::is_host_field(value) {
                    return Err(ProtocolError::HostSyntax);
                }
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                for expectation in list_elements(value) {
                    if !expectation.eq_ignore_ascii_case(b"100-continue") {
                        return Err(ProtocolError::ExpectationUnknown);
                    }
                    // An HTTP/1.0 client cannot read an interim response (RFC 9110 section 10.1.1).
                    self.expects_continue = version != Version::Http10;
                }
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in list_elements(value) {
                    self.options.close |= option.eq_ignore_ascii_case(b"close");
                    self.options.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    self.options.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.framing.content_length(value)?;
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.framing.transfer_encoding(value)?;
            }
            _ => {}
        }
        if self.fields.capacity() == 0 {
            self.fields.reserve_exact(FIELDS_EXPECTED);
        }
        self.fields.push(span);
        Ok(())
    }

    /// The rules that only the whole head can break; then the one copy of its bytes.
    fn finish(&mut self, line: RequestLine, bytes: Box<[u8]>) -> Result<RequestHead, ProtocolError> {
        if line.version != Version::Http10 && self.host.is_none() {
            return Err(ProtocolError::HostMissing);
        }
        let framing = self.framing.decide(line.version == Version::Http10)?;
        Ok(RequestHead {
            bytes,
            fields: std::mem::take(&mut self.fields),
            line,
            host: self.host,
            options: self.options,
            framing,
            expects_continue: self.expects_continue,
        })
    }
}

/// Where `part`, a subslice of `line`, begins in it.
fn offset_in(line: &[u8], part: &[u8]) -> usize {
    part.as_ptr() as usize - line.as_ptr() as usize
}

/// Reads `method SP request-target SP HTTP-version` (RFC 9112 section 3), with which a head begins.
fn parse_request_line(line: &[u8], target_max: usize) -> Result<RequestLine, ProtocolError> {
    let method_end = memchr::memchr(b' ', line).ok_or(ProtocolError::RequestLineSyntax)?;
    let method = &line[..method_end];
    check_method(method)?;
    let rest = &line[method_end + 1..];
    let target_end = memchr::memchr(b' ', rest).ok_or(ProtocolError::RequestLineSyntax)?;
    let (target, version) = (&rest[..target_end], &rest[target_end + 1..]);
    if target.is_empty() || version.contains(&b' ') {
        return Err(ProtocolError::RequestLineSyntax);
    }
    let version = parse_version(version)?;
    locate(line, method_end, target_end, version, target_max)
}

fn check_method(method: &[u8]) -> Result<(), ProtocolError> {
    if method.len() > METHOD_BYTES_MAX {
        return Err(ProtocolError::MethodTooLong);
    }
    if is_token(method) { Ok(()) } else { Err(ProtocolError::MethodSyntax) }
}

/// Finds the parts of the target in a request line whose method is good.
fn locate(
    line: &[u8],
    method_len: usize,
    target_len: usize,
    version: Version,
    target_max: usize,
) -> Result<RequestLine, ProtocolError> {
    if target_len > target_max {
        return Err(ProtocolError::TargetTooLong);
    }
    let target_start = method_len + 1;
    let parts = uri::split_target(&line[..method_len], &line[target_start..target_start + target_len])?;
    let span = |range: std::ops::Range<usize>| Span::at(target_start + range.start, range.len());
    Ok(RequestLine {
        method: Span::at(0, method_len),
        target: span(0..target_len),
        path: if parts.path.is_empty() { Span::default() } else { span(parts.path) },
        query: parts.query.map(span),
        authority: parts.authority.map(span),
        form: parts.form,
        version,
    })
}

/// Reads `HTTP-name "/" DIGIT "." DIGIT` (RFC 9112 section 2.3): two digits, the name in upper case.
fn parse_version(text: &[u8]) -> Result<Version, ProtocolError> {
    match text {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit() => Ok(Version::Http11),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(ProtocolError::VersionUnsupported)
        }
        _ => Err(ProtocolError::VersionSyntax),
    }
}
