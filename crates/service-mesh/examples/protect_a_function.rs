//! A circuit breaker around a function: after three failures in a row it is not run any more, until a probe shows that
//! it works again.
//!
//! `cargo run --example protect_a_function`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use service_mesh::{
    CallError, CallErrorKind, CircuitBreaker, CircuitBreakerConfig, ConfigError, Environment, testing::ManualClock,
};

fn main() -> Result<(), ConfigError> {
    // A clock that is moved by hand, so that nobody waits for the 30 seconds. Without it, time is the system's.
    let clock = ManualClock::new();
    let config = CircuitBreakerConfig::builder()
        .failure_threshold(3)
        .success_threshold(1)
        .timeout(Duration::from_secs(30))
        .build()?;
    let breaker =
        CircuitBreaker::builder("exchange rates").config(config).environment(Environment::manual(&clock)).build();

    for second in (0..70).step_by(10) {
        let rate = breaker.execute(|| fetch_rate(second));
        println!("{second:>2} s  {:45} circuit: {}", tell(&rate), breaker.state());
        clock.advance(Duration::from_secs(10));
    }
    Ok(())
}

/// What may fail: the bank is down for 45 seconds.
fn fetch_rate(second: u32) -> Result<f64, &'static str> {
    if second < 45 { Err("connection refused") } else { Ok(1.08) }
}

fn tell(rate: &Result<f64, CallError<&str>>) -> String {
    match rate {
        Ok(rate) => format!("the rate is {rate}"),
        Err(error) => match (error.kind(), error.last()) {
            (CallErrorKind::Failed, Some(own)) => format!("failed: {own}"),
            (CallErrorKind::CircuitOpen(refusal), _) => format!("not asked: {refusal}"),
            (kind, _) => kind.to_string(),
        },
    }
}
