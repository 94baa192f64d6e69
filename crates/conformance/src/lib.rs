//! Behaviour as data: reads the scenarios of `conformance/*.toml` and replays them against a driver.
//!
//! A scenario is a claim, the rules that it shows, a configuration, and a timeline of steps on a clock that is moved by
//! hand; each step is one action and what must be seen after it. `conformance/README.md` describes the format. The same
//! files are replayed in every language and by every driver, so that a rule is written once and cannot drift; the idea
//! is that of the JSON test suites of the WHATWG URL standard and of TOML itself.
//!
//! For each subject there is a trait, what a driver must be able to do, and a function `replay`:
//!
//! | subject | trait | files |
//! |---|---|---|
//! | circuit breaker | [`circuit_breaker::Driver`] | `circuit_breaker.toml`, `windows.toml` |
//! | load balancer | [`load_balancer::Driver`] | `load_balancer.toml` |
//! | retry | [`retry::Driver`] | `retry.toml` |
//! | retry budget | [`budget::Driver`] | `budget.toml` |
//! | service proxy | [`service_proxy::Driver`] | `service_proxy.toml` |
//!
//! A driver says what it [can](Need); scenarios that need more are skipped and listed in the [`Report`], so that a test
//! can insist on exactly the ones that it expects to be skipped.
//!
//! Not for behaviour that no script can tell: races, fairness among threads, cost. Those are properties, loom models
//! and benches beside the code.
#![forbid(unsafe_code)]

mod event;
mod expect;
mod file;
mod need;
mod reply;
mod report;

pub mod budget;
pub mod circuit_breaker;
pub mod load_balancer;
pub mod retry;
pub mod service_proxy;

pub use event::{
    given_up_words, late_outcome_words, probes_written_off_words, refusal_words, retry_words, transition_words,
};
pub use file::{FormatError, Scenario, ScenarioFile, scenarios_directory};
pub use need::Need;
pub use reply::{Refusal, Reply, ReplyKind};
pub use report::{Failure, Report};
