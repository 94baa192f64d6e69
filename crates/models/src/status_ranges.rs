//! Which statuses of HTTP are meant.

use core::fmt;
use core::ops::RangeInclusive;
use core::str::FromStr;

use crate::ConfigError;

/// Statuses of HTTP, one by one or from one to another: `200-299, 304`; or `none` of them. `Display`, `FromStr` and serde
/// use that text.
///
/// ```
/// use service_mesh_models::StatusRanges;
/// let statuses: StatusRanges = "200-299,304".parse()?;
/// assert!(statuses.contains(204) && statuses.contains(304) && !statuses.contains(300));
/// # Ok::<(), service_mesh_models::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "String", into = "String")
)]
pub struct StatusRanges(Vec<RangeInclusive<u16>>);

/// What stands for no status at all.
const NONE: &str = "none";

impl StatusRanges {
    /// Whether this status is meant.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }

    pub(crate) fn one(range: RangeInclusive<u16>) -> Self {
        Self(vec![range])
    }

    pub(crate) fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn are_within(&self, range: RangeInclusive<u16>) -> bool {
        self.0.iter().all(|statuses| range.contains(statuses.start()) && range.contains(statuses.end()))
    }
}

impl Default for StatusRanges {
    /// 200 to 299.
    fn default() -> Self {
        Self::one(200..=299)
    }
}

impl fmt::Display for StatusRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.are_none() {
            return f.write_str(NONE);
        }
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for StatusRanges {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        if text.trim() == NONE {
            return Ok(Self(Vec::new()));
        }
        let status = |text: &str| text.trim().parse().ok().filter(|status| (100..=599).contains(status));
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Some(status(first)?..=status(last)?).filter(|range| !range.is_empty())
        };
        let ranges = text.split(',').map(range).collect::<Option<Vec<_>>>();
        let allowed = "statuses from 100 to 599, as 200-299 or 200, 204";
        ranges.map(Self).ok_or_else(|| ConfigError::new("statuses", format_args!("{text:?}"), allowed))
    }
}

impl TryFrom<String> for StatusRanges {
    type Error = ConfigError;

    fn try_from(text: String) -> Result<Self, ConfigError> {
        text.parse()
    }
}

impl From<StatusRanges> for String {
    fn from(statuses: StatusRanges) -> Self {
        statuses.to_string()
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for StatusRanges {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StatusRanges".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_survive_their_text_and_nothing_else_is_one() {
        for (text, written) in
            [("200", "200"), (" none", "none"), ("200-299,304", "200-299, 304"), (" 200 - 204 , 301", "200-204, 301")]
        {
            assert_eq!(text.parse::<StatusRanges>().unwrap().to_string(), written);
        }
        for text in ["", "99", "600", "299-200", "200-", "-200", "200,", "2xx", "200-299-300", "none, 200"] {
            assert!(text.parse::<StatusRanges>().is_err(), "{text}");
        }
    }
}
