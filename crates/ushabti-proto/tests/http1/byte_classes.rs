//! Every byte in every place: which of the 256 may stand there, by the grammar written out once more.

use ushabti_proto::error::ProtocolError;
use ushabti_proto::fields::is_token_byte;

use crate::harness::{accepted, assert_refused, chunked, get, head};

/// What is said of a byte that stands between two others.
type Verdict = Result<(), ProtocolError>;

/// Puts each byte between the two parts of an input.
fn assert_each_byte(place: &str, input: impl Fn(&[u8]) -> Vec<u8>, verdict: impl Fn(u8) -> Verdict) {
    for byte in 0..=255 {
        let name = format!("byte 0x{byte:02x} in {place}");
        let input = input(&[byte]);
        match (verdict(byte), byte) {
            // In a head or a chunk line these two are never data.
            (_, b'\n') => assert_refused(&name, &input, ProtocolError::BareLineFeed),
            (Err(error), _) => assert_refused(&name, &input, error),
            (Ok(()), _) => {
                accepted(&name, &input);
            }
        }
    }
}

fn between(before: &str, byte: &[u8], after: &str) -> Vec<u8> {
    [before.as_bytes(), byte, after.as_bytes()].concat()
}

fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_reg_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

fn is_field_byte(byte: u8) -> bool {
    byte == b'\t' || (0x20..0x7f).contains(&byte) || byte >= 0x80
}

fn allow_if(is_allowed: bool, error: ProtocolError) -> Verdict {
    if is_allowed { Ok(()) } else { Err(error) }
}

#[test]
fn token_bytes() {
    for byte in 0..=255 {
        assert_eq!(is_token_byte(byte), is_tchar(byte), "0x{byte:02x}");
    }
}

#[test]
fn bytes_in_a_method() {
    assert_each_byte(
        "a method",
        |byte| head(between("G", byte, "T / HTTP/1.1"), &["Host: a"]),
        |byte| match byte {
            b' ' => Err(ProtocolError::RequestLineSyntax),
            b'\r' => Err(ProtocolError::BareCarriageReturn),
            _ => allow_if(is_tchar(byte), ProtocolError::MethodSyntax),
        },
    );
}

#[test]
fn bytes_in_a_path() {
    assert_each_byte(
        "a path",
        |byte| head(between("GET /a", byte, "b HTTP/1.1"), &["Host: a"]),
        |byte| match byte {
            b' ' => Err(ProtocolError::RequestLineSyntax),
            b'\r' => Err(ProtocolError::BareCarriageReturn),
            b'?' => Ok(()),
            _ => allow_if(is_reg_name_byte(byte) || b"%/:@[]|^".contains(&byte), ProtocolError::TargetSyntax(byte)),
        },
    );
}

#[test]
fn bytes_in_a_query() {
    for before in ["GET /?a", "GET http://a?"] {
        assert_each_byte(
            "a query",
            |byte| head(between(before, byte, "b HTTP/1.1"), &["Host: a"]),
            |byte| match byte {
                b' ' => Err(ProtocolError::RequestLineSyntax),
                b'\r' => Err(ProtocolError::BareCarriageReturn),
                _ => {
                    let is_allowed = is_reg_name_byte(byte) || b"%/:@[]|^?\\`{}".contains(&byte);
                    allow_if(is_allowed, ProtocolError::TargetSyntax(byte))
                }
            },
        );
    }
}

#[test]
fn bytes_in_the_authority_of_a_target() {
    assert_each_byte(
        "an authority",
        |byte| head(between("GET http://a", byte, "b/ HTTP/1.1"), &["Host: a"]),
        |byte| match byte {
            b' ' => Err(ProtocolError::RequestLineSyntax),
            b'\r' => Err(ProtocolError::BareCarriageReturn),
            b'/' | b'?' => Ok(()),
            // These may stand elsewhere in a target.
            b'%' | b':' | b'@' | b'[' | b']' | b'|' | b'^' | b'\\' | b'`' | b'{' | b'}' => {
                Err(ProtocolError::TargetAuthority)
            }
            _ => allow_if(is_reg_name_byte(byte), ProtocolError::TargetSyntax(byte)),
        },
    );
}

