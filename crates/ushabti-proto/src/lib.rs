//! The protocols of ushabti: bytes in, events out.
#![forbid(unsafe_code)]
