//! Durations as seconds, at the borders where a number must stand for one.

use core::time::Duration;

use crate::ConfigError;

/// A duration from a number of seconds, for a door whose language has no `Duration`.
///
/// # Errors
/// `field` must be finite and at least 0; the error names it. Whatever is too long for a [`Duration`] is cut to
/// [`Duration::MAX`], which no clock of ours reaches.
///
/// ```
/// use service_mesh_models::duration_from_seconds;
/// assert_eq!(duration_from_seconds("timeout_seconds", 0.25)?.as_millis(), 250);
/// assert_eq!(
///     duration_from_seconds("timeout_seconds", -1.0).unwrap_err().to_string(),
///     "timeout_seconds is -1; allowed: a finite number of seconds, at least 0"
/// );
/// # Ok::<(), service_mesh_models::ConfigError>(())
/// ```
pub fn duration_from_seconds(field: &'static str, seconds: f64) -> Result<Duration, ConfigError> {
    if !seconds.is_finite() || seconds < 0.0 {
        return Err(ConfigError::new(field, seconds, "a finite number of seconds, at least 0"));
    }
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// No time at all, where it would mean never or always.
pub(crate) fn above_zero(field: &'static str, duration: Duration) -> Option<ConfigError> {
    duration.is_zero().then(|| ConfigError::new(field, 0, "above 0"))
}

/// A limit of no time, under which nothing could be done. That there is no limit is said by leaving it out.
pub(crate) fn time_limit(field: &'static str, limit: Option<Duration>) -> Option<ConfigError> {
    limit.filter(Duration::is_zero).map(|_| ConfigError::new(field, 0, "above 0, or none at all for no limit"))
}

#[cfg(feature = "serde")]
pub(crate) mod codec {
    use core::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde prescribes the signature")]
    pub(crate) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(value.as_secs_f64())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        // The deserialiser names the key and its place; only the value is ours to tell.
        super::duration_from_seconds("the duration", seconds).map_err(D::Error::custom)
    }
}

#[cfg(feature = "serde")]
pub(crate) mod option_codec {
    use core::time::Duration;

    use serde::{Deserializer, Serializer};

    #[allow(clippy::ref_option, reason = "serde prescribes the signature")]
    pub(crate) fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::codec::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        super::codec::deserialize(deserializer).map(Some)
    }
}
