//! The four forms of a request target (RFC 9112 section 3.2).

use ushabti_proto::error::ProtocolError;
use ushabti_proto::uri::TargetForm;

use crate::harness::{HOST, accepted, assert_refused, head};

#[test]
fn origin_form_is_a_path_and_perhaps_a_query() {
    for (target, path, query) in [
        ("/", "/", None),
        ("/hello", "/hello", None),
        ("/a/b/c/", "/a/b/c/", None),
        ("//a//b", "//a//b", None),
        ("/../a/./b", "/../a/./b", None),
        ("/hello?", "/hello", Some("")),
        ("/hello?a=1&b=%20", "/hello", Some("a=1&b=%20")),
        ("/?a?b?/c", "/", Some("a?b?/c")),
        ("/?http://b/", "/", Some("http://b/")),
        ("/http://b/", "/http://b/", None),
        ("/*", "/*", None),
        ("/%C3%BC%2F%00%zz%", "/%C3%BC%2F%00%zz%", None),
        ("/;a=b,c:d@e!$&'()+-._~", "/;a=b,c:d@e!$&'()+-._~", None),
        ("/a|b^c[0]", "/a|b^c[0]", None),
        ("/?tags[]=a|b^c\\`{d}", "/", Some("tags[]=a|b^c\\`{d}")),
    ] {
        let request = accepted(target, &head(format!("GET {target} HTTP/1.1"), &[HOST]));
        assert_eq!((request.form, request.target.as_str()), (TargetForm::Origin, target));
        assert_eq!((request.path.as_str(), request.query.as_deref()), (path, query), "{target}");
        assert_eq!(request.host.as_deref(), Some("a"));
    }
}

#[test]
fn absolute_form_is_an_http_uri_whose_authority_ranks_above_host() {
    for (target, host, path, query) in [
        ("http://b/hello", "b", "/hello", None),
        ("http://b", "b", "/", None),
        ("http://b/", "b", "/", None),
        ("http://b?q", "b", "/", Some("q")),
        ("http://b?", "b", "/", Some("")),
        ("http://b/?a?b", "b", "/", Some("a?b")),
        ("http://b:8080/hello", "b:8080", "/hello", None),
        ("http://b:/hello", "b:", "/hello", None),
        ("https://b.example/", "b.example", "/", None),
        ("HTTP://B/", "B", "/", None),
        ("hTTpS://[::1]:443/x", "[::1]:443", "/x", None),
        ("http://b//c//", "b", "//c//", None),
        ("http://b/http://c/", "b", "/http://c/", None),
        ("http://127.0.0.1:65535", "127.0.0.1:65535", "/", None),
        ("http://b/@c", "b", "/@c", None),
    ] {
        let request = accepted(target, &head(format!("GET {target} HTTP/1.1"), &["Host: other"]));
        assert_eq!((request.form, request.target.as_str()), (TargetForm::Absolute, target));
        assert_eq!(request.host.as_deref(), Some(host), "{target}");
        assert_eq!((request.path.as_str(), request.query.as_deref()), (path, query), "{target}");
        assert_eq!(request.field("host"), Some(b"other".as_slice()), "the field stays as it was received");
    }
}

#[test]
fn authority_form_is_for_connect_and_names_host_and_port() {
    for target in ["b:443", "b.example:1", "127.0.0.1:65535", "[::1]:8080", "b:0443"] {
        let request = accepted(target, &head(format!("CONNECT {target} HTTP/1.1"), &[HOST]));
        assert_eq!((request.form, request.host.as_deref()), (TargetForm::Authority, Some(target)));
        assert_eq!((request.path.as_str(), request.query), ("", None));
    }
}

/// An empty path is the asterisk for OPTIONS, and `/` for everything else (RFC 9110 section 4.2.3, RFC 9112 section
/// 3.2.4).
#[test]
fn options_may_ask_about_the_server_as_a_whole() {
    for (line, form, path) in [
        ("OPTIONS * HTTP/1.1", TargetForm::Asterisk, "*"),
        ("OPTIONS http://b HTTP/1.1", TargetForm::Absolute, "*"),
        ("OPTIONS http://b/ HTTP/1.1", TargetForm::Absolute, "/"),
        ("OPTIONS http://b?q HTTP/1.1", TargetForm::Absolute, "/"),
        ("OPTIONS / HTTP/1.1", TargetForm::Origin, "/"),
        ("options http://b HTTP/1.1", TargetForm::Absolute, "/"),
    ] {
        let request = accepted(line, &head(line, &[HOST]));
        assert_eq!((request.form, request.path.as_str()), (form, path), "{line}");
    }
}

