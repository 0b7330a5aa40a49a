//! The IO thread: one current-thread runtime, on which every task of the server runs.
//!
//! Nothing here, nor anything that it calls, knows of Python: the thread cannot wait for the interpreter's lock.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use ushabti_proto::websocket::deflate::Inflaters;
use ushabti_proto::websocket::message::Message;

use crate::accept::accept_loop;
use crate::channel::Channel;
use crate::clients::Clients;
use crate::clock::Clock;
use crate::connection::Unfinished;
use crate::listener::Listener;
use crate::queue::{SLOW_TICK, TICK, Watch};
use crate::server::{Counted, Phase, Shared};

/// Size of the one read buffer, in bytes. A whole request fits; a larger one is read in several steps.
const BUFFER_BYTES: usize = 64 * 1024;

/// WebSockets are told that the server stops in so many steps, but no fewer than these at a time.
const DRAIN_STEPS: usize = 30;
const DRAIN_AT_ONCE: usize = 500;
const DRAIN_STEP: Duration = Duration::from_millis(100);

/// How often the thread gives its core away, while a few jobs wait, before it waits for events.
const YIELDS: u32 = 2;

/// What the tasks of one IO thread share.
pub(crate) struct Io {
    pub(crate) server: Arc<Shared>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) clients: Arc<Clients>,
    /// Filled by a read and used up before the next: no task holds it across an await. The lock is never contended.
    pub(crate) buffer: Mutex<Box<[u8]>>,
    /// Told to every listener when the server begins to stop.
    pub(crate) stop_accepting: Notify,
    /// TLS handshakes that have not ended.
    pub(crate) unfinished: Mutex<Unfinished>,
    /// What the tasks of WebSockets use in turn, as they do the buffer.
    pub(crate) frames: Mutex<FrameTools>,
}

/// What reading the frames of one socket needs for the moment.
#[derive(Default)]
pub(crate) struct FrameTools {
    pub(crate) inflaters: Inflaters,
    pub(crate) replies: Vec<u8>,
    pub(crate) messages: Vec<Message>,
}

impl Io {
    async fn watch_queue(&self) {
        let lanes = &self.server.lanes;
        let mut watches: Vec<_> = lanes.iter().map(|_| Watch::default()).collect();
        loop {
            self.server.watch.notified().await;
            loop {
                let is_slow = watches.iter().any(Watch::is_stuck)
                    && watches.iter().all(|watch| watch.is_stuck() || watch.is_calm())
                    && self.server.gathering.is_empty();
                tokio::time::sleep(if is_slow { SLOW_TICK } else { TICK }).await;
                self.server.gathering.tick();
                let mut goes_on = false;
                for (lane, watch) in lanes.iter().zip(&mut watches) {
                    goes_on |= lane.queue.tick(watch);
                }
                if !goes_on && !self.server.must_watch_on() {
                    break;
                }
            }
        }
    }
}

/// After so many turns of tasks the sockets are looked at. Who lets others have a turn waits behind those that are ready by then,
/// and the workers of a few connections can keep their tasks ready all the time: with 61, as tokio has it, a new request then
/// waited for as many turns. With 8, requests one by one over HTTP/2 cost some 4 % more; with 16, none that shows.
const POLLS_IN_A_ROW: u32 = 16;

/// Starts the IO thread, listening on `listeners`. It ends when the server's phase says so.
pub(crate) fn spawn(server: Arc<Shared>, listeners: Vec<Listener>) -> io::Result<JoinHandle<()>> {
    let waiting = Arc::clone(&server);
    let listeners: Vec<_> = listeners.into_iter().map(|listener| (listener, Counted::new(&server))).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .event_interval(POLLS_IN_A_ROW)
        .enable_io()
        .enable_time()
        .on_thread_park(move || gather(&waiting))
        .build()?;
    std::thread::Builder::new().name("ushabti-io".to_owned()).spawn(move || {
        let _failing = Failing(Arc::clone(&server));
        // Dropped before that: its tasks still have ends to tell.
        let runtime = runtime;
        sleep_exactly();
        let clock = Arc::clone(&server.clock);
        let io = Arc::new(Io {
            server,
            clock,
            clients: Arc::default(),
            buffer: Mutex::new(vec![0; BUFFER_BYTES].into_boxed_slice()),
            stop_accepting: Notify::new(),
            unfinished: Mutex::default(),
            frames: Mutex::default(),
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
                drain(io);
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

/// Says to all connections that the server stops: to those of HTTP at once, to WebSockets one after the other over some
/// seconds, or all their clients would come back at the same moment, to wherever they are sent.
fn drain(io: &Arc<Io>) {
    let (sockets, others): (Vec<_>, Vec<_>) = io.clock.channels().into_iter().partition(Channel::is_upgraded);
    for connection in others {
        connection.drain();
    }
    let at_once = (sockets.len() / DRAIN_STEPS).max(DRAIN_AT_ONCE);
    tokio::spawn(async move {
        for some in sockets.chunks(at_once) {
            for socket in some {
                socket.drain();
            }
            tokio::time::sleep(DRAIN_STEP).await;
        }
    });
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
    if let Some(time) = server.lanes.iter().find_map(|lane| lane.queue.slack()) {
        std::thread::sleep(time);
    } else if server.has_work_in_hand() {
        // Few jobs are soon done, and what comes of them often brings the next event: to be woken for that takes longer.
        for _ in 0..YIELDS {
            std::thread::yield_now();
        }
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
        assert!(server.has_failed() && server.lanes[0].queue.is_closed());
        let batch = server.journal.take().expect("it was told");
        assert_eq!(batch.notices[0].0, Level::Error);
    }

    #[test]
    fn a_thread_that_ends_in_good_order_fails_nothing() {
        let server = Arc::new(Shared::for_tests());
        drop(Failing(Arc::clone(&server)));
        assert!(!server.has_failed() && !server.lanes[0].queue.is_closed());
    }
}
