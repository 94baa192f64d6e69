//! Who may be called, and by which circuits: the balancer's snapshot, and a circuit for each of its endpoints.
//!
//! One load of one pointer gives a call everything that it must agree with itself about. A roster is replaced as a
//! whole when the balancer's set or the proxy's settings change; an attempt keeps the one that it began with, and its
//! verdict asks who is there then.

use std::sync::Arc;
use std::time::Duration;

use service_mesh_models::{CircuitBreakerConfig, CircuitOpenError, RefusalReason, ServiceProxyConfig};

use crate::environment::{Environment, Moment};
use crate::resilience::circuit_breaker::{CircuitBreaker, Refusal, Ticket};
use crate::resilience::clock::Timestamp;
use crate::resilience::load_balancer::{EndpointKey, EndpointSet, KeyHash, Pick, UNTIMED};
use crate::resilience::observer::Observers;
use crate::resilience::retry::RetryPolicy;

use super::WeakProxy;
use super::explain::{PassedOver, Telling};
use super::hold::Baggage;
use super::watch::Watch;

/// What one attempt chooses from.
#[derive(Debug)]
pub(crate) struct Roster {
    pub(super) settings: Arc<Settings>,
    pub(super) service: CircuitBreaker,
    pub(super) set: Arc<EndpointSet>,
    /// One for each endpoint of the set, in its order; none where instances have no circuits.
    pub(super) circuits: Box<[CircuitBreaker]>,
    /// Somebody may want to know what becomes of calls that do not ask for it themselves.
    pub(super) attended: bool,
    /// Whose it is, for an attempt that is dropped and has nobody else to ask who is there.
    pub(super) proxy: WeakProxy,
}

/// What the user has set, but for the service's own circuit.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) name: Arc<str>,
    pub(super) config: ServiceProxyConfig,
    /// With its budget, if it has one.
    pub(super) retry: RetryPolicy,
    pub(super) instance_circuits: InstanceCircuits,
    pub(super) environment: Environment,
    pub(super) observers: Observers,
}

/// Where the configuration of the instances' circuits comes from.
#[derive(Clone, Debug)]
pub(super) enum InstanceCircuits {
    /// It is the service's.
    Inherited,
    Given(Arc<CircuitBreakerConfig>),
    Off,
}

/// An endpoint that was picked, and the leave of its circuit if it has one.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) pick: Pick,
    pub(super) ticket: Ticket,
}

/// Why nobody was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nobody {
    /// No instance is healthy and of a weight above 0.
    Healthy,
    /// There are such instances, but the circuit of each refuses.
    Admitted,
}

