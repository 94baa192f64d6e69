//! Everything that is known at this moment, as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use service_mesh::{CircuitBreaker, EndpointStatus, ServiceProxy, Timestamp};

use crate::control::Surroundings;
use crate::discovery::Look;
use crate::health::Checked;
use crate::metrics::health;

/// All of it. Its parts are read one after the other: they need not be of one moment.
pub(super) fn snapshot(surroundings: &Surroundings) -> Value {
    let services: Vec<Value> = surroundings.mesh.services().iter().map(|proxy| service(proxy, surroundings)).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "phase": surroundings.phase().as_str(),
        "policy": surroundings.reloads().told(surroundings.now()),
        "services": services,
    })
}

/// One service.
pub(super) fn service(proxy: &ServiceProxy, surroundings: &Surroundings) -> Value {
    let now = surroundings.now();
    let balancer = proxy.load_balancer();
    let checked = surroundings.health().checked().remove(proxy.name()).unwrap_or_default();
    let look = surroundings.discovery().looks().remove(proxy.name());
    let circuits = circuits(proxy);
    let instances: Vec<Value> = balancer
        .endpoints()
        .iter()
        .map(|endpoint| {
            instance(endpoint, circuits.get(&endpoint.instance.id), checked.get(&endpoint.instance.id), now)
        })
        .collect();
    let retry = proxy.retry_policy();
    let budget = retry.budget().map(|budget| {
        let config = budget.config();
        json!({
            "balance": budget.balance(),
            "ratio": config.ratio(),
            "floor_per_second": config.floor_per_second(),
        })
    });
    json!({
        "name": proxy.name(),
        "strategy": balancer.strategy().as_str(),
        "circuit": circuit(&proxy.circuit_breaker()),
        "instances": instances,
        "retry_budget": budget,
        "discovery": look.map(|look| discovery(&look, now)),
    })
}

/// The circuit of an instance, also of one that is not picked at present.
pub(super) fn circuit_of(proxy: &ServiceProxy, id: &str) -> Option<CircuitBreaker> {
    proxy.instance_circuit_breaker(id).or_else(|| circuits(proxy).remove(id))
}

/// The circuits of the instances, by id.
fn circuits(proxy: &ServiceProxy) -> BTreeMap<String, CircuitBreaker> {
    let of_instance = |circuit: CircuitBreaker| {
        let id = circuit.name().strip_prefix(proxy.name())?.strip_prefix('/')?.to_owned();
        Some((id, circuit))
    };
    proxy.circuits().into_iter().filter_map(of_instance).collect()
}

fn instance(
    endpoint: &EndpointStatus,
    breaker: Option<&CircuitBreaker>,
    checked: Option<&Checked>,
    now: Timestamp,
) -> Value {
    json!({
        "id": endpoint.instance.id,
        "address": endpoint.instance.address(),
        "health": health(endpoint),
        "weight": endpoint.weight,
        "in_flight": endpoint.in_flight,
        "metadata": endpoint.instance.metadata,
        "circuit": breaker.map(circuit),
        "check": checked.map(|checked| json!({
            "good": checked.good,
            "said": checked.said,
            "age_seconds": seconds(now.since(checked.at)),
        })),
    })
}

fn circuit(circuit: &CircuitBreaker) -> Value {
    json!({
        "name": circuit.name(),
        "state": circuit.state().as_str(),
        "forced": circuit.snapshot().forced,
        "failure_count": circuit.failure_count(),
        "success_count": circuit.success_count(),
        "half_open_calls": circuit.half_open_calls(),
        "late_outcomes": circuit.late_outcomes(),
        "retry_after_seconds": circuit.retry_after().map(seconds),
        "last_trip": circuit.last_trip().map(|trip| trip.to_string()),
    })
}

fn discovery(look: &Look, now: Timestamp) -> Value {
    json!({
        "answered_seconds_ago": look.answered.map(|at| seconds(now.since(at))),
        "failure": look.failure,
        "empty_answers_in_grace": look.in_grace,
    })
}

/// In thousandths: what is finer is noise to whoever reads it.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
