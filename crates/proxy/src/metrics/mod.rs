//! What is measured, in the names of the book's page on observability and in Prometheus' text format.
//!
//! The libraries tell the `metrics` facade, where each count looks its key up. A sidecar counts for every request on every
//! core: so it has counters of its own, found once for each service and instance, and split by thread, since one cache
//! line that all cores write would cost more than all the rest. Gauges are read when somebody looks, of the services
//! themselves: of a circuit exactly one state is 1, because it is asked once.

mod counters;
mod text;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use service_mesh::{
    AttemptReport, CallReport, CircuitState, Ending, EndpointStatus, Event, EventKind, Listener, Mesh, Observer,
    Outcome, ServiceProxy,
};

use self::counters::{Counters, Durations};
pub(crate) use self::text::{CONTENT_TYPE, Text};

/// The words of what becomes of a call.
const ENDINGS: [&str; 6] =
    ["success", "failure", "neutral", "circuit_open", "no_healthy_instance", "deadline_exceeded"];

/// The words of what becomes of an attempt.
const OUTCOMES: [&str; 3] = ["success", "failure", "neutral"];

/// The words of why an attempt was tried again.
const REASONS: [&str; 4] = ["success", "failure", "neutral", "timed_out"];

/// The counters of all services of a mesh.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    services: BTreeMap<String, (ServiceProxy, Arc<Meter>)>,
    /// Somebody has read since one looked the last time.
    is_read: Cell<bool>,
}

impl Metrics {
    /// Counts the calls of the services that the mesh has now. To be called at the start and after each reload; those that
    /// it had already go on. Returns those that are new.
    pub(crate) fn follow(&mut self, mesh: &Mesh) -> Vec<ServiceProxy> {
        let mut fresh = Vec::new();
        let mut before = std::mem::take(&mut self.services);
        for proxy in mesh.services() {
            let known = before.remove(proxy.name()).filter(|(known, _)| known.ptr_eq(&proxy));
            let entry = known.unwrap_or_else(|| {
                let meter = Arc::new(Meter::default());
                proxy.observe(Watch(Arc::clone(&meter)));
                proxy.subscribe(Watch(Arc::clone(&meter)));
                fresh.push(proxy.clone());
                (proxy.clone(), meter)
            });
            self.services.insert(proxy.name().to_owned(), entry);
        }
        fresh
    }

    /// Forgets who has gone, where nobody has read since this was called the last time; whoever reads does that himself.
    pub(crate) fn forget_unread(&self) {
        if self.is_read.replace(false) {
            return;
        }
        for (service, (proxy, meter)) in &self.services {
            let endpoints = proxy.load_balancer().endpoints();
            meter.forget_the_gone(service, &ids(&endpoints));
        }
    }

    /// Everything, as it is now.
    pub(crate) fn render(&self, text: &mut Text) {
        self.is_read.set(true);
        let meters = || self.services.iter().map(|(name, (_, meter))| (name.as_str(), &**meter));
        text.counter("service_mesh_calls_total", "Calls that have ended, by the instance of their last attempt.");
        for (service, meter) in meters() {
            meter.each(|instance, counts| {
                for (outcome, count) in ENDINGS.iter().zip(counts.calls.sums()) {
                    if count > 0 {
                        text.sample(&[("service", service), ("instance", instance), ("outcome", outcome)], count);
                    }
                }
            });
        }
        text.histogram("service_mesh_call_duration_seconds", "How long calls took, with all attempts and waits.");
        for (service, meter) in meters() {
            for (outcome, durations) in ENDINGS.iter().zip(&meter.durations) {
                if let Some(told) = durations.told() {
                    text.buckets(&[("service", service), ("outcome", outcome)], &told);
                }
            }
        }
        text.counter("service_mesh_attempts_total", "Attempts that have ended.");
        for (service, meter) in meters() {
            meter.each(|instance, counts| {
                for (outcome, count) in OUTCOMES.iter().zip(counts.attempts.sums()) {
                    if count > 0 {
                        text.sample(&[("service", service), ("instance", instance), ("outcome", outcome)], count);
                    }
                }
            });
        }
        text.counter("service_mesh_retries_total", "Attempts that were tried again, by why.");
        for (service, meter) in meters() {
            for (reason, count) in REASONS.iter().zip(meter.retries.sums()) {
                if count > 0 {
                    text.sample(&[("service", service), ("reason", reason)], count);
                }
            }
        }
        text.counter(
            "service_mesh_retry_budget_exhausted_total",
            "Retries that were not made, since the budget was spent.",
        );
        for (service, meter) in meters() {
            text.sample(&[("service", service)], lock(&meter.happened).budget_exhausted);
        }
        self.render_circuits(text);
        self.render_instances(text);
    }

