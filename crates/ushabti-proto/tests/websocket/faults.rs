//! Each fault of a peer once: the bytes that make it, and the close code that tells it.

use std::collections::HashSet;
use std::mem::discriminant;

use ushabti_proto::websocket::WebSocketError;
use ushabti_proto::websocket::connection::check_close;

use crate::harness::{RULES, Rules, assert_refused_under, deflating, frame, limited};

/// In the order of [`WebSocketError`].
fn cases() -> Vec<(WebSocketError, u16, Rules, Vec<u8>)> {
    use WebSocketError as Fault;
    vec![
        (Fault::ReservedBits, 1002, RULES, frame(0xa1, "")),
        (Fault::Rsv1Misplaced, 1002, deflating(9), frame(0xc9, "")),
        (Fault::OpcodeReserved(0xf), 1002, RULES, frame(0x8f, "")),
        (Fault::ControlFragmented, 1002, RULES, frame(0x09, "")),
        (Fault::ControlTooLong, 1002, RULES, frame(0x89, [0; 126])),
        (Fault::Unmasked, 1002, RULES, b"\x81\x00".to_vec()),
        (Fault::LengthNotMinimal, 1002, RULES, b"\x81\xfe\0\0".to_vec()),
        (Fault::LengthOverflow, 1002, RULES, b"\x81\xff\x80\0\0\0\0\0\0\0".to_vec()),
        (Fault::NothingToContinue, 1002, RULES, frame(0x80, "")),
        (Fault::MessageInsideMessage, 1002, RULES, [frame(0x01, ""), frame(0x81, "")].concat()),
        (Fault::ClosePayload, 1002, RULES, frame(0x88, "x")),
        (Fault::CloseCode(1005), 1002, RULES, frame(0x88, 1005_u16.to_be_bytes())),
        (Fault::CloseReason, 1007, RULES, frame(0x88, b"\x03\xe8\xff")),
        (Fault::InvalidUtf8, 1007, RULES, frame(0x81, b"\xff")),
        (Fault::InvalidDeflate, 1007, deflating(9), frame(0xc1, b"\xff")),
        (Fault::MessageTooBig, 1009, limited(9), frame(0x82, [0; 10])),
    ]
}

#[test]
fn each_fault_has_bytes_that_make_it() {
    let mut seen = HashSet::new();
    for (error, close_code, rules, bytes) in cases() {
        assert!(seen.insert(discriminant(&error)), "{error:?} stands twice");
        assert_eq!(error.close_code(), close_code, "{error:?}");
        assert_refused_under(&rules, &format!("{error:?}"), &bytes, error);
    }
}

#[test]
fn each_fault_says_what_was_not_kept_to() {
    let mut sentences = HashSet::new();
    for (error, close_code, ..) in cases() {
        let section = error.section();
        assert!(section.starts_with("RFC 6455 section ") || section.starts_with("RFC 7692 section "), "{section}");
        assert!(sentences.insert(error.to_string()), "{error} stands twice");
        assert_eq!(check_close(close_code, &error.to_string()), Ok(()), "its sentence fits a Close frame");
    }
}
