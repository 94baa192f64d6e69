//! Calls that come by chance, through one circuit, to a service that fails by chance.

use std::time::Duration;

use service_mesh::testing::ManualClock;
use service_mesh::{Chance, CircuitBreaker, CircuitBreakerConfig, Clock, Environment};

/// Calls through one circuit, in virtual time.
pub(crate) struct Traffic {
    pub(crate) breaker: CircuitBreaker,
    clock: ManualClock,
    chance: Chance,
    /// In each step of time a call comes or does not.
    step: Duration,
}

impl Traffic {
    /// So many calls a second on average.
    pub(crate) fn new(config: CircuitBreakerConfig, calls_a_second: u32, seed: u64) -> Self {
        let clock = ManualClock::new();
        let breaker =
            CircuitBreaker::builder("service").config(config).environment(Environment::manual(&clock)).build();
        Self { breaker, clock, chance: Chance::seeded(seed), step: Duration::from_secs(1) / (2 * calls_a_second) }
    }

    /// Lets calls come for a time, of which this share fails; after each, `go_on` is told whether the call reached the
    /// service and failed there. The time that went by until that said no.
    pub(crate) fn run(
        &self,
        time: Duration,
        failure_ratio: f64,
        mut go_on: impl FnMut(&CircuitBreaker, bool) -> bool,
    ) -> Option<Duration> {
        let start = self.clock.now();
        while self.clock.now().since(start) < time {
            self.clock.advance(self.step);
            if self.chance.below(2) == 1 {
                continue;
            }
            let fails = self.chance.ratio() < failure_ratio;
            let failed = self.breaker.execute(|| if fails { Err("down") } else { Ok(()) });
            let reached_and_failed = failed.is_err_and(|error| !error.is_refusal());
            if !go_on(&self.breaker, reached_and_failed) {
                return Some(self.clock.now().since(start));
            }
        }
        None
    }
}
