//! Percent-decoding, query strings and path segments. Targets and hosts are read as part of requests, in `http1`.

use std::borrow::Cow;

use ushabti_proto::uri::{UriError, decode_segment, path_segments, percent_decode, query_pairs};

#[test]
fn escapes_become_text() {
    for (input, text) in [
        ("", ""),
        ("abc", "abc"),
        ("%41", "A"),
        ("%41%42c", "ABc"),
        ("a%20b", "a b"),
        ("a%2Fb%2fc", "a/b/c"),
        ("gr%C3%BC%c3%9fe", "grüße"),
        ("%E2%82%AC", "€"),
        ("%F0%9F%98%80", "😀"),
        ("%25", "%"),
        ("%2541", "%41"),
        ("%00", "\0"),
        ("%0d%0A", "\r\n"),
        ("%2B", "+"),
        ("grüße", "grüße"),
        ("ü%20ß", "ü ß"),
    ] {
        for plus_is_space in [false, true] {
            assert_eq!(percent_decode(input.as_bytes(), plus_is_space).as_deref(), Ok(text), "{input}");
        }
    }
}

#[test]
fn every_byte_can_be_escaped_in_either_case() {
    for byte in 0..=255 {
        let decoded = std::str::from_utf8(&[byte]).map(str::to_owned).map_err(|_| UriError::NotUtf8);
        for escape in [format!("%{byte:02x}"), format!("%{byte:02X}")] {
            assert_eq!(percent_decode(escape.as_bytes(), false).map(Cow::into_owned), decoded, "{escape}");
        }
    }
}

#[test]
fn plus_is_a_space_where_a_form_says_so() {
    for (input, as_path, as_form) in [
        ("+", "+", " "),
        ("a+b", "a+b", "a b"),
        ("+a++", "+a++", " a  "),
        ("%2B+", "++", "+ "),
        ("a%20+", "a +", "a  "),
    ] {
        assert_eq!(percent_decode(input.as_bytes(), false).as_deref(), Ok(as_path));
        assert_eq!(percent_decode(input.as_bytes(), true).as_deref(), Ok(as_form));
    }
}

#[test]
fn what_is_no_escape_is_refused_with_its_place() {
    for (input, at) in [
        ("%", 0),
        ("%4", 0),
        ("%zz", 0),
        ("%4z", 0),
        ("%z4", 0),
        ("%%41", 0),
        ("100%", 3),
        ("a%41%", 4),
        ("a%41%4", 4),
        ("%+1", 0),
        ("%-1", 0),
        ("% 1", 0),
        ("%0x41", 0),
        ("%u0041", 0),
        ("%\u{fc}", 0),
        ("%4\u{fc}", 0),
        ("%\u{661}", 0),
    ] {
        for plus_is_space in [false, true] {
            let error = Err(UriError::PercentEncoding(at));
            assert_eq!(percent_decode(input.as_bytes(), plus_is_space), error, "{input}");
        }
    }
    assert_eq!(
        UriError::PercentEncoding(3).to_string(),
        "the percent sign at byte 3 is not followed by two hexadecimal digits"
    );
}

#[test]
fn what_is_not_utf_8_is_refused() {
    for (name, input) in [
        ("a lone byte", "%FF"),
        ("Latin-1", "gr%FC%DFe"),
        ("a cut-off character", "%C3"),
        ("a cut-off character before more", "%C3a"),
        ("a lone continuation", "%A4"),
        ("an overlong slash", "%C0%AF"),
        ("an overlong NUL", "%C0%80"),
        ("an overlong dot of three bytes", "%E0%80%AE"),
        ("a surrogate", "%ED%A0%80"),
        ("beyond Unicode", "%F4%90%80%80"),
        ("a byte order mark of UTF-16", "%FE%FF"),
    ] {
        assert_eq!(percent_decode(input.as_bytes(), false), Err(UriError::NotUtf8), "{name}");
        assert_eq!(decode_segment(input), Err(UriError::NotUtf8), "{name}");
    }
    assert_eq!(percent_decode(b"\xff", false), Err(UriError::NotUtf8), "raw, without any escape");
    assert_eq!(UriError::NotUtf8.to_string(), "the decoded text is not UTF-8");
}

