//! How the sidecar ends.

use core::time::Duration;

use crate::ConfigError;
use crate::config::config;

config! {
    /// How the sidecar ends when it is told to (SIGTERM): it says that it is not ready, waits until nobody sends new
    /// clients, then takes no more of them and lets those that are there finish. The libraries read it and leave it alone.
    ///
    /// Both together stay below the 30 s that Kubernetes waits before it kills.
    ///
    /// ```
    /// use service_mesh_models::DrainConfig;
    /// let drain = DrainConfig::default();
    /// assert_eq!((drain.delay().as_secs(), drain.deadline().as_secs()), (5, 20));
    /// ```
    DrainConfig, DrainConfigBuilder {
        /// How long it goes on as before while `/ready` says no, in seconds in the policy file. Default 5 s.
        delay in "delay_seconds": Duration = Duration::from_secs(5),
        /// How long those that are there may take after that, in seconds in the policy file; what is left then is cut.
        /// Default 20 s.
        deadline in "deadline_seconds": Duration = Duration::from_secs(20)
        ;
    }
}

impl DrainConfig {
    #[expect(clippy::unused_self, reason = "the shape of every configuration; any time will do")]
    fn mistakes(&self) -> Vec<ConfigError> {
        Vec::new()
    }
}
