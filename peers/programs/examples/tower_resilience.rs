//! With tower-resilience, async. The turns are by hand; a service is not shared but cloned, and its circuit is.

use std::time::Duration;

use backon::{ConstantBuilder, Retryable};
use peers_programs::{asked_a, pay};
use tower::{Layer, ServiceExt};
use tower_resilience_circuitbreaker::CircuitBreakerLayer;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut instances = Vec::new();
    for id in ["a", "b", "c"] {
        let breaker = CircuitBreakerLayer::builder()
            .consecutive_failures(5)
            .wait_duration_in_open(Duration::from_secs(30))
            .permitted_calls_in_half_open(2)
            .build()?;
        instances.push(breaker.layer(tower::service_fn(move |()| async move { pay(id) })));
    }
    let mut turns = (0..instances.len()).cycle();
    let at_once = ConstantBuilder::default().with_delay(Duration::ZERO).with_max_times(3);

    for _ in 0..100 {
        let attempt = || {
            let turn = turns.next().expect("a cycle has no end");
            instances[turn].clone().oneshot(())
        };
        assert_eq!(attempt.retry(at_once).await.map_err(|error| error.to_string()), Ok("paid"));
    }
    assert_eq!(asked_a(), 5);
    Ok(())
}
