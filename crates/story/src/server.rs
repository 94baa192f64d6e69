//! An HTTP server that can be made to fail, hang, die, and come back.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use service_mesh::ServiceInstance;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::PATH;

/// How a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It answers 200 and its name.
    Well,
    /// It answers 503.
    Failing,
    /// It accepts connections and requests, and never answers.
    Hanging,
    /// It has closed its connections, and refuses new ones.
    Dead,
}

/// What a server has done with the requests that it saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    pub(crate) hung: u64,
    /// How many it answered that were for another path than the callers'.
    pub(crate) strangers: u64,
}

impl Counts {
    /// How many it saw.
    pub(crate) fn all(&self) -> u64 {
        self.answered + self.failed + self.hung
    }
}

/// An HTTP server on a free port of this machine.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    address: SocketAddr,
    condition: watch::Sender<Condition>,
    counts: Arc<Mutex<Counts>>,
    serving: JoinHandle<()>,
    /// The port, kept for a dead server.
    port: Option<TcpSocket>,
}

impl Server {
    /// Starts a server that is well.
    pub(crate) fn start(name: &'static str) -> io::Result<Self> {
        let port = take(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = port.local_addr()?;
        let condition = watch::Sender::new(Condition::Well);
        let counts = Arc::<Mutex<Counts>>::default();
        let answering = Answering { name, condition: condition.subscribe(), counts: Arc::clone(&counts) };
        let serving = tokio::spawn(serve(port.listen(BACKLOG)?, answering));
        Ok(Self { name, address, condition, counts, serving, port: None })
    }

    /// What a load balancer must know of it.
    pub(crate) fn instance(&self) -> ServiceInstance {
        ServiceInstance::new(self.name, self.address.ip().to_string(), self.address.port())
    }

    /// From now on every request is met in this way.
    pub(crate) fn turn(&self, condition: Condition) {
        self.condition.send_replace(condition);
    }

    /// Closes the listener and all connections.
    ///
    /// The port stays bound, without a listener: whoever connects is refused, as by a dead process, and nobody else can
    /// take the port before the server comes back.
    pub(crate) async fn die(&mut self) -> io::Result<()> {
        self.turn(Condition::Dead);
        (&mut self.serving).await?;
        self.port = Some(take(self.address)?);
        Ok(())
    }

    /// Listens again, on the same port.
    pub(crate) fn come_back(&mut self) -> io::Result<()> {
        if let Some(port) = self.port.take() {
            self.turn(Condition::Well);
            let (condition, counts) = (self.condition.subscribe(), Arc::clone(&self.counts));
            let answering = Answering { name: self.name, condition, counts };
            self.serving = tokio::spawn(serve(port.listen(BACKLOG)?, answering));
        }
        Ok(())
    }

    /// What it has done so far.
    pub(crate) fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const BACKLOG: u32 = 128;

/// Binds a port. Connections of a server that died on it linger in the kernel, and must not keep it.
fn take(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// How a server answers. Clones answer for the same.
#[derive(Clone, Debug)]
struct Answering {
    name: &'static str,
    condition: watch::Receiver<Condition>,
    counts: Arc<Mutex<Counts>>,
}

/// Accepts and serves connections until the server dies.
async fn serve(listener: TcpListener, answering: Answering) {
    let mut connections = JoinSet::new();
    let mut condition = answering.condition.clone();
    loop {
        tokio::select! {
            _ = condition.wait_for(|now| *now == Condition::Dead) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve_connection(stream, answering.clone()));
                }
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn serve_connection(stream: TcpStream, answering: Answering) {
    let service = service_fn(|request| answering.answer(request));
    // An error here is a client that hung up, which is its right.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

impl Answering {
    async fn answer<B>(&self, request: Request<B>) -> Result<Response<String>, Infallible> {
        let condition = *self.condition.borrow();
        self.count(condition, request.uri().path() == PATH);
        let mut response = Response::new(self.name.to_owned());
        match condition {
            Condition::Well => {}
            Condition::Failing => *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE,
            Condition::Hanging | Condition::Dead => pending().await,
        }
        Ok(response)
    }

    fn count(&self, condition: Condition, is_a_callers: bool) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match condition {
            Condition::Well => {
                counts.answered += 1;
                counts.strangers += u64::from(!is_a_callers);
            }
            Condition::Failing => counts.failed += 1,
            Condition::Hanging | Condition::Dead => counts.hung += 1,
        }
    }
}
