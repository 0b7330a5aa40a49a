//! The opening handshake (RFC 6455 section 4.2): what is granted, what is refused and how, and what is no handshake.

use ushabti_proto::http1::connection::{Connection, Event, Limits};
use ushabti_proto::http1::encode::encode_interim;
use ushabti_proto::http1::head::RequestHead;
use ushabti_proto::websocket::deflate::{DeflateAgreement, DeflatePolicy};
use ushabti_proto::websocket::handshake::{Extension, Handshake, HandshakeError, accept_key, parse_extensions};

const UPGRADE: &str = "Upgrade: websocket";
const CONNECTION: &str = "Connection: Upgrade";
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const VERSION: &str = "Sec-WebSocket-Version: 13";
/// What a client must send beside Host.
const FIELDS: [&str; 4] = [UPGRADE, CONNECTION, KEY, VERSION];

fn head(request_line: &str, fields: &[&str]) -> RequestHead {
    let input = format!("{request_line}\r\n{}\r\n\r\n", fields.join("\r\n"));
    let limits = Limits { head_bytes_max: 32768, fields_max: 128, target_bytes_max: 16384 };
    let step = Connection::new().step(input.as_bytes(), &limits).expect("the head is valid HTTP");
    let Event::Request(head) = step.event else { panic!("the head is complete") };
    head
}

/// A GET with Host and these fields.
fn read(fields: &[&str]) -> Result<Option<Handshake>, HandshakeError> {
    Handshake::read(&head("GET /chat HTTP/1.1", &[&["Host: server.example.com"], fields].concat()))
}

/// The handshake of a request with this field more than needed.
fn read_with(field: &str) -> Result<Option<Handshake>, HandshakeError> {
    read(&[FIELDS.as_slice(), &[field]].concat())
}

fn granted(field: &str) -> Handshake {
    read_with(field).expect("it is valid").expect("it is a handshake")
}

