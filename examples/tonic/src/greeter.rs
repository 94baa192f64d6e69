//! What `protoc` would make of
//!
//! ```text
//! service Greeter { rpc SayHello (HelloRequest) returns (HelloReply); }
//! ```
//!
//! by hand, so that the example builds without it.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::uri::PathAndQuery;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::server::{self, UnaryService};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::Service;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HelloRequest {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HelloReply {
    #[prost(string, tag = "1")]
    pub(crate) message: String,
}

/// A client of one server; its clones share the connection.
#[derive(Clone, Debug)]
pub(crate) struct GreeterClient(Channel);

impl GreeterClient {
    pub(crate) fn new(channel: Channel) -> Self {
        Self(channel)
    }

    pub(crate) async fn say_hello(self, request: HelloRequest) -> Result<HelloReply, Status> {
        let mut grpc = Grpc::new(self.0);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static("/greeter.Greeter/SayHello");
        let reply = grpc.unary(Request::new(request), path, ProstCodec::default()).await?;
        Ok(reply.into_inner())
    }
}

/// A server that greets, or answers with a status.
#[derive(Clone, Debug)]
pub(crate) struct GreeterServer {
    pub(crate) name: &'static str,
    pub(crate) status: Option<tonic::Code>,
}

impl UnaryService<HelloRequest> for GreeterServer {
    type Response = HelloReply;
    type Future = std::future::Ready<Result<Response<HelloReply>, Status>>;

    fn call(&mut self, request: Request<HelloRequest>) -> Self::Future {
        ready(match self.status {
            Some(code) => Err(Status::new(code, format!("{} cannot", self.name))),
            None => {
                let message = format!("hello {}, says {}", request.into_inner().name, self.name);
                Ok(Response::new(HelloReply { message }))
            }
        })
    }
}

impl Service<http::Request<Body>> for GreeterServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(server::Grpc::new(ProstCodec::default()).unary(service, request).await) })
    }
}
