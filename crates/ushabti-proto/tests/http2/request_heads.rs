//! Request heads of fields (RFC 9113 sections 8.2 and 8.3): the rules of HTTP/2, and those of HTTP/1.1 through the same code.

use ushabti_proto::error::ProtocolError as Fault;
use ushabti_proto::http1::connection::Limits;
use ushabti_proto::http1::framing::BodyFraming;
use ushabti_proto::http1::head::{RequestHead, Version};
use ushabti_proto::http2::{Pseudo, check_field, request_head};
use ushabti_proto::uri::TargetForm;
use ushabti_proto::websocket::handshake::{Handshake, HandshakeError};

const LIMITS: Limits = Limits { head_bytes_max: 1000, fields_max: 5, target_bytes_max: 100 };

const HTTPS: Option<&[u8]> = Some(b"https");

type Fields<'a> = &'a [(&'a str, &'a str)];

fn read_to(
    method: &str,
    path: Option<&str>,
    authority: Option<&str>,
    fields: Fields<'_>,
) -> Result<RequestHead, Fault> {
    let (path, authority) = (path.map(str::as_bytes), authority.map(str::as_bytes));
    let pseudo = Pseudo { method: method.as_bytes(), scheme: HTTPS, path, authority, protocol: None };
    let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    request_head(pseudo, fields, &LIMITS)
}

fn read(fields: Fields<'_>) -> Result<RequestHead, Fault> {
    read_to("GET", Some("/"), Some("a"), fields)
}

#[test]
fn a_head_has_what_its_fields_say() {
    let fields = [("accept", "*/*"), ("content-length", "5"), ("x-many", "1"), ("x-many", "2"), ("te", "trailers")];
    let limits = Limits { fields_max: 6, ..LIMITS };
    let (path, authority) = (Some(b"/a%20b?c=d".as_slice()), Some(b"example.com:8080".as_slice()));
    let pseudo = Pseudo { method: b"PUT", scheme: HTTPS, path, authority, protocol: None };
    let head = request_head(pseudo, fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())), &limits)
        .expect("nothing is wrong with it");
    assert_eq!((head.method(), head.target(), head.path()), ("PUT", "/a%20b?c=d", "/a%20b"));
    assert_eq!((head.query(), head.host()), (Some("c=d"), Some("example.com:8080")));
    assert_eq!((head.version(), head.form()), (Version::Http2, TargetForm::Origin));
    assert_eq!((head.framing(), head.keep_alive(), head.upgrade()), (BodyFraming::Length(5), true, None));
    assert_eq!(head.field_values("x-many").collect::<Vec<_>>(), [b"1", b"2"]);
    let names: Vec<_> = head.fields().map(|(name, _)| name).collect();
    assert_eq!(names, [b"host".as_slice(), b"accept", b"content-length", b"x-many", b"x-many", b"te"]);
}

#[test]
fn targets_have_the_forms_that_http2_knows() {
    let cases = [
        ("GET", Some("/"), Some("a"), Ok(TargetForm::Origin)),
        ("OPTIONS", Some("*"), Some("a"), Ok(TargetForm::Asterisk)),
        ("CONNECT", None, Some("a:443"), Ok(TargetForm::Authority)),
        ("CONNECT", None, Some("a"), Err(Fault::TargetAuthority)),
        ("GET", Some("*"), Some("a"), Err(Fault::TargetForm)),
        ("GET", Some("a"), Some("a"), Err(Fault::TargetForm)),
        ("GET", Some("http://b/"), Some("a"), Err(Fault::TargetForm)),
        ("GET", Some("/ b"), Some("a"), Err(Fault::TargetSyntax(b' '))),
        ("GET", None, Some("a"), Err(Fault::TargetMissing)),
        ("G T", Some("/"), Some("a"), Err(Fault::MethodSyntax)),
    ];
    for (method, path, authority, expected) in cases {
        let form = read_to(method, path, authority, &[]).map(|head| head.form());
        assert_eq!(form, expected, "{method} {path:?} {authority:?}");
    }
}

