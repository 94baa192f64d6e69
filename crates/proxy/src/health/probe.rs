//! Asks an instance how it is, once, over a connection of its own: one of the pool would tell of the pool.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use service_mesh::{Authority, HealthCheckConfig, HealthCheckType, ServiceInstance};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// What an instance's host begins with if it listens on a Unix socket; the path follows.
const UNIX: &str = "unix:";

/// The largest head that is read.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Whether the answer is good, and in words what it was. It takes no longer than the timeout of the check.
pub(super) async fn probe(config: &HealthCheckConfig, instance: &ServiceInstance) -> Result<String, String> {
    let timeout: Duration = config.timeout();
    let answered = tokio::time::timeout(timeout, ask(config, instance)).await;
    answered.unwrap_or_else(|_| Err(format!("no answer in {timeout:?}")))
}

async fn ask(config: &HealthCheckConfig, instance: &ServiceInstance) -> Result<String, String> {
    let unreachable = |error: io::Error| format!("cannot connect: {error}");
    if let Some(path) = instance.host.strip_prefix(UNIX) {
        let stream = UnixStream::connect(path).await.map_err(unreachable)?;
        return answer(config, stream, String::from("localhost")).await;
    }
    let place = Authority { host: instance.host.clone(), port: config.port().unwrap_or(instance.port) };
    let stream = TcpStream::connect((place.host.as_str(), place.port)).await.map_err(unreachable)?;
    answer(config, stream, place.to_string()).await
}

async fn answer<S>(config: &HealthCheckConfig, stream: S, host: String) -> Result<String, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match config.kind() {
        HealthCheckType::Tcp => Ok(String::from("connected")),
        _ => status(config, stream, host).await,
    }
}

/// The status of the answer; the body is not waited for.
async fn status<S>(config: &HealthCheckConfig, stream: S, host: String) -> Result<String, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| format!("no answer of HTTP: {error}");
    let mut builder = http1::Builder::new();
    let handshake = builder.max_buf_size(HEAD_BYTES_MAX).handshake::<_, Empty<Bytes>>(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(failed)?;
    let request = request(config, host).map_err(|error| format!("the check is no request: {error}"))?;
    let drive = async {
        // Whatever ends it is told to the request, too.
        drop(connection.await);
        pending::<Infallible>().await
    };
    let response = tokio::select! {
        response = sender.send_request(request) => response.map_err(failed)?,
        never = drive => match never {},
    };
    let status = response.status().as_u16();
    let said = format!("status {status}");
    if config.statuses().unwrap_or_default().contains(status) { Ok(said) } else { Err(said) }
}

fn request(config: &HealthCheckConfig, host: String) -> Result<Request<Empty<Bytes>>, http::Error> {
    let host = config.host().unwrap_or(host);
    let method = config.method().map_or(Ok(Method::GET), |method| Method::from_bytes(method.as_bytes()))?;
    Request::builder()
        .method(method)
        .uri(config.path().as_deref().unwrap_or("/"))
        .header(HOST, HeaderValue::try_from(host)?)
        .header(USER_AGENT, concat!("service-mesh-health/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::new())
}
