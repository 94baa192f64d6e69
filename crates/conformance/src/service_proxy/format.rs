//! What the file says by one word, or at length.

use serde::{Deserialize, Deserializer};
use service_mesh_models::RetryBudgetConfig;

use super::driver::Answer;

/// The breakers of the instances: `"off"`, or what differs from the service's.
#[derive(Clone, Debug)]
pub(super) enum InstanceBreaker {
    Off,
    Table(toml::Table),
}

impl Default for InstanceBreaker {
    fn default() -> Self {
        Self::Table(toml::Table::new())
    }
}

/// The budget: `"off"`, or a table.
#[derive(Clone, Debug)]
pub(super) enum Budget {
    Off,
    On(RetryBudgetConfig),
}

impl Default for Budget {
    fn default() -> Self {
        Self::On(RetryBudgetConfig::default())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Off {
    Off,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Hang {
    Hang,
}

/// One word, or something to be said at length.
#[derive(Deserialize)]
#[serde(untagged)]
enum WordOr<W, T> {
    Word(W),
    Other(T),
}

impl<'de> Deserialize<'de> for InstanceBreaker {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match WordOr::deserialize(deserializer)? {
            WordOr::Word(Off::Off) => Self::Off,
            WordOr::Other(table) => Self::Table(table),
        })
    }
}

impl<'de> Deserialize<'de> for Budget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match WordOr::deserialize(deserializer)? {
            WordOr::Word(Off::Off) => Self::Off,
            WordOr::Other(config) => Self::On(config),
        })
    }
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match WordOr::deserialize(deserializer)? {
            WordOr::Word(Hang::Hang) => Self::Hang,
            WordOr::Other(reply) => Self::Reply(reply),
        })
    }
}