impl Roster {
    #[inline]
    pub(super) fn moment(&self) -> Moment<'_> {
        self.moment_at(None)
    }

    /// A moment whose time may be known already.
    #[inline]
    pub(super) fn moment_at(&self, now: Option<Timestamp>) -> Moment<'_> {
        Moment::at(&self.settings.environment, now)
    }

    /// Picks an endpoint whose circuit gives leave, preferring those that have not been tried.
    #[inline]
    pub(super) fn choose(
        &self,
        key: Option<KeyHash>,
        baggage: Option<&mut Baggage>,
        moment: &mut Moment<'_>,
    ) -> Result<Choice, Nobody> {
        let Some(baggage) = baggage else { return self.choose_first(key, moment) };
        self.choose_with(key, baggage, moment)
    }

    /// Picks for a call that has tried nobody.
    #[inline]
    fn choose_first(&self, key: Option<KeyHash>, moment: &mut Moment<'_>) -> Result<Choice, Nobody> {
        if let Some(pick) = self.set.pick(key)
            && let Ok(ticket) = self.enter(pick.index(), moment)
        {
            return Ok(Choice { pick, ticket });
        }
        self.choose_among(key, &[], None, moment).ok_or_else(|| self.nobody())
    }

    /// Picks for a call that has tried some, or is told of.
    #[cold]
    fn choose_with(
        &self,
        key: Option<KeyHash>,
        baggage: &mut Baggage,
        moment: &mut Moment<'_>,
    ) -> Result<Choice, Nobody> {
        let Baggage { tried, telling, watch, .. } = baggage;
        let choice = if tried.is_empty() && telling.is_none() {
            self.choose_first(key, moment)
        } else {
            let passed_over = telling.as_mut().map(|telling| telling.begin_attempt(moment));
            self.choose_among(key, tried, passed_over, moment).ok_or_else(|| self.nobody())
        };
        if let Ok(choice) = &choice {
            self.tell(choice, telling.as_mut(), watch.as_mut(), moment);
        }
        choice
    }

    /// Picks whomever `choose` names, unless its circuit refuses: then it is asked for another.
    #[cold]
    pub(super) fn choose_by(
        &self,
        mut choose: impl FnMut() -> Option<String>,
        baggage: Option<&mut Baggage>,
        moment: &mut Moment<'_>,
    ) -> Result<Choice, Nobody> {
        let (mut telling, watch) =
            baggage.map_or((None, None), |baggage| (baggage.telling.as_mut(), baggage.watch.as_mut()));
        let mut passed_over = telling.as_mut().map(|telling| telling.begin_attempt(moment));
        let mut nobody = Nobody::Healthy;
        while let Some(id) = choose() {
            let Some(index) = self.set.endpoints().iter().position(|endpoint| endpoint.instance().id == id) else {
                continue;
            };
            match self.enter(index, moment) {
                Ok(ticket) => {
                    let choice = Choice { pick: Pick::new(index, UNTIMED), ticket };
                    self.tell(&choice, telling, watch, moment);
                    return Ok(choice);
                }
                Err(refusal) => {
                    nobody = Nobody::Admitted;
                    if let Some(passed_over) = &mut passed_over {
                        passed_over.push(PassedOver::new(id, refusal));
                    }
                }
            }
        }
        Err(nobody)
    }

    /// Tells who was chosen those who want to know.
    fn tell(&self, choice: &Choice, telling: Option<&mut Telling>, watch: Option<&mut Watch>, moment: &mut Moment<'_>) {
        let instance = self.set.endpoints()[choice.pick.index()].instance();
        if let Some(telling) = telling {
            telling.chosen(instance);
        }
        if let Some(watch) = watch {
            watch.attempt_began(instance, moment);
        }
    }

    /// The strategy's choice among those that have not been tried and whose circuits give leave, and else among those
    /// that have been.
    #[cold]
    fn choose_among(
        &self,
        key: Option<KeyHash>,
        tried: &[EndpointKey],
        mut passed_over: Option<&mut Vec<PassedOver>>,
        moment: &mut Moment<'_>,
    ) -> Option<Choice> {
        let mut choose = |again: bool| {
            let mut ticket = Ticket::NONE;
            let pick = self.set.pick_where(key, |index, endpoint| {
                if tried.contains(&endpoint.key()) != again {
                    return false;
                }
                match self.enter(index, moment) {
                    Ok(given) => {
                        ticket = given;
                        true
                    }
                    Err(refusal) => {
                        if let Some(passed_over) = passed_over.as_deref_mut() {
                            passed_over.push(PassedOver::new(endpoint.instance().id.clone(), refusal));
                        }
                        false
                    }
                }
            })?;
            Some(Choice { pick, ticket })
        };
        choose(false).or_else(|| if tried.is_empty() { None } else { choose(true) })
    }

    fn nobody(&self) -> Nobody {
        if self.set.endpoints().is_empty() { Nobody::Healthy } else { Nobody::Admitted }
    }

    /// The leave of the circuit of this endpoint, if it has one.
    #[inline]
    fn enter(&self, index: usize, moment: &mut Moment<'_>) -> Result<Ticket, Refusal> {
        self.circuits.get(index).map_or(Ok(Ticket::NONE), |circuit| circuit.admit(moment))
    }

    /// Whether an instance that has not been tried would admit the next attempt.
    pub(super) fn would_fail_over(&self, tried: &[EndpointKey], moment: &mut Moment<'_>) -> bool {
        self.set.endpoints().iter().enumerate().any(|(index, endpoint)| {
            !tried.contains(&endpoint.key())
                && self.circuits.get(index).is_none_or(|circuit| circuit.would_admit(moment))
        })
    }

    /// The refusal that an attempt at a later time will meet for certain: of the service's circuit, or of all the
    /// instances'.
    pub(super) fn refusal_at(&self, later: Timestamp, moment: &mut Moment<'_>) -> Option<CircuitOpenError> {
        let service = self.service.refusal_at(later, moment);
        let nobody = !self.circuits.is_empty()
            && self.circuits.iter().all(|circuit| circuit.refusal_at(later, moment).is_some());
        (service.is_some() || nobody).then(|| self.refusal(service, moment))
    }

    /// What a caller is told who meets the refusal of the service's circuit or, without one, of all the instances'. He
    /// need not come back before both the service and some instance may admit him.
    pub(super) fn refusal(&self, service: Option<Refusal>, moment: &mut Moment<'_>) -> CircuitOpenError {
        let instances = self.shortest_refusal(moment);
        let told = match (service, instances) {
            (Some(service), instances) => {
                let wait = |service: Duration| {
                    instances.and_then(Refusal::retry_after).map_or(service, |wait| wait.max(service))
                };
                Refusal::new(service.reason(), service.retry_after().map(wait))
            }
            (None, Some(instances)) => instances,
            // A place became free between the look and the telling: it may be tried again at once.
            (None, None) => Refusal::new(RefusalReason::HalfOpenFull, None),
        };
        // Not every service's circuit bears the service's name: it may be shared.
        match service {
            Some(_) => self.service.refused(told),
            None => CircuitOpenError::new(Arc::clone(&self.settings.name), told.reason(), told.retry_after()),
        }
    }

    /// The instance that may be asked first: the shortest wait that is known, and else whatever is said. None if some
    /// instance refuses nobody.
    fn shortest_refusal(&self, moment: &mut Moment<'_>) -> Option<Refusal> {
        let mut shortest: Option<Refusal> = None;
        for circuit in &self.circuits {
            let refusal = circuit.present_refusal(moment)?;
            let sooner = match (shortest.and_then(Refusal::retry_after), refusal.retry_after()) {
                (Some(known), Some(wait)) => wait < known,
                (Some(_), None) => false,
                (None, Some(_)) => true,
                // Probes that are in flight may come back; a forced circuit will not change by itself.
                (None, None) => shortest.is_none_or(|known| known.reason() == RefusalReason::Forced),
            };
            if sooner {
                shortest = Some(refusal);
            }
        }
        shortest
    }
}
