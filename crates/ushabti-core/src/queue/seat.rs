//! A worker's place in the queue: how it sleeps, how it is woken, and what the system has counted for its thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A worker that has computed for so long in one turn was at work. A turn has many quick handlers.
const COMPUTED: Duration = Duration::from_micros(800);

/// A worker's place in the queue. One for each worker thread, which alone calls [`Queue::take`] with it.
pub struct Seat {
    /// From 1 on.
    pub(super) number: u32,
    thread: Thread,
    woken: AtomicBool,
    /// Its worker is the searcher. Set and read by that worker alone.
    pub(super) searching: AtomicBool,
    /// What the system had counted for the thread when its turn began. Its worker's alone.
    usage: Mutex<ThreadUsage>,
}

impl Seat {
    /// A seat for the calling thread.
    pub(super) fn new(number: u32) -> Self {
        Self {
            number,
            thread: std::thread::current(),
            woken: AtomicBool::new(false),
            searching: AtomicBool::new(false),
            usage: Mutex::new(ThreadUsage::now()),
        }
    }

    /// Says that the worker has woken, or come to run, before the jobs that it takes from here on. Worker.
    pub fn note_usage(&self) {
        *self.usage.lock() = ThreadUsage::now();
    }

    /// Whether the worker has computed for long or waited for something since its turn began. If not, it has only been
    /// kept from running, by others who have the cores, and what took long was no fault of the handler.
    pub(super) fn was_at_work(&self) -> bool {
        let (before, now) = (*self.usage.lock(), ThreadUsage::now());
        now.waits != before.waits || now.computed.saturating_sub(before.computed) > COMPUTED
    }

    pub(super) fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }

    /// Waits until woken, or until `patience` is over. True: woken.
    pub(super) fn wait(&self, patience: Option<Duration>) -> bool {
        let until = patience.and_then(|patience| Instant::now().checked_add(patience));
        loop {
            if self.woken.swap(false, Ordering::Acquire) {
                return true;
            }
            match until {
                None => std::thread::park(),
                Some(until) => match until.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => std::thread::park_timeout(left),
                    _ => return self.woken.swap(false, Ordering::Acquire),
                },
            }
        }
    }
}

/// What the system has counted for one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ThreadUsage {
    /// How often it has given the core away to wait for something.
    waits: i64,
    computed: Duration,
}

impl ThreadUsage {
    // Miri, which looks for data races in the queue's tests, knows no such count.
    #[cfg(all(target_os = "linux", not(miri)))]
    fn now() -> Self {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: getrusage fills the structure it is given, and zeroes are a valid one if it should fail.
        let usage = unsafe {
            libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
            usage.assume_init()
        };
        let micros = |part: libc::timeval| part.tv_sec * 1_000_000 + part.tv_usec;
        let computed = micros(usage.ru_utime) + micros(usage.ru_stime);
        Self { waits: usage.ru_nvcsw, computed: Duration::from_micros(computed.unsigned_abs()) }
    }

    /// Elsewhere there is no count for one thread: whatever takes long counts as work.
    #[cfg(not(all(target_os = "linux", not(miri))))]
    fn now() -> Self {
        use std::sync::atomic::AtomicI64;
        static CALLS: AtomicI64 = AtomicI64::new(0);
        Self { waits: CALLS.fetch_add(1, Ordering::Relaxed), computed: Duration::ZERO }
    }
}
