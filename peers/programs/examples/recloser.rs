//! With recloser, and backon for the next attempt. The turns are by hand, and a refusal costs an attempt.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backon::{BlockingRetryable, ConstantBuilder};
use peers_programs::{asked_a, pay};
use recloser::{Error, Recloser};

fn main() {
    let breaker = || Recloser::custom().closed_len(5).error_rate(1.0).open_wait(Duration::from_secs(30)).build();
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
    // One more than the five that its window was told to judge.
    assert_eq!(asked_a(), 6);
    let (_, a) = &instances[0];
    assert!(matches!(a.call(|| pay("a")), Err(Error::Rejected)));
}
