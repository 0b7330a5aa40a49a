//! Chunked bodies, held against a plain reading of the same lines (RFC 9112 section 7.1), and what our own encoder
//! makes, which must come back.

use ushabti_proto::error::ProtocolError;
use ushabti_proto::http1::connection::{Connection, Event, Limits};
use ushabti_proto::http1::encode::{LAST_CHUNK, encode_chunk};

use crate::plain::{Line, field, is_token, line};
use crate::settings::Settings;

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
/// More digits than any size has.
const DIGITS_MAX: usize = 64;

/// Reads a body in both ways, and the input once more as content that was encoded.
pub fn check(input: &[u8]) {
    let Some((settings, input)) = Settings::split(input) else { return };
    let limits = settings.choose(
        0,
        [
            Limits { head_bytes_max: 1 << 20, fields_max: 128, target_bytes_max: 64 },
            Limits { head_bytes_max: 80, fields_max: 3, target_bytes_max: 64 },
        ],
    );
    let body_max = settings.choose(1, [u64::MAX, 1000, 20, 0]);
    let body = read(settings, &limits, body_max, input);
    let plain = Plain::read(input);
    let text = String::from_utf8_lossy(input);
    match body.end {
        End::Complete(used) => {
            assert_eq!(plain.end, End::Complete(used), "{text:?}");
            assert_eq!(body.content, plain.content, "{text:?}");
        }
        End::Begun => {
            assert_eq!(plain.end, End::Begun, "{text:?}");
            assert_eq!(body.content, plain.content, "{text:?}");
        }
        End::Wrong(ProtocolError::ContentTooLarge) => {
            assert!(plain.announced > u128::from(body_max), "{} bytes were announced: {text:?}", plain.announced);
        }
        End::Wrong(ProtocolError::ChunkExtensionsTooLong | ProtocolError::TrailersTooLarge) => {}
        // A line that is not complete may be wrong already.
        End::Wrong(_) => assert!(!matches!(plain.end, End::Complete(_)), "{text:?}"),
    }
    assert!(plain.content.starts_with(&body.content), "{text:?}");
    assert!(body.content.len() as u64 <= body_max, "{text:?}");
    check_encoded(settings, input);
}

fn check_encoded(settings: Settings, content: &[u8]) {
    let mut encoded = Vec::new();
    let mut start = 0;
    for end in settings.cuts(content.len()).into_iter().chain([content.len()]) {
        encode_chunk(&mut encoded, &content[start..end]);
        start = end;
    }
    encoded.extend_from_slice(LAST_CHUNK);
    let limits = Limits { head_bytes_max: 80, fields_max: 3, target_bytes_max: 64 };
    let body = read(settings, &limits, content.len() as u64, &encoded);
    assert_eq!((body.end, body.content.as_slice()), (End::Complete(encoded.len()), content));
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// After so many bytes.
    Complete(usize),
    Begun,
    Wrong(ProtocolError),
}

struct Body {
    content: Vec<u8>,
    end: End,
}

/// Reads a body as it arrives in pieces.
fn read(settings: Settings, limits: &Limits, body_max: u64, input: &[u8]) -> Body {
    let mut connection = Connection::new();
    let step = connection.step(HEAD, limits).expect("the head is right");
    assert!(step.consumed == HEAD.len() && matches!(step.event, Event::Request(_)));
    connection.set_body_max(body_max).expect("a chunked body has no length to be refused by");
    let mut content = Vec::new();
    let mut used = 0;
    for end in settings.cuts(input.len()).into_iter().chain([input.len()]) {
        loop {
            let offered = &input[used..end];
            let step = match connection.step(offered, limits) {
                Ok(step) => step,
                Err(error) => return Body { content, end: End::Wrong(error) },
            };
            used += step.consumed;
            match step.event {
                Event::Data(range) => content.extend_from_slice(&offered[range]),
                Event::End => return Body { content, end: End::Complete(used) },
                Event::NeedMore => break,
                Event::Request(head) => panic!("a head inside of a body: {head:?}"),
            }
        }
    }
    Body { content, end: End::Begun }
}

