//! The data of the service mesh: what a user writes down and what an error tells. Nothing here decides anything.
//!
//! Configurations are made by a builder whose `build()` is the only place that can fail; the error names the field,
//! its value and what is allowed. A configuration that exists is therefore valid. With the feature `serde` each type
//! reads and writes the words of the policy file, and unknown keys are refused. The reason for each default stands in
//! `docs/book/defaults.md` of the repository.
//!
//! # Words
//! The same in Rust, Python, the policy file, metrics and pages.
//!
//! | word | meaning |
//! |---|---|
//! | instance | what was registered: a host, a port, a weight |
//! | endpoint | an instance with its live counters |
//! | pick | to choose an endpoint |
//! | permit | leave to make one call through a circuit breaker |
//! | probe | a permit given while the circuit is half-open |
//! | attempt | one try at one instance; a *retry* is an attempt after the first |
//! | outcome | success, failure, or neutral (ignored or cancelled) |
//! | trip, probe, reset | what happens to a circuit; its *states* are Closed, Open and `HalfOpen` |
//! | backoff, jitter | the wait before a retry, and the chance in it |
//! | budget | how many retries the calls of the last ten seconds have earned |
//! | window | the latest outcomes that a rule judges |
//! | ejection | an instance left out because its circuit tripped |
//! | drain | an instance left out because its weight is 0 |
//!
//! Ratios lie in 0..=1 and end in `_ratio`. A number that crosses a border carries its unit: `timeout_seconds`.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod access_log_config;
mod admin_config;
mod authority;
mod budget_config;
mod circuit_breaker_config;
mod circuit_state;
mod config;
mod count_window;
mod discovery_config;
mod drain_config;
mod error;
mod health_check_config;
mod instance;
mod limits_config;
mod listen_address;
mod listener_config;
mod policy_file;
mod replay_config;
mod retry_config;
mod route_config;
mod seconds;
mod service_policy;
mod service_proxy_config;
mod status_ranges;
mod strategy;
mod time_window;
mod timeouts_config;
mod transition;

pub use access_log_config::{AccessLogConfig, AccessLogConfigBuilder, AccessLogMode};
pub use admin_config::AdminConfig;
pub use authority::{Authority, is_host_name};
pub use budget_config::{RetryBudgetConfig, RetryBudgetConfigBuilder};
pub use circuit_breaker_config::{CircuitBreakerConfig, CircuitBreakerConfigBuilder};
pub use circuit_state::{CircuitState, UnknownWord};
pub use count_window::{CountWindow, CountWindowBuilder};
pub use discovery_config::{DiscoveryConfig, DiscoveryQuery};
pub use drain_config::{DrainConfig, DrainConfigBuilder};
pub use error::{CircuitOpenError, ConfigError, NoHealthyInstanceError, RefusalReason};
pub use health_check_config::{HealthCheckConfig, HealthCheckConfigBuilder, HealthCheckType};
pub use instance::ServiceInstance;
pub use limits_config::{LimitsConfig, LimitsConfigBuilder};
pub use listen_address::ListenAddress;
pub use listener_config::{ListenerConfig, ListenerLimitsConfig, ListenerLimitsConfigBuilder};
pub use policy_file::PolicyFile;
pub use replay_config::{ReplayConfig, ReplayConfigBuilder};
pub use retry_config::{Jitter, RetryConfig, RetryConfigBuilder};
pub use route_config::{RouteConfig, is_method};
pub use seconds::duration_from_seconds;
pub use service_policy::{InstanceCircuitBreaker, ServicePolicy};
pub use service_proxy_config::{ServiceProxyConfig, ServiceProxyConfigBuilder};
pub use status_ranges::StatusRanges;
pub use strategy::LoadBalancerStrategy;
pub use time_window::{TimeWindow, TimeWindowBuilder};
pub use timeouts_config::{TimeoutsConfig, TimeoutsConfigBuilder};
pub use transition::{Transition, TransitionReason, TripReason, WindowKind};
