//! The library's main job, on real input: thousands of HTTP requests to three servers that fail, hang and die, and
//! callers that do not notice.
//!
//! `make quickstart` takes nine seconds. It ends with 0 if every call was answered, with 1 if not, and with 130 if Ctrl-C
//! ended it; then it tells what it knows so far.
//!
//! Read `caller.rs` for how a call is made, `main.rs` for how the proxy is, and `timer.rs` for how to bring a runtime.
//! The servers, their trouble and the sums are scenery, which `service-mesh demo` has too: `crates/story`.

mod arguments;
mod caller;
mod timer;

use std::error::Error;
use std::io::{Write, stderr, stdout};
use std::process::ExitCode;
use std::time::Duration;

use service_mesh::{
    CircuitBreakerConfig, ConfigError, Environment, Event, RetryConfig, ServiceProxy, ServiceProxyConfig,
};
use service_mesh_story::{CALLERS, Speed, Stage};

use arguments::Arguments;
use caller::Caller;
use timer::TokioTimer;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    match Arguments::read(std::env::args_os().skip(1)) {
        Ok(Arguments::None) => run(),
        Ok(Arguments::Help(text)) => {
            drop(writeln!(stdout(), "{text}"));
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
    let mut stage = Stage::build(Speed::default())?;
    let proxy = proxy(stage.listener())?;
    for server in stage.instances() {
        proxy.load_balancer().register(server);
    }
    stage.say(format_args!(
        "{CALLERS} callers ask three servers through one proxy, while a script breaks the servers. A server\n\
         whose circuit trips gets no more calls until a probe finds it well again.\n"
    ));
    let caller = Caller::new(proxy.clone());
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let played = stage.play(&proxy, || caller.clone(), interrupt).await;
    Ok(stage.end(&played).into())
}

/// The proxy. What is not said here has its default: round robin, at most three retries, the budget.
fn proxy(listener: impl Fn(&Event) + Send + Sync + 'static) -> Result<ServiceProxy, ConfigError> {
    // For the service, and for each of its instances.
    let circuit = CircuitBreakerConfig::builder().failure_threshold(3).timeout(Duration::from_secs(1)).build()?;
    let retry = RetryConfig::builder().initial_delay(Duration::from_millis(20)).build()?;
    let config = ServiceProxyConfig::builder()
        .call_timeout(Duration::from_secs(2))
        .attempt_timeout(Duration::from_millis(150))
        // Every call tells its story, for the sums at the end. In production a hundredth would do, or none.
        .explain_ratio(1.0)
        .build()?;
    Ok(ServiceProxy::builder("shop")
        .circuit_breaker(circuit)
        .retry(retry)
        .config(config)
        .environment(Environment::system().with_async_sleep(TokioTimer))
        .listener(listener)
        .build())
}
