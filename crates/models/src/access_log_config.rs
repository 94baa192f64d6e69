//! Which requests the sidecar writes down.

use core::fmt;
use core::str::FromStr;

use crate::ConfigError;
use crate::circuit_state::{UnknownWord, find};
use crate::config::{config, positive_ratio};

config! {
    /// Which requests the sidecar writes down, one line of JSON each. The libraries read it and leave it alone.
    ///
    /// A line that cannot be written as fast as requests come is dropped and counted: a log must not slow the calls down.
    ///
    /// ```
    /// use service_mesh_models::{AccessLogConfig, AccessLogMode};
    /// let log = AccessLogConfig::builder().mode(AccessLogMode::Sampled).build()?;
    /// assert_eq!((log.sample_ratio(), log.path()), (0.01, None));
    /// # Ok::<(), service_mesh_models::ConfigError>(())
    /// ```
    AccessLogConfig, AccessLogConfigBuilder {
        /// `off`, `sampled` or `all`. Default `off`.
        mode: AccessLogMode = AccessLogMode::Off,
        /// Of what share of the requests `sampled` writes a line, above 0, at most 1; of those that failed it writes all.
        /// Default 0.01.
        sample_ratio: f64 = 0.01
        ;
        /// The file that the lines are added to. Default: standard output.
        path: String,
    }
}

impl AccessLogConfig {
    fn mistakes(&self) -> Vec<ConfigError> {
        let empty = self.path.as_ref().filter(|path| path.is_empty());
        let path = empty.map(|_| ConfigError::new("path", "empty", "the path of a file"));
        [positive_ratio("sample_ratio", self.sample_ratio), path].into_iter().flatten().collect()
    }
}

/// Which requests are written down. `Display`, `FromStr` and serde use the words `off`, `sampled` and `all`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(description = "Which requests are written down.")
)]
#[non_exhaustive]
pub enum AccessLogMode {
    /// None.
    #[default]
    Off,
    /// A share of them, and all that failed.
    Sampled,
    /// All.
    All,
}

impl AccessLogMode {
    /// All modes.
    pub const ALL: [Self; 3] = [Self::Off, Self::Sampled, Self::All];

    /// The word for this mode.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Sampled => "sampled",
            Self::All => "all",
        }
    }
}

impl fmt::Display for AccessLogMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for AccessLogMode {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        find(word, &Self::ALL, Self::as_str)
    }
}
