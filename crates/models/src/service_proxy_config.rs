//! What a service proxy adds to the configurations of its parts.

use core::time::Duration;

use crate::ConfigError;
use crate::config::{config, in_range, positive_ratio};

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
        /// How long a call may take, retries and waits included; in seconds in the policy file. With 0 every call fails
        /// with deadline exceeded, and nothing is tried; default: no limit.
        call_timeout in "call_timeout_seconds": Duration,
        /// How long one attempt may take, in seconds in the policy file. Above 0; default: no limit. One that takes longer
        /// is a failure of its instance; only an async driver can stop it.
        attempt_timeout in "attempt_timeout_seconds": Duration,
    }
}

impl ServiceProxyConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        positive_ratio("max_ejected_ratio", self.max_ejected_ratio)?;
        in_range("explain_ratio", self.explain_ratio, 0.0..=1.0)?;
        if self.attempt_timeout == Some(Duration::ZERO) {
            return Err(ConfigError::new("attempt_timeout_seconds", 0, "above 0, or none for no limit"));
        }
        Ok(())
    }
}
