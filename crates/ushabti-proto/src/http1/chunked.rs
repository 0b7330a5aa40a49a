//! The chunked transfer coding (RFC 9112 section 7.1): sizes, extensions, data, trailers.
//!
//! Chunk lines are read byte by byte with a state for each place in the grammar, so nothing of them has to be kept
//! and a fault shows at the byte that makes it. Extensions are checked and dropped; so are trailers, which nothing
//! may be merged from (RFC 9110 section 6.5.1).

use std::ops::Range;

use crate::error::ProtocolError;
use crate::fields::{find_line_end, is_forbidden_in_value, is_token_byte, parse_field_line};
use crate::http1::connection::Limits;
use crate::http1::framing::SIZE_DIGITS_MAX;

/// The longest chunk line, in bytes. Signatures in extensions, the one use seen in practice, take about a hundred.
pub const CHUNK_LINE_BYTES_MAX: u32 = 4096;
/// Of each chunk line this much is free; what is longer counts as padding.
const LINE_BYTES_FREE: u32 = 18;
/// Padding that is allowed in a body however small, in bytes.
const PADDING_FREE: u64 = 16 * 1024;
/// Beyond that, padding may be one part in so many of the content: without this bound a body of one-byte chunks
/// with long extensions costs thousands of times what its limit says.
const PADDING_SHARE: u64 = 16;

/// A chunked body that is being read.
#[derive(Debug)]
pub(crate) struct ChunkedBody {
    place: Place,
    /// The size of the current chunk while its line is read, then what is left of it.
    size: u64,
    /// Content announced so far, the current chunk included.
    received: u64,
    /// Bytes of chunk lines beyond what they need.
    padding: u64,
    /// Bytes of the current chunk line; then bytes of the trailer section before the current line.
    line_bytes: u32,
    /// Digits of the current size; then bytes of the current trailer line that were searched for its end.
    scanned: u32,
    trailer_fields: u32,
}

/// A place in the grammar of section 7.1; BWS is "bad white space", which must be read where the grammar names it,
/// and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Size,
    /// White space after the size or an extension: another extension must follow.
    BeforeSemicolon,
    /// After `;`, in the white space before a name.
    BeforeName,
    Name,
    /// White space after a name: `=` or `;` must follow.
    AfterName,
    /// After `=`, in the white space before a value.
    BeforeValue,
    Token,
    Quoted,
    QuotedPair,
    /// After the closing quote.
    AfterQuoted,
    LineFeed,
    Data,
    DataCarriageReturn,
    DataLineFeed,
    Trailers,
}

/// What [`ChunkedBody::read`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    NeedMore,
    Data(Range<usize>),
    End,
}

impl ChunkedBody {
    pub(crate) fn new() -> Self {
        Self { place: Place::Size, size: 0, received: 0, padding: 0, line_bytes: 0, scanned: 0, trailer_fields: 0 }
    }

    /// Reads on; the first number is how many bytes of `input` are done with. Only trailer lines must be offered
    /// whole.
    pub(crate) fn read(
        &mut self,
        input: &[u8],
        body_max: u64,
        limits: &Limits,
    ) -> Result<(usize, Piece), ProtocolError> {
        let mut at = 0;
        loop {
            if self.place == Place::Trailers {
                return self.read_trailers(input, at, limits);
            }
            let Some(&byte) = input.get(at) else {
                return Ok((at, Piece::NeedMore));
            };
            match (self.place, byte) {
                (Place::Data, _) => {
                    let available = (input.len() - at) as u64;
                    let taken = self.size.min(available);
                    self.size -= taken;
                    if self.size == 0 {
                        self.place = Place::DataCarriageReturn;
                    }
                    let end = at + taken as usize;
                    return Ok((end, Piece::Data(at..end)));
                }
                (Place::DataCarriageReturn, b'\r') => self.place = Place::DataLineFeed,
                (Place::DataLineFeed, b'\n') => {
                    self.place = Place::Size;
                    self.line_bytes = 0;
                    self.scanned = 0;
                }
                (Place::DataCarriageReturn | Place::DataLineFeed, _) => {
                    return Err(ProtocolError::ChunkDataEnd);
                }
                (Place::LineFeed, b'\n') => self.finish_line(body_max)?,
                (Place::LineFeed, _) => return Err(ProtocolError::BareCarriageReturn),
                _ => {
                    self.count_line_byte()?;
                    self.read_line_byte(byte)?;
                }
            }
            at += 1;
        }
    }

    /// Bounds the line and the sum of all padding.
    fn count_line_byte(&mut self) -> Result<(), ProtocolError> {
        self.line_bytes += 1;
        if self.line_bytes > LINE_BYTES_FREE {
            self.padding += 1;
            let padding_max = PADDING_FREE + self.received / PADDING_SHARE;
            if self.line_bytes > CHUNK_LINE_BYTES_MAX || self.padding > padding_max {
                return Err(ProtocolError::ChunkExtensionsTooLong);
            }
        }
        Ok(())
    }

