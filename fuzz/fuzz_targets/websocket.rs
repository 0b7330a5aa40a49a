//! WebSocket connections: see `ushabti_fuzz::websocket`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ushabti_fuzz::websocket::check(input));
