//! Heads and frames of HTTP/2: see `ushabti_fuzz::http2`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ushabti_fuzz::http2::check(input));
