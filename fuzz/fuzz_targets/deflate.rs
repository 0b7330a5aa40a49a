//! Compressed messages: see `ushabti_fuzz::deflate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ushabti_fuzz::deflate::check(input));