/// A plain reading of the whole.
struct Plain {
    content: Vec<u8>,
    /// The sum of all sizes.
    announced: u128,
    end: End,
}

impl Plain {
    fn read(input: &[u8]) -> Self {
        let mut plain = Self { content: Vec::new(), announced: 0, end: End::Begun };
        plain.end = plain.read_chunks(input).unwrap_or_else(|end| end);
        plain
    }

    /// The error is an end before the end.
    fn read_chunks(&mut self, input: &[u8]) -> Result<End, End> {
        // Which fault it is does not matter here.
        const WRONG: End = End::Wrong(ProtocolError::ChunkDataEnd);
        let whole = |text| match line(text) {
            Line::Whole(line, rest) => Ok((line, rest)),
            Line::Begun => Err(End::Begun),
            Line::Wrong => Err(WRONG),
        };
        let mut rest = input;
        loop {
            let (line, after) = match line(rest) {
                Line::Whole(line, after) => (line, after),
                // Right or wrong, no byte of a chunk line is content, so the machine may have stopped in it.
                Line::Begun => return Err(if is_begun_chunk_line(rest) { End::Begun } else { WRONG }),
                Line::Wrong => return Err(WRONG),
            };
            let size = chunk_line(line).ok_or(WRONG)?;
            self.announced += u128::from(size);
            rest = after;
            if size == 0 {
                break;
            }
            let available = usize::try_from(size).unwrap_or(usize::MAX).min(rest.len());
            self.content.extend_from_slice(&rest[..available]);
            rest = &rest[available..];
            match rest {
                _ if (available as u64) < size => return Err(End::Begun),
                [b'\r', b'\n', after @ ..] => rest = after,
                [] | [b'\r'] => return Err(End::Begun),
                _ => return Err(WRONG),
            }
        }
        loop {
            let (line, after) = whole(rest)?;
            rest = after;
            if line.is_empty() {
                return Ok(End::Complete(input.len() - rest.len()));
            }
            field(line).ok_or(WRONG)?;
        }
    }
}

/// Whether what is there of a chunk line can be completed: something that may follow makes it whole.
fn is_begun_chunk_line(text: &[u8]) -> bool {
    let text = text.strip_suffix(b"\r").map_or_else(|| Err(text), Ok);
    match text {
        Ok(complete) => chunk_line(complete).is_some(),
        Err(begun) => [b"".as_slice(), b"0", b";a", b"a", b"\"", b"\"\""]
            .iter()
            .any(|end| chunk_line(&[begun, end].concat()).is_some()),
    }
}

/// `chunk-size [ chunk-ext ]`: the size.
fn chunk_line(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, mut rest) = line.split_at(end);
    while !rest.is_empty() {
        rest = extension(rest)?;
    }
    if digits.is_empty() || digits.len() > DIGITS_MAX {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// `BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ]`: what follows it.
fn extension(text: &[u8]) -> Option<&[u8]> {
    let rest = skip_white(text).strip_prefix(b";")?;
    let rest = skip_token(skip_white(rest))?;
    let Some(value) = skip_white(rest).strip_prefix(b"=") else { return Some(rest) };
    let value = skip_white(value);
    match value.strip_prefix(b"\"") {
        Some(quoted) => skip_quoted(quoted),
        None => skip_token(value),
    }
}

fn skip_white(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(text.len());
    &text[end..]
}

fn skip_token(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|&byte| !is_token(&[byte])).unwrap_or(text.len());
    (end > 0).then(|| &text[end..])
}

/// `*( qdtext / quoted-pair ) DQUOTE` (RFC 9110 section 5.6.4).
fn skip_quoted(text: &[u8]) -> Option<&[u8]> {
    let is_allowed = |byte: u8| byte == b'\t' || !byte.is_ascii_control();
    match *text {
        [b'"', ref rest @ ..] => Some(rest),
        [b'\\', byte, ref rest @ ..] if is_allowed(byte) => skip_quoted(rest),
        [b'\\', ..] => None,
        [byte, ref rest @ ..] if is_allowed(byte) => skip_quoted(rest),
        _ => None,
    }
}
