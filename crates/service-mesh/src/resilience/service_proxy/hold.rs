//! What an attempt holds, and how it is given back: once, whatever becomes of the attempt.

use std::mem;
use std::sync::Arc;

use service_mesh_models::ServiceInstance;

use super::explain::{Ending, Telling};
use super::roster::{Choice, Roster};
use super::watch::{Settled, Watch};
use crate::environment::Moment;
use crate::resilience::circuit_breaker::Ticket;
use crate::resilience::clock::Timestamp;
use crate::resilience::load_balancer::{Endpoint, EndpointKey, UNTIMED};
use crate::resilience::outcome::Outcome;
use crate::resilience::retry::{GivenUp, Retries};
use crate::resilience::sync::Loaded;

/// What only a call needs that is retried or explained. Apart, so that a call which succeeds at once does not carry it.
#[derive(Debug, Default)]
pub(super) struct Baggage {
    pub(super) retries: Retries,
    /// The instances that the call has tried.
    pub(super) tried: Vec<EndpointKey>,
    pub(super) telling: Option<Telling>,
    pub(super) watch: Option<Watch>,
}

impl Baggage {
    /// Whether somebody wants to know what becomes of the call.
    pub(super) fn is_attended(&self) -> bool {
        self.telling.is_some() || self.watch.is_some()
    }

    /// The user's code begins to run on this thread.
    #[cold]
    fn enter(&self) {
        if let Some(watch) = &self.watch {
            watch.enter();
        }
    }

    /// The user's code has stopped, or is unwinding.
    #[cold]
    fn exit(&self) {
        if let Some(watch) = &self.watch {
            watch.exit();
        }
    }

    /// An attempt was settled.
    pub(super) fn settled(&mut self, settled: Settled, moment: &mut Moment<'_>) {
        if let Some(telling) = &mut self.telling {
            telling.attempt_ended(Some(settled.outcome), settled.timed_out, moment);
        }
        if let Some(watch) = &mut self.watch {
            watch.attempt_ended(settled, moment);
        }
    }

    /// The call ends here; so does what is told of it.
    pub(super) fn end(mut self: Box<Self>, ending: &Ending, given_up: Option<GivenUp>, moment: &mut Moment<'_>) {
        if let Some(telling) = &mut self.telling {
            telling.end(ending.clone(), given_up, moment);
        }
        if let Some(watch) = &mut self.watch {
            watch.end(ending.clone(), given_up, moment);
        }
    }

    /// The attempt under way was given up, and so is the call.
    fn give_up(mut self: Box<Self>, outcome: Outcome, timed_out: bool, moment: &mut Moment<'_>) {
        if let Some(telling) = &mut self.telling {
            let told = (outcome != Outcome::Neutral).then_some(outcome);
            telling.attempt_ended(told, timed_out, moment);
            telling.end(Ending::Abandoned, None, moment);
        }
        if let Some(watch) = &mut self.watch {
            watch.give_up(outcome, timed_out, moment);
        }
    }
}

/// A connection of an endpoint, the leave of its circuit and that of the service's. Dropped, it gives all of them back.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) roster: Loaded<Roster>,
    choice: Choice,
    service: Ticket,
    /// When the attempt must have ended; [`NO_LIMIT`] if it need not.
    pub(super) limit: Timestamp,
    pub(super) baggage: Option<Box<Baggage>>,
    state: State,
}

/// Later than any clock.
pub(super) const NO_LIMIT: Timestamp = Timestamp::from_nanos(u64::MAX);

/// What it means if a hold is dropped now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Somebody lost interest.
    Idle,
    /// The user's function panicked.
    Armed,
    /// Nothing: all was given back.
    Released,
}

impl Hold {
    #[inline]
    pub(super) fn new(
        roster: Loaded<Roster>,
        choice: Choice,
        service: Ticket,
        limit: Timestamp,
        baggage: Option<Box<Baggage>>,
    ) -> Self {
        let hold = Self { roster, choice, service, limit, baggage, state: State::Idle };
        hold.endpoint().connect();
        hold
    }

    #[inline]
    pub(super) fn instance(&self) -> &Arc<ServiceInstance> {
        self.endpoint().instance()
    }

