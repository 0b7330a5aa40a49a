//! HTTP connections: see `ushabti_fuzz::http`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ushabti_fuzz::http::check(input));
