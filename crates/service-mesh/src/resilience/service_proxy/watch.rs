//! A call that is watched: what its observers are told, and when.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use service_mesh_models::ServiceInstance;

use super::explain::Ending;
use crate::environment::{Environment, Moment};
use crate::resilience::clock::Timestamp;
use crate::resilience::observer::{AttemptReport, CallReport, Observers, Scope, harmless};
use crate::resilience::outcome::Outcome;
use crate::resilience::retry::{GivenUp, RetryCause};

/// What is kept of a call that is watched. It is reported when this is dropped, so that a call that is abandoned is
/// reported too.
pub(super) struct Watch {
    service: Arc<str>,
    observers: Observers,
    scopes: Vec<Box<dyn Scope>>,
    environment: Environment,
    began: Timestamp,
    attempt_began: Timestamp,
    attempts: u32,
    /// That of the last attempt.
    instance: Option<Arc<ServiceInstance>>,
    ending: Ending,
    given_up: Option<GivenUp>,
    /// What came of the call, if it is abandoned now.
    abandoned: Outcome,
    /// When it ended, if somebody has said so.
    ended: Option<Timestamp>,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    pub(super) outcome: Outcome,
    pub(super) timed_out: bool,
    pub(super) retry_after: Option<Duration>,
}

impl Settled {
    pub(super) const fn cause(&self) -> RetryCause {
        RetryCause::new(self.outcome, self.timed_out)
    }
}

impl Watch {
    pub(super) fn new(
        service: Arc<str>,
        observers: Observers,
        environment: Environment,
        moment: &mut Moment<'_>,
    ) -> Self {
        Self {
            scopes: observers.scopes(&service),
            service,
            observers,
            environment,
            began: moment.now(),
            attempt_began: moment.now(),
            attempts: 0,
            instance: None,
            ending: Ending::Abandoned,
            given_up: None,
            abandoned: Outcome::Neutral,
            ended: None,
        }
    }

    pub(super) fn attempt_began(&mut self, instance: &Arc<ServiceInstance>, moment: &mut Moment<'_>) {
        self.attempt_began = moment.now();
        self.attempts += 1;
        self.instance = Some(Arc::clone(instance));
        for scope in &mut self.scopes {
            harmless(|| scope.attempt_began(instance, self.attempts));
        }
    }

    pub(super) fn attempt_ended(&mut self, settled: Settled, moment: &mut Moment<'_>) {
        let Some(instance) = &self.instance else { return };
        let attempt = AttemptReport {
            service: &self.service,
            instance,
            number: self.attempts,
            outcome: settled.outcome,
            timed_out: settled.timed_out,
            took: moment.now().since(self.attempt_began),
            retry_after: settled.retry_after,
        };
        for scope in &mut self.scopes {
            harmless(|| scope.attempt_ended(&attempt));
        }
        self.observers.attempt_ended(&attempt);
    }

    pub(super) fn end(&mut self, ending: Ending, given_up: Option<GivenUp>, moment: &mut Moment<'_>) {
        (self.ending, self.given_up) = (ending, given_up);
        self.ended = Some(moment.now());
    }

    /// The attempt under way was given up, and so is the call.
    pub(super) fn give_up(&mut self, outcome: Outcome, timed_out: bool, moment: &mut Moment<'_>) {
        self.attempt_ended(Settled { outcome, timed_out, retry_after: None }, moment);
        self.abandoned = outcome;
        self.end(Ending::Abandoned, None, moment);
    }

    pub(super) fn enter(&self) {
        for scope in &self.scopes {
            harmless(|| scope.enter());
        }
    }

    /// In the opposite order: scopes lie within each other.
    pub(super) fn exit(&self) {
        for scope in self.scopes.iter().rev() {
            harmless(|| scope.exit());
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let ended = self.ended.unwrap_or_else(|| self.environment.now());
        let outcome = match &self.ending {
            Ending::Returned(outcome) => *outcome,
            Ending::Refused(_) => Outcome::Neutral,
            Ending::TimedOut(_) => Outcome::Failure,
            Ending::Abandoned => self.abandoned,
        };
        let call = CallReport {
            service: &self.service,
            instance: self.instance.as_deref(),
            attempts: self.attempts,
            ending: &self.ending,
            given_up: self.given_up,
            outcome,
            took: ended.since(self.began),
        };
        for scope in &mut self.scopes {
            harmless(|| scope.call_ended(&call));
        }
        self.observers.call_ended(&call);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("service", &self.service)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}
