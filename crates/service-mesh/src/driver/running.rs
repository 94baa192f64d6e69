//! A call through a breaker: what becomes of its ticket, whatever becomes of the function.

use std::borrow::Borrow;

use crate::resilience::call_error::{CallError, CallErrorKind};
use crate::resilience::circuit_breaker::{CircuitBreaker, Refusal, Ticket};
use crate::resilience::outcome::Outcome;

/// The error of a call that a breaker refused.
#[cold]
pub(super) fn refused<E>(breaker: &CircuitBreaker, refusal: Refusal) -> CallError<E> {
    let refusal = breaker.refused(breaker.announce_refusal(refusal));
    CallError::stopped(CallErrorKind::CircuitOpen(refusal), None, 0)
}

/// A ticket, from admission to its verdict. `B` is how it holds its breaker: by reference, or as a handle of its own.
///
/// Dropped before, it tells a failure if the function has just panicked. Otherwise its future was cancelled, or the
/// classifier panicked, which says nothing of the function: then it is neutral, and a probe gives its place back.
#[derive(Debug)]
pub(super) struct Running<B: Borrow<CircuitBreaker>> {
    breaker: B,
    ticket: Ticket,
    /// What it tells if it is dropped now; nothing once it is settled.
    if_dropped: Option<Outcome>,
}

impl<B: Borrow<CircuitBreaker>> Running<B> {
    #[inline]
    pub(super) fn new(breaker: B, ticket: Ticket) -> Self {
        Self { breaker, ticket, if_dropped: Some(Outcome::Neutral) }
    }

    /// Runs the function, or polls its future.
    #[inline]
    pub(super) fn run<R>(&mut self, function: impl FnOnce() -> R) -> R {
        self.if_dropped = Some(Outcome::Failure);
        let result = function();
        self.if_dropped = Some(Outcome::Neutral);
        result
    }

    /// The verdict.
    #[inline]
    pub(super) fn settle(mut self, outcome: Outcome) {
        self.if_dropped = None;
        let breaker = self.breaker.borrow();
        breaker.conclude(self.ticket, outcome, &mut breaker.moment());
    }

    #[cfg(feature = "tower")]
    pub(super) fn circuit_breaker(&self) -> &CircuitBreaker {
        self.breaker.borrow()
    }
}

/// Apart and by value, so that a `Running` whose verdict is told need not live in memory.
#[cold]
fn give_up(breaker: &CircuitBreaker, ticket: Ticket, outcome: Outcome) {
    breaker.conclude(ticket, outcome, &mut breaker.moment());
}

impl<B: Borrow<CircuitBreaker>> Drop for Running<B> {
    #[inline]
    fn drop(&mut self) {
        if let Some(outcome) = self.if_dropped {
            give_up(self.breaker.borrow(), self.ticket, outcome);
        }
    }
}
