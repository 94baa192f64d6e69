//! When a circuit trips, how long it stays open, and how it recovers.

use core::time::Duration;

use crate::config::{config, count, factor, in_range};
use crate::{ConfigError, CountWindow, TimeWindow};

/// The largest threshold: the packed state of a breaker counts in 24 bits.
const COUNT_MAX: u32 = (1 << 24) - 1;

config! {
    /// When a circuit trips, how long it stays open, and how it recovers.
    ///
    /// Several rules may stand side by side: failures in a row (on unless switched off), a [`CountWindow`] and a
    /// [`TimeWindow`]. The first that is reached trips the circuit.
    ///
    /// ```
    /// use std::time::Duration;
    /// use service_mesh_models::{CircuitBreakerConfig, CountWindow};
    ///
    /// let config = CircuitBreakerConfig::builder()
    ///     .failure_threshold(3)
    ///     .timeout(Duration::from_secs(10))
    ///     .count_window(CountWindow::builder().size(100).failure_ratio(0.5).build()?)
    ///     .build()?;
    /// assert_eq!(config.success_threshold(), 2);
    ///
    /// let wrong = CircuitBreakerConfig::builder().failure_threshold(0).build().unwrap_err();
    /// assert_eq!(wrong.to_string(), "failure_threshold is 0; allowed: 1 or more");
    /// # Ok::<(), service_mesh_models::ConfigError>(())
    /// ```
    CircuitBreakerConfig, CircuitBreakerConfigBuilder {
        /// Failures in a row that trip the circuit; a success clears the row. 1 to 16,777,215, default 5.
        failure_threshold: u32 = 5,
        /// Whether failures in a row are judged at all. Default true; may be false where a window is set.
        consecutive: bool = true,
        /// Successes of probes that reset a half-open circuit. 1 to 16,777,215, default 2. May be larger than
        /// `half_open_max_calls`: further probes are admitted as places become free.
        success_threshold: u32 = 2,
        /// How long the circuit stays open, in seconds in the policy file. Default 30 s; 0 is legal, the next call
        /// is then a probe.
        timeout in "timeout_seconds": Duration = Duration::from_secs(30),
        /// Probes that may be in flight at once in half-open. 1 to 16,777,215, default 3.
        half_open_max_calls: u32 = 3,
        /// What each further trip in a row multiplies the open time by. At least 1, default 1: it never grows.
        timeout_multiplier: f64 = 1.0,
        /// The share of the open time that chance may add, so that many clients do not probe at one instant. 0 to 1,
        /// default 0. It only lengthens: a `retry_after` that was told is never too early.
        timeout_jitter_ratio: f64 = 0.0
        ;
        /// The longest open time, jitter included, in seconds in the policy file. Not below `timeout`; default: no limit.
        timeout_max in "timeout_max_seconds": Duration,
        /// How old the newest probe must be before hung probes are written off, when all places are taken; in seconds in
        /// the policy file. Default: the longer of `timeout` and 30 s. It doubles with every write-off until the circuit
        /// is Closed. With 0 every caller writes the probes off, and `half_open_max_calls` limits nothing.
        probe_timeout in "probe_timeout_seconds": Duration,
        /// A rule over the last N outcomes. Default: none.
        count_window: CountWindow,
        /// A rule over the outcomes of the last T. Default: none.
        time_window: TimeWindow,
    }
}

impl CircuitBreakerConfig {
    fn mistakes(&self) -> Vec<ConfigError> {
        let fields = [
            count("failure_threshold", self.failure_threshold, 1..=COUNT_MAX),
            count("success_threshold", self.success_threshold, 1..=COUNT_MAX),
            count("half_open_max_calls", self.half_open_max_calls, 1..=COUNT_MAX),
            factor("timeout_multiplier", self.timeout_multiplier),
            in_range("timeout_jitter_ratio", self.timeout_jitter_ratio, 0.0..=1.0),
            self.timeout_max_below_timeout(),
        ];
        // A window may be somebody's default, which judges nothing yet.
        let count_window = self.count_window.iter().flat_map(CountWindow::mistakes);
        let time_window = self.time_window.iter().flat_map(TimeWindow::mistakes);
        fields.into_iter().flatten().chain(count_window).chain(time_window).chain(self.no_rule()).collect()
    }

    fn timeout_max_below_timeout(&self) -> Option<ConfigError> {
        let max = self.timeout_max.filter(|max| *max < self.timeout)?;
        let allowed = format!("at least timeout_seconds, which is {}", self.timeout.as_secs_f64());
        let mistake = ConfigError::new("timeout_max_seconds", max.as_secs_f64(), allowed);
        Some(mistake.judged_beside(&["timeout_seconds"]))
    }

