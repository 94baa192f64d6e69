//! Where the sidecar listens for requests, and what it bears from those who connect.

use core::time::Duration;

use crate::config::{config, count};
use crate::seconds::above_zero;
use crate::{ConfigError, ListenAddress};

/// A place where the sidecar listens for requests: `[listeners.NAME]`. The libraries read it and leave it alone.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ListenerConfig {
    /// An IP address and a port, `127.0.0.1:8080` or `[::1]:8080`, or the absolute path of a Unix socket,
    /// `unix:/run/mesh.sock`.
    pub address: ListenAddress,
    /// What it bears from those who connect.
    #[cfg_attr(feature = "schema", schemars(default))]
    pub limits: ListenerLimitsConfig,
}

impl ListenerConfig {
    /// Listens there, within the limits of default.
    pub fn new(address: impl Into<ListenAddress>) -> Self {
        Self { address: address.into(), limits: ListenerLimitsConfig::default() }
    }
}

config! {
    /// What a listener bears from those who connect, before it is known to which service they want. What is over a limit
    /// is refused; those of a service (`limits` under `services.NAME`) come on top.
    ///
    /// ```
    /// use service_mesh_models::ListenerLimitsConfig;
    /// let limits = ListenerLimitsConfig::builder().connections(100).build()?;
    /// assert_eq!((limits.header_bytes(), limits.header().as_secs()), (65_536, 10));
    /// # Ok::<(), service_mesh_models::ConfigError>(())
    /// ```
    ListenerLimitsConfig, ListenerLimitsConfigBuilder {
        /// Clients that are connected at once; whoever comes beyond that is disconnected. At least 1, default 10,000.
        connections: u32 = 10_000,
        /// How long a client may take to send the head of a request, in seconds in the policy file. Above 0, default
        /// 10 s.
        header in "header_seconds": Duration = Duration::from_secs(10),
        /// How long a client may keep a connection without asking for anything, in seconds in the policy file. Above 0,
        /// default 75 s.
        idle in "idle_seconds": Duration = Duration::from_secs(75),
        /// The largest head of a request, in bytes. At least 8,192, default 65,536.
        header_bytes: u32 = 65_536
        ;
        /// The largest body of a request, in bytes. Default: no limit.
        body_bytes: u64,
    }
}

impl ListenerLimitsConfig {
    fn mistakes(&self) -> Vec<ConfigError> {
        let fields = [
            count("connections", self.connections, 1..=u32::MAX),
            above_zero("header_seconds", self.header),
            above_zero("idle_seconds", self.idle),
            count("header_bytes", self.header_bytes, 8192..=u32::MAX),
        ];
        fields.into_iter().flatten().collect()
    }
}
