//! What may be done by hand.

use serde_json::{Value, json};
use service_mesh::{CircuitBreaker, LoadBalancer, ServiceProxy};

use super::pages::{Query, Refusal, service_named};
use super::snapshot;
use crate::control::Surroundings;

/// Something that may be done by hand. What was done lasts until it is undone, or until the policy, discovery or the
/// health checks have news of the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Sends an instance no new calls; those in flight go on.
    Drain,
    /// Gives it back the weight that it was registered with, or 1.
    Undrain,
    MarkHealthy,
    MarkUnhealthy,
    /// Lets a circuit refuse every call: that of the service, or that of an instance.
    ForceOpen,
    /// Lets it admit every call.
    ForceClosed,
    /// Leaves it to itself again, Closed and with nothing counted.
    Reset,
}

impl Action {
    const ALL: [(&str, Self); 7] = [
        ("drain", Self::Drain),
        ("undrain", Self::Undrain),
        ("mark_healthy", Self::MarkHealthy),
        ("mark_unhealthy", Self::MarkUnhealthy),
        ("force_open", Self::ForceOpen),
        ("force_closed", Self::ForceClosed),
        ("reset", Self::Reset),
    ];

    pub(super) fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == word).map(|(_, action)| *action)
    }

    /// Does it, and tells how the service is now.
    pub(super) fn take(self, query: &Query, surroundings: &Surroundings) -> Result<Value, Refusal> {
        let Some(name) = &query.service else {
            return Err(Refusal::bad_request(String::from("say which service: ?service=NAME")));
        };
        let service = service_named(name, surroundings)?;
        let balancer = service.load_balancer();
        match (self, &query.instance) {
            (Self::ForceOpen, id) => circuit(&service, id.as_deref())?.force_open(),
            (Self::ForceClosed, id) => circuit(&service, id.as_deref())?.force_closed(),
            (Self::Reset, id) => circuit(&service, id.as_deref())?.reset(),
            (_, None) => return Err(Refusal::bad_request(String::from("say which instance: &instance=ID"))),
            (Self::Drain, Some(id)) => known(id, balancer.set_weight(id, 0))?,
            (Self::Undrain, Some(id)) => known(id, undrain(balancer, id))?,
            (Self::MarkHealthy, Some(id)) => known(id, balancer.mark_healthy(id, true))?,
            (Self::MarkUnhealthy, Some(id)) => known(id, balancer.mark_healthy(id, false))?,
        }
        Ok(json!({ "service": snapshot::service(&service, surroundings) }))
    }
}

fn known(id: &str, is_known: bool) -> Result<(), Refusal> {
    if is_known { Ok(()) } else { Err(Refusal::not_found(format!("there is no instance {id:?}"))) }
}

fn undrain(balancer: &LoadBalancer, id: &str) -> bool {
    let endpoint = balancer.endpoints().into_iter().find(|endpoint| endpoint.instance.id == id);
    endpoint.is_some_and(|endpoint| balancer.set_weight(id, endpoint.instance.weight.max(1)))
}

/// The circuit of the service, or that of an instance, which may be out of rotation.
fn circuit(service: &ServiceProxy, id: Option<&str>) -> Result<CircuitBreaker, Refusal> {
    let Some(id) = id else { return Ok(service.circuit_breaker()) };
    let found = snapshot::circuit_of(service, id);
    found.ok_or_else(|| Refusal::not_found(format!("there is no circuit of an instance {id:?}")))
}

/// What there is, for whoever asked for something else.
pub(super) fn pages() -> String {
    let actions = Action::ALL.map(|(word, _)| format!("/{word}")).join(", ");
    format!("there are /live, /ready, /metrics, /snapshot and /explain, and by POST {actions}")
}
