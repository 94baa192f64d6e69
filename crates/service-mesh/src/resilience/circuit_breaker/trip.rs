//! The rules: when a circuit trips.
//!
//! A rule is judged on a failure, on a slow call, and on the outcome that reaches `minimum_calls`; at any other time a
//! success cannot trip a circuit. A ratio is reached at equality. The division is the point: the quotient of two
//! integers, correctly rounded, is the very double that the decimal in the configuration was rounded to, so that 3 of
//! 10 reach 0.3. A product (`0.3 × 10`) would not promise that.

use std::time::Duration;

use service_mesh_models::{CountWindow, TimeWindow, TripReason, WindowKind};

/// What a window holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) calls: u64,
    pub(super) failures: u64,
    pub(super) slow: u64,
}

/// One outcome, as a window takes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) failure: bool,
    /// How long the call took; none if nobody knows, and then it is not slow.
    pub(super) elapsed: Option<Duration>,
}

/// What a window judges.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    window: WindowKind,
    minimum_calls: u64,
    failure_ratio: Option<f64>,
    slow_call_ratio: Option<f64>,
    slow_call: Option<Duration>,
}

impl Rule {
    pub(super) fn of_count(config: &CountWindow) -> Self {
        Self {
            window: WindowKind::Count,
            // A full window is judged in any case.
            minimum_calls: u64::from(config.minimum_calls().min(config.size())),
            failure_ratio: config.failure_ratio(),
            slow_call_ratio: config.slow_call_ratio(),
            slow_call: config.slow_call(),
        }
    }

    pub(super) fn of_time(config: &TimeWindow) -> Self {
        Self {
            window: WindowKind::Time,
            minimum_calls: u64::from(config.minimum_calls()),
            failure_ratio: config.failure_ratio(),
            slow_call_ratio: config.slow_call_ratio(),
            slow_call: config.slow_call(),
        }
    }

    /// Below so many outcomes nothing trips, and a success is judged only if it makes them so many.
    #[inline]
    pub(super) fn minimum_calls(&self) -> u64 {
        self.minimum_calls
    }

    #[inline]
    pub(super) fn is_slow(&self, sample: Sample) -> bool {
        self.slow_call.zip(sample.elapsed).is_some_and(|(limit, elapsed)| elapsed > limit)
    }

    /// Whether the window that holds `tally`, its latest outcome among them, trips the circuit.
    pub(super) fn judge(&self, tally: Tally, failure: bool, slow: bool) -> Option<TripReason> {
        let due = failure || slow || tally.calls == self.minimum_calls;
        if !due || tally.calls < self.minimum_calls {
            return None;
        }
        let Self { window, .. } = *self;
        let Tally { calls, failures, slow } = tally;
        if let Some(ratio) = self.failure_ratio.filter(|ratio| reaches(failures, calls, *ratio)) {
            return Some(TripReason::FailureRatio { window, failures, calls, ratio });
        }
        if let Some(ratio) = self.slow_call_ratio.filter(|ratio| reaches(slow, calls, *ratio)) {
            return Some(TripReason::SlowCallRatio { window, slow, calls, ratio });
        }
        None
    }
}

#[expect(clippy::cast_precision_loss, reason = "a window holds fewer than 2⁵³ calls")]
fn reaches(part: u64, calls: u64, ratio: f64) -> bool {
    part as f64 / calls as f64 >= ratio
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_decimal_ratio_is_reached_at_equality_and_not_before() {
        for calls in 1..=1000_u64 {
            for percent in 1..=100_u64 {
                let ratio: f64 = format!("0.{percent:02}").parse().unwrap();
                let ratio = if percent == 100 { 1.0 } else { ratio };
                let least = (percent * calls).div_ceil(100);
                assert!(reaches(least, calls, ratio), "{least} of {calls} reach {ratio}");
                assert!(!reaches(least - 1, calls, ratio), "{} of {calls} do not reach {ratio}", least - 1);
            }
        }
    }
}