#[test]
fn the_host_is_the_authority_and_nothing_else() {
    let cases: [(Option<&str>, Fields<'_>, Result<&str, Fault>); 10] = [
        (Some("a:1"), &[], Ok("a:1")),
        (Some("a"), &[("host", "A")], Ok("a")),
        (None, &[("host", "b")], Ok("b")),
        (Some("a"), &[("host", "b")], Err(Fault::HostDiffers)),
        (None, &[("host", "b"), ("host", "b")], Err(Fault::HostRepeated)),
        (None, &[], Err(Fault::HostMissing)),
        (None, &[("host", "")], Err(Fault::HostEmpty)),
        (Some(""), &[], Err(Fault::HostEmpty)),
        (Some("a"), &[("host", "")], Err(Fault::HostDiffers)),
        (Some("user@a"), &[], Err(Fault::HostSyntax)),
    ];
    for (authority, fields, expected) in cases {
        let head = read_to("GET", Some("/"), authority, fields);
        let host = head.as_ref().map(|head| head.host().expect("it has one")).map_err(|fault| *fault);
        assert_eq!(host, expected, "{authority:?} {fields:?}");
        let hosts = head.map_or(1, |head| head.field_values("host").count());
        assert_eq!(hosts, 1, "{authority:?} {fields:?}");
    }
}

#[test]
fn a_scheme_is_one_that_is_served() {
    let read = |method, scheme: &'static [u8], path, authority| {
        let pseudo = Pseudo { method, scheme: Some(scheme), path, authority: Some(authority), protocol: None };
        request_head(pseudo, std::iter::empty(), &LIMITS).map(|_| ())
    };
    for scheme in [b"http".as_slice(), b"https", b"HTTPS"] {
        assert_eq!(read(b"GET", scheme, Some(b"/".as_slice()), b"a"), Ok(()), "{scheme:?}");
    }
    for scheme in [b"".as_slice(), b"ftp", b"ws", b"1http", b"http:", b"httpsx"] {
        assert_eq!(read(b"GET", scheme, Some(b"/".as_slice()), b"a"), Err(Fault::SchemeUnknown), "{scheme:?}");
    }
    assert_eq!(Fault::SchemeUnknown.status(), 400);
}

#[test]
fn faults_of_fields_are_faults_of_the_request() {
    let large = "v".repeat(1000);
    let cases: [(Fields<'_>, Fault, u16); 16] = [
        (&[("connection", "close")], Fault::FieldOfConnection, 400),
        (&[("keep-alive", "timeout=5")], Fault::FieldOfConnection, 400),
        (&[("proxy-connection", "x")], Fault::FieldOfConnection, 400),
        (&[("transfer-encoding", "chunked")], Fault::FieldOfConnection, 400),
        (&[("upgrade", "websocket")], Fault::FieldOfConnection, 400),
        (&[("te", "gzip")], Fault::FieldOfConnection, 400),
        (&[("Accept", "x")], Fault::FieldNameSyntax(b'A'), 400),
        (&[("a b", "x")], Fault::FieldNameSyntax(b' '), 400),
        (&[("a:b", "x")], Fault::FieldNameSyntax(b':'), 400),
        (&[("", "x")], Fault::FieldNameEmpty, 400),
        (&[("a", " x")], Fault::SpaceAroundValue, 400),
        (&[("a", "x\t")], Fault::SpaceAroundValue, 400),
        (&[("a", "x\r\nb: y")], Fault::FieldValueSyntax(b'\r'), 400),
        (&[("content-length", "1"), ("content-length", "1")], Fault::ContentLengthRepeated, 400),
        (&[("expect", "tea")], Fault::ExpectationUnknown, 417),
        (&[("a", &large)], Fault::HeadTooLarge, 431),
    ];
    for (fields, fault, status) in cases {
        assert_eq!(read(fields).map(|_| ()), Err(fault), "{fields:?}");
        assert_eq!(fault.status(), status);
    }
    let many = [("a", "b"); 5];
    assert_eq!(read(&many).map(|_| ()), Err(Fault::TooManyFields), "the host is one of them");
    assert!(read(&many[..4]).is_ok());
    let long = format!("/{}", "a".repeat(100));
    assert_eq!(read_to("GET", Some(&long), Some("a"), &[]).map(|_| ()), Err(Fault::TargetTooLong));
    assert!(read_to("GET", Some(&long[..100]), Some("a"), &[]).is_ok());
}

#[test]
fn crumbs_of_cookies_are_one_field() {
    let head = read(&[("cookie", "a=1"), ("accept", "x"), ("cookie", "b=2"), ("cookie", "c=3")]).expect("it is good");
    assert_eq!(head.field_values("cookie").collect::<Vec<_>>(), [b"a=1; b=2; c=3"]);
    let head = read(&[("cookie", ""), ("cookie", "a=1"), ("cookie", ""), ("cookie", "b=2")]).expect("it is good");
    assert_eq!(head.field_values("cookie").collect::<Vec<_>>(), [b"a=1; b=2"]);
}

#[test]
fn a_client_may_wait_for_100() {
    assert!(read(&[("expect", "100-continue")]).expect("it is good").expects_continue());
}

#[test]
fn trailers_are_held_to_the_same() {
    assert_eq!(check_field(b"x-checksum", b"1"), Ok(()));
    assert_eq!(check_field(b"transfer-encoding", b"chunked"), Err(Fault::FieldOfConnection));
    assert_eq!(check_field(b"x", b"\ra").map_err(|fault| fault.status()), Err(400));
}

/// A request that asks for a protocol (RFC 8441 section 4).
fn ask_for(method: &[u8], protocol: &[u8], path: Option<&[u8]>, fields: Fields<'_>) -> Result<RequestHead, Fault> {
    let pseudo = Pseudo { method, scheme: HTTPS, path, authority: Some(b"a"), protocol: Some(protocol) };
    request_head(pseudo, fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())), &LIMITS)
}

