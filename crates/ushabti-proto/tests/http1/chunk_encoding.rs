//! Chunks of responses (RFC 9112 section 7.1).

use ushabti_proto::http1::encode::{LAST_CHUNK, encode_chunk};

#[test]
fn a_chunk_is_its_size_in_hexadecimal_and_its_data() {
    for size in [
        1, 2, 9, 10, 15, 16, 17, 31, 32, 159, 160, 255, 256, 257, 4095, 4096, 4097, 65_535, 65_536, 65_537, 0xf_ffff,
        0x10_0000,
    ] {
        let data = vec![b'x'; size];
        let mut out = b"before".to_vec();
        encode_chunk(&mut out, &data);
        let expected = [b"before", format!("{size:x}\r\n").as_bytes(), data.as_slice(), b"\r\n"].concat();
        assert!(out == expected, "{size}: begins with {:?}", String::from_utf8_lossy(&out[..out.len().min(20)]));
    }
}

#[test]
fn no_data_is_no_chunk() {
    let mut out = b"before".to_vec();
    encode_chunk(&mut out, b"");
    assert_eq!(out, b"before", "a chunk of size 0 would end the body");
}

#[test]
fn the_last_chunk_ends_the_body_without_trailers() {
    assert_eq!(LAST_CHUNK, b"0\r\n\r\n");
}
