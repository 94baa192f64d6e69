//! The circuit breaker against its model.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use service_mesh::testing::{ManualClock, Recorder};
use service_mesh::{
    CircuitBreaker, CircuitBreakerConfig, Clock, CountWindow, Environment, EventKind, Outcome, OwnedPermit, TimeWindow,
    Timestamp,
};

use super::timelines;
use crate::reference::circuit_breaker::{Circuit, Permit};

/// What may happen next.
#[derive(Clone, Debug)]
enum Step {
    /// A call that takes no time.
    Call(Outcome),
    Acquire,
    Settle(Index, Outcome),
    Drop(Index),
    /// By hand.
    Record(Outcome),
    CanExecute,
    Advance(Advance),
    ForceOpen,
    ForceClosed,
    Reset,
    Update(CircuitBreakerConfig),
}

/// How far the clock moves.
#[derive(Clone, Debug)]
pub(super) enum Advance {
    By(u64),
    /// To one of the times at which something may happen: a nanosecond before it, to it, or a nanosecond past it.
    ToBoundary(Index, u64),
}

impl Advance {
    pub(super) fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            1 => select(vec![0, 1, 1_000_000_000, 4_000_000_000]).prop_map(Self::By),
            3 => (any::<Index>(), 0_u64..3).prop_map(|(which, past)| Self::ToBoundary(which, past)),
        ]
    }

    /// The time that it leads to.
    pub(super) fn from(&self, now: u64, boundaries: &[u64]) -> u64 {
        let ahead: Vec<u64> = boundaries.iter().copied().filter(|time| *time > now).collect();
        match self {
            Self::By(nanos) => now + nanos,
            Self::ToBoundary(..) if ahead.is_empty() => now + 1,
            Self::ToBoundary(which, past) => (ahead[which.index(ahead.len())] + past).saturating_sub(1),
        }
    }
}

/// Times of trouble and times of peace: what nearly always succeeds reaches other places than what often fails.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    select(vec![1_u32, 10, 40]).prop_flat_map(|successes| {
        let outcome = move || {
            prop_oneof![
                9 => Just(Outcome::Failure),
                successes => Just(Outcome::Success),
                1 => Just(Outcome::Neutral),
            ]
        };
        let step = prop_oneof![
            15 => outcome().prop_map(Step::Call),
            10 => Just(Step::Acquire),
            10 => (any::<Index>(), outcome()).prop_map(|(which, outcome)| Step::Settle(which, outcome)),
            2 => any::<Index>().prop_map(Step::Drop),
            2 => outcome().prop_map(Step::Record),
            2 => Just(Step::CanExecute),
            10 => Advance::any().prop_map(Step::Advance),
            1 => select(vec![Step::ForceOpen, Step::ForceClosed, Step::Reset, Step::Reset]),
            1 => configs().prop_map(Step::Update),
        ];
        prop::collection::vec(step, 1..80)
    })
}

/// Small numbers, so that everything is reached often; whole seconds and decimals, so that a model can be exact.
pub(super) fn configs() -> impl Strategy<Value = CircuitBreakerConfig> {
    let seconds = |range: std::ops::Range<u64>| range.prop_map(Duration::from_secs);
    let thresholds = (1_u32..5, 1_u32..5, 1_u32..4, any::<bool>());
    let times = (seconds(0..12), 1_u32..4, prop::option::of(seconds(0..40)), prop::option::of(seconds(0..20)));
    let windows = (prop::option::of(count_windows()), prop::option::of(time_windows()));
    (thresholds, times, windows).prop_map(|(thresholds, times, (count, time))| {
        let (failures, successes, probes, consecutive) = thresholds;
        let (timeout, multiplier, more, probe_timeout) = times;
        let mut builder = CircuitBreakerConfig::builder()
            .failure_threshold(failures)
            .success_threshold(successes)
            .half_open_max_calls(probes)
            .consecutive(consecutive || count.is_none() && time.is_none())
            .timeout(timeout)
            .timeout_multiplier(f64::from(multiplier));
        if let Some(more) = more {
            builder = builder.timeout_max(timeout + more);
        }
        if let Some(probe_timeout) = probe_timeout {
            builder = builder.probe_timeout(probe_timeout);
        }
        if let Some(count) = count {
            builder = builder.count_window(count);
        }
        if let Some(time) = time {
            builder = builder.time_window(time);
        }
        builder.build().expect("every one of these is valid")
    })
}

/// What failure and slow calls may be limited to: either or both.
fn ratios() -> impl Strategy<Value = (Option<f64>, Option<(f64, Duration)>)> {
    let ratio = || select(vec![0.01, 0.1, 0.25, 0.3, 0.33, 0.5, 0.6, 0.67, 0.7, 1.0]);
    let slow = || (ratio(), (0_u64..5).prop_map(Duration::from_secs));
    prop_oneof![
        2 => ratio().prop_map(|failures| (Some(failures), None)),
        1 => slow().prop_map(|slow| (None, Some(slow))),
        1 => (ratio(), slow()).prop_map(|(failures, slow)| (Some(failures), Some(slow))),
    ]
}

fn count_windows() -> impl Strategy<Value = CountWindow> {
    (1_u32..8, 1_u32..8, ratios()).prop_map(|(size, minimum, (failures, slow))| {
        let mut builder = CountWindow::builder().size(size).minimum_calls(minimum);
        if let Some(ratio) = failures {
            builder = builder.failure_ratio(ratio);
        }
        if let Some((ratio, limit)) = slow {
            builder = builder.slow_call_ratio(ratio).slow_call(limit);
        }
        builder.build().expect("every one of these is valid")
    })
}

