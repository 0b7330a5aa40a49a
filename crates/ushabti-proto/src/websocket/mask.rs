//! Masking (RFC 6455 section 5.3): each byte is combined with one of the four bytes of the key, in turn.

/// Unmasks `payload` in place; masks it likewise, since the operation is its own inverse.
///
/// `position` is that of the first byte in the payload of its frame: a frame may come in any pieces.
///
/// ```
/// use ushabti_proto::websocket::mask::apply_mask;
///
/// let mut payload = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
/// apply_mask(&mut payload, [0x37, 0xfa, 0x21, 0x3d], 0);
/// assert_eq!(&payload, b"Hello");
/// ```
pub fn apply_mask(payload: &mut [u8], key: [u8; 4], position: u64) {
    let mut key = key;
    key.rotate_left((position % 4) as usize);
    // Eight bytes at a time, which the compiler makes into vectors; the order of bytes in a word does not matter, as
    // long as it is the same for both.
    let word = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let mut words = payload.chunks_exact_mut(8);
    for bytes in &mut words {
        let mut masked = [0; 8];
        masked.copy_from_slice(bytes);
        bytes.copy_from_slice(&(u64::from_ne_bytes(masked) ^ word).to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}
