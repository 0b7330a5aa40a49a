//! Response heads as fields: what is written is read again, by the rules of HTTP/1.1's encoder.

use ushabti_proto::http1::encode::{BodyLength, EncodeError, http_date};
use ushabti_proto::http2::{Head, encode_head};

type Field = (&'static [u8], &'static [u8]);

fn encode(status: u16, fields: &[Field], length: BodyLength) -> Result<Vec<u8>, EncodeError> {
    let mut out = b"before".to_vec();
    let result = encode_head(&mut out, status, fields.iter().copied(), length, &http_date(0), Some(b"us"));
    if result.is_err() {
        assert_eq!(out, b"before", "nothing is left of a head that was refused");
    }
    result.map(|()| out.split_off(6))
}

fn shown(bytes: &[u8]) -> (u16, Vec<(String, String)>) {
    let head = Head::read(bytes).expect("a whole head");
    assert_eq!(head.length, bytes.len());
    let text = |range| String::from_utf8_lossy(&bytes[range]).into_owned();
    (head.status, head.fields(bytes).map(|(name, value)| (text(name), text(value))).collect())
}

#[test]
fn names_are_in_lower_case_and_fields_of_the_connection_left_out() {
    let fields: [Field; 7] = [
        (b"X-Test", b"A"),
        (b"Connection", b"close"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Proxy-Connection", b"x"),
        (b"TE", b"gzip"),
        (b"Set-Cookie", b"a=1"),
        (b"Set-Cookie", b""),
    ];
    let (status, fields) = shown(&encode(201, &fields, BodyLength::Known(12)).expect("it can be sent"));
    assert_eq!(status, 201);
    let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expected = [
        ("x-test", "A"),
        ("set-cookie", "a=1"),
        ("set-cookie", ""),
        ("content-length", "12"),
        ("server", "us"),
        ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ];
    assert_eq!(fields, expected);
}

#[test]
fn content_that_ends_with_the_stream_has_no_length() {
    let (_, fields) = shown(&encode(200, &[], BodyLength::UntilClose).expect("it can be sent"));
    assert_eq!(fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["server", "date"]);
}

#[test]
fn what_http1_refuses_is_refused() {
    let cases: [(u16, &[Field], BodyLength); 7] = [
        (99, &[], BodyLength::None),
        (204, &[], BodyLength::Known(1)),
        (200, &[(b"Transfer-Encoding", b"chunked")], BodyLength::Known(1)),
        (200, &[(b"Upgrade", b"websocket")], BodyLength::Known(1)),
        (200, &[(b"Content-Length", b"2")], BodyLength::Known(1)),
        (200, &[(b"a b", b"")], BodyLength::Known(1)),
        (200, &[(b"a", b"b\r\nc: d")], BodyLength::Known(1)),
    ];
    for (status, fields, length) in cases {
        assert!(encode(status, fields, length).is_err(), "{status} {fields:?}");
    }
    // 426 must name what to upgrade to, which HTTP/2 cannot.
    let (_, fields) = shown(&encode(426, &[(b"Upgrade", b"websocket")], BodyLength::Known(0)).expect("it can be sent"));
    assert!(fields.iter().all(|(name, _)| name != "upgrade"), "{fields:?}");
}

#[test]
fn a_part_of_a_head_is_none() {
    let whole = encode(200, &[(b"a", b"b")], BodyLength::Known(1)).expect("it can be sent");
    for end in 0..whole.len() {
        assert_eq!(Head::read(&whole[..end]), None);
    }
    let followed = [whole.as_slice(), b"content"].concat();
    assert_eq!(Head::read(&followed).map(|head| head.length), Some(whole.len()));
}
