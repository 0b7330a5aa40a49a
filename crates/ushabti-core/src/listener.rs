//! Addresses: what an operator writes, and the listening socket that comes of it.
//!
//! `host:port`, `[v6]:port`, `:port` (loopback), `unix:PATH` and `fd://N` (a socket that a service manager has opened).

use std::fmt;
use std::fs::Permissions;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::FromRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::unix::AsyncFd;

/// The rights on a private Unix socket.
const OWNER_ALONE: u32 = 0o600;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A TCP connection from this address.
    Inet(SocketAddr),
    /// A connection over a Unix socket.
    Unix,
}

impl Peer {
    pub(crate) fn from_sockaddr(address: &SockAddr) -> Self {
        // An IPv4 client of a dual-stack socket is shown as what it is, not as ::ffff:1.2.3.4.
        address.as_socket().map_or(Self::Unix, |inet| {
            let mut inet = inet;
            inet.set_ip(inet.ip().to_canonical());
            Self::Inet(inet)
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// What is spoken on the connections of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// HTTP.
    Plain,
    /// HTTP over TLS.
    Tls,
    /// HTTP; every request is told to come by TLS.
    Redirect,
}

/// Registers a socket with the event queue of the calling thread's runtime.
pub(crate) fn watch(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a `Socket` owns its descriptor, keeps it open and never changes it; nobody takes the socket out of the
    // `AsyncFd` again.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}

/// An address that cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    /// One sentence: the address, what is wrong with it, what to do.
    pub message: String,
    /// The system's error number, if the system refused.
    pub errno: Option<i32>,
}

impl BindError {
    fn form(address: &str, why: &str) -> Self {
        let message =
            format!("cannot listen on {address:?}: {why}; write HOST:PORT, [IPV6]:PORT, unix:PATH or fd://NUMBER");
        Self { message, errno: None }
    }

    fn system(address: &str, problem: &io::Error) -> Self {
        let path = address.strip_prefix("unix:").map(Path::new);
        let hint = match problem.raw_os_error() {
            Some(libc::EADDRINUSE) if path.is_some_and(|path| !is_socket(path)) => {
                ": there is a file of that name that is no socket; remove it or choose another path"
            }
            Some(libc::EADDRINUSE) if path.is_some() => {
                ": another process listens there; stop it or choose another path"
            }
            Some(libc::EADDRINUSE) => ": another process listens there; stop it or choose another port",
            Some(libc::EACCES) => ": not permitted; ports below 1024 and foreign folders need more rights",
            Some(libc::EADDRNOTAVAIL) => ": this machine has no such address",
            _ => "",
        };
        Self { message: format!("cannot listen on {address}{hint} ({problem})"), errno: problem.raw_os_error() }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for BindError {}

/// A listening socket, closed when dropped. A Unix socket's file goes with it.
#[derive(Debug)]
pub struct Listener {
    pub(crate) socket: Socket,
    /// The address as it was bound: with the port that the system chose if 0 was asked.
    pub address: String,
    /// What is spoken on its connections.
    pub(crate) kind: Kind,
    pub(crate) file: Option<SocketFile>,
}

impl Listener {
    /// The port, if it has one.
    pub(crate) fn port(&self) -> Option<u16> {
        self.socket.local_addr().ok()?.as_socket().map(|inet| inet.port())
    }
}

/// The name of a Unix socket in the file system, removed when dropped.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already: somebody else has removed it, which is no fault of this server.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Opens the listening sockets of one address as an operator writes it. A host name may stand for several. `is_private`: a
/// Unix socket can be connected to by its owner alone, from its first moment on.
///
/// # Errors
///
/// [`BindError`] when the text is no address or the system refuses it.
pub fn bind(address: &str, backlog: i32, is_private: bool) -> Result<Vec<Listener>, BindError> {
    if let Some(path) = address.strip_prefix("unix:") {
        return bind_unix(address, Path::new(path), backlog, is_private).map(|listener| vec![listener]);
    }
    if let Some(number) = address.strip_prefix("fd://") {
        return inherit(address, number).map(|listener| vec![listener]);
    }
    let (host, port) = address.rsplit_once(':').ok_or_else(|| BindError::form(address, "there is no port"))?;
    let port: u16 = port.parse().map_err(|_| BindError::form(address, "the port is no number from 0 to 65535"))?;
    let name = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').ok_or_else(|| BindError::form(address, "']' is missing"))?,
        None if host.contains(':') => return Err(BindError::form(address, "an IPv6 address stands in brackets")),
        None if host.is_empty() => "127.0.0.1",
        None => host,
    };
    let mut found: Vec<SocketAddr> =
        (name, port).to_socket_addrs().map_err(|_| BindError::form(address, "the host name is not known"))?.collect();
    found.sort_unstable();
    found.dedup();
    let count = found.len();
    let mut listeners = Vec::with_capacity(count);
    for inet in found {
        match bind_inet(inet, backlog) {
            Ok(listener) => listeners.push(listener),
            // `localhost` names ::1 also on machines whose IPv6 is switched off.
            Err(problem) if count > 1 && problem.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {}
            Err(problem) => return Err(BindError::system(&inet.to_string(), &problem)),
        }
    }
    if listeners.is_empty() {
        return Err(BindError::form(address, "this machine has none of the host's addresses"));
    }
    Ok(listeners)
}

fn bind_inet(address: SocketAddr, backlog: i32) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restarted server must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` next to `0.0.0.0` is two addresses, on every system alike.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    let bound = socket.local_addr()?.as_socket().map_or_else(String::new, |inet| inet.to_string());
    Ok(Listener { socket, address: bound, kind: Kind::Plain, file: None })
}

fn bind_unix(address: &str, path: &Path, backlog: i32, is_private: bool) -> Result<Listener, BindError> {
    let system = |problem: &io::Error| BindError::system(address, problem);
    if path.as_os_str().is_empty() {
        return Err(BindError::form(address, "the path is missing"));
    }
    let name = SockAddr::unix(path).map_err(|problem| system(&problem))?;
    let open = || Socket::new(Domain::UNIX, Type::STREAM, None);
    let socket = open().map_err(|problem| system(&problem))?;
    let stale = is_socket(path)
        && open().and_then(|probe| probe.connect(&name)).is_err_and(|problem| {
            // Only a refusal proves that nobody listens; a full queue or missing rights do not.
            problem.raw_os_error() == Some(libc::ECONNREFUSED)
        });
    if stale {
        std::fs::remove_file(path).map_err(|problem| system(&problem))?;
    }
    socket.bind(&name).map_err(|problem| system(&problem))?;
    let file = SocketFile(path.to_owned());
    // Nobody can connect before the call of listen.
    let permitted =
        if is_private { std::fs::set_permissions(path, Permissions::from_mode(OWNER_ALONE)) } else { Ok(()) };
    permitted
        .and_then(|()| socket.listen(backlog))
        .and_then(|()| socket.set_nonblocking(true))
        .map_err(|problem| system(&problem))?;
    Ok(Listener { socket, address: address.to_owned(), kind: Kind::Plain, file: Some(file) })
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

fn inherit(address: &str, number: &str) -> Result<Listener, BindError> {
    let number: i32 = number.parse().map_err(|_| BindError::form(address, "the descriptor is no number"))?;
    if number < 3 {
        return Err(BindError::form(address, "descriptors 0 to 2 are the standard streams"));
    }
    // SAFETY: fcntl with F_GETFD reads a flag of the descriptor and touches no memory.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(BindError::system(address, &io::Error::last_os_error()));
    }
    // SAFETY: the descriptor is open (checked above), and by naming it the operator has given it to this server.
    let socket = unsafe { Socket::from_raw_fd(number) };
    if !socket.is_listener().unwrap_or(false) {
        // Not this server's, then.
        std::mem::forget(socket);
        return Err(BindError::form(address, "it is no socket, or a socket that does not listen"));
    }
    let prepared = socket.set_nonblocking(true).and_then(|()| socket.set_cloexec(true));
    prepared.map_err(|problem| BindError::system(address, &problem))?;
    let local = socket.local_addr().map_err(|problem| BindError::system(address, &problem))?;
    let shown = local.as_socket().map_or_else(|| address.to_owned(), |inet| inet.to_string());
    Ok(Listener { socket, address: shown, kind: Kind::Plain, file: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_zero_becomes_the_chosen_one() {
        let listeners = bind("127.0.0.1:0", 16, false).expect("loopback can be bound");
        assert_eq!(listeners.len(), 1);
        let port: u16 = listeners[0].address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        assert_ne!(port, 0);
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, word) in [
            ("8080", "no port"),
            ("127.0.0.1:http", "0 to 65535"),
            ("127.0.0.1:70000", "0 to 65535"),
            ("::1:80", "brackets"),
            ("[::1:80", "missing"),
            ("unix:", "path"),
            ("fd://x", "number"),
            ("fd://1", "standard streams"),
            ("no-such-host.invalid:80", "not known"),
        ] {
            let problem = bind(text, 16, false).expect_err(text);
            assert!(problem.message.contains(word), "{text}: {problem}");
        }
    }

    #[test]
    fn a_taken_port_names_the_address_and_the_errno() {
        let first = bind("127.0.0.1:0", 16, false).expect("loopback can be bound");
        let problem = bind(&first[0].address, 16, false).expect_err("the port is taken");
        assert_eq!(problem.errno, Some(libc::EADDRINUSE));
        assert!(problem.message.contains(&first[0].address), "{problem}");
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_a_live_one_is_not() {
        let path = std::env::temp_dir().join(format!("ushabti-listener-{}.sock", std::process::id()));
        let address = format!("unix:{}", path.display());
        let mut first = bind(&address, 16, false).expect("a fresh path");
        let problem = bind(&address, 16, false).expect_err("somebody listens");
        assert_eq!(problem.errno, Some(libc::EADDRINUSE));
        assert!(problem.message.contains("stop it or choose another path"), "{problem}");
        std::mem::forget(first[0].file.take()); // as a crash leaves it
        drop(first);
        let second = bind(&address, 16, false).expect("nobody listens any more");
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_in_the_place_of_a_unix_socket_is_said_to_be_one() {
        let path = std::env::temp_dir().join(format!("ushabti-file-{}.sock", std::process::id()));
        std::fs::write(&path, "precious").expect("a folder to write to");
        let problem = bind(&format!("unix:{}", path.display()), 16, false).expect_err("a file is there");
        std::fs::remove_file(&path).expect("it is there");
        assert!(problem.message.contains("no socket; remove it or choose another path"), "{problem}");
    }

    #[test]
    fn a_private_unix_socket_is_its_owners_alone() {
        let path = std::env::temp_dir().join(format!("ushabti-private-{}.sock", std::process::id()));
        let address = format!("unix:{}", path.display());
        let listeners = bind(&address, 16, true).expect("a fresh path");
        let mode = std::fs::symlink_metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, OWNER_ALONE);
        drop(listeners);
        assert!(!path.exists());
    }
}
