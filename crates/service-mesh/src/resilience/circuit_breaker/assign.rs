//! State and counts by hand: for a door whose users assign them, as Python's do, and for tests that put a circuit where
//! they want it.
//!
//! What is assigned is the present, and rules look at it when the next verdict comes: a count that is set to its threshold
//! trips nothing by itself. A permit that was given before a state was assigned is late, as after any transition.

use std::time::Duration;

use service_mesh_models::{CircuitState, TransitionReason};

use super::CircuitBreaker;
use super::control::Control;
use super::state::{COUNT_MAX, Phase, Word};
use super::table::Input;
use crate::environment::Moment;
use crate::resilience::clock::Timestamp;
use crate::resilience::sync::Ordering;

impl CircuitBreaker {
    /// Puts the circuit in this state, on automatic, with a row of failures as it was and nothing else counted. A circuit
    /// that is in this state already, forced or not, is left alone.
    ///
    /// An Open that is assigned ends when one that began at the last failure would have, and lasts a whole `timeout` where
    /// nothing has failed yet. It is [`force_open`](Self::force_open) that lasts.
    pub fn assign_state(&self, state: CircuitState) {
        let mut moment = self.moment();
        self.locked(|control| {
            if self.word().phase().state() != state {
                self.assign_state_locked(control, state, &mut moment);
            }
        });
    }

    fn assign_state_locked(&self, control: &mut Control, state: CircuitState, moment: &mut Moment<'_>) {
        let row = self.row_locked(control);
        let reason = || TransitionReason::Assigned;
        match state {
            CircuitState::Closed => self.enter_locked(control, Input::Reset, 0, reason),
            CircuitState::Open => {
                let episode = control.episode_mut();
                episode.trips = episode.trips.max(1);
                let until = self.open_from_last_failure_locked(control, moment.now());
                self.0.gate.store(until.as_nanos(), Ordering::Release);
                self.enter_locked(control, Input::AssignOpen, row, reason);
            }
            CircuitState::HalfOpen => {
                let episode = control.episode_mut();
                (episode.row, episode.successes) = (row, 0);
                self.enter_locked(control, Input::AssignHalfOpen, 0, reason);
            }
        }
    }

    /// Makes the failures in a row so many, at most 16,777,215.
    pub fn assign_failure_count(&self, failures: u32) {
        let failures = failures.min(COUNT_MAX);
        self.locked(|control| {
            loop {
                let word = self.word();
                if word.phase().probes() {
                    control.episode_mut().row = failures;
                    return;
                }
                if self.exchange(word, word.with_count(failures)) {
                    return;
                }
            }
        });
    }

    /// Makes the successes of probes so many; without effect unless the circuit is half-open.
    pub fn assign_success_count(&self, successes: u32) {
        self.locked(|control| {
            if self.word().phase().probes() {
                control.episode_mut().successes = successes.min(COUNT_MAX);
            }
        });
    }

    /// Makes the probes in flight so many, at most `half_open_max_calls`; without effect unless the circuit is half-open.
    /// Those that are in flight are written off, and those that take their places hang from now on.
    pub fn assign_half_open_calls(&self, probes: u32) {
        let mut moment = self.moment();
        self.locked(|control| {
            let word = self.word();
            if !word.phase().probes() {
                return;
            }
            let probes = probes.min(control.config.half_open_max_calls());
            control.episode_mut().newest_probe = moment.now();
            self.store_probes_locked(control, word.entered(Phase::HalfOpen, 0), probes);
        });
    }

    /// Says that the last failure was so long ago, or that there was none. A present open time is counted from it.
    pub fn assign_last_failure(&self, age: Option<Duration>) {
        let mut moment = self.moment();
        self.locked(|control| {
            let now = moment.now();
            self.assign_last_failure_locked(control, age, now);
            let word = self.word();
            if word.phase() == Phase::Open && age.is_some() {
                let until = self.open_from_last_failure_locked(control, now);
                self.open_until_assigned_locked(word, until);
            }
        });
    }

    pub(super) fn assign_last_failure_locked(&self, control: &mut Control, age: Option<Duration>, now: Timestamp) {
        let since_origin = now.since(Timestamp::ORIGIN);
        control.episode_mut().before_origin = age.map_or(Duration::ZERO, |age| age.saturating_sub(since_origin));
        let at = age.map(|age| Timestamp::ORIGIN.after(since_origin.saturating_sub(age)));
        self.0.last_failure.store(at.map_or(0, |at| at.as_nanos().saturating_add(1)), Ordering::Relaxed);
    }

    /// How long ago the last failure was, also where that is earlier than the clock can tell.
    pub(super) fn last_failure_age_locked(&self, control: &Control, now: Timestamp) -> Option<Duration> {
        let at = self.last_failure_time()?;
        let before = control.episode().filter(|_| at == Timestamp::ORIGIN).map(|episode| episode.before_origin);
        Some(now.since(at).saturating_add(before.unwrap_or_default()))
    }

