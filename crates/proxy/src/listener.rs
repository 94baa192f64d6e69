//! Where clients come in.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use service_mesh::{ListenAddress, ListenerLimitsConfig};
use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::socket_file::{self, SocketFile};
use crate::wire::Socket;

/// What one listener is called, and what it allows. All threads share it.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) name: String,
    pub(crate) limits: ListenerLimitsConfig,
    clients: Arc<Clients>,
}

/// The clients of the listeners of one name, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    /// Ordering: Relaxed; it publishes nothing.
    connected: AtomicU32,
    /// Ordering: Relaxed; a count that is told.
    turned_away: AtomicU64,
}

/// A client that is connected, until this is dropped.
#[derive(Debug)]
pub(crate) struct Connected(Arc<Listener>);

/// A bound socket that no thread serves yet.
#[derive(Debug)]
pub(crate) enum Bound {
    Tcp(std::net::TcpListener),
    Unix(StdUnixListener, Arc<SocketFile>),
}

/// A bound socket in the hands of a thread.
#[derive(Debug)]
pub(crate) enum Accepting {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// Goes when the last thread does.
        _file: Arc<SocketFile>,
    },
}

/// So many connections wait to be accepted. Linux cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Binds a socket for each of `threads` threads. Those of one TCP port share it, and the system spreads the connections
/// among them.
pub(crate) fn bind(address: &ListenAddress, threads: usize) -> io::Result<Vec<Bound>> {
    match address {
        ListenAddress::Tcp(address) => {
            let first = bind_tcp(*address)?;
            // Port 0 is any: the others must have the same.
            let address = first.local_addr()?;
            let others = (1..threads).map(|_| bind_tcp(address));
            std::iter::once(Ok(first)).chain(others).map(|socket| socket.map(Bound::Tcp)).collect()
        }
        ListenAddress::Unix(path) => {
            let (socket, file) = socket_file::bind(path)?;
            let file = Arc::new(file);
            (0..threads).map(|_| socket.try_clone().map(|socket| Bound::Unix(socket, Arc::clone(&file)))).collect()
        }
        other => Err(io::Error::new(io::ErrorKind::Unsupported, format!("{other} is of an unknown kind"))),
    }
}

/// Looks whether somebody listens there already. Sockets that share a port do not mind each other, not even those of
/// another process: without this look a second sidecar would take half of the first one's clients.
///
/// # Errors
/// The address is taken, or is none of this machine's.
pub(crate) fn look(address: &ListenAddress) -> io::Result<()> {
    let ListenAddress::Tcp(address) = address else { return Ok(()) };
    let socket = RawSocket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))?;
    // What is left of connections that have ended is nobody.
    socket.set_reuse_address(true)?;
    socket.bind(&(*address).into())
}

fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

impl Bound {
    /// Where it listens; none for a Unix socket.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    /// Hands it to the runtime of this thread.
    pub(crate) fn accepting(self) -> io::Result<Accepting> {
        match self {
            Self::Tcp(socket) => TcpListener::from_std(socket).map(Accepting::Tcp),
            Self::Unix(socket, file) => {
                UnixListener::from_std(socket).map(|listener| Accepting::Unix { listener, _file: file })
            }
        }
    }
}

impl Accepting {
    /// The next connection.
    pub(crate) async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => {
                let (socket, _) = listener.accept().await?;
                // An answer is written in one piece; there is nothing to wait for. Where that cannot be said, because the
                // client is gone again, reading will tell.
                let _ = SockRef::from(&socket).set_tcp_nodelay(true);
                Ok(Socket::Tcp(socket))
            }
            Self::Unix { listener, .. } => listener.accept().await.map(|(socket, _)| Socket::Unix(socket)),
        }
    }
}

impl Listener {
    pub(crate) fn new(name: &str, limits: ListenerLimitsConfig, clients: Arc<Clients>) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), limits, clients })
    }

    /// Counts a client; none if there are as many as there may be.
    pub(crate) fn connect(self: &Arc<Self>) -> Option<Connected> {
        let limit = self.limits.connections();
        let count = |count| (count < limit).then_some(count + 1);
        let counted = self.clients.connected.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
        if counted.is_err() {
            self.clients.turned_away.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(Connected(Arc::clone(self)))
    }
}

impl Clients {
    /// Those that are connected.
    pub(crate) fn connected(&self) -> u32 {
        self.connected.load(Ordering::Relaxed)
    }

    /// How many were disconnected at once, since there were as many as there may be.
    pub(crate) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.clients.connected.fetch_sub(1, Ordering::Relaxed);
    }
}