    fn no_rule(&self) -> Option<ConfigError> {
        let is_one = self.consecutive || self.count_window.is_some() || self.time_window.is_some();
        let mistake = || ConfigError::new("consecutive", false, "true, unless count_window or time_window is set");
        (!is_one).then(|| mistake().judged_beside(&["count_window", "time_window"]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(builder: CircuitBreakerConfigBuilder) -> String {
        builder.build().unwrap_err().to_string()
    }

    #[test]
    fn the_seeds_defaults() {
        let config = CircuitBreakerConfig::default();
        assert_eq!(config.failure_threshold(), 5);
        assert_eq!(config.success_threshold(), 2);
        assert_eq!(config.timeout(), Duration::from_secs(30));
        assert_eq!(config.half_open_max_calls(), 3);
        assert_eq!(config.to_builder().build(), Ok(config));
    }

    #[test]
    fn each_refusal_names_field_value_and_range() {
        let builder = CircuitBreakerConfig::builder;
        assert_eq!(refusal(builder().failure_threshold(0)), "failure_threshold is 0; allowed: 1 or more");
        assert_eq!(refusal(builder().success_threshold(0)), "success_threshold is 0; allowed: 1 or more");
        assert_eq!(
            refusal(builder().half_open_max_calls(1 << 24)),
            "half_open_max_calls is 16777216; allowed: 1 to 16777215"
        );
        assert_eq!(refusal(builder().timeout_jitter_ratio(1.5)), "timeout_jitter_ratio is 1.5; allowed: 0 to 1");
        assert_eq!(
            refusal(builder().timeout_multiplier(f64::NAN)),
            "timeout_multiplier is NaN; allowed: a finite number, at least 1"
        );
        assert!(refusal(builder().timeout_multiplier(f64::INFINITY)).starts_with("timeout_multiplier is inf"));
        assert_eq!(
            refusal(builder().timeout_max(Duration::from_secs(29))),
            "timeout_max_seconds is 29; allowed: at least timeout_seconds, which is 30"
        );
        assert_eq!(
            refusal(builder().consecutive(false)),
            "consecutive is false; allowed: true, unless count_window or time_window is set"
        );
    }

    #[test]
    fn a_builder_tells_the_first_mistake_or_all_of_them() {
        let window = CountWindow::builder().size(0).slow_call_ratio(2.0);
        let told = |mistakes: &[ConfigError]| mistakes.iter().map(ConfigError::field).collect::<Vec<_>>().join(" ");
        assert_eq!(told(&window.build_or_mistakes().unwrap_err()), "size slow_call_ratio slow_call_seconds");
        let builder = CircuitBreakerConfig::builder().success_threshold(0).timeout_max(Duration::ZERO);
        let builder = builder.consecutive(false).failure_threshold(0);
        let mistakes = builder.clone().build_or_mistakes().unwrap_err();
        assert_eq!(told(&mistakes), "failure_threshold success_threshold timeout_max_seconds consecutive");
        assert_eq!(mistakes[0].beside(), [""; 0]);
        assert_eq!(mistakes[2].beside(), ["timeout_seconds"], "a shorter timeout would do as well");
        assert_eq!(builder.build().unwrap_err(), mistakes[0]);
    }

    #[test]
    fn a_window_that_judges_nothing_is_refused() {
        let refused = refusal(CircuitBreakerConfig::builder().consecutive(false).count_window(CountWindow::default()));
        assert_eq!(refused, "count_window is without a rule; allowed: failure_ratio, slow_call_ratio, or both");
        let refused = refusal(CircuitBreakerConfig::builder().time_window(TimeWindow::default()));
        assert_eq!(refused, "time_window is without a rule; allowed: failure_ratio, slow_call_ratio, or both");
    }

    #[test]
    fn zero_seconds_and_more_successes_than_places_are_legal() {
        assert!(
            CircuitBreakerConfig::builder()
                .timeout(Duration::ZERO)
                .success_threshold(9)
                .half_open_max_calls(1)
                .build()
                .is_ok()
        );
    }

    #[cfg(feature = "serde")]
    #[test]
    fn it_reads_and_writes_the_words_of_the_policy_file() {
        let config: CircuitBreakerConfig = serde_json::from_str(
            r#"{"timeout_seconds": 1.5, "probe_timeout_seconds": 9, "count_window": {"size": 4, "failure_ratio": 0.5}}"#,
        )
        .unwrap();
        assert_eq!(config.timeout(), Duration::from_millis(1500));
        assert_eq!(config.probe_timeout(), Some(Duration::from_secs(9)));
        assert_eq!(config.count_window().unwrap().size(), 4);
        let written = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<CircuitBreakerConfig>(&written).unwrap(), config);

        let refuse = |text| serde_json::from_str::<CircuitBreakerConfig>(text).unwrap_err().to_string();
        assert!(refuse(r#"{"failure_threshold": 0}"#).contains("failure_threshold is 0; allowed: 1 or more"));
        assert!(refuse(r#"{"timeout_seconds": -1}"#).contains("-1; allowed: a finite number of seconds, at least 0"));
        assert!(refuse(r#"{"timeout": 1}"#).contains("unknown field `timeout`"));
    }
}
