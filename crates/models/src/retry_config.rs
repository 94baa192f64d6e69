//! How often a failed call is tried again, and how long it waits before.

use core::time::Duration;

use crate::ConfigError;
use crate::config::{config, factor};

config! {
    /// How often a failed call is tried again, and how long it waits before.
    ///
    /// The wait before retry `n`, counted from 0, is `initial_delay · exponential_base^n`, then jitter, and never more
    /// than `max_delay`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use service_mesh_models::{Jitter, RetryConfig};
    /// let config = RetryConfig::builder().max_retries(5).jitter(Jitter::Full).build()?;
    /// assert_eq!(config.initial_delay(), Duration::from_millis(100));
    /// # Ok::<(), service_mesh_models::ConfigError>(())
    /// ```
    RetryConfig, RetryConfigBuilder {
        /// Attempts after the first. Default 3, which makes at most four attempts; 0 is one attempt.
        max_retries: u32 = 3,
        /// The wait before the first retry, in seconds in the policy file. Default 0.1 s; 0 never waits. One above
        /// `max_delay` is cut to it.
        initial_delay in "initial_delay_seconds": Duration = Duration::from_millis(100),
        /// The longest wait, jitter included, in seconds in the policy file. Default 10 s. A `Retry-After` may be longer.
        max_delay in "max_delay_seconds": Duration = Duration::from_secs(10),
        /// What each further retry multiplies the wait by. At least 1, default 2.
        exponential_base: f64 = 2.0,
        /// The chance in the wait. Default [`Jitter::Proportional`], which the seed calls `true`. A `Retry-After` is waited
        /// for in full; all but `none` add up to a tenth of it, within `retry_after_max` and the call's deadline.
        jitter: Jitter = Jitter::Proportional,
        /// The longest `Retry-After` that is waited for, in seconds in the policy file; beyond it the call gives up at once.
        /// Default 60 s.
        retry_after_max in "retry_after_max_seconds": Duration = Duration::from_secs(60)
        ;
    }
}

impl RetryConfig {
    fn mistakes(&self) -> Vec<ConfigError> {
        factor("exponential_base", self.exponential_base).into_iter().collect()
    }
}

/// The chance in a wait of `d`, the exponential backoff; the result never exceeds `max_delay`.
///
/// In the policy file `true` is `proportional`, `false` is `none`, or the word itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Jitter {
    /// Exactly `d`.
    None,
    /// Between `0.5 · d` and `1.5 · d`.
    #[default]
    Proportional,
    /// Between 0 and `d`: spreads best, and may not wait at all.
    Full,
    /// Between `d / 2` and `d`.
    Equal,
    /// Between `initial_delay` and three times the wait before; the exponential base plays no part.
    Decorrelated,
}

impl Jitter {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::None, Self::Proportional, Self::Full, Self::Equal, Self::Decorrelated];

    /// The word for this kind: `none`, `proportional`, `full`, `equal`, `decorrelated`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Proportional => "proportional",
            Self::Full => "full",
            Self::Equal => "equal",
            Self::Decorrelated => "decorrelated",
        }
    }
}

impl From<bool> for Jitter {
    /// The seed's switch: `true` is [`Jitter::Proportional`].
    fn from(on: bool) -> Self {
        if on { Self::Proportional } else { Self::None }
    }
}

impl core::fmt::Display for Jitter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.as_str())
    }
}

impl core::str::FromStr for Jitter {
    type Err = crate::UnknownWord;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        crate::circuit_state::find(word, &Self::ALL, Self::as_str)
    }
}

#[cfg(feature = "serde")]
mod words {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use super::Jitter;

    impl Serialize for Jitter {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(self.as_str())
        }
    }

    impl<'de> Deserialize<'de> for Jitter {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            #[derive(Deserialize)]
            #[serde(untagged, expecting = "true, false, or the name of a jitter")]
            enum Word {
                Switch(bool),
                Name(String),
            }
            match Word::deserialize(deserializer)? {
                Word::Switch(on) => Ok(on.into()),
                Word::Name(name) => name.parse().map_err(D::Error::custom),
            }
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Jitter {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Jitter".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let words = Self::ALL.map(Self::as_str);
        schemars::json_schema!({ "anyOf": [{ "type": "boolean" }, { "type": "string", "enum": words }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_defaults() {
        let config = RetryConfig::default();
        assert_eq!(config.max_retries(), 3);
        assert_eq!(config.initial_delay(), Duration::from_millis(100));
        assert_eq!(config.max_delay(), Duration::from_secs(10));
        assert_eq!(config.exponential_base().to_bits(), 2.0_f64.to_bits());
        assert_eq!(config.jitter(), Jitter::from(true));
    }

    #[test]
    fn a_base_below_one_is_refused() {
        let refusal = RetryConfig::builder().exponential_base(0.5).build().unwrap_err();
        assert_eq!((refusal.field(), refusal.value()), ("exponential_base", "0.5"));
        assert!(RetryConfig::builder().exponential_base(f64::NAN).build().is_err());
    }

    #[cfg(feature = "serde")]
    #[test]
    fn jitter_is_a_switch_or_a_word() {
        let read = |text| serde_json::from_str::<RetryConfig>(text).map(|config| config.jitter());
        assert_eq!(read(r#"{"jitter": true}"#).unwrap(), Jitter::Proportional);
        assert_eq!(read(r#"{"jitter": false}"#).unwrap(), Jitter::None);
        assert_eq!(read(r#"{"jitter": "decorrelated"}"#).unwrap(), Jitter::Decorrelated);
        let refusal = read(r#"{"jitter": "some"}"#).unwrap_err().to_string();
        assert!(refusal.contains("unknown word \"some\"; allowed: none, proportional"), "{refusal}");
        assert!(read(r#"{"max_retries": -1}"#).is_err());
    }
}
