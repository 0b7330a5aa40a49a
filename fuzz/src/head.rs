//! Request heads, held against a plain reading of the same lines (RFC 9112 sections 2 to 6).
//!
//! The order of faults is not compared, only whether there is one: the order is that of the bytes, and the target
//! `http` sees to it that it is the same however they arrive.

use ushabti_proto::http1::connection::{Connection, Event, Limits, Step};
use ushabti_proto::http1::framing::BodyFraming;
use ushabti_proto::http1::head::{RequestHead, Version};
use ushabti_proto::uri::TargetForm;

use crate::plain::{Line, authority, field, is_path, is_query, is_token, line, trim};
use crate::settings::Settings;

pub(crate) const LIMITS: Limits = Limits { head_bytes_max: 1 << 20, fields_max: 128, target_bytes_max: 1 << 20 };
/// A longer method is answered 501: there is none.
const METHOD_BYTES_MAX: usize = 32;
/// More digits than any Content-Length has.
const DIGITS_MAX: usize = 64;

/// Reads a head in both ways.
pub fn check(input: &[u8]) {
    let Some((settings, input)) = Settings::split(input) else { return };
    let mut connection = Connection::new();
    let mut used = 0;
    let mut found = Found::Begun;
    for end in settings.cuts(input.len()).into_iter().chain([input.len()]) {
        match connection.step(&input[used..end], &LIMITS) {
            Err(_) => {
                found = Found::Wrong;
                break;
            }
            Ok(Step { consumed, event: Event::NeedMore }) => used += consumed,
            Ok(Step { consumed, event: Event::Request(head) }) => {
                used += consumed;
                found = Found::Whole(Box::new(Head::of(&head)), used);
                check_lines(head);
                break;
            }
            Ok(step) => panic!("no head, but {step:?}"),
        }
    }
    let expected = read(input);
    assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(input));
}

/// The kept lines of a head make the same head again.
pub(crate) fn check_lines(head: RequestHead) {
    let expected = Head::of(&head);
    let lines = head.into_lines();
    let again = RequestHead::from_lines(&lines).expect("these lines were read before");
    assert_eq!(Head::of(&again), expected);
    assert_eq!(again.into_lines(), lines);
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// A head, and how many bytes it takes.
    Whole(Box<Head>, usize),
    Begun,
    Wrong,
}

/// All that a head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    method: String,
    target: String,
    form: TargetForm,
    path: String,
    query: Option<String>,
    version: Version,
    host: Option<String>,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    framing: BodyFraming,
    keep_alive: bool,
    expects_continue: bool,
    upgrade: Option<String>,
}

impl Head {
    /// What `head` says, through its own questions.
    pub fn of(head: &RequestHead) -> Self {
        Self {
            method: head.method().to_owned(),
            target: head.target().to_owned(),
            form: head.form(),
            path: head.path().to_owned(),
            query: head.query().map(str::to_owned),
            version: head.version(),
            host: head.host().map(str::to_owned),
            fields: head.fields().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
            framing: head.framing(),
            keep_alive: head.keep_alive(),
            expects_continue: head.expects_continue(),
            upgrade: head.upgrade().map(str::to_owned),
        }
    }

    /// The same, said by this version.
    pub(crate) fn with_version(self, version: Version) -> Self {
        Self { version, ..self }
    }
}

fn read(input: &[u8]) -> Found {
    // One empty line before a request is skipped (RFC 9112 section 2.2).
    let text = input.strip_prefix(b"\r\n").unwrap_or(input);
    if text.is_empty() || input == b"\r" {
        return Found::Begun;
    }
    if !is_token(&text[..1]) {
        return Found::Wrong;
    }
    let mut lines = Vec::new();
    let mut rest = text;
    loop {
        match line(rest) {
            Line::Whole(b"", after) => {
                let length = input.len() - after.len();
                return whole(&lines).map_or(Found::Wrong, |head| Found::Whole(Box::new(head), length));
            }
            // What the end of the head could make worse, it can only make worse: each line must do by itself.
            Line::Whole(line, after) => {
                lines.push(line);
                rest = after;
            }
            Line::Begun if lines_are_right(&lines) => return Found::Begun,
            Line::Begun | Line::Wrong => return Found::Wrong,
        }
    }
}

/// Whether these lines can still become a head: Host may follow, and a last coding.
fn lines_are_right(lines: &[&[u8]]) -> bool {
    let Some((request_line, fields)) = lines.split_first() else { return true };
    let Some(request) = RequestLine::read(request_line) else { return false };
    let Some(fields) = fields.iter().map(|line| field(line)).collect::<Option<Vec<_>>>() else { return false };
    fields.len() <= LIMITS.fields_max && Said::by(&fields, request.version).is_some()
}

