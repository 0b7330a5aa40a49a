//! Opening handshakes of WebSockets: see `ushabti_fuzz::handshake`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ushabti_fuzz::handshake::check(input));
