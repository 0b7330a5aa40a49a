//! The grammar of fields by itself. What heads make of it is tested in `http1`.

use ushabti_proto::error::ProtocolError;
use ushabti_proto::fields::{forbidden_value_byte, is_token, list_elements, parse_field_line, trim_ows};

#[test]
fn a_token_has_at_least_one_byte_and_no_delimiter() {
    for token in ["a", "Z", "0", "X-Test", "!#$%&'*+-.^_`|~"] {
        assert!(is_token(token.as_bytes()), "{token}");
    }
    for other in ["", " ", "a b", "a\t", "a\0", "a\u{7f}", "\u{fc}", "(", ")", "<", ">", "@", ",", ";", ":", "\\", "\""]
    {
        assert!(!is_token(other.as_bytes()), "{other}");
    }
    for delimiter in "/[]?={}".bytes() {
        assert!(!is_token(&[b'a', delimiter]), "{delimiter}");
    }
}

#[test]
fn only_space_and_tab_are_white_space() {
    for (text, trimmed) in [
        (b"".as_slice(), b"".as_slice()),
        (b" ", b""),
        (b" \t \t", b""),
        (b"a", b"a"),
        (b" a", b"a"),
        (b"a\t", b"a"),
        (b"\t a \t b \t", b"a \t b"),
        (b"\x0ba\x0c", b"\x0ba\x0c"),
        (b"\ra\n", b"\ra\n"),
        (b"\xa0a\x85", b"\xa0a\x85"),
        (b" \0 ", b"\0"),
    ] {
        assert_eq!(trim_ows(text), trimmed);
    }
}

#[test]
fn the_first_control_character_is_found_wherever_it_stands() {
    for byte in 0..=255_u8 {
        let is_control = (byte < 0x20 && byte != b'\t') || byte == 0x7f;
        for length in [1, 2, 15, 16, 17, 100] {
            for at in [0, length / 2, length - 1] {
                let mut value = vec![b'v'; length];
                value[at] = byte;
                assert_eq!(
                    forbidden_value_byte(&value),
                    is_control.then_some(byte),
                    "0x{byte:02x} at {at} of {length}"
                );
            }
        }
    }
    assert_eq!(forbidden_value_byte(b""), None);
    assert_eq!(forbidden_value_byte(b"a\x02b\x01"), Some(0x02));
}

#[test]
fn empty_elements_of_a_list_are_skipped() {
    for (value, elements) in [
        ("", &[] as &[&str]),
        (",", &[]),
        (" , ,\t", &[]),
        ("a", &["a"]),
        ("a,b", &["a", "b"]),
        (" a ,\tb,, c d ,", &["a", "b", "c d"]),
        ("a;b=c, d", &["a;b=c", "d"]),
    ] {
        let found: Vec<&[u8]> = list_elements(value.as_bytes()).collect();
        assert_eq!(found, elements.iter().map(|element| element.as_bytes()).collect::<Vec<_>>(), "{value}");
    }
}

#[test]
fn a_line_is_a_name_a_colon_and_a_value() {
    for (line, name, value) in [("a:b", "a", "b"), ("A-1: b c ", "A-1", "b c"), ("a:", "a", ""), ("a:\t:", "a", ":")] {
        assert_eq!(parse_field_line(line.as_bytes()), Ok((name.as_bytes(), value.as_bytes())), "{line}");
    }
    for (line, error) in [
        ("", ProtocolError::FieldWithoutColon),
        ("a", ProtocolError::FieldWithoutColon),
        (":", ProtocolError::FieldNameEmpty),
        (" ", ProtocolError::LineFolding),
        ("\ta: b", ProtocolError::LineFolding),
        ("a :b", ProtocolError::SpaceBeforeColon),
        ("a b:c", ProtocolError::FieldNameSyntax(b' ')),
        ("a ", ProtocolError::FieldNameSyntax(b' ')),
        ("a@b: c", ProtocolError::FieldNameSyntax(b'@')),
        ("a: b\rc", ProtocolError::FieldValueSyntax(b'\r')),
    ] {
        assert_eq!(parse_field_line(line.as_bytes()), Err(error), "{line}");
    }
}
