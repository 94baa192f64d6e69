//! A rule over the outcomes of the last T.

use core::ops::RangeInclusive;
use core::time::Duration;

use crate::ConfigError;
use crate::config::{config, count};
use crate::count_window::ratios;

config! {
    /// Judges the outcomes of the last T, which are kept in buckets: the oldest bucket leaves as a whole, so that an
    /// outcome is remembered for at least T less one bucket and at most T.
    ///
    /// At least one of the two ratios must be set. A ratio is judged on a failure, on a slow call, and on the outcome
    /// that reaches `minimum_calls`, and it is reached at equality.
    ///
    /// ```
    /// use std::time::Duration;
    /// use service_mesh_models::TimeWindow;
    /// let window = TimeWindow::builder().duration(Duration::from_secs(60)).failure_ratio(0.25).build()?;
    /// assert_eq!(window.buckets(), 10);
    /// # Ok::<(), service_mesh_models::ConfigError>(())
    /// ```
    TimeWindow, TimeWindowBuilder {
        /// How long an outcome is remembered, in seconds in the policy file. Above 0, default 10 s.
        duration in "duration_seconds": Duration = Duration::from_secs(10),
        /// How many buckets it is kept in. 10 to 1,000, default 10; each costs 32 bytes.
        buckets: u32 = 10,
        /// Fewer outcomes than these are not judged. At least 1, default 10.
        minimum_calls: u32 = 10
        ;
        /// The share of failures that trips the circuit, above 0, at most 1. Default: not judged.
        failure_ratio: f64,
        /// The share of slow calls that trips the circuit, above 0, at most 1. Default: not judged.
        slow_call_ratio: f64,
        /// A call that takes longer is slow, in seconds in the policy file. Needed by `slow_call_ratio`.
        slow_call in "slow_call_seconds": Duration,
    }
}

impl TimeWindow {
    pub(crate) fn mistakes(&self) -> Vec<ConfigError> {
        let fields = [
            count("buckets", self.buckets, BUCKETS),
            count("minimum_calls", self.minimum_calls, 1..=u32::MAX),
            self.less_than_a_nanosecond_a_bucket(),
        ];
        let ratios = ratios("time_window", self.failure_ratio, self.slow_call_ratio, self.slow_call);
        fields.into_iter().chain(ratios).flatten().collect()
    }

    fn less_than_a_nanosecond_a_bucket(&self) -> Option<ConfigError> {
        // A number of buckets that is out of range is a mistake of its own; the fewest are judged by then.
        let buckets = if BUCKETS.contains(&self.buckets) { self.buckets } else { *BUCKETS.start() };
        if !(self.duration / buckets).is_zero() {
            return None;
        }
        let least = format!("at least {} (a nanosecond a bucket)", f64::from(buckets) * 1e-9);
        let mistake = ConfigError::new("duration_seconds", self.duration.as_secs_f64(), least);
        Some(if self.duration.is_zero() { mistake } else { mistake.judged_beside(&["buckets"]) })
    }
}

/// The fewest, so that what is forgotten at once is at most a tenth of the time.
const BUCKETS: RangeInclusive<u32> = 10..=1000;
