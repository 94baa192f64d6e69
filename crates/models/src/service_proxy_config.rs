//! What a service proxy adds to the configurations of its parts.

use core::time::Duration;

use crate::ConfigError;
use crate::config::{config, in_range, positive_ratio};
use crate::seconds::time_limit;

config! {
    /// What a service proxy adds to the configurations of its parts: time limits, and how instances leave and return.
    ///
    /// ```
    /// use std::time::Duration;
    /// use service_mesh_models::ServiceProxyConfig;
    /// let config = ServiceProxyConfig::builder()
    ///     .call_timeout(Duration::from_secs(2))
    ///     .attempt_timeout(Duration::from_millis(500))
    ///     .build()?;
    /// # Ok::<(), service_mesh_models::ConfigError>(())
    /// ```
    ServiceProxyConfig, ServiceProxyConfigBuilder {
        /// The share of the pickable instances that may be ejected by their breakers at once. Above 0, at most 1,
        /// default 1. Where one more trip would pass it, that instance stays in rotation and an event says so.
        max_ejected_ratio: f64 = 1.0,
        /// The share of calls whose story is told to the listeners. 0 to 1, default 0.
        explain_ratio: f64 = 0.0
        ;
        /// How long a call may take, retries and waits included; in seconds in the policy file. Above 0;
        /// default: no limit.
        call_timeout in "call_timeout_seconds": Duration,
        /// How long one attempt may take, in seconds in the policy file. Above 0; default: no limit. One that takes longer
        /// is a failure of its instance; only an async driver can stop it.
        attempt_timeout in "attempt_timeout_seconds": Duration,
    }
}

impl ServiceProxyConfig {
    fn mistakes(&self) -> Vec<ConfigError> {
        let fields = [
            positive_ratio("max_ejected_ratio", self.max_ejected_ratio),
            in_range("explain_ratio", self.explain_ratio, 0.0..=1.0),
            time_limit("call_timeout_seconds", self.call_timeout),
            time_limit("attempt_timeout_seconds", self.attempt_timeout),
        ];
        fields.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_no_time_is_refused() {
        let refusal = |builder: ServiceProxyConfigBuilder| builder.build().unwrap_err().to_string();
        let builder = ServiceProxyConfig::builder;
        let allowed = "allowed: above 0, or none at all for no limit";
        let refused = refusal(builder().call_timeout(Duration::ZERO));
        assert_eq!(refused, format!("call_timeout_seconds is 0; {allowed}"));
        let refused = refusal(builder().attempt_timeout(Duration::ZERO));
        assert_eq!(refused, format!("attempt_timeout_seconds is 0; {allowed}"));
    }
}
