//! Heads of HTTP/2, held against those of HTTP/1.1 that say the same, and the meter of frames against a plain count (RFC 9113
//! sections 4.1, 8.2 and 8.3; RFC 8441 section 4).
//!
//! What an input is read as, its settings say. Heads are lines of a name, a space and a value.

use ushabti_proto::http1::encode::{self, BodyLength, ConnectionField, http_date};
use ushabti_proto::http1::head::Version;
use ushabti_proto::http2::meter::Meter;
use ushabti_proto::http2::{self, PREFACE, Pseudo};

use crate::head::{self, Head, LIMITS};
use crate::plain::{is_token, trim};
use crate::settings::Settings;

/// Of the connection, and no business of a stream (RFC 9113 section 8.2.2).
const OF_CONNECTION: [&[u8]; 5] = [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"];
/// Of these, what an answer may have and is not told, as with TE, which no answer has a use for.
const LEFT_OUT: [&[u8]; 4] = [b"connection", b"keep-alive", b"proxy-connection", b"te"];

/// Reads one head, or writes one, or counts frames.
pub fn check(input: &[u8]) {
    let Some((settings, input)) = Settings::split(input) else { return };
    match settings.choose(0, [0, 1, 2, 0]) {
        0 => check_request(input),
        1 => check_answer(settings, input),
        _ => check_meter(settings, input),
    }
}

type Field<'a> = (&'a [u8], &'a [u8]);

/// The lines of an input: what comes before the first space of each, and what comes after it.
fn fields_of(input: &[u8]) -> Vec<Field<'_>> {
    let lines = input.split(|&byte| byte == b'\n');
    lines
        .map(|line| {
            let end = line.iter().position(|&byte| byte == b' ').unwrap_or(line.len());
            (&line[..end], line.get(end + 1..).unwrap_or_default())
        })
        .collect()
}

fn check_request(input: &[u8]) {
    let (pseudo, fields): (Vec<_>, Vec<_>) = fields_of(input).into_iter().partition(|(name, _)| name.starts_with(b":"));
    let said = |wanted: &[u8]| pseudo.iter().find(|(name, _)| *name == wanted).map(|&(_, value)| value);
    let pseudo = Pseudo {
        method: said(b":method").unwrap_or(b"GET"),
        scheme: said(b":scheme"),
        path: said(b":path"),
        authority: said(b":authority"),
        protocol: said(b":protocol"),
    };
    let found = http2::request_head(pseudo, fields.iter().copied(), &LIMITS);
    let told = found.as_ref().ok().map(Head::of);
    assert_eq!(told, expected(pseudo, &fields), "{pseudo:?} {:?}: {found:?}", String::from_utf8_lossy(input));
    if let Ok(found) = found {
        head::check_lines(found);
    }
}

/// The head of HTTP/1.1 that asks for the same, as the plain reading has it; `None` if there is none, or none by HTTP/2.
fn expected(pseudo: Pseudo<'_>, fields: &[Field<'_>]) -> Option<Head> {
    if !fields.iter().all(|&field| is_for_stream(field)) {
        return None;
    }
    if pseudo.scheme.is_some_and(|scheme| !matches!(&*scheme.to_ascii_lowercase(), b"http" | b"https")) {
        return None;
    }
    let (method, target): (&[u8], _) = match pseudo.protocol {
        // What becomes a WebSocket is asked for by GET, as in HTTP/1.1.
        Some(protocol) if pseudo.method == b"CONNECT" && protocol.eq_ignore_ascii_case(b"websocket") => {
            (b"GET", pseudo.path?)
        }
        Some(_) => return None,
        None if pseudo.method == b"CONNECT" => (b"CONNECT", pseudo.authority?),
        None => (pseudo.method, pseudo.path?),
    };
    let is_absolute = method != b"CONNECT" && !target.starts_with(b"/") && target != b"*";
    let hosts: Vec<_> = fields.iter().filter(|(name, _)| *name == b"host").map(|&(_, value)| value).collect();
    let disagrees = |authority: &[u8]| hosts.iter().any(|host| !host.eq_ignore_ascii_case(authority));
    let is_empty = pseudo.authority.or(hosts.first().copied()).is_some_and(<[u8]>::is_empty);
    if is_absolute || is_empty || pseudo.authority.is_some_and(disagrees) {
        return None;
    }
    let mut all: Vec<Field<'_>> = Vec::new();
    all.extend(pseudo.authority.map(|authority| (b"host".as_slice(), authority)));
    all.extend(pseudo.protocol.map(|protocol| (b"upgrade".as_slice(), protocol)));
    let is_repeated = |name: &[u8]| name == b"host" && pseudo.authority.is_some();
    all.extend(fields.iter().filter(|(name, _)| *name != b"cookie" && !is_repeated(name)));
    let crumbs: Vec<_> = fields
        .iter()
        .filter(|(name, value)| *name == b"cookie" && !value.is_empty())
        .map(|&(_, value)| value)
        .collect();
    let cookie = crumbs.join(b"; ".as_slice());
    all.extend((!cookie.is_empty()).then_some((b"cookie".as_slice(), cookie.as_slice())));
    let mut lines = vec![[method, target, b"HTTP/1.1"].join(b" ".as_slice())];
    lines.extend(all.iter().map(|(name, value)| [*name, value].join(b": ".as_slice())));
    let lines: Vec<_> = lines.iter().map(Vec::as_slice).collect();
    head::whole(&lines).map(|head| head.with_version(Version::Http2))
}

