//! A second route table, as plain as can be: every request tries every route, and every way in which the `Rest`s of a
//! route can take segments.

use std::cmp::Reverse;

use ushabti_core::routes::{ParamKind, ParamValue, Part, RouteSpec};

/// An expression, and what it means, told without an engine.
type Expression = (&'static str, fn(&str) -> bool);

/// The expressions that the routes of this fuzzer may have.
pub(crate) const EXPRESSIONS: [Expression; 5] = [
    ("a+", |text| !text.is_empty() && text.chars().all(|character| character == 'a')),
    ("a|ab", |text| matches!(text, "a" | "ab")),
    ("[0-9]{2}", |text| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())),
    (".", |text| text.chars().count() == 1 && text != "\n"),
    ("(?s).*b", |text| text.ends_with('b')),
];

/// What a request leads to.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    Route(u32, Vec<(String, ParamValue)>),
    MethodNotAllowed(String),
    Options(String),
    NotFound,
    BadPath,
}

/// The first two routes, by number, that have a method in common and patterns that differ at most in names.
pub(crate) fn conflict(specs: &[RouteSpec]) -> Option<(u32, u32)> {
    let shared = |a: &RouteSpec, b: &RouteSpec| match (&a.methods, &b.methods) {
        (Some(a), Some(b)) => a.iter().any(|method| b.contains(method)),
        // A route for no method at all shares none.
        (None, Some(methods)) | (Some(methods), None) => !methods.is_empty(),
        (None, None) => true,
    };
    let pairs = specs.iter().enumerate().flat_map(|(at, a)| specs[at + 1..].iter().map(move |b| (a, b)));
    let mut found = pairs.filter(|(a, b)| is_same_pattern(a, b) && shared(a, b));
    found.next().map(|(a, b)| (a.id, b.id))
}

fn is_same_pattern(a: &RouteSpec, b: &RouteSpec) -> bool {
    a.parts.iter().map(without_name).eq(b.parts.iter().map(without_name))
}

fn without_name(part: &Part) -> Part {
    let mut part = part.clone();
    match &mut part {
        Part::Param { name, .. } => name.clear(),
        Part::Rest { name } => *name = None,
        _ => {}
    }
    part
}

pub(crate) fn answer(specs: &[RouteSpec], method: &str, raw_path: &str) -> Answer {
    let Some(path) = raw_path.strip_prefix('/') else {
        return if raw_path == "*" && method == "OPTIONS" {
            Answer::Options(allow(&[], specs))
        } else {
            Answer::NotFound
        };
    };
    let Some(segments) = path.split('/').map(decode).collect::<Option<Vec<_>>>() else { return Answer::BadPath };
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let matching: Vec<&RouteSpec> = specs.iter().filter(|spec| values(&spec.parts, &segments).is_some()).collect();
    let has = |spec: &RouteSpec, wanted: &str| {
        spec.methods.as_ref().is_none_or(|methods| methods.iter().any(|method| method == wanted))
    };
    // HEAD is also had by whatever has GET, unless the same pattern has a HEAD of its own.
    let has_own_head = |spec: &RouteSpec| specs.iter().any(|other| has(other, "HEAD") && is_same_pattern(spec, other));
    let is_able =
        |spec: &&&RouteSpec| has(spec, method) || (method == "HEAD" && has(spec, "GET") && !has_own_head(spec));
    // Most specific first, then by registration.
    let best = matching.iter().filter(is_able).min_by_key(|spec| (specificity(&spec.parts), spec.id));
    match best {
        Some(spec) => {
            let values = values(&spec.parts, &segments).expect("it matches");
            let names = spec.parts.iter().filter_map(name);
            Answer::Route(spec.id, names.map(str::to_owned).zip(values).collect())
        }
        None if matching.is_empty() => Answer::NotFound,
        None if method == "OPTIONS" => Answer::Options(allow(&matching, specs)),
        None => Answer::MethodNotAllowed(allow(&matching, specs)),
    }
}