    #[inline]
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.roster.set.endpoints()[self.choice.pick.index()]
    }

    /// The user's function runs: from here on a drop is a panic of it.
    #[inline]
    pub(super) fn arm(&mut self) {
        self.state = State::Armed;
        if let Some(baggage) = &self.baggage {
            baggage.enter();
        }
    }

    /// It runs no more: from here on a drop is a loss of interest.
    #[inline]
    pub(super) fn disarm(&mut self) {
        self.state = State::Idle;
        if let Some(baggage) = &self.baggage {
            baggage.exit();
        }
    }

    /// What `outcome` comes to, now that it is there: nothing makes good for an attempt that outlasted its limit.
    #[inline]
    pub(super) fn outcome(&self, outcome: Outcome, moment: &mut Moment<'_>) -> Outcome {
        if self.is_too_late(moment) { Outcome::Failure } else { outcome }
    }

    #[inline]
    pub(super) fn is_too_late(&self, moment: &mut Moment<'_>) -> bool {
        self.limit != NO_LIMIT && self.limit <= moment.now()
    }

    /// Gives everything back with a success.
    #[inline]
    pub(super) fn succeed(&mut self, now: Option<Timestamp>) {
        self.state = State::Released;
        let mut moment = self.roster.moment_at(now);
        self.release(Outcome::Success, Outcome::Success, &mut moment);
    }

    /// Gives everything back with any outcome, and puts the instance on the list of those that were tried. `roster`
    /// says who is there now.
    pub(super) fn conclude(&mut self, outcome: Outcome, roster: &Roster, moment: &mut Moment<'_>) -> Box<Baggage> {
        self.state = State::Released;
        let baggage = self.pack();
        self.release(outcome, heard_by_service(outcome, roster, &baggage.tried, moment), moment);
        baggage
    }

    fn release(&self, outcome: Outcome, heard_by_service: Outcome, moment: &mut Moment<'_>) {
        let pick = self.choice.pick;
        if pick.began != UNTIMED {
            // By the balancer's clock, which need not be the proxy's.
            self.roster.set.observe(pick.index(), pick.began, outcome);
        }
        self.endpoint().disconnect();
        if let Some(circuit) = self.roster.circuits.get(pick.index()) {
            circuit.conclude(self.choice.ticket, outcome, moment);
        }
        self.roster.service.conclude(self.service, heard_by_service, moment);
    }

    fn pack(&mut self) -> Box<Baggage> {
        let mut baggage = mem::take(&mut self.baggage).unwrap_or_default();
        baggage.tried.push(self.endpoint().key());
        baggage
    }
}

/// The service's circuit hears of a failure only where failover could not hide it: where no instance that the call has
/// not tried would admit the next attempt. Counting every attempt would let one hanging instance trip the service's
/// circuit while the others are well.
fn heard_by_service(outcome: Outcome, roster: &Roster, tried: &[EndpointKey], moment: &mut Moment<'_>) -> Outcome {
    let hidden = outcome == Outcome::Failure && roster.would_fail_over(tried, moment);
    if hidden { Outcome::Neutral } else { outcome }
}

impl Drop for Hold {
    #[inline]
    fn drop(&mut self) {
        if self.state != State::Released {
            self.give_up();
        }
    }
}

impl Hold {
    /// Nobody has told what came of the attempt.
    #[cold]
    fn give_up(&mut self) {
        // The story, if one is told, ends with the baggage, after everything was given back.
        let baggage = self.pack();
        if self.state == State::Armed {
            baggage.exit();
        }
        let mut moment = self.roster.moment();
        let outcome = if self.state == State::Armed { Outcome::Failure } else { Outcome::Neutral };
        let outcome = self.outcome(outcome, &mut moment);
        let heard = if outcome == Outcome::Failure {
            let fresh = self.roster.proxy.fresh_roster();
            heard_by_service(outcome, fresh.as_ref().unwrap_or(&self.roster), &baggage.tried, &mut moment)
        } else {
            outcome
        };
        self.release(outcome, heard, &mut moment);
        if baggage.is_attended() {
            baggage.give_up(outcome, self.is_too_late(&mut moment), &mut moment);
        }
    }
}
