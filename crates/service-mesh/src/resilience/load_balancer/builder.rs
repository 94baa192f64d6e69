//! How a load balancer is made.

use std::time::Duration;

use service_mesh_models::LoadBalancerStrategy;

use super::LoadBalancer;
use crate::environment::Environment;

/// Builds a [`LoadBalancer`]; nothing in it can fail.
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct LoadBalancerBuilder {
    strategy: LoadBalancerStrategy,
    slow_start: Duration,
    environment: Environment,
}

impl LoadBalancerBuilder {
    /// How it picks. Default: round robin.
    pub fn strategy(mut self, strategy: LoadBalancerStrategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// For how long the share of a new or recovered instance rises, from a tenth to all of its weight, in a straight
    /// line. Default: zero, the full share at once. It holds where weights do: in
    /// [`Weighted`](LoadBalancerStrategy::Weighted), [`P2c`](LoadBalancerStrategy::P2c),
    /// [`PeakEwma`](LoadBalancerStrategy::PeakEwma) and [`ConsistentHash`](LoadBalancerStrategy::ConsistentHash), where
    /// the keys of a rising instance come to it one by one.
    ///
    /// An instance begins to rise when it becomes pickable: registered, registered anew at another address, healthy
    /// again, or given a weight after 0. Shares are relative to that of whoever has come furthest, so that the
    /// instances of a set that starts together are not spared; nobody else could carry their load. While somebody
    /// rises, a pick reads the clock.
    pub fn slow_start(mut self, duration: Duration) -> Self {
        self.slow_start = duration;
        self
    }

    /// Its clock and its source of chance. Default: the system's.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// Makes the balancer, without instances.
    pub fn build(self) -> LoadBalancer {
        LoadBalancer::made(self.strategy, self.slow_start, self.environment)
    }
}
