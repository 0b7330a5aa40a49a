//! The IO thread: one current-thread runtime, on which every task of the server runs.
//!
//! Nothing here, nor anything that it calls, knows of Python: the thread cannot wait for the interpreter's lock.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};

use crate::accept::{Counted, accept_loop};
use crate::clock::Clock;
use crate::listener::Listener;
use crate::queue::{TICK, Watch};
use crate::server::{Phase, Shared};

/// Size of the one read buffer, in bytes. A whole request fits; a larger one is read in several steps.
const BUFFER_BYTES: usize = 64 * 1024;

/// What the tasks of one IO thread share.
pub(crate) struct Io {
    pub(crate) server: Arc<Shared>,
    pub(crate) clock: Clock,
    /// Filled by a read and used up before the next: no task holds it across an await. The lock is never contended.
    pub(crate) buffer: Mutex<Box<[u8]>>,
    /// Told to every listener when the server begins to stop.
    pub(crate) stop_accepting: Notify,
    /// The queue is watched; set and cleared by this thread alone.
    watching: AtomicBool,
    watch: Notify,
}

impl Io {
    /// Has the queue watched from now on, until it says that this is no longer needed. IO thread.
    pub(crate) fn keep_watch(&self) {
        if !self.watching.load(Ordering::Relaxed) {
            self.watching.store(true, Ordering::Relaxed);
            self.watch.notify_one();
        }
    }

    async fn watch_queue(&self) {
        let mut watch = Watch::default();
        loop {
            self.watch.notified().await;
            loop {
                tokio::time::sleep(TICK).await;
                if !self.server.queue.tick(&mut watch) {
                    break;
                }
            }
            // No push comes between: pushes are this thread's own.
            self.watching.store(false, Ordering::Relaxed);
        }
    }
}

/// Starts the IO thread, listening on `listeners`. It ends when the server's phase says so.
pub(crate) fn spawn(server: Arc<Shared>, listeners: Vec<Listener>) -> io::Result<JoinHandle<()>> {
    let waiting = Arc::clone(&server);
    let listeners: Vec<_> = listeners.into_iter().map(|listener| (listener, Counted::new(&server))).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .on_thread_park(move || gather(&waiting))
        .build()?;
    std::thread::Builder::new().name("ushabti-io".to_owned()).spawn(move || {
        let _failing = Failing(Arc::clone(&server));
        sleep_exactly();
        let clock = Clock::new(server.epoch, server.config.keep_alive);
        let io = Arc::new(Io {
            server,
            clock,
            buffer: Mutex::new(vec![0; BUFFER_BYTES].into_boxed_slice()),
            stop_accepting: Notify::new(),
            watching: AtomicBool::new(false),
            watch: Notify::new(),
        });
        runtime.block_on(run(&io, listeners));
        // Dropping the runtime drops the tasks that are left, and with them their connections.
    })
}

async fn run(io: &Arc<Io>, listeners: Vec<(Listener, Counted)>) {
    // The tasks without which the server would be half dead.
    let mut vital = JoinSet::new();
    for (listener, counted) in listeners {
        vital.spawn(accept_loop(Arc::clone(io), listener, counted));
    }
    let clock = Arc::clone(io);
    vital.spawn(async move { clock.clock.run().await });
    let watch = Arc::clone(io);
    vital.spawn(async move { watch.watch_queue().await });
    let mut told = false;
    loop {
        match io.server.phase() {
            Phase::Running => {}
            Phase::Draining if told => {}
            Phase::Draining => {
                told = true;
                io.stop_accepting.notify_waiters();
                for link in io.clock.links() {
                    link.drain();
                }
            }
            Phase::Closed => return,
        }
        tokio::select! {
            () = io.server.phase_changed.notified() => {}
            Some(ended) = vital.join_next() => match ended.map_err(JoinError::try_into_panic) {
                Err(Ok(panic)) => std::panic::resume_unwind(panic),
                // A listener that can accept no more has said why. Deaf, the server would look alive to who watches it.
                Ok(()) if io.server.phase() == Phase::Running => {
                    io.server.fail("a listener has failed: the server stops");
                    return;
                }
                _ => {}
            },
        }
    }
}

/// Ends the server when its IO thread ends by a panic, which the panic hook has reported: connections are cut, workers let
/// go, and the owner is told.
struct Failing(Arc<Shared>);

impl Drop for Failing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("the IO thread has failed: the server stops");
        }
    }
}

/// Lets requests gather before the thread waits for events, while the workers have enough to do.
///
/// Woken for each request as it comes, this thread would cost two context switches for each, and on a machine whose cores
/// are all busy it would take the core from the very worker that it works for. What is read later is not answered later:
/// it only waits in the socket instead of the queue.
fn gather(server: &Shared) {
    if let Some(time) = server.queue.slack() {
        std::thread::sleep(time);
    }
}

/// Lets short sleeps of the calling thread end in time; the system rounds them up to 50 us otherwise.
fn sleep_exactly() {
    // SAFETY: the call sets a number of the calling thread and touches no memory.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1_000_u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Level;

    #[test]
    fn a_panic_of_the_thread_ends_the_server() {
        let server = Arc::new(Shared::for_tests());
        let failing = Failing(Arc::clone(&server));
        let thread = std::thread::spawn(move || {
            let _failing = failing;
            std::panic::resume_unwind(Box::new("a broken invariant"));
        });
        assert!(thread.join().is_err());
        assert!(server.has_failed() && server.queue.is_closed());
        let batch = server.journal.take().expect("it was told");
        assert_eq!(batch.notices[0].0, Level::Error);
    }

    #[test]
    fn a_thread_that_ends_in_good_order_fails_nothing() {
        let server = Arc::new(Shared::for_tests());
        drop(Failing(Arc::clone(&server)));
        assert!(!server.has_failed() && !server.queue.is_closed());
    }
}
