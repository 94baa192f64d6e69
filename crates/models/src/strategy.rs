//! How a balancer chooses.

use core::fmt;
use core::str::FromStr;

use crate::circuit_state::{UnknownWord, find};

/// How a load balancer picks among healthy instances. `Display`, `FromStr` and serde use the words of
/// [`as_str`](Self::as_str).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(description = "How a load balancer picks among healthy instances."))]
#[non_exhaustive]
pub enum LoadBalancerStrategy {
    /// One after the other, in the order of registration.
    #[default]
    RoundRobin,
    /// Any, each with the same chance.
    Random,
    /// In proportion to the weights, and smooth: heavy instances are spread out, not run in a row.
    Weighted,
    /// The one with the fewest connections; ties are broken at random.
    LeastConnections,
    /// Of two that chance names, the one with fewer connections relative to its weight.
    P2c,
    /// Of two that chance names, the one whose recent peak latency, times its connections relative to its weight, is
    /// less.
    PeakEwma,
    /// By the key of the call: one key, one instance, for as long as that one is there and not overloaded.
    ConsistentHash,
}

impl LoadBalancerStrategy {
    /// All strategies.
    pub const ALL: [Self; 7] = [
        Self::RoundRobin,
        Self::Random,
        Self::Weighted,
        Self::LeastConnections,
        Self::P2c,
        Self::PeakEwma,
        Self::ConsistentHash,
    ];

    /// The word for this strategy: `round_robin`, `random`, `weighted`, `least_connections`, `p2c`, `peak_ewma`,
    /// `consistent_hash`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::Random => "random",
            Self::Weighted => "weighted",
            Self::LeastConnections => "least_connections",
            Self::P2c => "p2c",
            Self::PeakEwma => "peak_ewma",
            Self::ConsistentHash => "consistent_hash",
        }
    }
}

impl fmt::Display for LoadBalancerStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for LoadBalancerStrategy {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        find(word, &Self::ALL, Self::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strategy_survives_its_word() {
        for strategy in LoadBalancerStrategy::ALL {
            assert_eq!(strategy.to_string().parse(), Ok(strategy));
        }
    }
}
