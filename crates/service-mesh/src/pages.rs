//! The pages of the repository, so that their examples are compiled and run with ours. Nothing of this is built
//! otherwise.

#[doc = include_str!("../../../README.md")]
mod readme {}

#[doc = include_str!("../../../docs/book/choosing-a-strategy.md")]
mod choosing_a_strategy {}

#[doc = include_str!("../../../docs/book/choosing-thresholds.md")]
mod choosing_thresholds {}

#[doc = include_str!("../../../docs/book/circuit-breaker.md")]
mod circuit_breaker {}

#[cfg(all(feature = "policy_file", feature = "tower"))]
#[doc = include_str!("../../../docs/book/coming-from.md")]
mod coming_from {}

#[doc = include_str!("../../../docs/book/defaults.md")]
mod defaults {}

#[doc = include_str!("../../../docs/book/load-balancer.md")]
mod load_balancer {}

#[cfg(all(feature = "metrics", feature = "tracing"))]
#[doc = include_str!("../../../docs/book/observability.md")]
mod observability {}

#[cfg(feature = "policy_file")]
#[doc = include_str!("../../../docs/book/policy-file.md")]
mod policy_file {}

#[cfg(feature = "macros")]
#[doc = include_str!("../../../docs/book/protect-a-function.md")]
mod protect_a_function {}

#[doc = include_str!("../../../docs/book/retry.md")]
mod retry {}

#[doc = include_str!("../../../docs/book/service-proxy.md")]
mod service_proxy {}

#[doc = include_str!("../../../docs/book/testing.md")]
mod testing {}

#[cfg(feature = "tower")]
#[doc = include_str!("../../../docs/book/tower.md")]
mod tower {}
