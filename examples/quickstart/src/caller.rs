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
use tokio::sync::{Mutex, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::journal::Journal;

/// One of those who call; its clones share the proxy, the connections and the pace.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    proxy: ServiceProxy,
    client: HttpClient,
    journal: Arc<Journal>,
    /// Says when the next call begins, whoever makes it.
    pace: Arc<Mutex<Interval>>,
    stop: watch::Receiver<bool>,
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
    /// A caller who, with all its clones, begins a call `every` so often, until told to stop.
    pub(crate) fn new(
        proxy: ServiceProxy,
        journal: Arc<Journal>,
        every: Duration,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let mut pace = interval(every);
        // What was missed is not made up for: after a halt of the machine all callers would call at once.
        pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
        // All retries are the proxy's, none the client's.
        let client = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http();
        Self { proxy, client, journal, pace: Arc::new(Mutex::new(pace)), stop }
    }

    /// Calls the service again and again.
    pub(crate) async fn run(self) {
        let options = CallOptions::new().classify(judge);
        while !*self.stop.borrow() {
            self.pace.lock().await.tick().await;
            // This is the whole use of the proxy: a closure that sends one request to the one instance it is given.
            let result = self.proxy.call_async_with(&options, |target| get(self.client.clone(), target)).await;
            match result {
                Ok(reply) if reply.status.is_success() => self.journal.answered(&reply.body),
                Ok(reply) => self.journal.failed(&format!("the answer was {}", reply.status)),
                Err(error) => self.journal.failed(&error.to_string()),
            }
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
