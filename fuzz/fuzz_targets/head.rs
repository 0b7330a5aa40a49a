//! Request heads: see `ushabti_fuzz::head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ushabti_fuzz::head::check(input));
