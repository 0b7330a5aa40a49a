//! Random delays where a thread hands something over to another: what makes rare orders of events common.
//!
//! There are none in any build but that of `make stress-jitter`, which sets the cfg `ushabti_jitter`. A race needs a thread
//! that is held up between two steps while another goes through several; the scheduler does that once in a million times,
//! and these delays do it at once. They stand before and after the steps that the comments on hand-overs speak of.

/// A place where a thread may be held up. Any thread, also under a lock.
#[cfg(not(ushabti_jitter))]
#[inline]
pub(crate) const fn point() {}

/// A place where a thread is held up: mostly not at all, else for a turn of the scheduler or some microseconds.
#[cfg(ushabti_jitter)]
pub(crate) fn point() {
    use std::time::Duration;

    let random = random();
    match random % 32 {
        0..20 => {}
        20..28 => std::thread::yield_now(),
        // Long enough for another thread to go through all of its steps, woken ones included.
        28..31 => std::thread::sleep(Duration::from_micros((random >> 32) & 0x3f)),
        _ => std::thread::sleep(Duration::from_micros((random >> 32) & 0x3ff)),
    }
}

/// A number of Marsaglia's xorshift, which needs no lock: that would bring the threads into step.
#[cfg(ushabti_jitter)]
fn random() -> u64 {
    use std::cell::Cell;
    use std::collections::hash_map::RandomState;
    use std::hash::{BuildHasher, Hasher};

    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().build_hasher().finish() | 1);
    }
    // A thread that ends may hand things over when its locals are gone.
    let step = |state: &Cell<u64>| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        x
    };
    STATE.try_with(step).unwrap_or_default()
}
