//! The parts of a pattern as data: how they are written, and which of two patterns is the more specific one.

use std::cmp::{Ordering, Reverse};
use std::fmt;

/// The form of a parameter's text, and so the type of its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParamKind {
    /// Any text.
    Text,
    /// ASCII letters, digits, `-` and `_`.
    Slug,
    /// Decimal digits after an optional `-`, in the range of `i64`.
    Int,
    /// Decimal digits, optionally `-` before and `.` and more digits after them. No exponent, `inf` or `nan`.
    Float,
    /// A UUID in its hyphenated form, in either case (RFC 9562 section 4).
    Uuid,
    /// A regular expression that the whole text must match.
    Pattern(String),
}

/// One part of a pattern. All texts are decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// This segment exactly.
    Literal(String),
    /// `{name}`, `{name:kind}`, with fixed text around it.
    Param {
        /// The name under which the value is handed on.
        name: String,
        /// What the text must look like.
        kind: ParamKind,
        /// Fixed text before it.
        prefix: String,
        /// Fixed text after it.
        suffix: String,
    },
    /// `*`: any one segment.
    Any,
    /// `pre*`, `*suf`, `pre*suf`: any one segment with this start and end, which may not overlap.
    Affix {
        /// Fixed text before the star.
        prefix: String,
        /// Fixed text after the star.
        suffix: String,
    },
    /// `*mid*`: any one segment that has this text in it.
    Contains(String),
    /// `**`, `{name:path}`: one or more segments.
    Rest {
        /// The name under which the segments are handed on, joined by `/`.
        name: Option<String>,
    },
}

/// A part that means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartError {
    /// The fields of a part as plain data have no known form.
    Unknown(String),
    /// A regular expression that does not compile. The text is the compiler's explanation.
    Regex {
        /// The parameter.
        name: String,
        /// What the compiler says.
        reason: String,
    },
}

impl fmt::Display for PartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(what) => write!(f, "unknown pattern part {what}"),
            Self::Regex { name, reason } => write!(
                f,
                "the regular expression of parameter {name:?} does not compile (the syntax is that of Rust's regex crate, \
                 without look-around and back-references): {reason}"
            ),
        }
    }
}

impl std::error::Error for PartError {}

impl Part {
    /// Reads a part from the plain texts in which the router hands it over: `literal TEXT`, `any`, `affix PREFIX SUFFIX`,
    /// `contains TEXT`, `rest NAME` (may be empty), `param NAME KIND PREFIX SUFFIX` with a kind of `text`, `slug`, `int`,
    /// `float`, `uuid` or `re:EXPRESSION`.
    ///
    /// # Errors
    ///
    /// [`PartError::Unknown`] for anything else.
    ///
    /// ```
    /// use ushabti_core::routes::Part;
    ///
    /// assert_eq!(Part::from_texts(&["rest", ""]), Ok(Part::Rest { name: None }));
    /// assert!(Part::from_texts(&["literal"]).is_err());
    /// ```
    pub fn from_texts<S: AsRef<str>>(texts: &[S]) -> Result<Self, PartError> {
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let unknown = || PartError::Unknown(format!("{texts:?}"));
        Ok(match texts[..] {
            ["literal", text] => Self::Literal(text.to_owned()),
            ["any"] => Self::Any,
            ["affix", prefix, suffix] => Self::Affix { prefix: prefix.to_owned(), suffix: suffix.to_owned() },
            ["contains", text] => Self::Contains(text.to_owned()),
            ["rest", ""] => Self::Rest { name: None },
            ["rest", name] => Self::Rest { name: Some(name.to_owned()) },
            ["param", name, kind, prefix, suffix] => Self::Param {
                name: name.to_owned(),
                kind: ParamKind::from_text(kind).ok_or_else(unknown)?,
                prefix: prefix.to_owned(),
                suffix: suffix.to_owned(),
            },
            _ => return Err(unknown()),
        })
    }

    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Param { name, .. } => Some(name),
            Self::Rest { name } => name.as_deref(),
            _ => None,
        }
    }

    /// Smaller is more specific: the class, then the amount of fixed text, then how narrow the type is.
    pub(super) fn rank(&self) -> (u8, Reverse<usize>, u8) {
        match self {
            Self::Literal(_) => (0, Reverse(0), 0),
            Self::Param { kind, prefix, suffix, .. } => {
                let fixed = Reverse(prefix.len() + suffix.len());
                match kind {
                    // First, or an expression beside `int` or `slug` for a few of their values would never be reached.
                    ParamKind::Pattern(_) => (1, fixed, 0),
                    ParamKind::Uuid => (1, fixed, 1),
                    ParamKind::Int => (1, fixed, 2),
                    ParamKind::Float => (1, fixed, 3),
                    ParamKind::Slug => (1, fixed, 4),
                    ParamKind::Text => (2, fixed, 0),
                }
            }
            Self::Affix { prefix, suffix } => (3, Reverse(prefix.len() + suffix.len()), 0),
            Self::Contains(text) => (3, Reverse(text.len()), 1),
            Self::Any => (4, Reverse(0), 0),
            Self::Rest { .. } => (5, Reverse(0), 0),
        }
    }
}

impl ParamKind {
    fn from_text(text: &str) -> Option<Self> {
        Some(match text {
            "text" => Self::Text,
            "slug" => Self::Slug,
            "int" => Self::Int,
            "float" => Self::Float,
            "uuid" => Self::Uuid,
            _ => Self::Pattern(text.strip_prefix("re:")?.to_owned()),
        })
    }
}

/// Compares two patterns part by part from the left; `Less` is the more specific one.
pub(super) fn compare_specificity(a: &[Part], b: &[Part]) -> Ordering {
    let by_part = a.iter().zip(b).map(|(a, b)| a.rank().cmp(&b.rank())).find(|order| order.is_ne());
    by_part.unwrap_or_else(|| b.len().cmp(&a.len()))
}

/// The pattern as it may have been written, for messages.
pub fn pattern_text(parts: &[Part]) -> String {
    parts.iter().fold(String::new(), |text, part| format!("{text}/{part}"))
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => f.write_str(text),
            Self::Param { name, kind, prefix, suffix } => {
                let kind = match kind {
                    ParamKind::Text => "",
                    ParamKind::Slug => ":slug",
                    ParamKind::Int => ":int",
                    ParamKind::Float => ":float",
                    ParamKind::Uuid => ":uuid",
                    ParamKind::Pattern(regex) => &format!(":re({regex})"),
                };
                write!(f, "{prefix}{{{name}{kind}}}{suffix}")
            }
            Self::Any => f.write_str("*"),
            Self::Affix { prefix, suffix } => write!(f, "{prefix}*{suffix}"),
            Self::Contains(text) => write!(f, "*{text}*"),
            Self::Rest { name: None } => f.write_str("**"),
            Self::Rest { name: Some(name) } => write!(f, "{{{name}:path}}"),
        }
    }
}
