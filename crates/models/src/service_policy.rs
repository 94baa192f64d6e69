//! All that the policy file says of one service.

use core::time::Duration;
use std::sync::Arc;

use crate::{
    CircuitBreakerConfig, ConfigError, DiscoveryConfig, HealthCheckConfig, LimitsConfig, LoadBalancerStrategy,
    ReplayConfig, RetryBudgetConfig, RetryConfig, ServiceInstance, ServiceProxyConfig, TimeoutsConfig,
};

/// All that the policy file says of one service: `[services.NAME]`.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(default, deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ServicePolicy {
    /// How an instance is picked. Default `round_robin`.
    pub strategy: LoadBalancerStrategy,
    /// The instances, in their order. Default: none; they are registered by code or by discovery.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Vec::is_empty"))]
    pub instances: Vec<ServiceInstance>,
    /// Where the sidecar finds the instances, instead of a list of them. Default: nowhere.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    #[cfg_attr(feature = "schema", schemars(with = "DiscoveryConfig"))]
    pub discovery: Option<DiscoveryConfig>,
    /// When the service's circuit trips, and how it recovers.
    pub circuit_breaker: CircuitBreakerConfig,
    /// The same for the circuit of each instance. What is not said is as in `circuit_breaker`; `false` switches these
    /// circuits off.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "InstanceCircuitBreaker::is_inherited"))]
    pub instance_circuit_breaker: InstanceCircuitBreaker,
    /// How often a failed call is tried again, and how long it waits before. `false` is never.
    #[cfg_attr(feature = "schema", schemars(with = "Switchable<RetryConfig>"))]
    pub retry: RetryConfig,
    /// How many retries the calls may cause. `false` sets no limit.
    #[cfg_attr(feature = "serde", serde(serialize_with = "or_false"))]
    #[cfg_attr(feature = "schema", schemars(with = "Switchable<RetryBudgetConfig>"))]
    pub budget: Option<RetryBudgetConfig>,
    /// How long the steps of a call may take.
    pub timeouts: TimeoutsConfig,
    /// The share of the pickable instances that their circuits may eject at once, above 0, at most 1. Default: 1 in the
    /// libraries, 0.5 in the sidecar.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub max_ejected_ratio: Option<f64>,
    /// The share of calls whose story is told to the listeners, 0 to 1. Default 0.
    pub explain_ratio: f64,
    /// For how many seconds the share of a new or recovered instance rises to all of its weight. Default 0: the full
    /// share at once.
    #[cfg_attr(feature = "serde", serde(rename = "slow_start_seconds", with = "crate::seconds::codec"))]
    #[cfg_attr(feature = "schema", schemars(with = "f64", extend("minimum" = 0)))]
    pub slow_start: Duration,
    /// How the sidecar asks the instances whether they are well. Default: it does not.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    #[cfg_attr(feature = "schema", schemars(with = "HealthCheckConfig"))]
    pub health_check: Option<HealthCheckConfig>,
    /// What the sidecar may send again.
    pub replay: ReplayConfig,
    /// How much the sidecar takes on for this service.
    pub limits: LimitsConfig,
}

impl Default for ServicePolicy {
    fn default() -> Self {
        Self {
            strategy: LoadBalancerStrategy::default(),
            instances: Vec::new(),
            discovery: None,
            circuit_breaker: CircuitBreakerConfig::default(),
            instance_circuit_breaker: InstanceCircuitBreaker::default(),
            retry: RetryConfig::default(),
            budget: Some(RetryBudgetConfig::default()),
            timeouts: TimeoutsConfig::default(),
            max_ejected_ratio: None,
            explain_ratio: ServiceProxyConfig::default().explain_ratio(),
            slow_start: Duration::ZERO,
            health_check: None,
            replay: ReplayConfig::default(),
            limits: LimitsConfig::default(),
        }
    }
}

impl ServicePolicy {
    /// What of it a service proxy takes as its configuration, where `max_ejected_ratio` is the default of that one.
    ///
    /// # Errors
    /// A ratio or a time limit is out of range. It cannot be in a policy that was read from a file.
    pub fn proxy_config(&self, max_ejected_ratio: f64) -> Result<ServiceProxyConfig, ConfigError> {
        ServiceProxyConfig::builder()
            .max_ejected_ratio(self.max_ejected_ratio.unwrap_or(max_ejected_ratio))
            .explain_ratio(self.explain_ratio)
            .call_timeout(self.timeouts.call())
            .attempt_timeout(self.timeouts.attempt())
            .build()
    }
}

/// Where the circuit of each instance has its configuration from.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum InstanceCircuitBreaker {
    /// It is that of the service's circuit.
    #[default]
    Inherited,
    /// It is this, in which everything that was not said has been inherited.
    Given(Arc<CircuitBreakerConfig>),
    /// Instances have no circuits.
    Off,
}

impl InstanceCircuitBreaker {
    /// Whether nothing was said of it.
    pub fn is_inherited(&self) -> bool {
        *self == Self::Inherited
    }
}

/// `None`, which is off, is written as `false`.
#[cfg(feature = "serde")]
#[allow(clippy::ref_option, reason = "serde prescribes the signature")]
fn or_false<T: serde::Serialize, S: serde::Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => value.serialize(serializer),
        None => serializer.serialize_bool(false),
    }
}

/// A whole configuration leaves nothing to be inherited: neither may a window that it does not have.
#[cfg(feature = "serde")]
#[derive(serde::Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    config: &'a CircuitBreakerConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    count_window: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_window: Option<bool>,
}

#[cfg(feature = "serde")]
impl serde::Serialize for InstanceCircuitBreaker {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Inherited => serializer.serialize_bool(true),
            Self::Given(config) => {
                let off = |is_off: bool| is_off.then_some(false);
                let count_window = off(config.count_window().is_none());
                let time_window = off(config.time_window().is_none());
                Written { config, count_window, time_window }.serialize(serializer)
            }
            Self::Off => serializer.serialize_bool(false),
        }
    }
}

/// What the schema says of a section that may be switched off, or on with its defaults.
#[cfg(feature = "schema")]
#[derive(schemars::JsonSchema)]
#[schemars(untagged, inline)]
#[expect(dead_code, reason = "it is looked at, never made")]
enum Switchable<T> {
    Switch(bool),
    Section(T),
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for InstanceCircuitBreaker {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "InstanceCircuitBreaker".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut section = CircuitBreakerConfig::json_schema(generator);
        // Its defaults are those of the service's circuit, and not of the code.
        let properties = section.get_mut("properties").and_then(|properties| properties.as_object_mut());
        for property in properties.into_iter().flat_map(|properties| properties.values_mut()) {
            property.as_object_mut().map(|property| property.remove("default"));
        }
        schemars::json_schema!({ "anyOf": [{ "type": "boolean" }, section] })
    }
}
