//! Host (RFC 9112 section 3.2, RFC 9110 section 7.2).

use ushabti_proto::error::ProtocolError;
use ushabti_proto::http1::head::Version;
use ushabti_proto::uri::is_host_field;

use crate::harness::{accepted, assert_refused, head};

const VALID: &[&str] = &[
    "",
    "a",
    "example.com",
    "EXAMPLE.com.",
    "a:80",
    "a:",
    "a:0",
    "a:00080",
    "a:65535",
    "127.0.0.1",
    "127.0.0.1:8080",
    "a_b",
    "-a..b-",
    "a%C3%BC",
    "a!$&'()*+,;=~",
    "[::1]",
    "[::]:80",
    "[::1]:",
    "[2001:db8::1]:443",
    "[2001:DB8:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[v1.a:b]",
    "[vF.~]:80",
];

const INVALID: &[&str] = &[
    "a b",
    "a\tb",
    "a, b",
    "a/b",
    "/",
    "http://a",
    "user@a",
    "user:password@a",
    "@",
    "a?b",
    "a#b",
    "a\\b",
    "a\"b",
    "a<b>",
    "a|b",
    "a^b",
    "a`b",
    "{a}",
    ":80",
    ":",
    "a:b",
    "a:80:80",
    "a:80 :80",
    "a: 80",
    "a :80",
    "a:-1",
    "a:+80",
    "a:0x50",
    "a:65536",
    "a:99999999999999999999",
    "a%",
    "a%2",
    "a%zz",
    "::1",
    "::1:80",
    "[::1",
    "::1]",
    "a]",
    "[]",
    "[a]",
    "[::1]a",
    "[::1]80",
    "[::1]:a",
    "[[::1]]",
    "[ ::1]",
    "[127.0.0.1]",
    "[1:2:3:4:5:6:7:8:9]",
    "[12345::]",
    "[::1::]",
    "[::1%25eth0]",
    "[::1%eth0]",
    "[v.a]",
    "[v1.]",
    "[v1]",
    "[vG.a]",
    "[v1.a%20]",
    "[v1.a/b]",
];

#[test]
fn a_host_with_an_optional_port_or_nothing_is_valid() {
    for &value in VALID {
        assert!(is_host_field(value.as_bytes()), "{value}");
        let request = accepted(value, &head("GET / HTTP/1.1", &[format!("Host: {value}")]));
        assert_eq!(request.host.as_deref(), Some(value));
    }
}

#[test]
fn what_is_no_host_is_refused() {
    for &value in INVALID {
        assert!(!is_host_field(value.as_bytes()), "{value}");
        assert_refused(value, &head("GET / HTTP/1.1", &[format!("Host: {value}")]), ProtocolError::HostSyntax);
    }
    assert_refused("8 bits", &head("GET / HTTP/1.1", &[b"Host: \xc3\xbc"]), ProtocolError::HostSyntax);
}

/// Whatever the target or the version: no server may guess which of two hosts is meant.
#[test]
fn a_second_host_is_refused() {
    for (name, line, fields) in [
        ("another", "GET / HTTP/1.1", ["Host: a", "Host: b"]),
        ("the same", "GET / HTTP/1.1", ["Host: a", "Host: a"]),
        ("other case", "GET / HTTP/1.1", ["host: a", "HOST: a"]),
        ("first empty", "GET / HTTP/1.1", ["Host:", "Host: a"]),
        ("second malformed", "GET / HTTP/1.1", ["Host: a", "Host: a/b"]),
        ("HTTP/1.0", "GET / HTTP/1.0", ["Host: a", "Host: b"]),
        ("absolute form", "GET http://a/ HTTP/1.1", ["Host: a", "Host: b"]),
        ("asterisk form", "OPTIONS * HTTP/1.1", ["Host: a", "Host: b"]),
    ] {
        assert_refused(name, &head(line, &fields), ProtocolError::HostRepeated);
    }
}

#[test]
fn http_1_1_needs_host_whatever_the_target() {
    for line in
        ["GET / HTTP/1.1", "GET http://a/ HTTP/1.1", "CONNECT a:443 HTTP/1.1", "OPTIONS * HTTP/1.1", "GET / HTTP/1.2"]
    {
        assert_refused(line, &head(line, &["X-Host: a"]), ProtocolError::HostMissing);
    }
    assert_refused("no field at all", b"GET / HTTP/1.1\r\n\r\n", ProtocolError::HostMissing);
}

#[test]
fn http_1_0_needs_no_host_but_a_malformed_one_is_refused() {
    let request = accepted("none", b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!((request.version, request.host), (Version::Http10, None));
    let request = accepted("absolute form", b"GET http://b/ HTTP/1.0\r\n\r\n");
    assert_eq!(request.host.as_deref(), Some("b"));
    assert_refused("malformed", &head("GET / HTTP/1.0", &["Host: a b"]), ProtocolError::HostSyntax);
}

#[test]
fn a_malformed_host_is_refused_even_where_the_target_ranks_above_it() {
    assert_refused("absolute form", &head("GET http://a/ HTTP/1.1", &["Host: a b"]), ProtocolError::HostSyntax);
    assert_refused("authority form", &head("CONNECT a:443 HTTP/1.1", &["Host: a/b"]), ProtocolError::HostSyntax);
}