fn time_windows() -> impl Strategy<Value = TimeWindow> {
    (1_u64..4, 10_u32..13, 1_u32..8, ratios()).prop_map(|(width, buckets, minimum, (failures, slow))| {
        let mut builder = TimeWindow::builder()
            .duration(Duration::from_secs(width * u64::from(buckets)))
            .buckets(buckets)
            .minimum_calls(minimum);
        if let Some(ratio) = failures {
            builder = builder.failure_ratio(ratio);
        }
        if let Some((ratio, limit)) = slow {
            builder = builder.slow_call_ratio(ratio).slow_call(limit);
        }
        builder.build().expect("every one of these is valid")
    })
}

/// A circuit, its model, and the permits that both have given.
struct Pair {
    clock: ManualClock,
    recorder: Recorder,
    real: CircuitBreaker,
    model: Circuit,
    permits: Vec<(OwnedPermit, Permit)>,
}

impl Pair {
    fn new(config: CircuitBreakerConfig) -> Self {
        let (clock, recorder) = (ManualClock::new(), Recorder::new());
        let real = CircuitBreaker::builder("model")
            .config(config.clone())
            .environment(Environment::manual(&clock))
            .listener(recorder.clone())
            .build();
        Self { clock, recorder, real, model: Circuit::new(config), permits: Vec::new() }
    }

    fn now(&self) -> u64 {
        self.clock.now().as_nanos()
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        let (now, before) = (self.now(), self.permits.len());
        match step {
            Step::Call(outcome) => {
                self.acquire(now)?;
                let last = self.permits.len();
                if last > before {
                    self.settle(last - 1, outcome, now);
                }
            }
            Step::Acquire => self.acquire(now)?,
            Step::Settle(which, outcome) if before > 0 => self.settle(which.index(before), outcome, now),
            Step::Drop(which) if before > 0 => {
                let (real, model) = self.permits.swap_remove(which.index(before));
                drop(real);
                self.model.settle(model, Outcome::Neutral, now, true);
            }
            // Nobody has a permit; and a call that says nothing cannot be recorded by hand.
            Step::Settle(..) | Step::Drop(_) | Step::Record(Outcome::Neutral) => {}
            Step::Record(outcome) => {
                match outcome {
                    Outcome::Success => self.real.record_success(),
                    _ => self.real.record_failure(),
                }
                self.model.record(outcome, now);
            }
            Step::CanExecute => prop_assert_eq!(self.real.can_execute(), self.model.can_execute(now)),
            Step::Advance(advance) => {
                let then = advance.from(now, &self.model.boundaries(now));
                self.clock.advance(Duration::from_nanos(then - now));
            }
            Step::ForceOpen => {
                self.real.force_open();
                self.model.force_open();
            }
            Step::ForceClosed => {
                self.real.force_closed();
                self.model.force_closed();
            }
            Step::Reset => {
                self.real.reset();
                self.model.reset();
            }
            Step::Update(config) => {
                self.real.update_config(config.clone());
                self.model.update_config(config);
            }
        }
        self.compare()
    }

    fn acquire(&mut self, now: u64) -> Result<(), TestCaseError> {
        match (self.real.try_acquire_owned(), self.model.acquire(now)) {
            (Ok(real), Ok(model)) => {
                prop_assert_eq!(real.is_probe(), model.is_probe);
                self.permits.push((real, model));
            }
            (Err(real), Err((reason, retry_after))) => {
                prop_assert_eq!((real.reason(), real.retry_after()), (reason, retry_after));
                self.model.told.push(EventKind::Refused { reason, retry_after });
            }
            (real, model) => prop_assert!(false, "{real:?}, but the model says {model:?}"),
        }
        Ok(())
    }

    fn settle(&mut self, which: usize, outcome: Outcome, now: u64) {
        let (real, model) = self.permits.swap_remove(which);
        real.settle(outcome);
        self.model.settle(model, outcome, now, true);
    }

    fn compare(&mut self) -> Result<(), TestCaseError> {
        let (real, model) = (&self.real, &self.model);
        prop_assert_eq!(real.state(), model.state());
        prop_assert_eq!(real.failure_count(), model.failure_count(), "failure_count");
        prop_assert_eq!(real.success_count(), model.success_count(), "success_count");
        prop_assert_eq!(real.half_open_calls(), model.half_open_calls(), "half_open_calls");
        prop_assert_eq!(real.late_outcomes(), model.late_outcomes, "late_outcomes");
        prop_assert_eq!(real.last_trip(), model.last_trip);
        prop_assert_eq!(real.last_failure_time().map(Timestamp::as_nanos), model.last_failure, "last_failure_time");
        prop_assert_eq!(real.retry_after(), model.retry_after(self.now()), "retry_after");
        let heard: Vec<_> = self.recorder.take().into_iter().map(|event| event.kind).collect();
        let told = std::mem::take(&mut self.model.told);
        if !heard.is_empty() || !told.is_empty() {
            prop_assert_eq!(format!("{heard:?}"), format!("{told:?}"));
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(timelines(1500))]

    #[test]
    fn a_circuit_does_what_the_rules_say(config in configs(), steps in steps()) {
        let mut pair = Pair::new(config);
        for step in steps {
            pair.take(step)?;
        }
    }
}
