//! One segment of a path: cutting it out of the raw path, testing it against a part, converting it.

use std::borrow::Cow;

use regex::Regex;

use super::part::{ParamKind, Part, PartError};

/// The converted value of a path parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum ParamValue {
    /// Of text, slug, path and regular expression parameters.
    Text(String),
    /// Of integer parameters.
    Int(i64),
    /// Of float parameters; always finite.
    Float(f64),
    /// Of UUID parameters: the 128 bits, most significant first.
    Uuid(u128),
}

/// A raw path without its first slash, split and decoded.
pub(super) enum SplitPath<'a> {
    /// Nothing is encoded: the segments are slices of the raw path, cut when they are needed.
    Plain(&'a str),
    /// Something is: whatever had to be decoded owns its text.
    Decoded(Vec<Cow<'a, str>>),
}

/// Paths of up to this many segments are split on the stack.
const SEGMENTS_ON_STACK: usize = 16;

impl<'a> SplitPath<'a> {
    /// Fails, with a sentence for the client, if a segment cannot be decoded.
    pub(super) fn new(path: &'a str) -> Result<Self, &'static str> {
        if memchr::memchr(b'%', path.as_bytes()).is_none() {
            return Ok(Self::Plain(path));
        }
        // Each by itself and after the split: an encoded slash must not become a separator.
        path.split('/').map(decode_segment).collect::<Result<_, _>>().map(Self::Decoded)
    }

    /// Calls `f` with the segments.
    pub(super) fn with_segments<T>(&self, f: impl FnOnce(&[&str]) -> T) -> T {
        match self {
            Self::Plain(path) => {
                let mut few = [""; SEGMENTS_ON_STACK];
                let mut count = 0;
                for segment in path.split('/') {
                    let Some(place) = few.get_mut(count) else {
                        return f(&path.split('/').collect::<Vec<_>>());
                    };
                    *place = segment;
                    count += 1;
                }
                f(&few[..count])
            }
            Self::Decoded(segments) => f(&segments.iter().map(AsRef::as_ref).collect::<Vec<_>>()),
        }
    }
}

/// Decodes the percent-encoding of one segment (RFC 3986 section 2.1).
fn decode_segment(segment: &str) -> Result<Cow<'_, str>, &'static str> {
    let mut pieces = segment.split('%');
    let first = pieces.next().unwrap_or_default();
    if first.len() == segment.len() {
        return Ok(Cow::Borrowed(segment));
    }
    let mut bytes = Vec::with_capacity(segment.len());
    bytes.extend_from_slice(first.as_bytes());
    for piece in pieces {
        let digits = piece.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or("the path has a percent sign that is not followed by two hexadecimal digits")?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| "the decoded path is not valid UTF-8")
}

/// A part that stands for one segment, compiled.
#[derive(Clone, Debug)]
pub(super) enum SegmentTest {
    Literal(Box<str>),
    Param { form: Form, prefix: Box<str>, suffix: Box<str> },
    Any,
    Affix { prefix: Box<str>, suffix: Box<str> },
    Contains(Box<str>),
}

/// What the text of a parameter must look like.
#[derive(Clone, Debug)]
pub(super) enum Form {
    Text,
    Slug,
    Int,
    Float,
    Uuid,
    Pattern(Regex),
}

impl SegmentTest {
    /// Compiles a part. `None` for `Rest`, which is no matter of one segment.
    pub(super) fn compile(part: &Part) -> Result<Option<Self>, PartError> {
        Ok(Some(match part {
            Part::Literal(text) => Self::Literal(text.as_str().into()),
            Part::Param { name, kind, prefix, suffix } => Self::Param {
                form: Form::compile(name, kind)?,
                prefix: prefix.as_str().into(),
                suffix: suffix.as_str().into(),
            },
            Part::Any => Self::Any,
            Part::Affix { prefix, suffix } => {
                Self::Affix { prefix: prefix.as_str().into(), suffix: suffix.as_str().into() }
            }
            Part::Contains(text) => Self::Contains(text.as_str().into()),
            Part::Rest { .. } => return Ok(None),
        }))
    }

    pub(super) fn matches(&self, segment: &str) -> bool {
        match self {
            Self::Literal(text) => **text == *segment,
            Self::Param { form, prefix, suffix } => {
                between(segment, prefix, suffix).is_some_and(|text| !text.is_empty() && form.matches(text))
            }
            Self::Any => true,
            Self::Affix { prefix, suffix } => between(segment, prefix, suffix).is_some(),
            Self::Contains(text) => segment.contains(&**text),
        }
    }

    /// The value of a segment that this test matches. Only parameters have names, so only they are asked.
    pub(super) fn value(&self, segment: &str) -> ParamValue {
        match self {
            Self::Param { form, prefix, suffix } => between(segment, prefix, suffix)
                .and_then(|text| form.value(text))
                .expect("a segment is converted only after it has matched"),
            _ => ParamValue::Text(segment.to_owned()),
        }
    }

    /// Whether both match the same segments because they are the same test.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Literal(a), Self::Literal(b)) | (Self::Contains(a), Self::Contains(b)) => a == b,
            (
                Self::Param { form, prefix, suffix },
                Self::Param { form: other_form, prefix: other_prefix, suffix: other_suffix },
            ) => prefix == other_prefix && suffix == other_suffix && form.is_same(other_form),
            (Self::Any, Self::Any) => true,
            (Self::Affix { prefix, suffix }, Self::Affix { prefix: other_prefix, suffix: other_suffix }) => {
                prefix == other_prefix && suffix == other_suffix
            }
            _ => false,
        }
    }
}

