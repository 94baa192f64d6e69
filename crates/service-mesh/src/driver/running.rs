//! A call through a breaker while the user's function is on the stack.

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

/// Runs the user's code under a ticket: if it panics, that is a failure, and goes on unwinding. Only that code's panic
/// counts, so that the guard lives for just as long as the code is on the stack.
#[inline]
pub(super) fn run<R>(breaker: &CircuitBreaker, ticket: Ticket, code: impl FnOnce() -> R) -> R {
    let unwinding = Unwinding { breaker, ticket };
    let result = code();
    mem::forget(unwinding);
    result
}

/// Dropped by a panic only.
struct Unwinding<'a> {
    breaker: &'a CircuitBreaker,
    ticket: Ticket,
}

impl Drop for Unwinding<'_> {
    #[cold]
    fn drop(&mut self) {
        self.breaker.conclude(self.ticket, Outcome::Failure, &mut self.breaker.moment());
    }
}

/// A ticket across the awaits of a future: dropped without a verdict, the future was cancelled, and the ticket is given
/// back.
pub(super) struct Awaiting<'a> {
    breaker: &'a CircuitBreaker,
    ticket: Option<Ticket>,
}

impl<'a> Awaiting<'a> {
    pub(super) fn new(breaker: &'a CircuitBreaker, ticket: Ticket) -> Self {
        Self { breaker, ticket: Some(ticket) }
    }

    /// Runs the user's code. After a panic in it there is nothing left to give back.
    pub(super) fn run<R>(&mut self, code: impl FnOnce() -> R) -> R {
        let ticket = self.ticket.take().expect("it is taken by a panic or a verdict, and nobody comes after those");
        let result = run(self.breaker, ticket, code);
        self.ticket = Some(ticket);
        result
    }

    pub(super) fn settle(mut self, outcome: Outcome) {
        self.conclude(outcome);
    }

    fn conclude(&mut self, outcome: Outcome) {
        if let Some(ticket) = self.ticket.take() {
            self.breaker.conclude(ticket, outcome, &mut self.breaker.moment());
        }
    }
}

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        self.conclude(Outcome::Neutral);
    }
}
