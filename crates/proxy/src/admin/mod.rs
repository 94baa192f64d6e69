//! The sidecar's own pages, on a listener of their own.
//!
//! | request | what it does |
//! |---|---|
//! | `GET /live` | 200 for as long as the process answers |
//! | `GET /ready` | 200 while it serves, 503 from the moment on at which it is told to end |
//! | `GET /metrics` | Prometheus' text |
//! | `GET /snapshot` | services, instances, circuits, budgets, discovery, reloads: JSON |
//! | `GET /explain?service=NAME` | the stories of recent calls, the latest first |
//! | `POST /ACTION?service=NAME&instance=ID` | `drain`, `undrain`, `mark_healthy`, `mark_unhealthy`, `force_open`, `force_closed`, `reset` |
//!
//! Who may come is decided in [`gate`], before anything else is looked at. Whatever is refused is told as JSON.

mod action;
mod gate;
mod pages;
mod snapshot;
mod stories;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use service_mesh::{AdminConfig, ListenAddress};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use self::gate::Gate;
pub(crate) use self::stories::Stories;
use crate::control::Surroundings;
use crate::socket_file::{self, SocketFile};

/// Connections at once. Whoever comes beyond that waits.
const CONNECTIONS_MAX: usize = 64;

/// How long a client may take to send a head, and may stay without a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection lasts, so that its place comes free: whoever asks but does not read would keep it.
const LIFE: Duration = Duration::from_secs(60);

/// How long it may then take to finish an answer.
const LAST: Duration = Duration::from_secs(10);

/// The largest head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How long nobody is let in after the system had nothing left to let somebody in with.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The pages, being served. Dropped, it serves them no more; requests in flight are answered.
#[derive(Debug)]
pub(crate) struct Admin {
    config: AdminConfig,
    address: ListenAddress,
    gate: Arc<ArcSwap<Gate>>,
    task: AbortHandle,
    /// Goes with it.
    _file: Option<SocketFile>,
}

/// A listener that nobody is let in by yet.
pub(crate) struct Bound {
    config: AdminConfig,
    address: ListenAddress,
    listener: Listener,
    file: Option<SocketFile>,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Bound {
    /// Binds the address. Must run in a tokio runtime.
    ///
    /// A Unix socket that nobody listens at is replaced, and only the user of this process may connect to the new one.
    pub(crate) fn bind(config: &AdminConfig) -> io::Result<Self> {
        let (listener, address, file) = match &config.address {
            ListenAddress::Tcp(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                (Listener::Tcp(TcpListener::from_std(listener)?), address.into(), None)
            }
            ListenAddress::Unix(path) => {
                let (listener, file) = socket_file::bind(path)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
                (Listener::Unix(UnixListener::from_std(listener)?), config.address.clone(), Some(file))
            }
            other => return Err(io::Error::new(io::ErrorKind::Unsupported, format!("cannot listen at {other}"))),
        };
        Ok(Self { config: config.clone(), address, listener, file })
    }

    /// Begins to serve the pages there.
    pub(crate) fn serve(self, surroundings: &Arc<Surroundings>) -> Admin {
        let Self { config, address, listener, file } = self;
        let gate = Arc::new(ArcSwap::from_pointee(Gate::new(&config)));
        let task = tokio::spawn(accept(listener, Arc::clone(&gate), Arc::clone(surroundings)));
        Admin { config, address, gate, task: task.abort_handle(), _file: file }
    }
}

impl Admin {
    /// What it serves by.
    pub(crate) fn config(&self) -> &AdminConfig {
        &self.config
    }

    /// Where it listens: where the configuration asked for any port, the one that it is.
    pub(crate) fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Lets in whoever this says from now on; the listener stays.
    pub(crate) fn update(&mut self, config: AdminConfig) {
        self.gate.store(Arc::new(Gate::new(&config)));
        self.config = config;
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound").field("address", &self.address).finish_non_exhaustive()
    }
}

async fn accept(listener: Listener, gate: Arc<ArcSwap<Gate>>, surroundings: Arc<Surroundings>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (gate, surroundings) = (Arc::clone(&gate), Arc::clone(&surroundings));
        let accepted = match &listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::spawn(async move {
                    serve(stream, gate, surroundings).await;
                    drop(place);
                });
            }),
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::spawn(async move {
                    serve(stream, gate, surroundings).await;
                    drop(place);
                });
            }),
        };
        if accepted.is_err() {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// Serves one connection. What goes wrong with it is the client's affair.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, gate: Arc<ArcSwap<Gate>>, surroundings: Arc<Surroundings>) {
    let service = service_fn(|request| {
        let (head, _body) = hyper::Request::into_parts(request);
        let reply = gate.load().admit(&head).and_then(|()| pages::answer(&head, &surroundings));
        async { Ok::<_, Infallible>(reply.unwrap_or_else(pages::Refusal::into_response)) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    if timeout(LIFE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        drop(timeout(LAST, connection).await);
    }
}

#[cfg(test)]
mod tests;
