//! What the sidecar may send again.

use crate::config::{config, count};
use crate::{ConfigError, StatusRanges};

config! {
    /// What the sidecar may send again, of what is safe to repeat. The libraries read it and leave it alone: there, a
    /// classifier says so.
    ///
    /// By 502, 503 and 504 somebody says that he was not able to do it now; a 500 may have done half of it. The size is
    /// linkerd's.
    ///
    /// ```
    /// use service_mesh_models::ReplayConfig;
    /// let replay = ReplayConfig::builder().statuses("429, 502-504".parse()?).build()?;
    /// assert!(replay.statuses().contains(429) && !ReplayConfig::default().statuses().contains(429));
    /// assert_eq!(replay.body_bytes(), 65_536);
    /// # Ok::<(), service_mesh_models::ConfigError>(())
    /// ```
    ReplayConfig, ReplayConfigBuilder {
        /// The statuses of an answer after which another instance is asked, as `429, 502-504`, from 400 to 599; `none` for
        /// no status. Default `502-504`.
        statuses: StatusRanges = StatusRanges::one(502..=504),
        /// How much of a request's body is kept so that it can be sent again, in bytes; a longer one is sent once. At most
        /// 67,108,864, default 65,536.
        body_bytes: u32 = 65_536
        ;
    }
}

/// 64 MiB. Each request in flight may hold as much.
const BODY_BYTES_MAX: u32 = 64 * 1024 * 1024;

impl ReplayConfig {
    fn mistakes(&self) -> Vec<ConfigError> {
        let statuses = (!self.statuses.are_within(400..=599)).then(|| {
            let allowed = "statuses from 400 to 599, as 502-504 or 429, 503; or none";
            ConfigError::new("statuses", format_args!("\"{}\"", self.statuses), allowed)
        });
        [statuses, count("body_bytes", self.body_bytes, 0..=BODY_BYTES_MAX)].into_iter().flatten().collect()
    }
}
