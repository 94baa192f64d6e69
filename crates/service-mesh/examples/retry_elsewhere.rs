//! A service of three instances, one of which hangs: the call goes on at another one. The story of the call says how.
//!
//! `cargo run -p service-mesh --features tokio --example retry_elsewhere`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::future::pending;
use std::time::Duration;

use service_mesh::{CallOptions, Explanation, ServiceInstance, ServiceProxy, ServiceProxyConfig, Target};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = ServiceProxyConfig::builder()
        .attempt_timeout(Duration::from_millis(100))
        .call_timeout(Duration::from_secs(1))
        .build()?;
    let users = ServiceProxy::builder("users").config(config).build();
    for (id, host) in [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3")] {
        users.load_balancer().register(ServiceInstance::new(id, host, 8080));
    }

    let explanation = Explanation::new();
    let options = CallOptions::new().explain(&explanation);
    let name = users.call_async_with(&options, |target| fetch_name(7, target)).await?;

    println!("user 7 is {name}");
    if let Some(story) = explanation.story() {
        println!("{story}");
    }
    Ok(())
}

/// Stands for a request over the network: a is down, and b hangs.
async fn fetch_name(_user: u32, instance: Target) -> Result<String, std::io::Error> {
    match instance.id.as_str() {
        "a" => Err(std::io::ErrorKind::ConnectionRefused.into()),
        "b" => pending().await,
        _ => Ok("Ada".into()),
    }
}
