//! Telling a forked child from the process that serves.
//!
//! A child that a handler forks has a copy of every object and none of the threads. The sockets are the parent's as much as
//! its own, and a lock may be held for ever by a thread that is not there. So whatever belongs to a server of the parent
//! does nothing in the child, before it touches a lock or a socket. A server that the child makes is its own.

use std::sync::atomic::{AtomicU32, Ordering};

/// How many forks lie between this process and the one in which the program began.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The generation of this process.
pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Says that this process has just been forked. Its only thread, before it does anything else.
pub fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}
