//! The names of what is measured, through the `metrics` facade. They are Prometheus names in base units, so that one
//! dashboard fits every door to this toolkit.
//!
//! Counters and durations are told as they happen. Gauges are read when somebody looks ([`Metrics::record_gauges`]): what
//! is a state, and not a happening, would otherwise have two writers who overtake each other, and a circuit would be seen
//! in two states.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use service_mesh_models::CircuitState;

use crate::resilience::circuit_breaker::CircuitBreaker;
use crate::resilience::event::{Event, EventKind, Listener};
use crate::resilience::load_balancer::EndpointStatus;
use crate::resilience::observer::{AttemptReport, CallReport, Observer};
use crate::resilience::service_proxy::ServiceProxy;

const CALLS: &str = "service_mesh_calls_total";
const CALL_DURATION: &str = "service_mesh_call_duration_seconds";
const ATTEMPTS: &str = "service_mesh_attempts_total";
const RETRIES: &str = "service_mesh_retries_total";
const BUDGET_EXHAUSTED: &str = "service_mesh_retry_budget_exhausted_total";
const CIRCUIT_STATE: &str = "service_mesh_circuit_state";
const CIRCUIT_TRANSITIONS: &str = "service_mesh_circuit_transitions_total";
const CIRCUIT_REFUSED: &str = "service_mesh_circuit_refused_total";
const CIRCUIT_LATE_OUTCOMES: &str = "service_mesh_circuit_late_outcomes_total";
const CONNECTIONS: &str = "service_mesh_connections";
const INSTANCES: &str = "service_mesh_instances";

/// Tells the [`metrics`](::metrics) facade what is measured. Clones are handles of the same.
///
/// | name | kind | labels |
/// |---|---|---|
/// | `service_mesh_calls_total` | counter | `service`, `instance`, `outcome` |
/// | `service_mesh_call_duration_seconds` | histogram | `service`, `outcome` |
/// | `service_mesh_attempts_total` | counter | `service`, `instance`, `outcome` |
/// | `service_mesh_retries_total` | counter | `service`, `reason` |
/// | `service_mesh_retry_budget_exhausted_total` | counter | `service` |
/// | `service_mesh_circuit_state` | gauge, at [`record_gauges`](Self::record_gauges) | `circuit`, `state` |
/// | `service_mesh_circuit_transitions_total` | counter | `circuit`, `from`, `to`, `reason` |
/// | `service_mesh_circuit_refused_total` | counter | `circuit` |
/// | `service_mesh_circuit_late_outcomes_total` | counter | `circuit` |
/// | `service_mesh_connections` | gauge, at [`record_gauges`](Self::record_gauges) | `service`, `instance` |
/// | `service_mesh_instances` | gauge, at [`record_gauges`](Self::record_gauges) | `service`, `health` |
///
/// - A call's `instance` is that of its last attempt, empty if there was none. Its `outcome` is that of
///   [`CallReport::outcome_word`]; an attempt's is `success`, `failure` or `neutral`.
/// - The `reason` of a retry is why the attempt before was not the last: `timed_out`, or its outcome.
/// - A `circuit` is called as its service, or `SERVICE/INSTANCE`.
/// - `health` is `healthy`, `unhealthy`, or `draining`: healthy and of weight 0.
///
/// [`attach`](Self::attach) it to a proxy. A circuit that stands alone takes it as a listener.
///
/// ```
/// use service_mesh::{Metrics, ServiceInstance, ServiceProxy};
///
/// // Once, after an exporter was installed.
/// Metrics::describe();
/// let metrics = Metrics::new();
/// let payments = ServiceProxy::new("payments");
/// payments.load_balancer().register(ServiceInstance::new("a", "10.0.0.1", 80));
/// metrics.attach(&payments);
///
/// let _ = payments.call(|_| Ok::<_, std::io::Error>("paid"));
/// // At each scrape, before the exporter renders.
/// metrics.record_gauges(&payments);
/// ```
///
/// # Cost
/// For each call and attempt a lookup in the exporter, whose handles are deliberately not kept: an exporter may drop what
/// was idle, and what is told to a handle of before would be lost. Nothing where it is not attached.
#[derive(Clone, Default)]
pub struct Metrics {
    /// What gauges were set, by service, so that those of what has gone can be taken back.
    gauged: Arc<Mutex<BTreeMap<Arc<str>, Gauged>>>,
}

/// The gauges of one service that are not zero for good.
#[derive(Default, PartialEq, Eq)]
struct Gauged {
    circuits: BTreeSet<String>,
    instances: BTreeSet<String>,
}

impl Metrics {
    /// Nothing measured yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells the installed recorder the kinds, units and meanings. Once, after it was installed; without it all is
    /// measured just the same.
    pub fn describe() {
        describe_counter!(CALLS, Unit::Count, "Calls that have ended, by the instance of their last attempt.");
        describe_histogram!(CALL_DURATION, Unit::Seconds, "How long calls took, with all attempts and waits.");
        describe_counter!(ATTEMPTS, Unit::Count, "Attempts that have ended.");
        describe_counter!(RETRIES, Unit::Count, "Attempts that were tried again, by why.");
        describe_counter!(BUDGET_EXHAUSTED, Unit::Count, "Retries that were not made, since the budget was spent.");
        describe_gauge!(CIRCUIT_STATE, "1 for the state that the circuit is in, 0 for the others.");
        describe_counter!(CIRCUIT_TRANSITIONS, Unit::Count, "Changes of a circuit's state.");
        describe_counter!(CIRCUIT_REFUSED, Unit::Count, "Calls that a circuit refused.");
        describe_counter!(CIRCUIT_LATE_OUTCOMES, Unit::Count, "Outcomes that came too late for a circuit to count.");
        describe_gauge!(CONNECTIONS, Unit::Count, "Attempts in flight at an instance.");
        describe_gauge!(INSTANCES, Unit::Count, "Registered instances, by health.");
    }

