//! An HTTP server that can be made to fail, hang, die, and come back.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use service_mesh::ServiceInstance;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It answers 200 and its name.
    Well,
    /// It answers 500.
    Failing,
    /// It accepts connections and requests, and never answers.
    Hanging,
    /// It has closed its connections, and refuses new ones.
    Dead,
}

/// An HTTP server on a free port of this machine.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    address: SocketAddr,
    condition: watch::Sender<Condition>,
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
        let serving = tokio::spawn(serve(name, port.listen(BACKLOG)?, condition.subscribe()));
        Ok(Self { name, address, condition, serving, port: None })
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
            self.serving = tokio::spawn(serve(self.name, port.listen(BACKLOG)?, self.condition.subscribe()));
        }
        Ok(())
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

/// Accepts and serves connections until the server dies.
async fn serve(name: &'static str, listener: TcpListener, mut condition: watch::Receiver<Condition>) {
    let mut connections = JoinSet::new();
    loop {
        let now = condition.clone();
        tokio::select! {
            _ = condition.wait_for(|now| *now == Condition::Dead) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve_connection(name, stream, now));
                }
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn serve_connection(name: &'static str, stream: TcpStream, condition: watch::Receiver<Condition>) {
    let service = service_fn(|_| answer(name, *condition.borrow()));
    // An error here is a client that hung up, which is its right.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

async fn answer(name: &str, condition: Condition) -> Result<Response<String>, Infallible> {
    let mut response = Response::new(name.to_owned());
    match condition {
        Condition::Well => {}
        Condition::Failing => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
        Condition::Hanging | Condition::Dead => pending().await,
    }
    Ok(response)
}
