//! How much the sidecar takes on for one service.

use crate::ConfigError;
use crate::config::{config, count};

config! {
    /// How much the sidecar takes on for one service. The libraries read it and leave it alone.
    ///
    /// The three counts are Envoy's defaults for a cluster, the size of a head is close to its own (60 KiB).
    ///
    /// ```
    /// use service_mesh_models::LimitsConfig;
    /// let limits = LimitsConfig::builder().in_flight(100).queue(0).build()?;
    /// assert_eq!((limits.connections(), limits.body_bytes()), (1024, None));
    /// # Ok::<(), service_mesh_models::ConfigError>(())
    /// ```
    LimitsConfig, LimitsConfigBuilder {
        /// Connections to the instances of the service. At least 1, default 1,024.
        connections: u32 = 1024,
        /// Requests at once. At least 1, default 1,024.
        in_flight: u32 = 1024,
        /// Requests that wait for their turn; 0 refuses at once. Default 1,024.
        queue: u32 = 1024,
        /// The largest head of an instance's answer, in bytes; of requests the listener's limit says that. At least 8,192,
        /// default 65,536.
        header_bytes: u32 = 65_536
        ;
        /// The largest body of a request, in bytes; the listener's limit holds too. Default: no limit.
        body_bytes: u64,
    }
}

impl LimitsConfig {
    fn mistakes(&self) -> Vec<ConfigError> {
        let fields = [
            count("connections", self.connections, 1..=u32::MAX),
            count("in_flight", self.in_flight, 1..=u32::MAX),
            count("header_bytes", self.header_bytes, 8192..=u32::MAX),
        ];
        fields.into_iter().flatten().collect()
    }
}
