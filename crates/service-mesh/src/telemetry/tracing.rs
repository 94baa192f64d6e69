//! Spans and events through the `tracing` facade.

use std::sync::Arc;

use service_mesh_models::{CircuitState, ServiceInstance};
use tracing::field::Empty;
use tracing::{Span, debug, debug_span, info, info_span, warn};

use crate::resilience::event::{Event, EventKind, Listener};
use crate::resilience::observer::{AttemptReport, CallReport, Observer, Scope};
use crate::resilience::service_proxy::ServiceProxy;

const TARGET: &str = "service_mesh";

/// Tells the [`tracing`](::tracing) facade of each call, each attempt and each event, with the target `service_mesh`.
///
/// | what | level | fields |
/// |---|---|---|
/// | span `call`, from its begin to its end, waits included | info | `service`; at its end `instance`, `attempts`, `outcome`, `given_up` |
/// | span `attempt`, within its call's; your function runs in it | debug | `instance`, `number`; at its end `outcome`, `timed_out` |
/// | a circuit changed its state | info, to Open warn | `circuit`, `from`, `to`, `reason` |
/// | a circuit refused a call | debug | `circuit`, `reason` |
/// | a late outcome | debug | `circuit`, `outcome` |
/// | hung probes were written off | warn | `circuit`, `probes` |
/// | an ejection was capped | warn | `circuit` |
/// | a retry | debug | `service`, `attempts`, `instance`, `cause` |
/// | given up for lack of time | info | `service`, `attempts`, `instance`, `cause`, `reason` |
/// | the retry budget is spent | warn | `service` |
/// | a story | info | `service` |
///
/// The words are those of the metrics. An event's message is its text.
///
/// [`attach`](Self::attach) it to a proxy. A circuit that stands alone takes it as a listener.
///
/// ```
/// use service_mesh::{ServiceInstance, ServiceProxy, Tracing};
///
/// let payments = ServiceProxy::new("payments");
/// payments.load_balancer().register(ServiceInstance::new("a", "10.0.0.1", 80));
/// Tracing::new().attach(&payments);
///
/// let _ = payments.call(|_| {
///     tracing::info!("within the span of the attempt");
///     Ok::<_, std::io::Error>("paid")
/// });
/// ```
///
/// # Cost
/// Where the subscriber wants no span of level info, a call pays what watching costs
/// ([`ServiceProxy::observe`]) and no more. Nothing where it is not attached.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tracing;

impl Tracing {
    /// It tells whatever subscriber is current where the call runs.
    pub fn new() -> Self {
        Self
    }

    /// Tells of the calls, the circuits and the retries of a proxy from now on. Once for each proxy: twice attached, it
    /// tells all twice.
    pub fn attach(self, proxy: &ServiceProxy) {
        proxy.subscribe(self);
        proxy.observe(self);
    }
}

impl Listener for Tracing {
    fn on_event(&self, event: &Event) {
        let name = &*event.name;
        match &event.kind {
            EventKind::Transition(change) => {
                let (from, to, reason) = (change.from.as_str(), change.to.as_str(), change.reason.as_str());
                if change.to == CircuitState::Open {
                    warn!(target: TARGET, circuit = name, from, to, reason, "{event}");
                } else {
                    info!(target: TARGET, circuit = name, from, to, reason, "{event}");
                }
            }
            EventKind::Refused { reason, .. } => {
                debug!(target: TARGET, circuit = name, reason = reason.as_str(), "{event}");
            }
            EventKind::LateOutcome(outcome) => {
                debug!(target: TARGET, circuit = name, outcome = outcome.as_str(), "{event}");
            }
            EventKind::ProbesWrittenOff { probes } => warn!(target: TARGET, circuit = name, probes, "{event}"),
            EventKind::EjectionCapped => warn!(target: TARGET, circuit = name, "{event}"),
            EventKind::Retry { attempts, instance, cause, .. } => {
                let (instance, cause) = (instance.as_str(), cause.as_str());
                debug!(target: TARGET, service = name, attempts, instance, cause, "{event}");
            }
            EventKind::GivenUp { attempts, instance, cause, reason } => {
                let (instance, cause, reason) = (instance.as_str(), cause.as_str(), reason.as_str());
                info!(target: TARGET, service = name, attempts, instance, cause, reason, "{event}");
            }
            EventKind::BudgetExhausted => warn!(target: TARGET, service = name, "{event}"),
            EventKind::Story(_) => info!(target: TARGET, service = name, "{event}"),
        }
    }
}

impl Observer for Tracing {
    fn scope(&self, service: &Arc<str>) -> Option<Box<dyn Scope>> {
        let call = info_span!(
            target: TARGET, "call", service = &**service,
            instance = Empty, attempts = Empty, outcome = Empty, given_up = Empty
        );
        (!call.is_disabled()).then(|| Box::new(Spans { call, attempt: Span::none() }) as Box<dyn Scope>)
    }
}

/// The span of a call, and that of its attempt under way.
struct Spans {
    call: Span,
    attempt: Span,
}

impl Spans {
    /// The one that the user's code runs in: the call's, where nobody wants the attempts'.
    fn innermost(&self) -> &Span {
        if self.attempt.is_disabled() { &self.call } else { &self.attempt }
    }
}

impl Scope for Spans {
    fn attempt_began(&mut self, instance: &ServiceInstance, number: u32) {
        self.attempt = self.call.in_scope(|| {
            debug_span!(
                target: TARGET, "attempt", instance = instance.id.as_str(), number, outcome = Empty, timed_out = Empty
            )
        });
    }

    // Entered by hand, since a guard cannot lie beside the span that it borrows.
    fn enter(&self) {
        self.innermost().with_subscriber(|(id, subscriber)| subscriber.enter(id));
    }

    fn exit(&self) {
        self.innermost().with_subscriber(|(id, subscriber)| subscriber.exit(id));
    }

    fn attempt_ended(&mut self, attempt: &AttemptReport<'_>) {
        self.attempt.record("outcome", attempt.outcome.as_str());
        self.attempt.record("timed_out", attempt.timed_out);
        self.attempt = Span::none();
    }

    fn call_ended(&mut self, call: &CallReport<'_>) {
        if let Some(instance) = call.instance {
            self.call.record("instance", instance.id.as_str());
        }
        self.call.record("attempts", call.attempts);
        self.call.record("outcome", call.outcome_word());
        if let Some(reason) = call.given_up {
            self.call.record("given_up", reason.as_str());
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