#[test]
fn bytes_in_host() {
    assert_each_byte(
        "Host",
        |byte| head("GET / HTTP/1.1", &[between("Host: a", byte, "b")]),
        |byte| match byte {
            b'\r' => Err(ProtocolError::BareCarriageReturn),
            _ if !is_field_byte(byte) => Err(ProtocolError::FieldValueSyntax(byte)),
            _ => allow_if(is_reg_name_byte(byte), ProtocolError::HostSyntax),
        },
    );
}

#[test]
fn bytes_in_a_field_name() {
    assert_each_byte(
        "a field name",
        |byte| get(between("X", byte, "Y: v")),
        |byte| match byte {
            b':' => Ok(()),
            b'\r' => Err(ProtocolError::BareCarriageReturn),
            _ => allow_if(is_tchar(byte), ProtocolError::FieldNameSyntax(byte)),
        },
    );
}

#[test]
fn bytes_in_a_field_value() {
    assert_each_byte(
        "a field value",
        |byte| get(between("X: a", byte, "b")),
        |byte| match byte {
            b'\r' => Err(ProtocolError::BareCarriageReturn),
            _ => allow_if(is_field_byte(byte), ProtocolError::FieldValueSyntax(byte)),
        },
    );
}

#[test]
fn bytes_in_a_trailer() {
    let verdict = |byte| match byte {
        b'\r' => Err(ProtocolError::BareCarriageReturn),
        _ => allow_if(is_field_byte(byte), ProtocolError::FieldValueSyntax(byte)),
    };
    assert_each_byte("a trailer", |byte| chunked(between("0\r\nX: a", byte, "b\r\n\r\n")), verdict);
}

#[test]
fn bytes_after_a_chunk_size() {
    assert_each_byte(
        "a chunk size",
        |byte| {
            // A size other than 0 gets data, which is too long for it.
            let data = if byte[0].is_ascii_hexdigit() && byte != b"0" { "x".repeat(20) } else { String::new() };
            chunked(between("0", byte, &format!("\r\n\r\n{data}")))
        },
        |byte| match byte {
            b'0' => Ok(()),
            _ if byte.is_ascii_hexdigit() => Err(ProtocolError::ChunkDataEnd),
            b'\r' => Err(ProtocolError::BareCarriageReturn),
            b' ' | b'\t' | b';' => Err(ProtocolError::ChunkExtensionSyntax(b'\r')),
            _ => Err(ProtocolError::ChunkSizeSyntax(byte)),
        },
    );
}

#[test]
fn bytes_in_the_name_of_an_extension() {
    assert_each_byte(
        "the name of an extension",
        |byte| chunked(between("0;a", byte, "b\r\n\r\n")),
        |byte| match byte {
            b'=' | b';' => Ok(()),
            b'\r' => Err(ProtocolError::BareCarriageReturn),
            b' ' | b'\t' => Err(ProtocolError::ChunkExtensionSyntax(b'b')),
            _ => allow_if(is_tchar(byte), ProtocolError::ChunkExtensionSyntax(byte)),
        },
    );
}

#[test]
fn bytes_in_the_value_of_an_extension() {
    assert_each_byte(
        "the value of an extension",
        |byte| chunked(between("0;a=b", byte, "c\r\n\r\n")),
        |byte| match byte {
            b';' => Ok(()),
            b'\r' => Err(ProtocolError::BareCarriageReturn),
            b' ' | b'\t' => Err(ProtocolError::ChunkExtensionSyntax(b'c')),
            _ => allow_if(is_tchar(byte), ProtocolError::ChunkExtensionSyntax(byte)),
        },
    );
}

#[test]
fn bytes_in_quotes() {
    let unless_control = |byte| allow_if(is_field_byte(byte), ProtocolError::ChunkExtensionSyntax(byte));
    assert_each_byte(
        "quotes",
        |byte| chunked(between("0;a=\"b", byte, "c\"\r\n\r\n")),
        |byte| if byte == b'"' { Err(ProtocolError::ChunkExtensionSyntax(b'c')) } else { unless_control(byte) },
    );
    assert_each_byte("a quoted pair", |byte| chunked(between("0;a=\"b\\", byte, "c\"\r\n\r\n")), unless_control);
}

/// Whatever content is, it ends where its size says.
#[test]
fn any_byte_is_content() {
    for byte in 0..=255 {
        let input = chunked([b"3\r\na", [byte].as_slice(), b"b\r\n0\r\n\r\n"].concat());
        assert_eq!(accepted("content", &input).content, [b'a', byte, b'b']);
    }
}