/// The fields that are needed, without this one and with those.
fn replaced(field: &str, by: &[&'static str]) -> Vec<&'static str> {
    FIELDS.into_iter().filter(|other| *other != field).chain(by.iter().copied()).collect()
}

#[test]
fn the_example_of_the_rfc_is_granted() {
    let handshake = granted("Sec-WebSocket-Protocol: chat, superchat\r\nOrigin: http://example.com");
    assert_eq!(handshake.protocols, ["chat", "superchat"]);
    assert_eq!(handshake.extensions, []);
    let fields = handshake.response_fields(Some("chat"), None).expect("it was offered");
    let mut out = Vec::new();
    encode_interim(&mut out, 101, fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
        .expect("101 may have these fields");
    let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(&out), expected);
}

#[test]
fn accept_keys_are_base64_of_the_hash() {
    for (key, accept) in [
        ("AAAAAAAAAAAAAAAAAAAAAA==", "ICX+Yqv66kxgM0FcWaLWlFLwTAI="),
        ("x3JJHMbDL1EzLkh9GBhXDw==", "HSmrc0sMlYUkAGmm5OPpG2HaGWk="),
    ] {
        assert_eq!(accept_key(key.as_bytes()), accept);
    }
}

#[test]
fn names_and_lists_are_read_in_any_case_and_any_number_of_fields() {
    for fields in [
        ["Upgrade: WebSocket", "Connection: keep-alive, UPGRADE", KEY, VERSION],
        ["Upgrade: foo/1, WEBSOCKET", "connection: upgrade", KEY, VERSION],
        ["Upgrade: foo\r\nUpgrade: websocket", "Connection: close\r\nConnection: Upgrade", KEY, VERSION],
    ] {
        assert!(matches!(read(&fields), Ok(Some(_))), "{fields:?}");
    }
}

#[test]
fn requests_that_do_not_name_websocket_are_no_handshake() {
    for fields in [
        [].as_slice(),
        &[CONNECTION, KEY, VERSION],
        &["Upgrade: foo/1", CONNECTION],
        &["Upgrade: websocket2", CONNECTION, KEY, VERSION],
        &["Upgrade: h2c", CONNECTION, "X-Note: websocket"],
    ] {
        assert_eq!(read(fields), Ok(None), "{fields:?}");
    }
    assert_eq!(Handshake::read(&head("POST / HTTP/1.1", &["Host: a", "Content-Length: 0"])), Ok(None));
}

#[test]
fn each_fault_is_answered_with_its_status() {
    use HandshakeError as Fault;
    let tooth = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==";
    let cases: Vec<(Fault, u16, &str, Vec<&str>)> = vec![
        (Fault::Method, 405, "POST / HTTP/1.1\r\nHost: a", FIELDS.to_vec()),
        (Fault::Method, 405, "get / HTTP/1.1\r\nHost: a", FIELDS.to_vec()),
        (Fault::HttpVersion, 400, "GET / HTTP/1.0\r\nHost: a", FIELDS.to_vec()),
        (Fault::Host, 400, "GET / HTTP/1.1\r\nHost:", FIELDS.to_vec()),
        (Fault::ConnectionWithoutUpgrade, 400, "", replaced(CONNECTION, &[])),
        (Fault::ConnectionWithoutUpgrade, 400, "", replaced(CONNECTION, &["Connection: keep-alive"])),
        (Fault::KeyMissing, 400, "", replaced(KEY, &[])),
        (Fault::KeyRepeated, 400, "", replaced("", &[KEY])),
        (Fault::KeyRepeated, 400, "", replaced("", &[tooth])),
        (Fault::VersionMissing, 400, "", replaced(VERSION, &[])),
        (Fault::VersionRepeated, 400, "", replaced("", &[VERSION])),
        (Fault::VersionUnsupported, 426, "", replaced(VERSION, &["Sec-WebSocket-Version: 12"])),
        (Fault::VersionUnsupported, 426, "", replaced(VERSION, &["Sec-WebSocket-Version: 8, 13"])),
        (Fault::VersionUnsupported, 426, "", replaced(VERSION, &["Sec-WebSocket-Version: 013"])),
        (Fault::VersionUnsupported, 426, "", replaced(VERSION, &["Sec-WebSocket-Version:"])),
        (Fault::ProtocolSyntax, 400, "", replaced("", &["Sec-WebSocket-Protocol: a b"])),
        (Fault::ProtocolSyntax, 400, "", replaced("", &["Sec-WebSocket-Protocol: a, b/c"])),
        (Fault::ProtocolRepeated, 400, "", replaced("", &["Sec-WebSocket-Protocol: a, b, a"])),
        (Fault::ProtocolRepeated, 400, "", replaced("", &["Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: a"])),
        (Fault::ExtensionSyntax, 400, "", replaced("", &["Sec-WebSocket-Extensions: a; "])),
    ];
    for (error, status, line, fields) in cases {
        let line = if line.is_empty() { "GET / HTTP/1.1\r\nHost: a" } else { line };
        assert_eq!(Handshake::read(&head(line, &fields)), Err(error), "{line} {fields:?}");
        assert_eq!(error.status(), status, "{error:?}");
        assert!(error.section().starts_with("RFC 6455 section "), "{error:?}");
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn keys_are_sixteen_bytes_in_canonical_base64() {
    for key in [
        "",
        "c2hvcnQ=",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZQ===",
        "dGhlIHNhbXBsZSBub25jZR==",
        "dGhlIHNhbXBsZSBub25jZWE=",
        "dGhlIHNhbXBsZSBub25jZWFi",
        "dGhlIHNhbXBs-SBub25jZQ==",
        "dGhlIHNhbXBsZ=Bub25jZQ==",
        "dGhlIHNhbXBsZSBub25jZQ==, x",
        "ZGhlIHNhbXBsZSBub25jZSBub25jZQ==",
    ] {
        let field = format!("Sec-WebSocket-Key: {key}");
        let fields = [UPGRADE, CONNECTION, VERSION, field.as_str()];
        assert_eq!(read(&fields), Err(HandshakeError::KeySyntax), "{key}");
    }
    for key in
        ["AAAAAAAAAAAAAAAAAAAAAA==", "/////////////////////w==", "++++++++++++++++++++/g==", "0123456789abcdefghijQQ=="]
    {
        let field = format!("Sec-WebSocket-Key: {key}");
        assert!(matches!(read(&[UPGRADE, CONNECTION, VERSION, field.as_str()]), Ok(Some(_))), "{key}");
    }
}

#[test]
fn refusals_name_what_would_be_right() {
    assert_eq!(HandshakeError::Method.fields(), [("Allow", "GET")]);
    assert_eq!(HandshakeError::VersionUnsupported.fields(), [("Sec-WebSocket-Version", "13")]);
    assert_eq!(HandshakeError::KeyMissing.fields(), []);
}

#[test]
fn a_protocol_that_was_not_offered_cannot_be_chosen() {
    let handshake = granted("Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b, C");
    assert_eq!(handshake.protocols, ["a", "b", "C"]);
    assert!(handshake.response_fields(Some("C"), None).is_ok());
    let error = handshake.response_fields(Some("c"), None).expect_err("case counts");
    let sentence = "subprotocol \"c\" was not offered by the client: choose one of [\"a\", \"b\", \"C\"], or none";
    assert_eq!(error.to_string(), sentence);
    let fields = handshake.response_fields(None, None).expect("none may be chosen");
    assert!(fields.iter().all(|(name, _)| *name != "Sec-WebSocket-Protocol"));
}

#[test]
fn agreed_compression_is_answered() {
    let handshake = granted("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits");
    let agreed = DeflateAgreement::negotiate(&handshake.extensions, DeflatePolicy::default());
    let fields = handshake.response_fields(None, agreed.as_ref()).expect("no protocol was chosen");
    let answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert_eq!(fields.last(), Some(&("Sec-WebSocket-Extensions", answer.to_owned())));
}

fn extension(name: &str, parameters: &[(&str, Option<&str>)]) -> Extension {
    let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect();
    Extension { name: name.to_owned(), parameters }
}

#[test]
fn extensions_are_read_in_the_whole_grammar() {
    for (value, expected) in [
        ("", vec![]),
        (" , ,", vec![]),
        ("a", vec![extension("a", &[])]),
        ("a, b;c", vec![extension("a", &[]), extension("b", &[("c", None)])]),
        ("a;b=1;c=\"2\"", vec![extension("a", &[("b", Some("1")), ("c", Some("2"))])]),
        (" a ; b = 1 ,, c", vec![extension("a", &[("b", Some("1"))]), extension("c", &[])]),
        ("a; b=\"\\1\\0\"", vec![extension("a", &[("b", Some("10"))])]),
        ("a; b=1, a; b", vec![extension("a", &[("b", Some("1"))]), extension("a", &[("b", None)])]),
    ] {
        assert_eq!(parse_extensions(value.as_bytes()), Ok(expected), "{value}");
    }
    let handshake = granted("Sec-WebSocket-Extensions: a\r\nSec-WebSocket-Extensions: b; c");
    assert_eq!(handshake.extensions, [extension("a", &[]), extension("b", &[("c", None)])]);
}

#[test]
fn malformed_extensions_are_refused() {
    for value in [
        ";",
        "a;",
        "a;;b",
        "a;=1",
        "a; b=",
        "a b",
        "a; b=1 2",
        "a; b=\"1",
        "a; b=\"\"",
        "a; b=\"1 2\"",
        "a; b=\"1\\",
        "a; b=\"1\"2",
        "a=1",
        "\"a\"",
        "a; b=\"1\"\"2\"",
        "a/b",
    ] {
        assert_eq!(parse_extensions(value.as_bytes()), Err(HandshakeError::ExtensionSyntax), "{value}");
    }
}
