//! A call through a breaker: what becomes of its ticket, whatever becomes of the function.

use std::mem;

use crate::resilience::call_error::{CallError, CallErrorKind};
use crate::resilience::circuit_breaker::{CircuitBreaker, Refusal, Ticket};
use crate::resilience::outcome::Outcome;

/// The error of a call that a breaker refused.
#[cold]
pub(super) fn refused<E>(breaker: &CircuitBreaker, refusal: Refusal) -> CallError<E> {
    let refusal = breaker.refused(breaker.announce_refusal(refusal));
    CallError::stopped(CallErrorKind::CircuitOpen(refusal), None, 0)
}

/// A ticket, from admission to its verdict.
///
/// Dropped before, it tells a failure if the function has just panicked. Otherwise its future was cancelled, or the
/// classifier panicked, which says nothing of the function: then it is neutral, and a probe gives its place back.
pub(super) struct Running<'a> {
    breaker: &'a CircuitBreaker,
    ticket: Ticket,
    outcome: Outcome,
}

impl<'a> Running<'a> {
    #[inline]
    pub(super) fn new(breaker: &'a CircuitBreaker, ticket: Ticket) -> Self {
        Self { breaker, ticket, outcome: Outcome::Neutral }
    }

    /// Runs the function, or polls its future.
    #[inline]
    pub(super) fn run<R>(&mut self, function: impl FnOnce() -> R) -> R {
        self.outcome = Outcome::Failure;
        let result = function();
        self.outcome = Outcome::Neutral;
        result
    }

    /// The verdict.
    #[inline]
    pub(super) fn settle(self, outcome: Outcome) {
        let (breaker, ticket) = (self.breaker, self.ticket);
        mem::forget(self);
        breaker.conclude(ticket, outcome, &mut breaker.moment());
    }
}

impl Drop for Running<'_> {
    #[cold]
    fn drop(&mut self) {
        self.breaker.conclude(self.ticket, self.outcome, &mut self.breaker.moment());
    }
}