#[test]
fn a_connect_for_a_websocket_is_the_get_that_it_would_be() {
    for protocol in [b"websocket", b"WebSocket"] {
        let fields = [("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat, news")];
        let head = ask_for(b"CONNECT", protocol, Some(b"/live?a=b"), &fields).expect("it may ask so");
        assert_eq!((head.method(), head.target(), head.form()), ("GET", "/live?a=b", TargetForm::Origin));
        assert_eq!((head.field("upgrade"), head.host()), (Some(protocol.as_slice()), Some("a")));
        let handshake = Handshake::read(&head).expect("nothing is wrong with it").expect("it is one");
        assert!(handshake.is_http2());
        assert_eq!(handshake.protocols, ["chat", "news"]);
        let answer = handshake.response_fields(Some("news"), None).expect("it was offered");
        assert_eq!(answer, [("Sec-WebSocket-Protocol", "news".to_owned())]);
        assert!(handshake.response_fields(Some("other"), None).is_err());
    }
}

#[test]
fn what_a_connect_may_not_ask_for_is_refused() {
    assert_eq!(ask_for(b"CONNECT", b"connect-udp", Some(b"/"), &[]).err(), Some(Fault::ProtocolUnknown));
    assert_eq!(ask_for(b"GET", b"websocket", Some(b"/"), &[]).err(), Some(Fault::ProtocolUnknown));
    assert_eq!(ask_for(b"CONNECT", b"websocket", None, &[]).err(), Some(Fault::TargetMissing));
    assert_eq!(ask_for(b"CONNECT", b"websocket", Some(b"*"), &[]).err(), Some(Fault::TargetForm));
    let read = |fields| Handshake::read(&ask_for(b"CONNECT", b"websocket", Some(b"/"), fields).expect("a good head"));
    assert_eq!(read(&[]), Err(HandshakeError::VersionMissing));
    assert_eq!(read(&[("sec-websocket-version", "12")]), Err(HandshakeError::VersionUnsupported));
    // No client can write the field by itself.
    assert_eq!(self::read(&[("upgrade", "websocket")]).err(), Some(Fault::FieldOfConnection));
}

#[test]
fn a_head_can_be_read_again_from_its_lines() {
    let head = ask_for(b"CONNECT", b"websocket", Some(b"/live?a"), &[("x-many", "1"), ("x-many", "")]);
    let lines = head.expect("a good head").into_lines();
    let again = RequestHead::from_lines(&lines).expect("it was read before");
    assert_eq!((again.version(), again.method(), again.target()), (Version::Http2, "GET", "/live?a"));
    assert_eq!((again.path(), again.query(), again.host()), ("/live", Some("a"), Some("a")));
    assert_eq!(again.field_values("x-many").collect::<Vec<_>>(), [b"1".as_slice(), b""]);
    assert_eq!(again.into_lines(), lines);
}