    fn render_circuits(&self, text: &mut Text) {
        text.gauge("service_mesh_circuit_state", "1 for the state that the circuit is in, 0 for the others.");
        for (proxy, _) in self.services.values() {
            let mut circuits = proxy.circuits();
            circuits.sort_by(|one, other| one.name().cmp(other.name()));
            for circuit in circuits {
                let present = circuit.state();
                for state in CircuitState::ALL {
                    let labels = [("circuit", circuit.name()), ("state", state.as_str())];
                    text.sample(&labels, u64::from(state == present));
                }
            }
        }
        let happened = || self.services.values().map(|(_, meter)| lock(&meter.happened));
        text.counter("service_mesh_circuit_transitions_total", "Changes of a circuit's state.");
        for happened in happened() {
            for ((circuit, from, to, reason), count) in &happened.transitions {
                text.sample(&[("circuit", circuit), ("from", from), ("to", to), ("reason", reason)], *count);
            }
        }
        text.counter("service_mesh_circuit_refused_total", "Calls that a circuit refused.");
        for happened in happened() {
            happened.refused.iter().for_each(|(circuit, count)| text.sample(&[("circuit", circuit)], *count));
        }
        text.counter("service_mesh_circuit_late_outcomes_total", "Outcomes that came too late for a circuit to count.");
        for happened in happened() {
            happened.late.iter().for_each(|(circuit, count)| text.sample(&[("circuit", circuit)], *count));
        }
    }

    fn render_instances(&self, text: &mut Text) {
        let endpoints: Vec<(&str, Vec<EndpointStatus>)> =
            self.services.iter().map(|(name, (proxy, _))| (name.as_str(), proxy.load_balancer().endpoints())).collect();
        text.gauge(
            "service_mesh_connections",
            "Attempts in flight at an instance, and streams and tunnels that go on after theirs.",
        );
        for (service, endpoints) in &endpoints {
            for endpoint in endpoints {
                let labels = [("service", *service), ("instance", endpoint.instance.id.as_str())];
                text.sample(&labels, u64::from(endpoint.in_flight));
            }
        }
        text.gauge("service_mesh_instances", "Registered instances, by health.");
        for (service, endpoints) in &endpoints {
            for word in ["healthy", "unhealthy", "draining"] {
                let count = endpoints.iter().filter(|endpoint| health(endpoint) == word).count();
                text.sample(&[("service", service), ("health", word)], count as u64);
            }
        }
        // They have been told once more.
        for (service, endpoints) in &endpoints {
            if let Some((_, meter)) = self.services.get(*service) {
                meter.forget_the_gone(service, &ids(endpoints));
            }
        }
    }
}

fn ids(endpoints: &[EndpointStatus]) -> Vec<&str> {
    endpoints.iter().map(|endpoint| endpoint.instance.id.as_str()).collect()
}

/// One word for an instance: `healthy`, `unhealthy`, or `draining`, which is healthy and of weight 0.
pub(crate) fn health(endpoint: &EndpointStatus) -> &'static str {
    match endpoint {
        EndpointStatus { healthy: false, .. } => "unhealthy",
        EndpointStatus { weight: 0, .. } => "draining",
        _ => "healthy",
    }
}

/// The counters of one service.
#[derive(Default)]
struct Meter {
    /// By id, of those that were asked; the empty one stands for calls that asked nobody.
    instances: ArcSwap<BTreeMap<String, Arc<InstanceCounts>>>,
    durations: [Durations; ENDINGS.len()],
    retries: Counters<{ REASONS.len() }>,
    /// What happens seldom.
    happened: Mutex<Happened>,
}

