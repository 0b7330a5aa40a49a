//! Percent-encoding, queries and hosts: see `ushabti_fuzz::uri`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ushabti_fuzz::uri::check(input));
