//! The IO thread: one current-thread runtime, on which every task of the server runs.
//!
//! Nothing here, nor anything that it calls, knows of Python: the thread cannot wait for the interpreter's lock.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::accept::accept_loop;
use crate::clock::Clock;
use crate::listener::Listener;
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
}

/// Starts the IO thread, listening on `listeners`. It ends when the server's phase says so.
pub(crate) fn spawn(server: Arc<Shared>, listeners: Vec<Listener>) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    std::thread::Builder::new().name("ushabti-io".to_owned()).spawn(move || {
        let clock = Clock::new(server.epoch, server.config.keep_alive);
        let io = Arc::new(Io {
            server,
            clock,
            buffer: Mutex::new(vec![0; BUFFER_BYTES].into_boxed_slice()),
            stop_accepting: Notify::new(),
        });
        runtime.block_on(run(&io, listeners));
        // Dropping the runtime drops the tasks that are left, and with them their connections.
    })
}

async fn run(io: &Arc<Io>, listeners: Vec<Listener>) {
    for listener in listeners {
        tokio::spawn(accept_loop(Arc::clone(io), listener));
    }
    let clock = Arc::clone(io);
    tokio::spawn(async move { clock.clock.run().await });
    loop {
        match io.server.phase() {
            Phase::Running => {}
            Phase::Draining => {
                io.stop_accepting.notify_waiters();
                for link in io.clock.links() {
                    link.drain();
                }
            }
            Phase::Closed => return,
        }
        io.server.phase_changed.notified().await;
    }
}
