//! Accepting connections: limits, and what happens when the system has no more descriptors to give.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{SockAddr, Socket};

use crate::clients::Entry;
use crate::connection::{Connection, Full};
use crate::io_thread::Io;
use crate::journal::Level;
use crate::link::Link;
use crate::listener::{Kind, Listener, Peer, watch};
use crate::server::Counted;
use crate::stats::Counters;

/// How long accepting rests when the system has run out of descriptors or memory. Without the rest the loop would
/// spin: the listener stays readable.
const PAUSE: Duration = Duration::from_millis(100);
/// So many connections are accepted before others have a turn.
const BATCH: u32 = 64;
/// Connections beyond the maximum that are told so. Beyond these they are closed unanswered: a descriptor each is
/// what the limit is there to save.
const REFUSED_MAX: usize = 64;

/// Accepts connections until the server stops; then empties the backlog and closes the listener.
pub(crate) async fn accept_loop(io: Arc<Io>, listener: Listener, _counted: Counted) {
    let Listener { socket, address, file, kind } = listener;
    let socket = match watch(socket) {
        Ok(socket) => socket,
        Err(problem) => {
            let message = format!("cannot wait for connections on {address}: {problem}");
            io.server.journal.notice(Level::Error, message);
            return;
        }
    };
    let mut stop = pin!(io.stop_accepting.notified());
    stop.as_mut().enable();
    let mut paused = false;
    loop {
        let stopping = io.server.is_draining();
        if !stopping {
            let mut ready = tokio::select! {
                ready = socket.readable() => match ready {
                    Ok(ready) => ready,
                    Err(_) => return,
                },
                () = &mut stop => continue,
            };
            ready.clear_ready();
        }
        // Everything that waits. When the server stops, these are clients whose connect has succeeded.
        for number in 1_u32.. {
            if number % BATCH == 0 {
                // A flood of connects must not hold up those that are connected.
                tokio::task::yield_now().await;
            }
            match socket.get_ref().accept() {
                Ok((connection, peer)) => {
                    if paused {
                        paused = false;
                        io.server.journal.notice(Level::Warning, format!("accepting again on {address}"));
                    }
                    admit(&io, connection, &peer, kind);
                }
                Err(problem) if problem.kind() == io::ErrorKind::WouldBlock => break,
                Err(problem) if is_exhaustion(&problem) => {
                    Counters::add(&io.server.counters.accept_pauses);
                    if !paused {
                        paused = true;
                        let message = format!(
                            "accepting on {address} pauses: {problem}; raise the limit (ulimit -n) or set max_connections"
                        );
                        io.server.journal.notice(Level::Warning, message);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Err(problem) if is_of_one_connection(&problem) => {}
                Err(problem) => {
                    let message = format!("nothing more is accepted on {address}: {problem}");
                    io.server.journal.notice(Level::Error, message);
                    return;
                }
            }
        }
        if stopping {
            // The socket is closed before its file goes: a name in the file system means that somebody listens.
            drop(socket);
            drop(file);
            return;
        }
    }
}

fn is_exhaustion(problem: &io::Error) -> bool {
    matches!(problem.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// The client has given up meanwhile, or its network has failed (accept(2)). Whatever else is wrong stays wrong.
fn is_of_one_connection(problem: &io::Error) -> bool {
    use libc::{ECONNABORTED, EHOSTDOWN, EHOSTUNREACH, EINTR, ENETDOWN, ENETUNREACH, ENOPROTOOPT, EPERM, EPROTO};
    matches!(
        problem.raw_os_error(),
        Some(ECONNABORTED | EHOSTDOWN | EHOSTUNREACH | EINTR | ENETDOWN | ENETUNREACH | ENOPROTOOPT | EPERM | EPROTO)
    )
}

fn admit(io: &Arc<Io>, socket: Socket, peer: &SockAddr, kind: Kind) {
    let server = &io.server;
    Counters::add(&server.counters.accepted);
    let open = server.counters.descriptors.load(Ordering::Relaxed);
    let full = open >= server.config.connections_max;
    if full && open >= server.config.connections_max + REFUSED_MAX {
        return;
    }
    let peer = Peer::from_sockaddr(peer);
    let prepared = socket.set_nonblocking(true).and_then(|()| match peer {
        // One write is one answer: waiting for more to send only delays it.
        Peer::Inet(_) => socket.set_tcp_nodelay(true),
        Peer::Unix => Ok(()),
    });
    let link = match prepared.and_then(|()| Link::new(socket, peer, Arc::clone(server))) {
        Ok(link) => Arc::new(link),
        Err(problem) => {
            server.journal.notice(Level::Warning, format!("{peer}: connection dropped: {problem}"));
            return;
        }
    };
    let bounded = server.config.client_connections_max.map(|most| io.clients.enter(&peer, most));
    let (full, slot) = match bounded.unwrap_or(Entry::Admitted(None)) {
        Entry::Admitted(slot) => (full.then_some(Full::Server), slot),
        Entry::Refused(slot) => (Some(Full::Client), slot),
        Entry::Ignored => return,
    };
    let connection = Connection::new(Arc::clone(io), link, slot, kind);
    match full {
        Some(full) => drop(tokio::spawn(connection.turn_away(full))),
        None => drop(tokio::spawn(connection.run())),
    }
}
