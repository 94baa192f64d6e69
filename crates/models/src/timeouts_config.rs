//! How long the steps of a call may take.

use core::time::Duration;

use crate::ConfigError;
use crate::config::config;
use crate::seconds::time_limit;

config! {
    /// How long the steps of a call may take. Each is off unless it is given.
    ///
    /// The libraries enforce the first two, as [`ServiceProxyConfig`](crate::ServiceProxyConfig) tells; the rest are of
    /// the sidecar, which makes the connections.
    ///
    /// ```
    /// use std::time::Duration;
    /// use service_mesh_models::TimeoutsConfig;
    /// let timeouts = TimeoutsConfig::builder().call(Duration::from_secs(2)).build()?;
    /// assert_eq!(timeouts.attempt(), None);
    /// # Ok::<(), service_mesh_models::ConfigError>(())
    /// ```
    TimeoutsConfig, TimeoutsConfigBuilder {
        ;
        /// How long a call may take, retries and waits included; in seconds in the policy file. Above 0; default: no
        /// limit.
        call in "call_seconds": Duration,
        /// How long one attempt may take. Above 0; default: no limit.
        attempt in "attempt_seconds": Duration,
        /// How long the sidecar may take to connect to an instance. Above 0; default: as long as the attempt.
        connect in "connect_seconds": Duration,
        /// How long a connection may lie idle before the sidecar ends it. Above 0; default: the sidecar's.
        idle in "idle_seconds": Duration,
        /// How long an instance may take to send the head of its answer. Above 0; default: as long as the attempt.
        header in "header_seconds": Duration,
    }
}

impl TimeoutsConfig {
    fn mistakes(&self) -> Vec<ConfigError> {
        let limits = [
            ("call_seconds", self.call),
            ("attempt_seconds", self.attempt),
            ("connect_seconds", self.connect),
            ("idle_seconds", self.idle),
            ("header_seconds", self.header),
        ];
        limits.into_iter().filter_map(|(field, limit)| time_limit(field, limit)).collect()
    }
}
