//! Masking (RFC 6455 section 5.3), against the loop of the RFC.

use ushabti_proto::websocket::mask::apply_mask;

fn masked(payload: &[u8], key: [u8; 4], position: usize) -> Vec<u8> {
    payload.iter().enumerate().map(|(at, byte)| byte ^ key[(position + at) % 4]).collect()
}

#[test]
fn every_alignment_length_and_position_is_as_in_the_rfc() {
    let key = [0x12, 0x34, 0x56, 0x78];
    let bytes: Vec<u8> = (0..=255).collect();
    for start in 0..16 {
        for length in 0..64 {
            for position in 0..9 {
                let mut payload = bytes.clone();
                apply_mask(&mut payload[start..start + length], key, position as u64);
                assert_eq!(payload[..start], bytes[..start], "before the payload");
                assert_eq!(
                    payload[start..start + length],
                    masked(&bytes[start..start + length], key, position),
                    "{length} bytes at {start}, position {position}"
                );
                assert_eq!(payload[start + length..], bytes[start + length..], "behind the payload");
            }
        }
    }
}

#[test]
fn positions_beyond_32_bits_count() {
    let mut payload = *b"abcde";
    apply_mask(&mut payload, [1, 2, 3, 4], (1 << 40) + 3);
    assert_eq!(payload.as_slice(), masked(b"abcde", [1, 2, 3, 4], 3));
}

#[test]
fn masking_twice_changes_nothing() {
    let bytes: Vec<u8> = (0..100).collect();
    let mut payload = bytes.clone();
    for _ in 0..2 {
        apply_mask(&mut payload, [9, 8, 7, 6], 5);
    }
    assert_eq!(payload, bytes);
}
