//! How a service proxy is made.

use std::sync::Arc;

use service_mesh_models::{CircuitBreakerConfig, RetryBudgetConfig, RetryConfig, ServiceProxyConfig};

use super::ServiceProxy;
use super::roster::{InstanceCircuits, Settings};
use crate::environment::Environment;
use crate::resilience::circuit_breaker::CircuitBreaker;
use crate::resilience::event::{Announcer, Listener};
use crate::resilience::load_balancer::LoadBalancer;
use crate::resilience::observer::{Observer, Observers};
use crate::resilience::retry::{RetryBudget, RetryPolicy};

/// Builds a [`ServiceProxy`]; nothing in it can fail, since configurations that exist are valid.
///
/// ```
/// use std::time::Duration;
/// use service_mesh::{
///     CircuitBreakerConfig, LoadBalancer, LoadBalancerStrategy, RetryConfig, ServiceProxy, ServiceProxyConfig,
/// };
///
/// let proxy = ServiceProxy::builder("payments")
///     .load_balancer(LoadBalancer::new(LoadBalancerStrategy::LeastConnections))
///     .circuit_breaker(CircuitBreakerConfig::builder().failure_threshold(3).build()?)
///     .retry(RetryConfig::builder().max_retries(2).build()?)
///     .config(ServiceProxyConfig::builder().call_timeout(Duration::from_secs(1)).build()?)
///     .build();
/// assert_eq!(proxy.name(), "payments");
/// # Ok::<(), service_mesh::ConfigError>(())
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ServiceProxyBuilder {
    name: Arc<str>,
    load_balancer: Option<LoadBalancer>,
    circuit: Circuit,
    instance_circuits: InstanceCircuits,
    retry: Retry,
    budget: Budget,
    config: ServiceProxyConfig,
    environment: Option<Environment>,
    announcer: Option<Arc<Announcer>>,
    observers: Observers,
}

#[derive(Debug)]
enum Circuit {
    Config(Arc<CircuitBreakerConfig>),
    Given(CircuitBreaker),
}

#[derive(Debug)]
enum Retry {
    Config(RetryConfig),
    Given(RetryPolicy),
}

#[derive(Debug)]
enum Budget {
    Config(RetryBudgetConfig),
    Given(RetryBudget),
    Off,
}

impl Retry {
    /// The policy, with a budget.
    fn policy(self, budget: Budget, environment: &Environment) -> RetryPolicy {
        let config = match self {
            Self::Given(policy) if policy.budget().is_some() => return policy,
            Self::Given(policy) => policy.config().clone(),
            Self::Config(config) => config,
        };
        let builder = RetryPolicy::builder().config(config).environment(environment.clone());
        match budget {
            Budget::Config(config) => builder.budget(RetryBudget::with_environment(config, environment.clone())),
            Budget::Given(budget) => builder.budget(budget),
            Budget::Off => builder,
        }
        .build()
    }
}

impl ServiceProxyBuilder {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            load_balancer: None,
            circuit: Circuit::Config(Arc::default()),
            instance_circuits: InstanceCircuits::Inherited,
            retry: Retry::Config(RetryConfig::default()),
            budget: Budget::Config(RetryBudgetConfig::default()),
            config: ServiceProxyConfig::default(),
            environment: None,
            announcer: None,
            observers: Observers::default(),
        }
    }

    /// Who is called. Default: round robin over instances that are yet to be registered.
    pub fn load_balancer(mut self, load_balancer: LoadBalancer) -> Self {
        self.load_balancer = Some(load_balancer);
        self
    }

    /// When the service's circuit trips and recovers. Default: [`CircuitBreakerConfig::default`].
    pub fn circuit_breaker(mut self, config: CircuitBreakerConfig) -> Self {
        self.circuit = Circuit::Config(Arc::new(config));
        self
    }

    /// A circuit that exists already as the service's. Unless an environment is given too, the proxy uses the circuit's.
    pub fn shared_circuit_breaker(mut self, circuit_breaker: CircuitBreaker) -> Self {
        self.circuit = Circuit::Given(circuit_breaker);
        self
    }

    /// When the circuits of the instances trip and recover. Default: as the service's; to change single fields, start
    /// from that with [`to_builder`](CircuitBreakerConfig::to_builder).
    pub fn instance_circuit_breaker(mut self, config: CircuitBreakerConfig) -> Self {
        self.instance_circuits = InstanceCircuits::Given(Arc::new(config));
        self
    }

    /// Instances have no circuits of their own: none is left out for its failures, and the service's circuit hears of a
    /// failure only when the call has tried every instance.
    pub fn without_instance_circuit_breakers(mut self) -> Self {
        self.instance_circuits = InstanceCircuits::Off;
        self
    }

    /// How often a failed call is tried again, and how long it waits before. Default: [`RetryConfig::default`].
    pub fn retry(mut self, config: RetryConfig) -> Self {
        self.retry = Retry::Config(config);
        self
    }

    /// A policy that exists already; it waits in the proxy's environment. A budget of its own counts in place of the
    /// proxy's.
    pub fn retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.retry = Retry::Given(policy);
        self
    }

    /// How many retries the calls may cause. Default: [`RetryBudgetConfig::default`].
    pub fn retry_budget(mut self, config: RetryBudgetConfig) -> Self {
        self.budget = Budget::Config(config);
        self
    }

    /// A budget that several proxies share.
    pub fn shared_retry_budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Budget::Given(budget);
        self
    }

    /// Nothing limits the retries but `max_retries`. Mind that they multiply the load of a service that is in trouble.
    pub fn without_retry_budget(mut self) -> Self {
        self.budget = Budget::Off;
        self
    }

    /// Time limits and caps. Default: [`ServiceProxyConfig::default`].
    pub fn config(mut self, config: ServiceProxyConfig) -> Self {
        self.config = config;
        self
    }

    /// Clock, chance and timers. Default: those of a circuit that was given, else the system's.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Adds a listener for everything that happens here, in the service's circuit and in those of the instances. Default:
    /// none.
    pub fn listener(mut self, listener: impl Listener + 'static) -> Self {
        self.announcer.get_or_insert_default().subscribe(Arc::new(listener));
        self
    }

    /// Adds an observer of every attempt and every call. Default: none, and then nothing is paid for it.
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.add(Arc::new(observer));
        self
    }

    /// Makes the proxy.
    pub fn build(self) -> ServiceProxy {
        let given = match &self.circuit {
            Circuit::Given(circuit) => Some(circuit.environment().clone()),
            Circuit::Config(_) => None,
        };
        let environment = self.environment.or(given).unwrap_or_default();
        let service = match self.circuit {
            Circuit::Config(config) => CircuitBreaker::builder(Arc::clone(&self.name))
                .config(config)
                .environment(environment.clone())
                .of_service(self.announcer.clone(), None)
                .build(),
            Circuit::Given(circuit) => {
                if let Some(announcer) = &self.announcer {
                    circuit.attach(announcer);
                }
                circuit
            }
        };
        let retry = self.retry.policy(self.budget, &environment);
        let load_balancer =
            self.load_balancer.unwrap_or_else(|| LoadBalancer::builder().environment(environment.clone()).build());
        let settings = Settings {
            name: self.name,
            config: self.config,
            retry,
            instance_circuits: self.instance_circuits,
            environment,
            observers: self.observers,
        };
        ServiceProxy::made(load_balancer, &service, settings, self.announcer)
    }
}