/// The head that these lines make.
pub(crate) fn whole(lines: &[&[u8]]) -> Option<Head> {
    let (request_line, fields) = lines.split_first()?;
    let request = RequestLine::read(request_line)?;
    let fields = fields.iter().map(|line| field(line)).collect::<Option<Vec<_>>>()?;
    if fields.len() > LIMITS.fields_max {
        return None;
    }
    let said = Said::by(&fields, request.version)?;
    let is_11 = request.version == Version::Http11;
    if is_11 && said.host.is_none() {
        return None;
    }
    let framing = match (said.codings.as_slice(), said.length) {
        ([], None) => BodyFraming::None,
        ([], Some(length)) => BodyFraming::Length(length),
        ([coding], None) if is_11 && coding == "chunked" => BodyFraming::Chunked,
        // Whatever two servers could read differently (RFC 9112 sections 6.1 and 6.3).
        _ => return None,
    };
    let has = |option: &str| said.options.iter().any(|said| said == option);
    let upgrade = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(b"upgrade"));
    let upgrade = upgrade.and_then(|(_, value)| String::from_utf8(value.to_vec()).ok());
    Some(Head {
        method: request.method,
        target: request.target,
        form: request.form,
        path: request.path,
        query: request.query,
        version: request.version,
        host: request.authority.or(said.host),
        framing,
        keep_alive: !has("close") && (is_11 || has("keep-alive")),
        expects_continue: is_11 && said.expects,
        upgrade: upgrade.filter(|_| is_11 && has("upgrade")),
        fields: fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
    })
}

/// What the fields say that decide over the request itself.
struct Said {
    host: Option<String>,
    length: Option<u64>,
    codings: Vec<String>,
    options: Vec<String>,
    expects: bool,
}

impl Said {
    fn by(fields: &[(&[u8], &[u8])], version: Version) -> Option<Self> {
        let values = |wanted: &str| -> Vec<&[u8]> {
            let named = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()));
            named.map(|&(_, value)| value).collect()
        };
        let host = match values("host")[..] {
            [] => None,
            [b""] => Some(String::new()),
            [value] => authority(value).filter(|(host, _)| !host.is_empty()).map(|_| text(value)).map(Some)?,
            _ => return None,
        };
        let length = match values("content-length")[..] {
            [] => None,
            [value] => Some(content_length(value)?),
            _ => return None,
        };
        let mut codings = Vec::new();
        for coding in values("transfer-encoding").iter().flat_map(|value| value.split(|&byte| byte == b',')) {
            let (coding, name) = (trim(coding), trim(coding.split(|&byte| byte == b';').next()?));
            let has_parameters = coding.len() > name.len();
            if !is_token(name) || (has_parameters && name.eq_ignore_ascii_case(b"chunked")) {
                return None;
            }
            codings.push(text(coding).to_ascii_lowercase());
        }
        let expectations = list(&values("expect"));
        if expectations.iter().any(|expectation| expectation != "100-continue") {
            return None;
        }
        let expects = !expectations.is_empty() && version == Version::Http11;
        Some(Self { host, length, codings, options: list(&values("connection")), expects })
    }
}

/// The elements of a list over several fields, in lower case.
fn list(values: &[&[u8]]) -> Vec<String> {
    let elements = values.iter().flat_map(|value| value.split(|&byte| byte == b',')).map(trim);
    elements.filter(|element| !element.is_empty()).map(|element| text(element).to_ascii_lowercase()).collect()
}

fn content_length(value: &[u8]) -> Option<u64> {
    let is_number = !value.is_empty() && value.len() <= DIGITS_MAX && value.iter().all(u8::is_ascii_digit);
    is_number.then(|| text(value).parse().ok())?
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

struct RequestLine {
    method: String,
    target: String,
    form: TargetForm,
    path: String,
    query: Option<String>,
    authority: Option<String>,
    version: Version,
}

impl RequestLine {
    fn read(line: &[u8]) -> Option<Self> {
        let [method, target, version] = line.split(|&byte| byte == b' ').collect::<Vec<_>>()[..] else { return None };
        if !is_token(method) || method.len() > METHOD_BYTES_MAX || target.is_empty() {
            return None;
        }
        let version = match version.strip_prefix(b"HTTP/1.")? {
            b"0" => Version::Http10,
            [minor] if minor.is_ascii_digit() => Version::Http11,
            _ => return None,
        };
        let (method, target) = (text(method), text(target));
        let lower = target.to_ascii_lowercase();
        let scheme = ["http://", "https://"].into_iter().find(|scheme| lower.starts_with(scheme));
        let (form, authority, after) = match scheme {
            _ if method == "CONNECT" => {
                let (host, port) = authority(target.as_bytes())?;
                let is_right = !host.is_empty() && port.is_some_and(|port| port > 0);
                (TargetForm::Authority, is_right.then(|| target.clone()).map(Some)?, String::new())
            }
            None if target == "*" && method == "OPTIONS" => (TargetForm::Asterisk, None, target.clone()),
            None if target.starts_with('/') => (TargetForm::Origin, None, target.clone()),
            None => return None,
            Some(scheme) => {
                let rest = &target[scheme.len()..];
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                let host = authority(&rest.as_bytes()[..end]).filter(|(host, _)| !host.is_empty());
                (TargetForm::Absolute, host.map(|_| rest[..end].to_owned()).map(Some)?, rest[end..].to_owned())
            }
        };
        let (path, query) = match after.split_once('?') {
            None => (after, None),
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
        };
        if !is_path(path.as_bytes()) || query.as_ref().is_some_and(|query| !is_query(query.as_bytes())) {
            return None;
        }
        let path = match form {
            // RFC 9112 section 3.2.4.
            TargetForm::Absolute if path.is_empty() && method == "OPTIONS" && query.is_none() => "*".to_owned(),
            TargetForm::Absolute if path.is_empty() => "/".to_owned(),
            _ => path,
        };
        Some(Self { method, target, form, path, query, authority, version })
    }
}