    /// When an open time ends that began at the last failure; one that begins now where there is none.
    fn open_from_last_failure_locked(&self, control: &Control, now: Timestamp) -> Timestamp {
        let trips = control.episode().map_or(1, |episode| episode.trips);
        let time = control.open_time(trips, &self.0.environment.chance());
        now.after(time.saturating_sub(self.last_failure_age_locked(control, now).unwrap_or_default()))
    }

    /// Another end of the same open time: a new generation, whose word publishes the gate.
    pub(super) fn open_until_assigned_locked(&self, word: Word, until: Timestamp) {
        self.0.gate.store(until.as_nanos(), Ordering::Release);
        self.0.word.store(word.entered(Phase::Open, word.count()).bits(), Ordering::Release);
    }

    /// The failures in a row, in any phase.
    pub(super) fn row_locked(&self, control: &Control) -> u32 {
        let word = self.word();
        if word.phase().probes() { control.episode().map_or(0, |episode| episode.row) } else { word.count() }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::testing::{ManualClock, Recorder};
    use crate::{CircuitBreakerConfig, Environment};

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> (CircuitBreaker, ManualClock, Recorder) {
        let (clock, recorder) = (ManualClock::new(), Recorder::new());
        let config = CircuitBreakerConfig::builder().failure_threshold(3).timeout(10 * SECOND).build().unwrap();
        let breaker = CircuitBreaker::builder("payments")
            .config(config)
            .environment(Environment::manual(&clock))
            .listener(recorder.clone())
            .build();
        (breaker, clock, recorder)
    }

    #[test]
    fn an_assigned_open_recovers_by_itself() {
        let (breaker, clock, recorder) = breaker();
        breaker.assign_state(CircuitState::Open);
        assert_eq!(breaker.retry_after(), Some(10 * SECOND));
        assert_eq!(recorder.take().len(), 1);
        clock.advance(10 * SECOND);
        assert!(breaker.can_execute());
        assert_eq!(breaker.state(), CircuitState::HalfOpen);
    }

    #[test]
    fn an_open_time_is_counted_from_an_assigned_last_failure_in_either_order() {
        let (failure_first, ..) = breaker();
        failure_first.assign_last_failure(Some(60 * SECOND));
        failure_first.assign_state(CircuitState::Open);
        assert!(failure_first.can_execute());
        let (state_first, ..) = breaker();
        state_first.assign_state(CircuitState::Open);
        state_first.assign_last_failure(Some(9 * SECOND));
        assert_eq!(state_first.retry_after(), Some(SECOND));
        state_first.assign_last_failure(Some(10 * SECOND));
        assert!(state_first.can_execute());
    }

    #[test]
    fn the_same_state_is_no_change() {
        let (breaker, _, recorder) = breaker();
        breaker.force_open();
        recorder.take();
        breaker.assign_state(CircuitState::Open);
        assert!(!breaker.can_execute());
        assert!(recorder.take().is_empty());
    }

    #[test]
    fn an_assigned_count_is_judged_at_the_next_failure() {
        let (breaker, ..) = breaker();
        breaker.assign_failure_count(3);
        assert_eq!((breaker.state(), breaker.failure_count()), (CircuitState::Closed, 3));
        breaker.record_success();
        assert_eq!(breaker.failure_count(), 0);
        breaker.assign_failure_count(2);
        breaker.record_failure();
        assert_eq!((breaker.state(), breaker.failure_count()), (CircuitState::Open, 3));
    }

    #[test]
    fn a_permit_from_before_an_assigned_state_is_late() {
        let (breaker, ..) = breaker();
        let permit = breaker.try_acquire().unwrap();
        breaker.assign_state(CircuitState::HalfOpen);
        permit.success();
        assert_eq!((breaker.success_count(), breaker.late_outcomes()), (0, 1));
    }

    #[test]
    fn assigned_probes_take_places_and_those_before_them_are_written_off() {
        let (breaker, ..) = breaker();
        breaker.assign_state(CircuitState::HalfOpen);
        let probe = breaker.try_acquire().unwrap();
        breaker.assign_success_count(1);
        breaker.assign_half_open_calls(9);
        assert_eq!((breaker.half_open_calls(), breaker.success_count()), (3, 1));
        assert!(!breaker.can_execute());
        probe.success();
        assert_eq!((breaker.half_open_calls(), breaker.success_count()), (3, 1));
        breaker.assign_half_open_calls(0);
        breaker.try_acquire().unwrap().success();
        assert_eq!(breaker.state(), CircuitState::Closed);
        breaker.assign_half_open_calls(2);
        breaker.assign_success_count(2);
        assert_eq!((breaker.half_open_calls(), breaker.success_count()), (0, 0));
    }
}
