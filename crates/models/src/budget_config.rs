//! How many retries a stream of calls may cause.

use crate::ConfigError;
use crate::config::{config, in_range};

config! {
    /// How many retries a stream of calls may cause: in any 10 seconds at most
    /// `ratio × calls + floor_per_second × 10`, whatever the concurrency.
    ///
    /// ```
    /// use service_mesh_models::RetryBudgetConfig;
    /// let config = RetryBudgetConfig::builder().ratio(0.1).floor_per_second(1.0).build()?;
    /// # Ok::<(), service_mesh_models::ConfigError>(())
    /// ```
    RetryBudgetConfig, RetryBudgetConfigBuilder {
        /// Retries that one call earns. 0 to 10, in steps of a millionth, default 0.2.
        ratio: f64 = 0.2,
        /// Retries a second that need no calls to earn them. 0 to 1,000,000, in steps of a hundred-thousandth,
        /// default 10. Below 0.1 it allows no retry at all, whatever the ratio: that is less than one retry in 10 seconds,
        /// and the 10 seconds that begin just after the calls have nothing but the floor.
        floor_per_second: f64 = 10.0
        ;
    }
}

impl RetryBudgetConfig {
    fn mistakes(&self) -> Vec<ConfigError> {
        let fields =
            [in_range("ratio", self.ratio, 0.0..=10.0), in_range("floor_per_second", self.floor_per_second, 0.0..=1e6)];
        fields.into_iter().flatten().collect()
    }
}
