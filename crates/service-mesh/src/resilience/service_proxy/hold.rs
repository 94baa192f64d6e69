//! What an attempt holds, and how it is given back: once, whatever becomes of the attempt.

use std::mem;

use service_mesh_models::ServiceInstance;
use std::sync::Arc;

use super::roster::{Choice, Roster};
use crate::environment::Moment;
use crate::resilience::circuit_breaker::Ticket;
use crate::resilience::clock::Timestamp;
use crate::resilience::load_balancer::{Endpoint, EndpointKey};
use crate::resilience::outcome::Outcome;
use crate::resilience::sync::Loaded;

/// A connection of an endpoint, the leave of its circuit and that of the service's. Dropped, it gives all of them back.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) roster: Loaded<Roster>,
    choice: Choice,
    service: Ticket,
    /// When the attempt must have ended.
    pub(super) limit: Option<Timestamp>,
    /// The instances that the call has tried before this one.
    tried: Vec<EndpointKey>,
    state: State,
}

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
        limit: Option<Timestamp>,
        tried: Vec<EndpointKey>,
    ) -> Self {
        let hold = Self { roster, choice, service, limit, tried, state: State::Idle };
        hold.endpoint().connect();
        hold
    }

    #[inline]
    pub(super) fn instance(&self) -> &Arc<ServiceInstance> {
        self.endpoint().instance()
    }

    #[inline]
    fn endpoint(&self) -> &Endpoint {
        &self.roster.set.endpoints()[self.choice.index]
    }

    /// From here on a drop is a panic of the user's function.
    #[inline]
    pub(super) fn arm(&mut self) {
        self.state = State::Armed;
    }

    /// From here on a drop is a loss of interest.
    #[inline]
    pub(super) fn disarm(&mut self) {
        self.state = State::Idle;
    }

    /// What `outcome` comes to, now that it is there: nothing makes good for an attempt that outlasted its limit.
    #[inline]
    pub(super) fn outcome(&self, outcome: Outcome, moment: &mut Moment) -> Outcome {
        if self.limit.is_some_and(|limit| limit <= moment.now()) { Outcome::Failure } else { outcome }
    }

    /// Gives everything back with a success.
    #[inline]
    pub(super) fn succeed(mut self, moment: &mut Moment) {
        self.state = State::Released;
        self.release(Outcome::Success, Outcome::Success, moment);
    }

    /// Gives everything back with any outcome, and tells which instances the call has tried by now. `roster` says who
    /// is there now.
    pub(super) fn conclude(mut self, outcome: Outcome, roster: &Roster, moment: &mut Moment) -> Vec<EndpointKey> {
        self.state = State::Released;
        let tried = self.try_this();
        self.release(outcome, heard_by_service(outcome, roster, &tried, moment), moment);
        tried
    }

    fn release(&self, outcome: Outcome, heard_by_service: Outcome, moment: &mut Moment) {
        self.endpoint().disconnect();
        if let (Some(circuit), Some(ticket)) = (self.roster.circuits.get(self.choice.index), self.choice.ticket) {
            circuit.conclude(ticket, outcome, moment);
        }
        self.roster.service.conclude(self.service, heard_by_service, moment);
    }

    fn try_this(&mut self) -> Vec<EndpointKey> {
        let mut tried = mem::take(&mut self.tried);
        tried.push(self.endpoint().key());
        tried
    }
}

/// The service's circuit hears of a failure only where failover could not hide it: where no instance that the call has
/// not tried would admit the next attempt. Counting every attempt would let one hanging instance trip the service's
/// circuit while the others are well.
fn heard_by_service(outcome: Outcome, roster: &Roster, tried: &[EndpointKey], moment: &mut Moment) -> Outcome {
    let hidden = outcome == Outcome::Failure && roster.would_fail_over(tried, moment);
    if hidden { Outcome::Neutral } else { outcome }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.state == State::Released {
            return;
        }
        let mut moment = self.roster.moment();
        let outcome = if self.state == State::Armed { Outcome::Failure } else { Outcome::Neutral };
        let outcome = self.outcome(outcome, &mut moment);
        let tried = self.try_this();
        let heard = if outcome == Outcome::Failure {
            let fresh = self.roster.proxy.fresh_roster();
            heard_by_service(outcome, fresh.as_ref().unwrap_or(&self.roster), &tried, &mut moment)
        } else {
            outcome
        };
        self.release(outcome, heard, &mut moment);
    }
}
