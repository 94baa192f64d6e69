//! The main job, on real input: thousands of HTTP requests to three servers that fail, hang and die, and callers that
//! do not notice.
//!
//! `cargo run --release --example quickstart` takes nine seconds. It ends with 0 if every call was answered, with 1 if
//! not, and with 130 if Ctrl-C ended it.
//!
//! Read `caller.rs` for how a call is made, `main.rs` for how the proxy is, and `timer.rs` for how to bring a runtime;
//! the rest is scenery.

mod caller;
mod journal;
mod script;
mod server;
mod timer;

use std::error::Error;
use std::io::{Write, stdout};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use service_mesh::{
    CircuitBreakerConfig, ConfigError, Environment, Event, RetryConfig, ServiceProxy, ServiceProxyConfig,
};
use tokio::sync::watch;
use tokio::task::JoinSet;

use journal::Journal;
use server::Server;
use timer::TokioTimer;

/// The three servers.
const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

/// Retries have a budget: in any 10 seconds 100, and one more for every five calls. The protection stays on, and it is
/// enough. A server that turns bad fails each caller at most once before its circuit trips, since a caller makes one
/// call at a time, and the next ones pass the server by; that is 16 retries in each of three troubles. The circuit then
/// probes it once a second with at most three calls, which is another 20 or so. Many more callers would need a larger
/// floor.
const CALLERS: u32 = 16;

/// Between two calls of a caller. They make 600 calls a second together, of which hardly two are under way at a time:
/// should the machine stop for a moment, only these will be late, and no circuit trips by mistake.
const PAUSE: Duration = Duration::from_millis(25);

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut servers = [Server::start(NAMES[0])?, Server::start(NAMES[1])?, Server::start(NAMES[2])?];
    let environment = Environment::system().with_async_sleep(TokioTimer);
    let journal = Arc::new(Journal::new(environment.clone()));
    let proxy = proxy(environment, &journal)?;
    for server in &servers {
        proxy.load_balancer().register(server.instance());
    }

    writeln!(stdout(), "{CALLERS} callers ask three servers through one proxy while a script breaks the servers.\n")?;
    let (stop, stopped) = watch::channel(false);
    let mut callers = JoinSet::new();
    let client = caller::http_client();
    for _ in 0..CALLERS {
        let (proxy, client, journal) = (proxy.clone(), client.clone(), Arc::clone(&journal));
        callers.spawn(caller::call_again_and_again(proxy, client, journal, PAUSE, stopped.clone()));
    }
    let interrupted = tokio::select! {
        interrupt = tokio::signal::ctrl_c() => interrupt.map(|()| true)?,
        played = script::play(&mut servers, &proxy, &journal) => played.map(|()| false)?,
    };
    if !interrupted {
        stop.send_replace(true);
        callers.join_all().await;
    }

    writeln!(stdout(), "{journal}")?;
    Ok(match (interrupted, journal.failures()) {
        (true, _) => ExitCode::from(130),
        (false, 0) => ExitCode::SUCCESS,
        (false, _) => ExitCode::FAILURE,
    })
}

/// The proxy. What is not said here has its default: round robin, at most three retries, the budget.
fn proxy(environment: Environment, journal: &Arc<Journal>) -> Result<ServiceProxy, ConfigError> {
    // For the service, and for each of its instances.
    let circuit = CircuitBreakerConfig::builder().failure_threshold(3).timeout(Duration::from_secs(1)).build()?;
    let retry = RetryConfig::builder().initial_delay(Duration::from_millis(20)).build()?;
    let config = ServiceProxyConfig::builder()
        .call_timeout(Duration::from_secs(2))
        .attempt_timeout(Duration::from_millis(150))
        // Every call tells its story, for the sums at the end. In production a hundredth would do, or none.
        .explain_ratio(1.0)
        .build()?;
    let journal = Arc::clone(journal);
    Ok(ServiceProxy::builder("shop")
        .circuit_breaker(circuit)
        .retry(retry)
        .config(config)
        .environment(environment)
        .listener(move |event: &Event| journal.hear(event))
        .build())
}