#[derive(Debug, Default)]
struct InstanceCounts {
    calls: Counters<{ ENDINGS.len() }>,
    attempts: Counters<{ OUTCOMES.len() }>,
}

#[derive(Debug, Default)]
struct Happened {
    budget_exhausted: u64,
    transitions: BTreeMap<(Arc<str>, &'static str, &'static str, &'static str), u64>,
    refused: BTreeMap<Arc<str>, u64>,
    late: BTreeMap<Arc<str>, u64>,
}

/// A [`Meter`] as an observer and a listener.
struct Watch(Arc<Meter>);

impl Meter {
    /// The counters of an instance, which are made when it is met for the first time.
    fn of(&self, instance: &str, count: impl Fn(&InstanceCounts)) {
        if let Some(counts) = self.instances.load().get(instance) {
            return count(counts);
        }
        self.instances.rcu(|instances| {
            let mut instances = BTreeMap::clone(instances);
            instances.entry(instance.to_owned()).or_default();
            instances
        });
        // Who is forgotten in this very moment is counted for nobody.
        if let Some(counts) = self.instances.load().get(instance) {
            count(counts);
        }
    }

    fn each(&self, mut tell: impl FnMut(&str, &InstanceCounts)) {
        self.instances.load().iter().for_each(|(instance, counts)| tell(instance, counts));
    }

    /// Forgets all but these: instances that discovery brings and takes away would fill the memory.
    fn forget_the_gone(&self, service: &str, present: &[&str]) {
        let stays = |circuit: &str| {
            let id = circuit.strip_prefix(service).and_then(|rest| rest.strip_prefix('/'));
            id.is_none_or(|id| present.contains(&id))
        };
        let mut happened = lock(&self.happened);
        happened.transitions.retain(|(circuit, ..), _| stays(circuit));
        happened.refused.retain(|circuit, _| stays(circuit));
        happened.late.retain(|circuit, _| stays(circuit));
        drop(happened);
        if self.instances.load().keys().all(|id| id.is_empty() || present.contains(&id.as_str())) {
            return;
        }
        self.instances.rcu(|instances| {
            let mut instances = BTreeMap::clone(instances);
            instances.retain(|id, _| id.is_empty() || present.contains(&id.as_str()));
            instances
        });
    }
}

impl Observer for Watch {
    fn attempt_ended(&self, attempt: &AttemptReport<'_>) {
        let outcome = index_of(attempt.outcome);
        self.0.of(&attempt.instance.id, |counts| counts.attempts.increment(outcome));
        if attempt.retry_after.is_some() {
            self.0.retries.increment(if attempt.timed_out { 3 } else { outcome });
        }
    }

    fn call_ended(&self, call: &CallReport<'_>) {
        let ending = match call.ending {
            Ending::Refused(_) => {
                let word = call.outcome_word();
                ENDINGS.iter().position(|ending| *ending == word).unwrap_or(2)
            }
            Ending::Returned(_) | Ending::TimedOut(_) | Ending::Abandoned => index_of(call.outcome),
        };
        let instance = call.instance.map_or("", |instance| instance.id.as_str());
        self.0.of(instance, |counts| counts.calls.increment(ending));
        self.0.durations[ending].record(call.took);
    }
}

impl Listener for Watch {
    fn on_event(&self, event: &Event) {
        let name = || Arc::clone(&event.name);
        match &event.kind {
            EventKind::Transition(change) => {
                let key = (name(), change.from.as_str(), change.to.as_str(), change.reason.as_str());
                *lock(&self.0.happened).transitions.entry(key).or_default() += 1;
            }
            EventKind::Refused { .. } => *lock(&self.0.happened).refused.entry(name()).or_default() += 1,
            EventKind::LateOutcome(_) => *lock(&self.0.happened).late.entry(name()).or_default() += 1,
            EventKind::BudgetExhausted => lock(&self.0.happened).budget_exhausted += 1,
            _ => {}
        }
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").finish_non_exhaustive()
    }
}

/// Its place in [`OUTCOMES`], and so in [`ENDINGS`] and [`REASONS`].
fn index_of(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Success => 0,
        Outcome::Failure => 1,
        Outcome::Neutral => 2,
    }
}

fn lock(happened: &Mutex<Happened>) -> MutexGuard<'_, Happened> {
    happened.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
