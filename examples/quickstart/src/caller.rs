//! Those who call: each sends HTTP requests through the proxy.

use std::error::Error;

use http_body_util::BodyExt;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use service_mesh::{Answer, CallOptions, ServiceProxy, Target};
use service_mesh_story::PATH;

/// One of those who call; its clones share the proxy and the connections.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    proxy: ServiceProxy,
    client: HttpClient,
}

type HttpClient = Client<HttpConnector, String>;

/// An HTTP response.
#[derive(Debug)]
struct Reply {
    status: StatusCode,
    body: String,
}

type HttpResult = Result<Reply, Box<dyn Error + Send + Sync>>;

impl Caller {
    pub(crate) fn new(proxy: ServiceProxy) -> Self {
        // All retries are the proxy's, none the client's.
        let client = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http();
        Self { proxy, client }
    }
}

impl service_mesh_story::Caller for Caller {
    async fn ask(&mut self) -> Result<String, String> {
        let options = CallOptions::new().classify(judge);
        // This is the whole use of the proxy: a closure that sends one request to the one instance it is given.
        let result = self.proxy.call_async_with(&options, |target| get(self.client.clone(), target)).await;
        match result {
            Ok(reply) if reply.status.is_success() => Ok(reply.body),
            Ok(reply) => Err(format!("the answer was {}", reply.status)),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Sends one request to one instance.
async fn get(client: HttpClient, target: Target) -> HttpResult {
    let request = Request::get(format!("http://{}{PATH}", target.address())).body(String::new())?;
    let response = client.request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok(Reply { status, body: String::from_utf8(body.into())? })
}

/// What a result says about the server, and whether it may be tried again: a GET may be.
fn judge(result: &HttpResult) -> Answer {
    match result {
        Ok(reply) if !reply.status.is_server_error() => Answer::success(),
        Ok(_) | Err(_) => Answer::failure(),
    }
}
