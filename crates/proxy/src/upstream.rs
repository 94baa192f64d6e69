//! A new connection to an instance.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use service_mesh::ServiceInstance;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::connection::drive;
use crate::limits::Connection;
use crate::pool::Link;
use crate::pulse::{Patience, Pulse, State};
use crate::service::Service;
use crate::wire::{Socket, Wire};
use crate::worker::Worker;

/// What an instance's host begins with if it listens on a Unix socket; the path follows, and the port means nothing.
const UNIX: &str = "unix:";

/// The largest piece of a body that is read at once.
const BUFFER: usize = 128 * 1024;

/// Connects to the instance, within `limit`.
pub(crate) async fn connect(
    worker: &Arc<Worker>,
    service: &Service,
    instance: &ServiceInstance,
    count: Connection,
    limit: Duration,
) -> io::Result<Link> {
    let connecting = timeout(limit, open(instance)).await;
    let socket = connecting.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))??;
    let pulse = Pulse::new(&worker.ticks, Patience::with_instance());
    pulse.enter(State::Busy);
    let head = usize::try_from(service.limits.header_bytes()).unwrap_or(usize::MAX);
    let io = TokioIo::new(Wire::new(socket, &pulse));
    let handshake = http1::Builder::new().max_header_size(head).max_buf_size(head.max(BUFFER)).handshake(io);
    let (sender, connection) = handshake.await.map_err(io::Error::other)?;
    worker.watch_upstream(&pulse);
    tokio::spawn(drive(connection.with_upgrades(), Arc::clone(&pulse)));
    Ok(worker.pool.link(service, (&instance.host, instance.port), (sender, pulse), count))
}

async fn open(instance: &ServiceInstance) -> io::Result<Socket> {
    if let Some(path) = instance.host.strip_prefix(UNIX) {
        return UnixStream::connect(path).await.map(Socket::Unix);
    }
    let socket = TcpStream::connect((instance.host.as_str(), instance.port)).await?;
    // A request is written in one piece; there is nothing to wait for.
    socket.set_nodelay(true)?;
    Ok(Socket::Tcp(socket))
}