/// The Allow field: the methods in common order, those of the table behind the seven that everybody knows.
fn allow(matching: &[&RouteSpec], specs: &[RouteSpec]) -> String {
    let mut order: Vec<&str> = vec!["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let mut by_rank: Vec<&RouteSpec> = specs.iter().collect();
    by_rank.sort_by_key(|spec| specificity(&spec.parts));
    for method in by_rank.iter().filter_map(|spec| spec.methods.as_ref()).flatten() {
        if !order.contains(&method.as_str()) {
            order.push(method);
        }
    }
    let has = |method: &str| {
        let named =
            |spec: &&RouteSpec| spec.methods.as_ref().is_none_or(|methods| methods.iter().any(|own| own == method));
        matching.is_empty() || matching.iter().any(named)
    };
    let is_allowed = |method: &&str| has(method) || *method == "OPTIONS" || (*method == "HEAD" && has("GET"));
    order.into_iter().filter(is_allowed).collect::<Vec<_>>().join(", ")
}

/// Sorts before another if it is more specific: part by part from the left, and what goes on where another ends.
fn specificity(parts: &[Part]) -> Vec<(u8, Reverse<usize>, u8)> {
    let rank = |part: &Part| match part {
        Part::Literal(_) => (0, Reverse(0), 0),
        Part::Param { kind: ParamKind::Text, prefix, suffix, .. } => (2, Reverse(prefix.len() + suffix.len()), 0),
        Part::Param { kind, prefix, suffix, .. } => {
            let width = match kind {
                ParamKind::Pattern(_) => 0,
                ParamKind::Uuid => 1,
                ParamKind::Int => 2,
                ParamKind::Float => 3,
                ParamKind::Slug | ParamKind::Text => 4,
            };
            (1, Reverse(prefix.len() + suffix.len()), width)
        }
        Part::Affix { prefix, suffix } => (3, Reverse(prefix.len() + suffix.len()), 0),
        Part::Contains(text) => (3, Reverse(text.len()), 1),
        Part::Any => (4, Reverse(0), 0),
        Part::Rest { .. } => (5, Reverse(0), 0),
    };
    // Beyond any rank: the longer of two that begin alike is then the smaller one.
    parts.iter().map(rank).chain([(u8::MAX, Reverse(0), 0)]).collect()
}

fn name(part: &Part) -> Option<&str> {
    match part {
        Part::Param { name, .. } | Part::Rest { name: Some(name) } => Some(name),
        _ => None,
    }
}

/// The values of the named parts, if these segments match. Each `Rest` takes as few as it can, the leftmost first:
/// these are the first values that are found.
fn values(parts: &[Part], segments: &[&str]) -> Option<Vec<ParamValue>> {
    let Some((part, later)) = parts.split_first() else { return segments.is_empty().then(Vec::new) };
    let most = if matches!(part, Part::Rest { .. }) { segments.len() } else { 1.min(segments.len()) };
    (1..=most).find_map(|taken| {
        let (own, rest) = segments.split_at(taken);
        let mut found = value(part, &own.join("/"))?;
        found.extend(values(later, rest)?);
        Some(found)
    })
}

/// The value of one part, none if it has no name.
fn value(part: &Part, text: &str) -> Option<Vec<ParamValue>> {
    let unnamed = |matches: bool| matches.then(Vec::new);
    match part {
        Part::Literal(literal) => unnamed(literal == text),
        Part::Any | Part::Rest { name: None } => unnamed(true),
        Part::Affix { prefix, suffix } => unnamed(middle(text, prefix, suffix).is_some()),
        Part::Contains(inner) => unnamed(text.matches(inner.as_str()).next().is_some()),
        Part::Rest { name: Some(_) } => Some(vec![ParamValue::Text(text.to_owned())]),
        Part::Param { kind, prefix, suffix, .. } => {
            let text = middle(text, prefix, suffix).filter(|text| !text.is_empty())?;
            let value = match kind {
                ParamKind::Int => ParamValue::Int(number(text, false)?.parse().ok()?),
                ParamKind::Float => {
                    ParamValue::Float(number(text, true)?.parse().ok().filter(|value: &f64| value.is_finite())?)
                }
                ParamKind::Uuid => ParamValue::Uuid(uuid(text)?),
                kind => {
                    let is_slug = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
                    let matches = match kind {
                        ParamKind::Slug => text.bytes().all(is_slug),
                        ParamKind::Pattern(regex) => {
                            EXPRESSIONS.iter().find(|(known, _)| known == regex).expect("no others are built").1(text)
                        }
                        _ => true,
                    };
                    matches.then(|| ParamValue::Text(text.to_owned()))?
                }
            };
            Some(vec![value])
        }
    }
}

fn middle<'a>(text: &'a str, prefix: &str, suffix: &str) -> Option<&'a str> {
    let fits = text.starts_with(prefix) && text.ends_with(suffix) && text.len() >= prefix.len() + suffix.len();
    fits.then(|| &text[prefix.len()..text.len() - suffix.len()])
}

/// `[-]digits`, with `[.digits]` behind it where that may be.
fn number(text: &str, may_have_point: bool) -> Option<&str> {
    let pieces: Vec<&str> = text.strip_prefix('-').unwrap_or(text).split('.').collect();
    let are_digits = pieces.iter().all(|piece| !piece.is_empty() && piece.chars().all(|digit| digit.is_ascii_digit()));
    (are_digits && pieces.len() <= if may_have_point { 2 } else { 1 }).then_some(text)
}

fn uuid(text: &str) -> Option<u128> {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let are_digits = groups.iter().all(|group| group.bytes().all(|digit| digit.is_ascii_hexdigit()));
    (lengths == [8, 4, 4, 4, 12] && are_digits).then(|| u128::from_str_radix(&groups.concat(), 16).ok())?
}

fn decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut pieces = segment.split('%');
    bytes.extend_from_slice(pieces.next()?.as_bytes());
    for piece in pieces {
        let digits = piece.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}
