//! A gRPC client over three servers, one of which answers `unavailable` and one of which is not there.
//!
//! The proxy stands before messages, not before HTTP requests: a message can be cloned for the next attempt where the
//! body of a request cannot, and the status of a gRPC call is known only when its trailers are, which is after the HTTP
//! response is.
//!
//! `make tonic`, or `cargo run` in this folder.

mod greeter;

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::time::Duration;

use greeter::{GreeterClient, GreeterServer, HelloReply, HelloRequest};
use service_mesh::tower::ServiceProxyLayer;
use service_mesh::{Answer, CallOptions, ServiceInstance, ServiceProxy, ServiceProxyConfig, Target};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Status};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let limits = ServiceProxyConfig::builder()
        .attempt_timeout(Duration::from_millis(500))
        .call_timeout(Duration::from_secs(2))
        .build()?;
    let proxy = ServiceProxy::builder("greeter").config(limits).build();
    let instances = [
        start("well", None).await?,
        start("failing", Some(Code::Unavailable)).await?,
        ServiceInstance::new("absent", "127.0.0.1", 1),
    ];

    // A channel is a connection to one server: one for each instance.
    let mut clients = HashMap::new();
    for instance in instances {
        let channel = Endpoint::from_shared(format!("http://{}", instance.address()))?.connect_lazy();
        clients.insert(instance.id.clone(), GreeterClient::new(channel));
        proxy.load_balancer().register(instance);
    }

    let mut greeter = ServiceBuilder::new()
        .layer(ServiceProxyLayer::new(proxy.clone()).options(CallOptions::new().classify(judge)))
        .service(service_fn(move |(target, request): (Target, HelloRequest)| {
            let client = clients.get(&target.id).cloned();
            async move { client.ok_or_else(|| Status::internal("no channel"))?.say_hello(request).await }
        }));

    for name in ["Ada", "Grace", "Barbara", "Frances", "Mary", "Katherine", "Hedy", "Joan", "Adele", "Radia", "Jean"] {
        let request = HelloRequest { name: name.to_owned() };
        println!("{}", greeter.ready().await?.call(request).await?.message);
    }
    for id in ["well", "failing", "absent"] {
        if let Some(circuit) = proxy.instance_circuit_breaker(id) {
            println!("circuit {} is {}", circuit.name(), circuit.state());
        }
    }
    Ok(())
}

/// What a status says about the server. One that blames the request is an answer, and the next server would give the
/// same; one that says the server is spent may be tried elsewhere, and is no failure.
fn judge(result: &Result<HelloReply, Status>) -> Answer {
    match result.as_ref().map_err(Status::code) {
        Ok(_) => Answer::success(),
        Err(Code::Unavailable | Code::Unknown | Code::Aborted | Code::DeadlineExceeded) => Answer::failure(),
        Err(Code::ResourceExhausted) => Answer::neutral().retryable(true),
        Err(Code::Internal | Code::DataLoss) => Answer::failure().retryable(false),
        Err(Code::Cancelled) => Answer::neutral(),
        Err(_) => Answer::success(),
    }
}

/// Starts a server on a free port of this machine.
async fn start(name: &'static str, status: Option<Code>) -> io::Result<ServiceInstance> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let server =
        Server::builder().serve_with_incoming(GreeterServer { name, status }, TcpListenerStream::new(listener));
    // Nobody stops it: it ends with the example.
    tokio::spawn(server);
    Ok(ServiceInstance::new(name, address.ip().to_string(), address.port()))
}
