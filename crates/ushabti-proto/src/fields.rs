//! The grammar of header and trailer fields (RFC 9110 section 5, RFC 9112 section 5): tokens, values, field lines,
//! lists.
//!
//! What a field means is decided elsewhere: framing in [`crate::http1::framing`], the rest in
//! [`crate::http1::head`].

use std::iter::FusedIterator;

use crate::error::ProtocolError;

/// Whether a byte may stand in a token (RFC 9110 section 5.6.2: `tchar`).
pub const fn is_token_byte(byte: u8) -> bool {
    TOKEN_BYTES[byte as usize]
}

/// A table, because field names are checked byte by byte on every request.
const TOKEN_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(
            byte as u8,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
                | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z'
        );
        byte += 1;
    }
    table
};

/// Whether `text` is a token (RFC 9110 section 5.6.2): the grammar of methods and field names.
///
/// ```
/// use ushabti_proto::fields::is_token;
///
/// assert!(is_token(b"X-Test"));
/// assert!(!is_token(b"X Test") && !is_token(b""));
/// ```
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| is_token_byte(byte))
}

/// Whether a byte is a control character other than HTAB, which no field value may hold (RFC 9110 section 5.5).
pub(crate) const fn is_forbidden_in_value(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

/// The first byte of `value` that no field value may hold: a control character other than HTAB (RFC 9110 section
/// 5.5).
///
/// Bytes above 0x7f (`obs-text`) are data and pass.
///
/// ```
/// use ushabti_proto::fields::forbidden_value_byte;
///
/// assert_eq!(forbidden_value_byte(b"a\tb \xe9"), None);
/// assert_eq!(forbidden_value_byte(b"a\r\nX: b"), Some(b'\r'));
/// ```
pub fn forbidden_value_byte(value: &[u8]) -> Option<u8> {
    // Without an early exit the compiler checks many bytes at once; the search runs only when there is something to
    // find.
    if value.iter().fold(false, |found, &byte| found | is_forbidden_in_value(byte)) {
        value.iter().copied().find(|&byte| is_forbidden_in_value(byte))
    } else {
        None
    }
}

/// Cuts optional white space (SP and HTAB, nothing else) off both ends (RFC 9110 section 5.6.3).
///
/// ```
/// assert_eq!(ushabti_proto::fields::trim_ows(b" \t a b\t "), b"a b");
/// ```
pub fn trim_ows(text: &[u8]) -> &[u8] {
    let mut rest = text;
    while let [b' ' | b'\t', tail @ ..] = rest {
        rest = tail;
    }
    while let [front @ .., b' ' | b'\t'] = rest {
        rest = front;
    }
    rest
}

/// The elements of a comma-separated list without parameters, white space cut off, empty ones skipped (RFC 9110
/// section 5.6.1).
///
/// ```
/// use ushabti_proto::fields::list_elements;
///
/// let options: Vec<&[u8]> = list_elements(b"close, ,Upgrade ").collect();
/// assert_eq!(options, [b"close".as_slice(), b"Upgrade"]);
/// ```
pub fn list_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim_ows).filter(|element| !element.is_empty())
}

/// Reads one field line, given without its CRLF: `field-name ":" OWS field-value OWS` (RFC 9112 section 5).
///
/// Returns the name as received and the value without the white space around it.
///
/// # Errors
///
/// Whatever is outside the grammar, white space before the colon and a folded line included (sections 5.1 and 5.2).
///
/// ```
/// use ushabti_proto::error::ProtocolError;
/// use ushabti_proto::fields::parse_field_line;
///
/// assert_eq!(parse_field_line(b"Host:  a "), Ok((b"Host".as_slice(), b"a".as_slice())));
/// assert_eq!(parse_field_line(b"Host : a"), Err(ProtocolError::SpaceBeforeColon));
/// assert_eq!(parse_field_line(b" folded"), Err(ProtocolError::LineFolding));
/// ```
pub fn parse_field_line(line: &[u8]) -> Result<(&[u8], &[u8]), ProtocolError> {
    let name_end = line.iter().position(|&byte| !is_token_byte(byte)).ok_or(ProtocolError::FieldWithoutColon)?;
    let (name, rest) = line.split_at(name_end);
    match rest[0] {
        b':' if name.is_empty() => return Err(ProtocolError::FieldNameEmpty),
        b':' => {}
        b' ' | b'\t' if name.is_empty() => return Err(ProtocolError::LineFolding),
        // Told apart from other names because proxies that cut this space off see another field than we would.
        b' ' | b'\t' if trim_ows(rest).starts_with(b":") => {
            return Err(ProtocolError::SpaceBeforeColon);
        }
        byte => return Err(ProtocolError::FieldNameSyntax(byte)),
    }
    let value = trim_ows(&rest[1..]);
    match forbidden_value_byte(value) {
        Some(byte) => Err(ProtocolError::FieldValueSyntax(byte)),
        None => Ok((name, value)),
    }
}

/// Finds the CR of the CRLF that ends the line in which `*scanned` lies; `None` if the line is not complete yet.
///
/// `*scanned` moves over what was looked at, past the CRLF when one is found, so no byte is searched twice.
///
/// # Errors
///
/// A bare LF or bare CR, as soon as it is seen (RFC 9112 section 2.2 lets a server take LF as a line end. Two
/// parties that differ in this see different requests, so this one does not).
pub(crate) fn find_line_end(input: &[u8], scanned: &mut usize) -> Result<Option<usize>, ProtocolError> {
    let Some(offset) = memchr::memchr2(b'\r', b'\n', &input[*scanned..]) else {
        *scanned = input.len();
        return Ok(None);
    };
    let at = *scanned + offset;
    if input[at] == b'\n' {
        return Err(ProtocolError::BareLineFeed);
    }
    match input.get(at + 1) {
        Some(b'\n') => {
            *scanned = at + 2;
            Ok(Some(at))
        }
        Some(_) => Err(ProtocolError::BareCarriageReturn),
        None => {
            *scanned = at;
            Ok(None)
        }
    }
}

/// Where one field lies in the bytes of its head. A head is limited to what fits in `u32`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FieldSpan {
    pub(crate) name: Span,
    pub(crate) value: Span,
}

/// A range of a head's bytes in half the space of a `Range<usize>`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// `start..start + length`; both ends are below the limit of a head, which is at most `u32::MAX`.
    pub(crate) const fn at(start: usize, length: usize) -> Self {
        Self { start: start as u32, end: (start + length) as u32 }
    }

    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

/// The fields of a head in the order of their arrival: names as received, values without the white space around
/// them.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    spans: std::slice::Iter<'a, FieldSpan>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8], spans: &'a [FieldSpan]) -> Self {
        Self { bytes, spans: spans.iter() }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let span = self.spans.next()?;
        Some((span.name.of(self.bytes), span.value.of(self.bytes)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.spans.size_hint()
    }
}

impl ExactSizeIterator for Fields<'_> {}
impl FusedIterator for Fields<'_> {}
