//! Chunked bodies: see `ushabti_fuzz::chunked`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ushabti_fuzz::chunked::check(input));
