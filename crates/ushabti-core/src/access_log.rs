//! The access log's lines, made where the answer is written, without the interpreter.
//!
//! `text` is the combined log format that log readers know, with the time taken in milliseconds added at the end;
//! `json` is one object a line. What a client sends is escaped: a line cannot be broken or forged by a request.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ushabti_proto::http1::encode::http_date;
use ushabti_proto::http1::head::{RequestHead, Version};

use crate::listener::Peer;

/// The form of the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLog {
    /// No lines are made.
    Off,
    /// The combined log format.
    Text,
    /// One JSON object a line.
    Json,
}

/// What one line tells.
pub(crate) struct Entry<'a> {
    pub(crate) peer: &'a Peer,
    /// `None` when the bytes were no request.
    pub(crate) head: Option<&'a RequestHead>,
    pub(crate) status: u16,
    pub(crate) body_bytes: u64,
    pub(crate) taken: Duration,
}

impl AccessLog {
    /// The line of one answer, without a line end; `None` when the log is off.
    pub(crate) fn line(self, entry: &Entry<'_>) -> Option<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        match self {
            Self::Off => None,
            Self::Text => Some(text_line(entry, now)),
            Self::Json => Some(json_line(entry, now)),
        }
    }
}

fn client(peer: &Peer) -> String {
    match peer {
        Peer::Inet(address) => address.ip().to_string(),
        Peer::Unix => "unix".to_owned(),
    }
}

fn version(head: &RequestHead) -> &'static str {
    match head.version() {
        Version::Http10 => "1.0",
        Version::Http11 => "1.1",
        Version::Http2 => "2",
    }
}

fn field<'a>(entry: &Entry<'a>, name: &str) -> Option<&'a [u8]> {
    entry.head.and_then(|head| head.field(name))
}

fn millis(taken: Duration) -> f64 {
    taken.as_secs_f64() * 1e3
}

fn text_line(entry: &Entry<'_>, now: Duration) -> String {
    let date = http_date(now.as_secs());
    let part = |from: usize, to: usize| std::str::from_utf8(&date[from..to]).unwrap_or("");
    let mut line = String::with_capacity(160);
    let _ = write!(
        line,
        "{} - - [{}/{}/{}:{} +0000] \"",
        client(entry.peer),
        part(5, 7),
        part(8, 11),
        part(12, 16),
        part(17, 25)
    );
    match entry.head {
        Some(head) => {
            escape_text(&mut line, head.method().as_bytes());
            line.push(' ');
            escape_text(&mut line, head.target().as_bytes());
            let _ = write!(line, " HTTP/{}", version(head));
        }
        None => line.push('-'),
    }
    let _ = write!(line, "\" {} {} \"", entry.status, entry.body_bytes);
    escape_text(&mut line, field(entry, "referer").unwrap_or(b"-"));
    line.push_str("\" \"");
    escape_text(&mut line, field(entry, "user-agent").unwrap_or(b"-"));
    let _ = write!(line, "\" {:.3}ms", millis(entry.taken));
    line
}

fn json_line(entry: &Entry<'_>, now: Duration) -> String {
    let date = http_date(now.as_secs());
    let part = |from: usize, to: usize| std::str::from_utf8(&date[from..to]).unwrap_or("");
    let month = match part(8, 11) {
        "Jan" => 1,
        "Feb" => 2,
        "Mar" => 3,
        "Apr" => 4,
        "May" => 5,
        "Jun" => 6,
        "Jul" => 7,
        "Aug" => 8,
        "Sep" => 9,
        "Oct" => 10,
        "Nov" => 11,
        _ => 12,
    };
    let mut line = String::with_capacity(240);
    let _ = write!(
        line,
        "{{\"time\":\"{}-{month:02}-{}T{}.{:03}Z\",\"client\":\"{}\"",
        part(12, 16),
        part(5, 7),
        part(17, 25),
        now.subsec_millis(),
        client(entry.peer)
    );
    let mut text = |name: &str, value: &[u8]| {
        let _ = write!(line, ",\"{name}\":\"");
        escape_json(&mut line, value);
        line.push('"');
    };
    if let Some(head) = entry.head {
        text("method", head.method().as_bytes());
        text("target", head.target().as_bytes());
        text("version", version(head).as_bytes());
        for (name, key) in [("referer", "referer"), ("agent", "user-agent")] {
            if let Some(value) = field(entry, key) {
                text(name, value);
            }
        }
    }
    let _ =
        write!(line, ",\"status\":{},\"bytes\":{},\"ms\":{:.3}}}", entry.status, entry.body_bytes, millis(entry.taken));
    line
}

fn escape_text(line: &mut String, value: &[u8]) {
    for &byte in value {
        match byte {
            b'"' | b'\\' => {
                line.push('\\');
                line.push(char::from(byte));
            }
            0x20..=0x7e => line.push(char::from(byte)),
            _ => {
                let _ = write!(line, "\\x{byte:02x}");
            }
        }
    }
}

fn escape_json(line: &mut String, value: &[u8]) {
    for character in String::from_utf8_lossy(value).chars() {
        match character {
            '"' | '\\' => {
                line.push('\\');
                line.push(character);
            }
            '\0'..='\x1f' | '\x7f' => {
                let _ = write!(line, "\\u{:04x}", u32::from(character));
            }
            _ => line.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_millis(784_111_777_250); // Sun, 06 Nov 1994 08:49:37.250 GMT

    fn entry(head: Option<&RequestHead>) -> Entry<'_> {
        Entry { peer: &Peer::Unix, head, status: 400, body_bytes: 7, taken: Duration::from_micros(1500) }
    }

    #[test]
    fn a_text_line_without_a_request_says_so() {
        assert_eq!(
            text_line(&entry(None), NOW),
            "unix - - [06/Nov/1994:08:49:37 +0000] \"-\" 400 7 \"-\" \"-\" 1.500ms"
        );
    }

    #[test]
    fn a_json_line_without_a_request_has_the_rest() {
        assert_eq!(
            json_line(&entry(None), NOW),
            "{\"time\":\"1994-11-06T08:49:37.250Z\",\"client\":\"unix\",\"status\":400,\"bytes\":7,\"ms\":1.500}"
        );
    }

    #[test]
    fn a_client_cannot_forge_a_line() {
        let mut line = String::new();
        escape_text(&mut line, b"a\"b\\c\n\x1b\xe9");
        assert_eq!(line, "a\\\"b\\\\c\\x0a\\x1b\\xe9");
        line.clear();
        escape_json(&mut line, b"a\"b\\c\n\x1b");
        assert_eq!(line, "a\\\"b\\\\c\\u000a\\u001b");
    }
}