    /// `chunk-size [ chunk-ext ] CRLF`, one byte of it.
    fn read_line_byte(&mut self, byte: u8) -> Result<(), ProtocolError> {
        let in_size = self.place == Place::Size;
        if in_size && byte.is_ascii_hexdigit() {
            return self.read_digit(byte);
        }
        let size_is_missing = in_size && self.scanned == 0;
        match self.place.after(byte).filter(|_| !size_is_missing) {
            Some(place) => self.place = place,
            // Line ends have an error of their own, in chunk lines as in heads.
            None if byte == b'\n' => return Err(ProtocolError::BareLineFeed),
            None if in_size => return Err(ProtocolError::ChunkSizeSyntax(byte)),
            None => return Err(ProtocolError::ChunkExtensionSyntax(byte)),
        }
        Ok(())
    }

    fn read_digit(&mut self, byte: u8) -> Result<(), ProtocolError> {
        let digit = char::from(byte).to_digit(16).expect("the caller matched a hexadecimal digit");
        self.scanned += 1;
        // Checked: a size that wraps would make a huge chunk look small.
        let shifted = self.size.checked_mul(16).ok_or(ProtocolError::ChunkSizeOverflow)?;
        if self.scanned as usize > SIZE_DIGITS_MAX {
            return Err(ProtocolError::ChunkSizeOverflow);
        }
        self.size = shifted + u64::from(digit);
        Ok(())
    }

    /// A chunk line is complete: its data follows, or the trailers if this was the last.
    fn finish_line(&mut self, body_max: u64) -> Result<(), ProtocolError> {
        self.line_bytes = 0;
        self.scanned = 0;
        if self.size == 0 {
            self.place = Place::Trailers;
            return Ok(());
        }
        self.received = self.received.saturating_add(self.size);
        if self.received > body_max {
            return Err(ProtocolError::ContentTooLarge);
        }
        self.place = Place::Data;
        Ok(())
    }

    /// Reads trailer lines from `start` on, under the rules and limits of header fields, up to the empty line.
    fn read_trailers(
        &mut self,
        input: &[u8],
        mut start: usize,
        limits: &Limits,
    ) -> Result<(usize, Piece), ProtocolError> {
        loop {
            let room = limits.head_bytes_max.min(u32::MAX as usize).saturating_sub(self.line_bytes as usize);
            let window = &input[..input.len().min(start.saturating_add(room))];
            let mut scanned = start + self.scanned as usize;
            let Some(line_end) = find_line_end(window, &mut scanned)? else {
                self.scanned = (scanned - start) as u32;
                if input.len() - start >= room {
                    return Err(ProtocolError::TrailersTooLarge);
                }
                return Ok((start, Piece::NeedMore));
            };
            self.scanned = 0;
            if line_end == start {
                return Ok((scanned, Piece::End));
            }
            self.trailer_fields += 1;
            if self.trailer_fields as usize > limits.fields_max {
                return Err(ProtocolError::TrailersTooLarge);
            }
            parse_field_line(&window[start..line_end])?;
            self.line_bytes += (scanned - start) as u32;
            start = scanned;
        }
    }
}

impl Place {
    /// Where a byte of a chunk line leads from here, `None` if the grammar does not let it stand here.
    ///
    /// `chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )`, the value a token or a quoted
    /// string (section 7.1.1). White space that no `;` or `=` follows is not in it, so it is refused.
    fn after(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::BeforeSemicolon | Self::BeforeName | Self::AfterName | Self::BeforeValue, b' ' | b'\t') => {
                Some(self)
            }
            (Self::Name | Self::Token, _) if is_token_byte(byte) => Some(self),
            (Self::Size | Self::Name | Self::Token | Self::AfterQuoted, b'\r') => Some(Self::LineFeed),
            (Self::Size | Self::Token | Self::AfterQuoted, b' ' | b'\t') => Some(Self::BeforeSemicolon),
            (Self::Size | Self::Token | Self::AfterQuoted | Self::BeforeSemicolon, b';') => Some(Self::BeforeName),
            (Self::BeforeName, _) if is_token_byte(byte) => Some(Self::Name),
            (Self::Name, b' ' | b'\t') => Some(Self::AfterName),
            (Self::Name | Self::AfterName, _) => match byte {
                b';' => Some(Self::BeforeName),
                b'=' => Some(Self::BeforeValue),
                _ => None,
            },
            (Self::BeforeValue, b'"') => Some(Self::Quoted),
            (Self::BeforeValue, _) if is_token_byte(byte) => Some(Self::Token),
            (Self::Quoted, b'"') => Some(Self::AfterQuoted),
            (Self::Quoted, b'\\') => Some(Self::QuotedPair),
            (Self::Quoted | Self::QuotedPair, _) if !is_forbidden_in_value(byte) => Some(Self::Quoted),
            _ => None,
        }
    }
}
