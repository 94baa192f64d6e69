//! From one policy to the next: what has changed, and how a running proxy takes it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use service_mesh_models::{InstanceCircuitBreaker, PolicyFile, RetryBudgetConfig, ServicePolicy, ServiceProxyConfig};

use crate::environment::Environment;
use crate::resilience::event::{Event, Listener};
use crate::resilience::load_balancer::LoadBalancer;
use crate::resilience::retry::{RetryBudget, RetryPolicy};
use crate::resilience::service_proxy::ServiceProxy;

/// What a reload has changed. Its text is one line for a log.
///
/// ```
/// let mesh: service_mesh::Mesh = "[services.carts]\n[services.payments]".parse()?;
/// let changes = mesh.reload("[services.orders]\n[services.payments]\nstrategy = 'random'")?;
/// assert_eq!((changes.added(), changes.removed()), (&[String::from("orders")][..], &[String::from("carts")][..]));
/// assert_eq!(changes.changed()["payments"], ["strategy"]);
/// assert_eq!(changes.to_string(), "orders: added; carts: removed; payments: strategy");
/// # Ok::<(), service_mesh::PolicyError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyChanges {
    added: Vec<String>,
    removed: Vec<String>,
    changed: BTreeMap<String, Vec<&'static str>>,
    sidecar: Vec<&'static str>,
}

impl PolicyChanges {
    /// Services that were not there before.
    pub fn added(&self) -> &[String] {
        &self.added
    }

    /// Services that are gone.
    pub fn removed(&self) -> &[String] {
        &self.removed
    }

    /// Services that were there and are, with the sections that have changed, as the file names them.
    pub fn changed(&self) -> &BTreeMap<String, Vec<&'static str>> {
        &self.changed
    }

    /// What has changed of `listeners`, `routes`, `admin`, `access_log` and `drain`; the mesh itself does nothing about it.
    pub fn sidecar(&self) -> &[&'static str] {
        &self.sidecar
    }

    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for PolicyChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing has changed");
        }
        let mut parts: Vec<String> = self.added.iter().map(|name| format!("{name}: added")).collect();
        parts.extend(self.removed.iter().map(|name| format!("{name}: removed")));
        parts.extend(self.changed.iter().map(|(name, sections)| format!("{name}: {}", sections.join(", "))));
        parts.extend(self.sidecar.iter().map(|section| format!("{section}: changed")));
        f.write_str(&parts.join("; "))
    }
}

/// What the proxies of a mesh have in common, whatever the file says.
pub(super) struct Maker {
    pub(super) environment: Environment,
    pub(super) listeners: Vec<Arc<dyn Listener>>,
    /// Where the file says nothing of it.
    pub(super) max_ejected_ratio: f64,
}

impl Maker {
    /// Brings the proxies from one policy to another, and returns those that are gone. Nothing here can fail, and no
    /// listener runs.
    pub(super) fn apply(
        &self,
        services: &mut BTreeMap<String, ServiceProxy>,
        old: &PolicyFile,
        new: &PolicyFile,
    ) -> (PolicyChanges, Vec<ServiceProxy>) {
        let mut changes = PolicyChanges::default();
        let gone: Vec<_> = old.services.keys().filter(|name| !new.services.contains_key(*name)).cloned().collect();
        let removed = gone.iter().filter_map(|name| services.remove(name)).collect();
        changes.removed = gone;
        for (name, policy) in &new.services {
            if let (Some(proxy), Some(before)) = (services.get(name), old.services.get(name)) {
                let sections = self.update(proxy, before, policy);
                if !sections.is_empty() {
                    changes.changed.insert(name.clone(), sections);
                }
            } else {
                services.insert(name.clone(), self.make(name, policy));
                changes.added.push(name.clone());
            }
        }
        let sidecar = [
            ("listeners", old.listeners != new.listeners),
            ("routes", old.routes != new.routes),
            ("admin", old.admin != new.admin),
            ("access_log", old.access_log != new.access_log),
            ("drain", old.drain != new.drain),
        ];
        changes.sidecar = sidecar.into_iter().filter_map(|(section, differs)| differs.then_some(section)).collect();
        (changes, removed)
    }