    /// Measures the calls, the circuits and the retries of a proxy from now on. Once for each proxy: twice attached, it
    /// counts twice.
    pub fn attach(&self, proxy: &ServiceProxy) {
        proxy.subscribe(self.clone());
        proxy.observe(self.clone());
    }

    /// Sets the gauges of a proxy as they are now: the states of its circuits, its instances, their connections. To be
    /// called at each scrape, before the exporter renders, or from a timer where metrics are pushed.
    ///
    /// Of a circuit exactly one state is 1. An instance that is gone has no connections and its circuit is in no state.
    /// Takes the locks that changes of instances take, and allocates.
    pub fn record_gauges(&self, proxy: &ServiceProxy) {
        let service = Arc::<str>::from(proxy.name());
        let circuits = proxy.circuits();
        let endpoints = proxy.load_balancer().endpoints();
        let now = Gauged {
            circuits: circuits.iter().map(|circuit| circuit.name().to_owned()).collect(),
            instances: endpoints.iter().map(|endpoint| endpoint.instance.id.clone()).collect(),
        };
        // Under the lock, so that scrapes at the same time set one state of the gauges after the other.
        let mut gauged = self.gauged.lock().unwrap_or_else(PoisonError::into_inner);
        let before = gauged.insert(Arc::clone(&service), Gauged::default()).unwrap_or_default();
        for circuit in before.circuits.difference(&now.circuits) {
            set_state(circuit, None);
        }
        for instance in before.instances.difference(&now.instances) {
            gauge!(CONNECTIONS, "service" => Arc::clone(&service), "instance" => instance.clone()).set(0);
        }
        for circuit in &circuits {
            set_state(circuit.name(), Some(circuit.state()));
        }
        for endpoint in &endpoints {
            let instance = endpoint.instance.id.clone();
            gauge!(CONNECTIONS, "service" => Arc::clone(&service), "instance" => instance).set(endpoint.in_flight);
        }
        for health in Health::ALL {
            let instances = endpoints.iter().filter(|endpoint| Health::of(endpoint) == health).count();
            let instances = u32::try_from(instances).unwrap_or(u32::MAX);
            gauge!(INSTANCES, "service" => Arc::clone(&service), "health" => health.as_str()).set(instances);
        }
        gauged.insert(service, now);
    }

    /// Sets the gauge of a circuit that stands alone, as it is now. To be called as
    /// [`record_gauges`](Self::record_gauges) is.
    pub fn record_circuit(&self, circuit: &CircuitBreaker) {
        let _one_at_a_time = self.gauged.lock().unwrap_or_else(PoisonError::into_inner);
        set_state(circuit.name(), Some(circuit.state()));
    }
}

/// One-hot: 1 for the state, if there is one, and 0 for the others.
fn set_state(circuit: &str, state: Option<CircuitState>) {
    for each in CircuitState::ALL {
        let hot = u32::from(state == Some(each));
        gauge!(CIRCUIT_STATE, "circuit" => circuit.to_owned(), "state" => each.as_str()).set(hot);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Healthy,
    Unhealthy,
    Draining,
}

impl Health {
    const ALL: [Self; 3] = [Self::Healthy, Self::Unhealthy, Self::Draining];

    fn of(endpoint: &EndpointStatus) -> Self {
        match endpoint {
            EndpointStatus { healthy: false, .. } => Self::Unhealthy,
            EndpointStatus { weight: 0, .. } => Self::Draining,
            _ => Self::Healthy,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Draining => "draining",
        }
    }
}

impl Listener for Metrics {
    fn on_event(&self, event: &Event) {
        let name = || Arc::clone(&event.name);
        match &event.kind {
            EventKind::Transition(change) => {
                let (from, to, reason) = (change.from.as_str(), change.to.as_str(), change.reason.as_str());
                counter!(CIRCUIT_TRANSITIONS, "circuit" => name(), "from" => from, "to" => to, "reason" => reason)
                    .increment(1);
            }
            EventKind::Refused { .. } => counter!(CIRCUIT_REFUSED, "circuit" => name()).increment(1),
            EventKind::LateOutcome(_) => counter!(CIRCUIT_LATE_OUTCOMES, "circuit" => name()).increment(1),
            EventKind::BudgetExhausted => counter!(BUDGET_EXHAUSTED, "service" => name()).increment(1),
            // Retries are counted with their reason, which the attempt tells; the others have no name of their own.
            EventKind::Retry { .. }
            | EventKind::GivenUp { .. }
            | EventKind::ProbesWrittenOff { .. }
            | EventKind::EjectionCapped
            | EventKind::Story(_) => {}
        }
    }
}

impl Observer for Metrics {
    fn attempt_ended(&self, attempt: &AttemptReport<'_>) {
        let service = || Arc::clone(attempt.service);
        let (instance, outcome) = (attempt.instance.id.clone(), attempt.outcome.as_str());
        counter!(ATTEMPTS, "service" => service(), "instance" => instance, "outcome" => outcome).increment(1);
        if attempt.retry_after.is_some() {
            counter!(RETRIES, "service" => service(), "reason" => attempt.cause().as_str()).increment(1);
        }
    }

    fn call_ended(&self, call: &CallReport<'_>) {
        let service = || Arc::clone(call.service);
        let instance = call.instance.map(|instance| instance.id.clone()).unwrap_or_default();
        let outcome = call.outcome_word();
        counter!(CALLS, "service" => service(), "instance" => instance, "outcome" => outcome).increment(1);
        histogram!(CALL_DURATION, "service" => service(), "outcome" => outcome).record(call.took);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
