//! Those who call: tasks that send HTTP requests through the proxy and write down what came back.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use service_mesh::{Answer, CallOptions, ServiceProxy, Target};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::journal::Journal;

/// Sends requests; its clones share their connections.
pub(crate) type HttpClient = Client<HttpConnector, String>;

/// A client that leaves all retries to the proxy.
pub(crate) fn http_client() -> HttpClient {
    Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http()
}

/// An HTTP response.
#[derive(Debug)]
struct Reply {
    status: StatusCode,
    body: String,
}

type HttpResult = Result<Reply, Box<dyn Error + Send + Sync>>;

/// Calls the service every `pause`, until it is told to stop.
pub(crate) async fn call_again_and_again(
    proxy: ServiceProxy,
    client: HttpClient,
    journal: Arc<Journal>,
    pause: Duration,
    stop: watch::Receiver<bool>,
) {
    let options = CallOptions::new().classify(judge);
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*stop.borrow() {
        ticks.tick().await;
        // This is the whole use of the proxy: the closure sends one request to the one instance that it is given.
        let result = proxy.call_async_with(&options, |target| get(client.clone(), target)).await;
        match result {
            Ok(reply) if reply.status.is_success() => journal.answered(&reply.body),
            Ok(reply) => journal.failed(&format!("the answer was {}", reply.status)),
            Err(error) => journal.failed(&error.to_string()),
        }
    }
}

/// Sends one request to one instance.
async fn get(client: HttpClient, target: Target) -> HttpResult {
    let request = Request::get(format!("http://{}/", target.address())).body(String::new())?;
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
