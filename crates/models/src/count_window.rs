//! A rule over the last N outcomes.

use core::time::Duration;

use crate::ConfigError;
use crate::config::{config, count, positive_ratio};

/// The largest window: 2 bits an outcome make a quarter of a mebibyte.
const SIZE_MAX: u32 = 1 << 20;

config! {
    /// Judges the last N outcomes. It slides: the oldest outcome leaves when a new one comes.
    ///
    /// At least one of the two ratios must be set. A ratio is judged on a failure, on a slow call, and on the outcome
    /// that reaches `minimum_calls`, and it is reached at equality: 3 failures of 10 reach 0.3.
    ///
    /// ```
    /// use service_mesh_models::CountWindow;
    /// let window = CountWindow::builder().size(20).failure_ratio(0.5).build()?;
    /// assert_eq!(window.minimum_calls(), 10);
    /// # Ok::<(), service_mesh_models::ConfigError>(())
    /// ```
    CountWindow, CountWindowBuilder {
        /// How many outcomes it holds. 1 to 1,048,576, default 100.
        size: u32 = 100,
        /// Fewer outcomes than these are not judged; a full window is, in any case. At least 1, default 10.
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

impl CountWindow {
    pub(crate) fn mistakes(&self) -> Vec<ConfigError> {
        let fields = [count("size", self.size, 1..=SIZE_MAX), count("minimum_calls", self.minimum_calls, 1..=u32::MAX)];
        let ratios = ratios("count_window", self.failure_ratio, self.slow_call_ratio, self.slow_call);
        fields.into_iter().chain(ratios).flatten().collect()
    }
}

/// What the two windows have in common: some ratio to judge, each within its range, and a limit for slow calls.
pub(crate) fn ratios(
    window: &'static str,
    failure_ratio: Option<f64>,
    slow_call_ratio: Option<f64>,
    slow_call: Option<Duration>,
) -> [Option<ConfigError>; 3] {
    let incomplete = match (slow_call_ratio, slow_call) {
        (Some(_), None) => {
            let allowed = "a number of seconds, since slow_call_ratio is set";
            Some(ConfigError::new("slow_call_seconds", "missing", allowed).judged_beside(&["slow_call_ratio"]))
        }
        (None, Some(_)) => {
            let allowed = "above 0, at most 1, since slow_call_seconds is set";
            Some(ConfigError::new("slow_call_ratio", "missing", allowed).judged_beside(&["slow_call_seconds"]))
        }
        (None, None) if failure_ratio.is_none() => {
            let mistake = ConfigError::new(window, "without a rule", "failure_ratio, slow_call_ratio, or both");
            Some(mistake.judged_beside(&["failure_ratio", "slow_call_ratio", "slow_call_seconds"]))
        }
        _ => None,
    };
    [
        failure_ratio.and_then(|ratio| positive_ratio("failure_ratio", ratio)),
        slow_call_ratio.and_then(|ratio| positive_ratio("slow_call_ratio", ratio)),
        incomplete,
    ]
}
