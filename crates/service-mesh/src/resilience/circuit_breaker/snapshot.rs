//! What is worth keeping of a circuit when it leaves its process.

use std::time::Duration;

use service_mesh_models::CircuitState;

use super::CircuitBreaker;
use super::state::{COUNT_MAX, Phase};
use crate::resilience::sync::Ordering;

/// A circuit at one moment, in terms that another process can take up: durations, no points in time. What its windows
/// hold is not part of it, nor are its probes in flight, whose answers will not come here.
///
/// ```
/// use service_mesh::{CircuitBreaker, CircuitState};
/// let breaker = CircuitBreaker::new("payments");
/// breaker.record_failure();
/// let twin = CircuitBreaker::new("payments");
/// twin.restore(&breaker.snapshot());
/// assert_eq!((twin.state(), twin.failure_count()), (CircuitState::Closed, 1));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircuitSnapshot {
    /// Its state.
    pub state: CircuitState,
    /// Whether it was forced.
    pub forced: bool,
    /// Failures in a row; in Open the row that tripped it.
    pub failure_count: u32,
    /// Successes of probes.
    pub success_count: u32,
    /// Trips since it was last Closed.
    pub trips: u32,
    /// How long ago a failure was last counted.
    pub last_failure_age: Option<Duration>,
    /// How long it stays open yet.
    pub open_rest: Option<Duration>,
}

impl CircuitBreaker {
    /// What is worth keeping of it. Takes its lock.
    pub fn snapshot(&self) -> CircuitSnapshot {
        let now = self.moment().now();
        let control = self.0.control.lock();
        let phase = self.word().phase();
        let episode = control.episode();
        CircuitSnapshot {
            state: phase.state(),
            forced: matches!(phase, Phase::ForcedOpen | Phase::ForcedClosed),
            failure_count: self.row_locked(&control),
            success_count: episode.filter(|_| phase.probes()).map_or(0, |episode| episode.successes),
            trips: episode.map_or(0, |episode| episode.trips),
            last_failure_age: self.last_failure_age_locked(&control, now),
            open_rest: (phase == Phase::Open).then(|| self.gate().since(now)),
        }
    }

    /// Takes up where another has left. Permits that were given before are late. No listener is told: what the snapshot
    /// says happened elsewhere.
    pub fn restore(&self, snapshot: &CircuitSnapshot) {
        let now = self.moment().now();
        let mut control = self.0.control.lock();
        let row = snapshot.failure_count.min(COUNT_MAX);
        let phase = match (snapshot.state, snapshot.forced) {
            (CircuitState::Closed, false) => Phase::Closed,
            (CircuitState::Closed, true) => Phase::ForcedClosed,
            (CircuitState::Open, false) => Phase::Open,
            (CircuitState::Open, true) => Phase::ForcedOpen,
            (CircuitState::HalfOpen, _) => Phase::HalfOpen,
        };
        self.assign_last_failure_locked(&mut control, snapshot.last_failure_age, now);
        let episode = control.episode_mut();
        (episode.row, episode.successes) = (row, snapshot.success_count.min(COUNT_MAX));
        (episode.trips, episode.write_offs) = (snapshot.trips, 0);
        let rest = snapshot.open_rest.unwrap_or_default();
        self.0.gate.store(now.after(rest).as_nanos(), Ordering::Release);
        let count = if phase.probes() { 0 } else { row };
        // A swap, not a store: in Closed counts change without the lock, and theirs is the older generation.
        loop {
            let word = self.word();
            if self.exchange(word, word.entered(phase, count)) {
                return;
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::testing::ManualClock;
    use crate::{CircuitBreakerConfig, Environment};

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker(clock: &ManualClock) -> CircuitBreaker {
        let config = CircuitBreakerConfig::builder().failure_threshold(2).timeout(10 * SECOND).build().unwrap();
        CircuitBreaker::builder("payments").config(config).environment(Environment::manual(clock)).build()
    }

    #[test]
    fn every_state_survives_the_way_into_another_process() {
        let clock = ManualClock::new();
        let ways: [fn(&CircuitBreaker, &ManualClock); 6] = [
            |_, _| {},
            |breaker, _| breaker.record_failure(),
            |breaker, _| breaker.force_closed(),
            |breaker, _| breaker.force_open(),
            |breaker, clock| {
                breaker.assign_state(CircuitState::Open);
                clock.advance(4 * SECOND);
            },
            |breaker, _| {
                breaker.assign_state(CircuitState::HalfOpen);
                breaker.record_success();
            },
        ];
        for way in ways {
            let original = breaker(&clock);
            way(&original, &clock);
            // The other process began just now, so that its clock cannot tell when all this was.
            let twin = breaker(&ManualClock::new());
            twin.restore(&original.snapshot());
            assert_eq!(twin.snapshot(), original.snapshot());
        }
    }

    #[test]
    fn a_restored_circuit_goes_on_where_the_other_was() {
        let (clock, later) = (ManualClock::new(), ManualClock::new());
        let original = breaker(&clock);
        original.record_failure();
        original.record_failure();
        clock.advance(7 * SECOND);
        let twin = breaker(&later);
        let permit = twin.try_acquire().unwrap();
        twin.restore(&original.snapshot());
        permit.failure();
        assert_eq!((twin.retry_after(), twin.late_outcomes()), (Some(3 * SECOND), 1));
        later.advance(3 * SECOND);
        assert!(twin.try_acquire().unwrap().is_probe());
    }
}
