//! Random timelines, on which the parts must do what their models do, step by step.
//!
//! The seed is fixed, so that a failure here is a failure everywhere. For a longer hunt choose how many timelines, and
//! then chance chooses which: `PROPTEST_CASES=100000 cargo test -p service-mesh --test it properties`.

mod circuit_breaker;
mod service_proxy;

use proptest::test_runner::{Config, RngSeed};

/// So many timelines, the same in every run, unless somebody is hunting.
fn timelines(cases: u32) -> Config {
    let hunting = std::env::var_os("PROPTEST_CASES").is_some();
    let usual = Config { failure_persistence: None, ..Config::default() };
    if hunting { usual } else { Config { cases, rng_seed: RngSeed::Fixed(0x5eed), ..usual } }
}
