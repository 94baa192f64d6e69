//! With failsafe, and backon for the next attempt. The turns are by hand, and a refusal costs an attempt.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backon::{BlockingRetryable, ConstantBuilder};
use failsafe::{CircuitBreaker, Config, backoff, failure_policy};
use peers_programs::{asked_a, pay};

fn main() {
    let breaker = || {
        let policy = failure_policy::consecutive_failures(5, backoff::constant(Duration::from_secs(30)));
        Config::new().failure_policy(policy).build()
    };
    let instances = ["a", "b", "c"].map(|id| (id, breaker()));
    let turn = AtomicUsize::new(0);
    let at_once = ConstantBuilder::default().with_delay(Duration::ZERO).with_max_times(3);

    for _ in 0..100 {
        let attempt = || {
            let (id, breaker) = &instances[turn.fetch_add(1, Ordering::Relaxed) % instances.len()];
            breaker.call(|| pay(id))
        };
        assert!(matches!(attempt.retry(at_once).call(), Ok("paid")));
    }
    assert_eq!(asked_a(), 5);
    let (_, a) = &instances[0];
    assert!(!a.is_call_permitted());
}