#[test]
fn targets_in_no_form_of_their_method_are_refused() {
    for (line, error) in [
        ("GET hello HTTP/1.1", ProtocolError::TargetForm),
        ("GET ?a HTTP/1.1", ProtocolError::TargetForm),
        ("GET * HTTP/1.1", ProtocolError::TargetForm),
        ("OPTIONS ** HTTP/1.1", ProtocolError::TargetForm),
        ("options * HTTP/1.1", ProtocolError::TargetForm),
        ("GET a:80 HTTP/1.1", ProtocolError::TargetForm),
        ("GET ./a HTTP/1.1", ProtocolError::TargetForm),
        ("GET http: HTTP/1.1", ProtocolError::TargetForm),
        ("GET http:/a HTTP/1.1", ProtocolError::TargetForm),
        ("GET http:a/b HTTP/1.1", ProtocolError::TargetForm),
        ("GET ftp://a/b HTTP/1.1", ProtocolError::TargetForm),
        ("GET file:///etc/passwd HTTP/1.1", ProtocolError::TargetForm),
        ("GET ws://a/ HTTP/1.1", ProtocolError::TargetForm),
        ("GET httpx://a/ HTTP/1.1", ProtocolError::TargetForm),
        ("GET \\a HTTP/1.1", ProtocolError::TargetForm),
        ("CONNECT / HTTP/1.1", ProtocolError::TargetAuthority),
        ("CONNECT * HTTP/1.1", ProtocolError::TargetAuthority),
        ("CONNECT http://a/ HTTP/1.1", ProtocolError::TargetAuthority),
    ] {
        assert_refused(line, &head(line, &[HOST]), error);
    }
}

#[test]
fn malformed_authorities_are_refused() {
    for line in [
        "GET http:/// HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET http://?q HTTP/1.1",
        "GET http://:80/ HTTP/1.1",
        "GET http://user@b/ HTTP/1.1",
        "GET http://user:password@b/ HTTP/1.1",
        "GET http://@b/ HTTP/1.1",
        "GET http://b:80:80/ HTTP/1.1",
        "GET http://b:x/ HTTP/1.1",
        "GET http://b:-1/ HTTP/1.1",
        "GET http://b:65536/ HTTP/1.1",
        "GET http://[::1/ HTTP/1.1",
        "GET http://[::1]b/ HTTP/1.1",
        "GET http://[]/ HTTP/1.1",
        "GET http://::1/ HTTP/1.1",
        "GET http://b%/ HTTP/1.1",
        "GET http://b%2/ HTTP/1.1",
        "GET http://b|c/ HTTP/1.1",
        "GET http://b\\c/ HTTP/1.1",
        "CONNECT b HTTP/1.1",
        "CONNECT b: HTTP/1.1",
        "CONNECT b:0 HTTP/1.1",
        "CONNECT b:65536 HTTP/1.1",
        "CONNECT b:443/ HTTP/1.1",
        "CONNECT :443 HTTP/1.1",
        "CONNECT user@b:443 HTTP/1.1",
        "CONNECT [::1] HTTP/1.1",
        "CONNECT b:+443 HTTP/1.1",
    ] {
        assert_refused(line, &head(line, &[HOST]), ProtocolError::TargetAuthority);
    }
}

#[test]
fn forbidden_characters_are_named() {
    for (name, line, byte) in [
        ("fragment", b"GET /a#b HTTP/1.1".as_slice(), b'#'),
        ("fragment after a query", b"GET /a?b#c HTTP/1.1", b'#'),
        ("fragment in absolute form", b"GET http://b/#c HTTP/1.1", b'#'),
        ("fragment behind the authority", b"GET http://b#c HTTP/1.1", b'#'),
        ("only a fragment", b"GET # HTTP/1.1", b'#'),
        ("NUL in a query", b"GET /?\0 HTTP/1.1", 0),
        ("UTF-8 in a path", b"GET /\xc3\xbc HTTP/1.1", 0xc3),
        ("8 bits in a query", b"GET /?\xff HTTP/1.1", 0xff),
        ("8 bits in a host", b"GET http://\xc3\xbc/ HTTP/1.1", 0xc3),
        ("8 bits in authority form", b"CONNECT \xc3\xbc:443 HTTP/1.1", 0xc3),
        ("DEL", b"GET /\x7f HTTP/1.1", 0x7f),
        ("quotes", b"GET /\"a\" HTTP/1.1", b'"'),
        ("angle bracket in a query", b"GET /?<b> HTTP/1.1", b'<'),
        ("backslash in a path", b"GET /a\\..\\b HTTP/1.1", b'\\'),
        ("backslash in the path of absolute form", b"GET http://b/a\\b HTTP/1.1", b'\\'),
        ("brace in a path", b"GET /{a} HTTP/1.1", b'{'),
        ("tab in authority form", b"CONNECT b\t:443 HTTP/1.1", b'\t'),
    ] {
        assert_refused(name, &head(line, &[HOST]), ProtocolError::TargetSyntax(byte));
    }
}