fn is_for_stream((name, value): Field<'_>) -> bool {
    let is_lower = is_token(name) && !name.iter().any(u8::is_ascii_uppercase);
    let is_clean = trim(value) == value && value.iter().all(|&byte| byte == b'\t' || !byte.is_ascii_control());
    let is_te = name == b"te" && !value.eq_ignore_ascii_case(b"trailers");
    is_lower && is_clean && !is_te && !OF_CONNECTION.contains(&name)
}

/// An answer's head says by HTTP/2 what it says by HTTP/1.1, but for what is of the connection.
fn check_answer(settings: Settings, input: &[u8]) {
    let fields = fields_of(input);
    let status = settings.choose(2, [200, 204, 304, 426, 205, 404, 599, 100]);
    let length =
        settings.choose(5, [BodyLength::Known(7), BodyLength::None, BodyLength::UntilClose, BodyLength::Known(0)]);
    let server = settings.flag(7).then_some(b"a server".as_slice());
    let date = http_date(784_111_777);
    // What stood there before stays, whatever comes of it.
    let (mut block, mut lines) = (b"before".to_vec(), Vec::new());
    let written = http2::encode_head(&mut block, status, fields.iter().copied(), length, &date, server);
    let expected =
        encode::encode_head(&mut lines, status, fields.iter().copied(), length, ConnectionField::Omit, &date, server);
    assert_eq!(written, expected);
    assert!(block.starts_with(b"before"));
    let block = &mut block.split_off(6);
    if written.is_err() {
        assert!(block.is_empty() && lines.is_empty());
        return;
    }
    let is_whole = block.len();
    block.extend_from_slice(b"content");
    let head = http2::Head::read(block).expect("it is there");
    assert_eq!((head.status, head.length), (status, is_whole));
    let told: Vec<_> = head.fields(block).map(|(name, value)| (block[name].to_vec(), block[value].to_vec())).collect();
    let lines = lines.strip_suffix(b"\r\n\r\n").expect("an empty line ends a head");
    let is_told =
        |(name, _): &(Vec<u8>, Vec<u8>)| !LEFT_OUT.contains(&name.as_slice()) && (status != 426 || name != b"upgrade");
    let lines = String::from_utf8_lossy(lines);
    let expected: Vec<_> = lines
        .split("\r\n")
        .skip(1)
        .map(|line| line.split_once(": ").expect("a field line"))
        .map(|(name, value)| (name.to_ascii_lowercase().into_bytes(), value.as_bytes().to_vec()))
        .filter(is_told)
        .collect();
    let told: Vec<_> = told
        .into_iter()
        .map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned().into_bytes()))
        .collect();
    assert_eq!(told, expected);
}

/// Frames are counted the same however they arrive, and as who has them all at once counts them.
fn check_meter(settings: Settings, input: &[u8]) {
    let bytes = [PREFACE.as_slice(), input].concat();
    let mut meter = Meter::new();
    let (mut counted, mut used) = (0, 0);
    for end in settings.cuts(bytes.len()).into_iter().chain([bytes.len()]) {
        counted += meter.feed(&bytes[used..end]);
        used = end;
    }
    assert_eq!((counted, meter.begun(), meter.is_midway()), count(input));
}

/// Frames that are of no use to a request, frames that have begun without those that go on with one, and whether one that is no
/// content is there in part.
fn count(mut input: &[u8]) -> (u32, u32, bool) {
    let (mut useless, mut begun, mut in_block) = (0, 0, false);
    while let Some((&[a, b, c, kind, flags, _, _, _, _], rest)) = input.split_first_chunk() {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let has = |flag: u8| flags & flag != 0;
        match kind {
            0 => useless += u32::from(length == 0 && !has(1)),
            1 => in_block = !has(4),
            9 => (useless, in_block) = (useless + 1, in_block && !has(4)),
            _ => useless += 1,
        }
        begun += u32::from(kind != 9);
        if rest.len() < length {
            return (useless, begun, in_block || kind != 0);
        }
        input = &rest[length..];
    }
    (useless, begun, in_block || !input.is_empty())
}