    fn make(&self, name: &str, policy: &ServicePolicy) -> ServiceProxy {
        let load_balancer = LoadBalancer::builder()
            .strategy(policy.strategy)
            .slow_start(policy.slow_start)
            .environment(self.environment.clone())
            .build();
        load_balancer.set_instances(policy.instances.iter().cloned());
        let builder = ServiceProxy::builder(name)
            .environment(self.environment.clone())
            .load_balancer(load_balancer)
            .circuit_breaker(policy.circuit_breaker.clone())
            .retry(policy.retry.clone())
            .config(self.config(policy));
        let builder = match &policy.instance_circuit_breaker {
            InstanceCircuitBreaker::Given(config) => builder.instance_circuit_breaker(config.as_ref().clone()),
            InstanceCircuitBreaker::Off => builder.without_instance_circuit_breakers(),
            _ => builder,
        };
        let builder = match &policy.budget {
            Some(budget) => builder.retry_budget(budget.clone()),
            None => builder.without_retry_budget(),
        };
        let listeners = self.listeners.iter().cloned();
        listeners
            .fold(builder, |builder, listener| builder.listener(move |event: &Event| listener.on_event(event)))
            .build()
    }

    /// Gives a running proxy what differs; the sections that do.
    fn update(&self, proxy: &ServiceProxy, old: &ServicePolicy, new: &ServicePolicy) -> Vec<&'static str> {
        let mut sections = Vec::new();
        let mut differs = |section, differs: bool| {
            if differs {
                sections.push(section);
            }
            differs
        };
        let balancer = proxy.load_balancer();
        if differs("strategy", old.strategy != new.strategy) {
            balancer.set_strategy(new.strategy);
        }
        if differs("slow_start_seconds", old.slow_start != new.slow_start) {
            balancer.set_slow_start(new.slow_start);
        }
        // Where discovery takes over, those that are there serve until it has found others.
        if differs("instances", old.instances != new.instances) && new.discovery.is_none() {
            balancer.set_instances(new.instances.iter().cloned());
        }
        if differs("circuit_breaker", old.circuit_breaker != new.circuit_breaker) {
            proxy.update_circuit_breaker(new.circuit_breaker.clone());
        }
        let instance_circuits = old.instance_circuit_breaker != new.instance_circuit_breaker;
        if differs("instance_circuit_breaker", instance_circuits) {
            match &new.instance_circuit_breaker {
                InstanceCircuitBreaker::Given(config) => proxy.update_instance_circuit_breaker(Arc::clone(config)),
                InstanceCircuitBreaker::Off => proxy.remove_instance_circuit_breakers(),
                _ => proxy.inherit_instance_circuit_breaker(),
            }
        }
        let retry = differs("retry", old.retry != new.retry);
        let budget = differs("budget", old.budget != new.budget);
        if retry || budget {
            proxy.update_retry_policy(self.retry_policy(&proxy.retry_policy(), retry, budget, new));
        }
        let ratios = |policy: &ServicePolicy| (policy.max_ejected_ratio, policy.explain_ratio);
        let timeouts = differs("timeouts", old.timeouts != new.timeouts);
        let ejection = differs("max_ejected_ratio", ratios(old).0 != ratios(new).0);
        let explain = differs("explain_ratio", ratios(old).1.to_bits() != ratios(new).1.to_bits());
        if timeouts || ejection || explain {
            proxy.update_config(self.config(new));
        }
        differs("discovery", old.discovery != new.discovery);
        differs("health_check", old.health_check != new.health_check);
        differs("replay", old.replay != new.replay);
        differs("limits", old.limits != new.limits);
        sections
    }

    fn config(&self, policy: &ServicePolicy) -> ServiceProxyConfig {
        policy.proxy_config(self.max_ejected_ratio).expect("the same was built when the file was checked")
    }

    /// The present policy with the sections that have changed. A budget that stays keeps its past.
    fn retry_policy(&self, present: &RetryPolicy, retry: bool, budget: bool, new: &ServicePolicy) -> RetryPolicy {
        let config = if retry { new.retry.clone() } else { present.config().clone() };
        let builder = RetryPolicy::builder().config(config).environment(self.environment.clone());
        let budget = if budget { self.budget(present, new.budget.as_ref()) } else { present.budget().cloned() };
        match budget {
            Some(budget) => builder.budget(budget),
            None => builder,
        }
        .build()
    }

    fn budget(&self, present: &RetryPolicy, config: Option<&RetryBudgetConfig>) -> Option<RetryBudget> {
        let config = config?.clone();
        let Some(budget) = present.budget() else {
            return Some(RetryBudget::with_environment(config, self.environment.clone()));
        };
        budget.update_config(config);
        Some(budget.clone())
    }
}

impl fmt::Debug for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maker")
            .field("environment", &self.environment)
            .field("listeners", &self.listeners.len())
            .field("max_ejected_ratio", &self.max_ejected_ratio)
            .finish()
    }
}
