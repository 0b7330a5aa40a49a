//! Threads that shake hands.
//!
//! A handshake costs a signature and a key exchange: some 150 us with an elliptic curve, 800 us with RSA. Two hundred clients that
//! come back at once would hold the IO thread for as long as no connection may wait. So the IO task of a connection
//! reads what the client sends, gives it away together with the state of the connection, and sends what comes back; sockets
//! stay with the IO thread. One step of one connection is with one thread, or in the queue, at a time.
//!
//! One more thread looks once a second whether the certificates on disk are others. A disk that does not answer must hold up
//! nobody, so no other thread looks.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustls::Error;
use tokio::sync::oneshot;

use super::{Session, Tls, TlsError};
use crate::jitter;
use crate::journal::Level;
use crate::link::Link;
use crate::server::Shared;

/// How often the files of the certificates are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often the log warns of the same certificate.
const WARN_AGAIN: Duration = Duration::from_secs(24 * 3600);
/// More threads would leave nothing for those that serve.
const THREADS_MAX: usize = 8;

/// One step of a handshake, done.
pub(crate) struct Step {
    pub(crate) session: Session,
    /// What is to be sent; also if it has failed.
    pub(crate) reply: Vec<u8>,
    /// The name that the client asked for.
    pub(crate) server_name: Option<String>,
    pub(crate) result: Result<(), Error>,
}

struct Job {
    session: Session,
    input: Vec<u8>,
    link: Arc<Link>,
    done: oneshot::Sender<Step>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

/// The steps that wait for a thread.
#[derive(Default)]
pub(crate) struct Handshakes {
    queue: Mutex<Queue>,
    wanted: Condvar,
    closed: Condvar,
}

impl Handshakes {
    /// Has the next step done with what the client has sent; `None` if the connection was given up meanwhile, or the server has
    /// stopped. IO task.
    pub(crate) async fn advance(&self, session: Session, input: Vec<u8>, link: &Arc<Link>) -> Option<Step> {
        let (done, step) = oneshot::channel();
        {
            let mut queue = self.queue.lock();
            if queue.is_closed {
                return None;
            }
            queue.jobs.push_back(Job { session, input, link: Arc::clone(link), done });
        }
        jitter::point();
        self.wanted.notify_one();
        step.await.ok()
    }

    /// Lets the threads go. Any thread.
    pub(crate) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.is_closed = true;
        let jobs = std::mem::take(&mut queue.jobs);
        drop(queue);
        drop(jobs);
        self.wanted.notify_all();
        self.closed.notify_all();
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            if queue.is_closed {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            self.wanted.wait(&mut queue);
        }
    }

    /// Waits for so long; true if the threads are to go.
    fn wait_closed(&self, time: Duration) -> bool {
        let mut queue = self.queue.lock();
        let until = Instant::now() + time;
        while !queue.is_closed && !self.closed.wait_until(&mut queue, until).timed_out() {}
        queue.is_closed
    }
}

/// Reads the certificates again, and has the log say what came of it. Any thread that may wait for a disk.
///
/// # Errors
///
/// See [`Tls::reload`].
pub fn reload(shared: &Shared, tls: &Tls) -> Result<(), TlsError> {
    let result = tls.reload();
    match &result {
        Ok(()) => {
            shared.journal.notice(Level::Info, "the certificates were read again and are used".to_owned());
            warn(shared, tls);
        }
        Err(problem) => {
            let message = format!("the certificates were read again, and the old ones stay: {}", problem.message);
            shared.journal.notice(Level::Error, message);
        }
    }
    result
}

/// Has the log warn of certificates that clients will soon refuse.
fn warn(shared: &Shared, tls: &Tls) {
    for warning in tls.warnings() {
        shared.journal.notice(Level::Warning, warning);
    }
}

/// Starts the threads. They end after [`Handshakes::close`].
pub(crate) fn spawn(shared: &Arc<Shared>, tls: &Arc<Tls>) -> io::Result<Vec<JoinHandle<()>>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut threads = Vec::new();
    for number in 0..(cores / 2).clamp(1, THREADS_MAX) {
        let shared = Arc::clone(shared);
        threads.push(std::thread::Builder::new().name(format!("ushabti-tls-{number}")).spawn(move || {
            while let Some(job) = shared.handshakes.next() {
                // A panic, which the hook has reported, ends this connection: nobody will come back to it.
                let _ = catch_unwind(AssertUnwindSafe(|| run(job)));
            }
        })?);
    }
    let (shared, tls) = (Arc::clone(shared), Arc::clone(tls));
    threads.push(std::thread::Builder::new().name("ushabti-tls-files".to_owned()).spawn(move || {
        // As it is with the start; later on every day, for servers that run for months.
        warn(&shared, &tls);
        let mut warned = Instant::now();
        while !shared.handshakes.wait_closed(LOOK) {
            if warned.elapsed() >= WARN_AGAIN {
                warned = Instant::now();
                warn(&shared, &tls);
            }
            if tls.has_changed() {
                // It was told.
                drop(reload(&shared, &tls));
            }
        }
    })?);
    Ok(threads)
}

fn run(Job { mut session, mut input, link, done }: Job) {
    if link.is_given_up() {
        return;
    }
    let mut reply = Vec::new();
    let result = session.receive(&mut input, &mut [], &mut reply).map(|_| ());
    let server_name = super::take_server_name();
    jitter::point();
    // The task may have ended meanwhile.
    drop(done.send(Step { session, reply, server_name, result }));
}
