//! Route tables: see `ushabti_fuzz::routes`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ushabti_fuzz::routes::check(input));