#[test]
fn text_without_escapes_is_borrowed() {
    assert!(matches!(percent_decode(b"/a/b+c", false), Ok(Cow::Borrowed("/a/b+c"))));
    assert!(matches!(percent_decode(b"/a/b+c", true), Ok(Cow::Owned(_))));
    assert!(matches!(decode_segment("a.b"), Ok(Cow::Borrowed("a.b"))));
    let mut pairs = query_pairs("a=b");
    assert!(matches!(pairs.next(), Some((Cow::Borrowed("a"), Cow::Borrowed("b")))));
}

#[test]
fn a_query_is_read_as_a_form() {
    let cases: &[(&str, &[(&str, &str)])] = &[
        ("", &[]),
        ("a=1", &[("a", "1")]),
        ("a=1&b=2", &[("a", "1"), ("b", "2")]),
        ("b=2&a=1&b=3&a=1", &[("b", "2"), ("a", "1"), ("b", "3"), ("a", "1")]),
        ("a", &[("a", "")]),
        ("a=", &[("a", "")]),
        ("=1", &[("", "1")]),
        ("=", &[("", "")]),
        ("&", &[]),
        ("&&a=1&&&b=2&", &[("a", "1"), ("b", "2")]),
        ("a=b=c", &[("a", "b=c")]),
        ("a==", &[("a", "=")]),
        ("a=1;b=2", &[("a", "1;b=2")]),
        ("a?b=c?d", &[("a?b", "c?d")]),
        ("a+b=c+d", &[("a b", "c d")]),
        ("a%2Bb=c%20d", &[("a+b", "c d")]),
        ("a%3D1=b%26c", &[("a=1", "b&c")]),
        ("gr%C3%BC=%C3%9F", &[("grü", "ß")]),
        ("tags[]=a&tags[]=b", &[("tags[]", "a"), ("tags[]", "b")]),
        // What cannot be decoded stays, or becomes U+FFFD; a query never fails.
        ("a=100%", &[("a", "100%")]),
        ("a=%zz&%=%4", &[("a", "%zz"), ("%", "%4")]),
        ("a=%%41", &[("a", "%A")]),
        ("a=%FF", &[("a", "\u{fffd}")]),
        ("a=%C3b", &[("a", "\u{fffd}b")]),
        ("%FF%FE=+", &[("\u{fffd}\u{fffd}", " ")]),
        ("a=%00", &[("a", "\0")]),
        ("\u{fc}=\u{df}", &[("ü", "ß")]),
        ("\u{fc}%20=\u{df}%", &[("ü ", "ß%")]),
    ];
    for &(query, expected) in cases {
        let pairs: Vec<_> = query_pairs(query).collect();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        assert_eq!(pairs, expected, "{query}");
    }
}

#[test]
fn a_path_is_split_before_it_is_decoded() {
    for (path, segments) in [
        ("/", &[""] as &[&str]),
        ("/a", &["a"]),
        ("/a/", &["a", ""]),
        ("/a/b", &["a", "b"]),
        ("//", &["", ""]),
        ("//a//b", &["", "a", "", "b"]),
        ("/a%2Fb/c%20d", &["a/b", "c d"]),
        ("/./..", &[".", ".."]),
        ("/%2e%2E", &[".."]),
        ("/a+b", &["a+b"]),
        ("*", &["*"]),
        ("", &[""]),
    ] {
        let decoded: Result<Vec<_>, _> = path_segments(path).map(decode_segment).collect();
        assert_eq!(decoded.expect("all of these can be decoded"), segments, "{path}");
    }
    assert_eq!(decode_segment("a%2"), Err(UriError::PercentEncoding(1)));
}
