//! An HTTP client over four servers: one fails, one hangs, one is busy at first and says when to come back, one is well.
//!
//! To reqwest every response is an `Ok`, whatever its status. What a response means is said by `judge`.
//!
//! `make reqwest`, or `cargo run` in this folder.

use std::error::Error;
use std::io;
use std::time::Duration;

use reqwest::{Client, Response, StatusCode, header};
use service_mesh::{Answer, CallError, CallErrorKind, CallOptions, ServiceInstance, ServiceProxy, ServiceProxyConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let limits = ServiceProxyConfig::builder()
        .attempt_timeout(Duration::from_millis(300))
        .call_timeout(Duration::from_secs(3))
        .build()?;
    let shop = ServiceProxy::builder("shop").config(limits).build();
    shop.load_balancer().register(start("failing", Behaviour::Fails).await?);
    shop.load_balancer().register(start("hanging", Behaviour::Hangs).await?);
    shop.load_balancer().register(start("busy", Behaviour::BusyAtFirst).await?);
    shop.load_balancer().register(start("well", Behaviour::Answers).await?);

    // The proxy retries, and knows where: reqwest should not. Its pool keeps connections to each of the servers.
    let client = Client::builder().retry(reqwest::retry::never()).build()?;
    let options = CallOptions::new().classify(judge);

    for order in 1..=12 {
        let call = shop.call_async_with(&options, async |target| {
            client.get(format!("http://{}/orders/{order}", target.address())).send().await
        });
        println!("order {order}: {}", tell(call.await).await);
    }
    for id in ["failing", "hanging", "busy", "well"] {
        if let Some(circuit) = shop.instance_circuit_breaker(id) {
            println!(
                "circuit {} is {}, with {} failures in a row",
                circuit.name(),
                circuit.state(),
                circuit.failure_count()
            );
        }
    }
    Ok(())
}

/// What a response says about the server, and whether a GET may be sent again.
fn judge(result: &Result<Response, reqwest::Error>) -> Answer {
    let Ok(response) = result else {
        return Answer::failure();
    };
    let answer = match response.status() {
        StatusCode::TOO_MANY_REQUESTS => Answer::neutral().retryable(true),
        status if status.is_server_error() => Answer::failure(),
        _ => Answer::success(),
    };
    match retry_after(response) {
        Some(wait) => answer.retry_after(wait),
        None => answer,
    }
}

/// A `Retry-After` in seconds; one that is a date is left alone here.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// What a caller makes of it. A response that was tried again in vain is still an `Ok`: look at its status.
async fn tell(result: Result<Response, CallError<reqwest::Error>>) -> String {
    match result {
        Ok(response) => {
            let status = response.status();
            format!("{status}, {}", response.text().await.unwrap_or_else(|error| error.to_string()))
        }
        Err(error) => match error.kind() {
            CallErrorKind::CircuitOpen(refusal) => format!("{refusal}, come back in {:?}", refusal.retry_after()),
            kind => format!("{kind} after {} attempts", error.attempts()),
        },
    }
}

#[derive(Clone, Copy)]
enum Behaviour {
    Fails,
    Hangs,
    BusyAtFirst,
    Answers,
}

/// Starts a server on a free port of this machine. One that closes each connection after an answer is enough here.
async fn start(name: &'static str, behaviour: Behaviour) -> io::Result<ServiceInstance> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    // Nobody stops it: it ends with the example.
    tokio::spawn(async move {
        let mut asked = 0;
        while let Ok((stream, _)) = listener.accept().await {
            asked += 1;
            let response = match behaviour {
                Behaviour::Fails => Some("503 Service Unavailable\r\n".to_owned()),
                Behaviour::Hangs => None,
                Behaviour::BusyAtFirst if asked == 1 => Some("429 Too Many Requests\r\nRetry-After: 1\r\n".to_owned()),
                Behaviour::BusyAtFirst | Behaviour::Answers => Some("200 OK\r\n".to_owned()),
            };
            // An error is a client that hung up, which is its right.
            tokio::spawn(async move { drop(answer(stream, response, name).await) });
        }
    });
    Ok(ServiceInstance::new(name, address.ip().to_string(), address.port()))
}

/// Answers with a status and headers, and the server's name for a body; or never.
async fn answer(mut stream: TcpStream, response: Option<String>, name: &str) -> io::Result<()> {
    let Some(head) = response else {
        return std::future::pending().await;
    };
    // The request of this client comes in one piece.
    let _ = stream.read(&mut [0; 4096]).await?;
    let head = format!("HTTP/1.1 {head}Connection: close\r\nContent-Length: {}\r\n\r\n{name}", name.len());
    stream.write_all(head.as_bytes()).await
}