impl Form {
    fn compile(name: &str, kind: &ParamKind) -> Result<Self, PartError> {
        Ok(match kind {
            ParamKind::Text => Self::Text,
            ParamKind::Slug => Self::Slug,
            ParamKind::Int => Self::Int,
            ParamKind::Float => Self::Float,
            ParamKind::Uuid => Self::Uuid,
            ParamKind::Pattern(regex) => {
                let explain =
                    |error: regex::Error| PartError::Regex { name: name.to_owned(), reason: error.to_string() };
                // By itself first: `a)|(b` would compile between the brackets below, and mean something else.
                Regex::new(regex).map_err(explain)?;
                Self::Pattern(Regex::new(&format!(r"\A(?:{regex})\z")).map_err(explain)?)
            }
        })
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Text => true,
            Self::Slug => text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'),
            Self::Int => parse_int(text).is_some(),
            Self::Float => parse_float(text).is_some(),
            Self::Uuid => parse_uuid(text).is_some(),
            Self::Pattern(regex) => regex.is_match(text),
        }
    }

    fn value(&self, text: &str) -> Option<ParamValue> {
        match self {
            Self::Int => parse_int(text).map(ParamValue::Int),
            Self::Float => parse_float(text).map(ParamValue::Float),
            Self::Uuid => parse_uuid(text).map(ParamValue::Uuid),
            Self::Text | Self::Slug | Self::Pattern(_) => Some(ParamValue::Text(text.to_owned())),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pattern(a), Self::Pattern(b)) => a.as_str() == b.as_str(),
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

/// What stands between `prefix` and `suffix`, which may not overlap.
fn between<'a>(segment: &'a str, prefix: &str, suffix: &str) -> Option<&'a str> {
    segment.strip_prefix(prefix)?.strip_suffix(suffix)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Out of the range of `i64` is no match: a number that no handler can have meant.
fn parse_int(text: &str) -> Option<i64> {
    // Rust would take a plus sign, too.
    is_digits(text.strip_prefix('-').unwrap_or(text)).then(|| text.parse().ok())?
}

fn parse_float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    // Rust would take `inf`, `nan`, exponents and a bare point, too.
    let is_decimal = match unsigned.split_once('.') {
        Some((whole, fraction)) => is_digits(whole) && is_digits(fraction),
        None => is_digits(unsigned),
    };
    // Four hundred digits are read as infinity.
    is_decimal.then(|| text.parse().ok())?.filter(|value: &f64| value.is_finite())
}

/// Reads the hyphenated form, 8-4-4-4-12 hexadecimal digits (RFC 9562 section 4).
fn parse_uuid(text: &str) -> Option<u128> {
    if text.len() != 36 {
        return None;
    }
    text.bytes().enumerate().try_fold(0, |value: u128, (at, byte)| match (at, byte) {
        (8 | 13 | 18 | 23, b'-') => Some(value),
        (8 | 13 | 18 | 23, _) => None,
        _ => char::from(byte).to_digit(16).map(|digit| value << 4 | u128::from(digit)),
    })
}
