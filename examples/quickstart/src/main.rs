//! The main job, on real input: thousands of HTTP requests to three servers that fail, hang and die, and callers that
//! do not notice.
//!
//! `make quickstart` takes nine seconds. It ends with 0 if every call was answered, with 1 if not, and with 130 if Ctrl-C
//! ended it; then it tells what it knows so far.
//!
//! Read `caller.rs` for how a call is made, `main.rs` for how the proxy is, and `timer.rs` for how to bring a runtime;
//! the rest is scenery.

mod arguments;
mod caller;
mod journal;
mod script;
mod server;
mod timer;

use std::error::Error;
use std::io::{Write, stderr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use service_mesh::{
    CircuitBreakerConfig, ConfigError, Environment, Event, RetryConfig, ServiceProxy, ServiceProxyConfig,
};
use tokio::sync::watch;
use tokio::task::JoinSet;

use arguments::Arguments;
use caller::Caller;
use journal::{Journal, say};
use server::Server;
use timer::TokioTimer;

/// The three servers.
const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

/// Retries have a budget: in any 10 seconds 100, and one more for every five calls. The protection stays on, and it is
/// enough. A server that turns bad fails each caller about once before its circuit trips, since a caller makes one call
/// at a time, and the next ones pass the server by: at most 16 retries in each of three troubles. The circuit then
/// probes it once a second with at most three calls, which is another 20 or so. Many more callers would need a larger
/// floor.
const CALLERS: u32 = 16;

/// From the beginning of one call to that of the next, whoever makes it. A server answers in less, so that hardly two
/// calls are under way at a time while the servers are well. Should the machine halt, these alone time out: too few to
/// trip the circuit of a server that is well.
const EVERY: Duration = Duration::from_millis(2);

fn main() -> Result<ExitCode, Box<dyn Error>> {
    match Arguments::read(std::env::args_os().skip(1)) {
        Ok(Arguments::None) => run(),
        Ok(Arguments::Help(text)) => {
            say(text);
            Ok(ExitCode::SUCCESS)
        }
        Err(mistake) => {
            drop(writeln!(stderr(), "{mistake}"));
            Ok(ExitCode::from(2))
        }
    }
}

#[tokio::main]
async fn run() -> Result<ExitCode, Box<dyn Error>> {
    let mut servers = [Server::start(NAMES[0])?, Server::start(NAMES[1])?, Server::start(NAMES[2])?];
    let environment = Environment::system().with_async_sleep(TokioTimer);
    let journal = Arc::new(Journal::new(environment.clone()));
    let proxy = proxy(environment, &journal)?;
    for server in &servers {
        proxy.load_balancer().register(server.instance());
    }

    say(format_args!(
        "{CALLERS} callers ask three servers through one proxy, while a script breaks the servers. A server\n\
         whose circuit trips gets no more calls until a probe finds it well again.\n"
    ));
    let (stop, stopped) = watch::channel(false);
    let caller = Caller::new(proxy.clone(), Arc::clone(&journal), EVERY, stopped);
    let callers: JoinSet<()> = (0..CALLERS).map(|_| caller.clone().run()).collect();
    let story = async {
        script::play(&mut servers, &proxy, &journal).await?;
        stop.send_replace(true);
        callers.join_all().await;
        Ok::<_, Box<dyn Error>>(())
    };
    let interrupted: Result<bool, Box<dyn Error>> = tokio::select! {
        interrupt = tokio::signal::ctrl_c() => interrupt.map(|()| true).map_err(Into::into),
        played = story => played.map(|()| false),
    };

    let interrupted = interrupted?;
    if interrupted {
        journal.interrupt();
    }
    say(&journal);
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
