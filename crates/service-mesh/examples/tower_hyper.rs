//! A tower client over hyper: three servers of which one always fails and one is not there, and callers that get their
//! answers. The proxy is a layer; what is inside it is hyper's own client.
//!
//! `cargo run -p service-mesh --features tokio,tower --example tower_hyper`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::convert::Infallible;
use std::error::Error;
use std::future::ready;
use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::http::uri::Scheme;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri, header};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioIo};
use service_mesh::tower::ServiceProxyLayer;
use service_mesh::{Answer, CallOptions, ServiceInstance, ServiceProxy, ServiceProxyConfig, Target};
use tokio::net::TcpListener;
use tower::{Service, ServiceBuilder, ServiceExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let limits = ServiceProxyConfig::builder()
        .attempt_timeout(Duration::from_millis(500))
        .call_timeout(Duration::from_secs(2))
        .build()?;
    let shop = ServiceProxy::builder("shop").config(limits).build();
    shop.load_balancer().register(start("well", StatusCode::OK).await?);
    shop.load_balancer().register(start("failing", StatusCode::INTERNAL_SERVER_ERROR).await?);
    shop.load_balancer().register(ServiceInstance::new("absent", "127.0.0.1", 1));

    let hyper = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http();
    let mut client = ServiceBuilder::new()
        .concurrency_limit(64)
        .layer(ServiceProxyLayer::new(shop.clone()).options(CallOptions::new().classify(judge)))
        .map_request(addressed)
        .service(hyper);

    for order in 1..=12 {
        let request = Request::get(format!("/orders/{order}")).body(Empty::<Bytes>::new())?;
        let response = client.ready().await?.call(request).await?;
        let (status, body) = (response.status(), response.into_body().collect().await?.to_bytes());
        println!("{status}: {}", String::from_utf8_lossy(&body));
    }
    for id in ["well", "failing", "absent"] {
        if let Some(circuit) = shop.instance_circuit_breaker(id) {
            println!("circuit {} is {}", circuit.name(), circuit.state());
        }
    }
    Ok(())
}

/// The request, addressed to the instance that was picked for this attempt.
fn addressed<B>((target, mut request): (Target, Request<B>)) -> Request<B> {
    let mut uri = request.uri().clone().into_parts();
    uri.scheme = Some(Scheme::HTTP);
    // An address is `host:port`, which is what an authority may be, and a host. Were it none, the client would say so.
    uri.authority = target.address().parse().ok();
    *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
    if let Ok(host) = HeaderValue::from_str(&target.address()) {
        request.headers_mut().insert(header::HOST, host);
    }
    request
}

/// A status of 500 and above says that the instance failed, and the request is a GET, which may be sent again.
fn judge(result: &Result<Response<Incoming>, legacy::Error>) -> Answer {
    match result {
        Ok(response) if !response.status().is_server_error() => Answer::success(),
        Ok(_) | Err(_) => Answer::failure(),
    }
}

/// Starts a server on a free port of this machine, which answers everything with this status.
async fn start(name: &'static str, status: StatusCode) -> io::Result<ServiceInstance> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = service_fn(move |request: Request<Incoming>| {
                let mut response = Response::new(format!("{name} has {}", request.uri().path()));
                *response.status_mut() = status;
                ready(Ok::<_, Infallible>(response))
            });
            // An error here is a client that hung up, which is its right.
            tokio::spawn(
                async move { drop(http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await) },
            );
        }
    });
    Ok(ServiceInstance::new(name, address.ip().to_string(), address.port()))
}
