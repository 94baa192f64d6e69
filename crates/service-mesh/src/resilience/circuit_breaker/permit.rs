//! Leave to make one call, as a guard: whatever becomes of the call, the permit is given back once.

use std::borrow::Borrow;
use std::fmt;
use std::mem;
use std::time::Duration;

use service_mesh_models::RefusalReason;

use super::state::Word;
use super::{CircuitBreaker, Rules};
use crate::resilience::clock::Timestamp;
use crate::resilience::outcome::Outcome;

/// What a permit is made of: plain data, for those who give it back by hand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    /// Phase and generation at admission.
    pub(super) key: u64,
    /// When the call began; [`Ticket::UNTIMED`] where no rule asks how long it takes.
    pub(super) began: Timestamp,
}

impl Ticket {
    pub(super) const UNTIMED: Timestamp = Timestamp::from_nanos(u64::MAX);

    /// No leave of anybody, and nothing to give back.
    pub(crate) const NONE: Self = Self { key: Word::NEW.key(), began: Self::UNTIMED };

    pub(super) fn is_probe(self) -> bool {
        Word::of_key(self.key).phase().probes()
    }

    pub(super) fn generation(self) -> u64 {
        Word::of_key(self.key).generation()
    }
}

/// Leave to make one call through a circuit breaker. Give the verdict with [`success`](Self::success) or
/// [`failure`](Self::failure).
///
/// Dropped without a verdict (a cancelled future, an early return, a forgotten value) it is neutral: a probe gives its
/// place back, and nothing is counted. A verdict that comes after the state has changed is not counted either.
///
/// [`Permit`] borrows its breaker and costs nothing to make; [`OwnedPermit`] keeps it alive, for those who cannot
/// borrow.
#[must_use = "a permit that is dropped at once protects nothing"]
pub struct Grant<B: Borrow<CircuitBreaker>> {
    breaker: B,
    ticket: Ticket,
}

/// A [`Grant`] that borrows its breaker.
pub type Permit<'a> = Grant<&'a CircuitBreaker>;

/// A [`Grant`] that owns a handle of its breaker.
pub type OwnedPermit = Grant<CircuitBreaker>;

impl<B: Borrow<CircuitBreaker>> Grant<B> {
    pub(super) fn new(breaker: B, ticket: Ticket) -> Self {
        Self { breaker, ticket }
    }

    /// The call succeeded.
    #[inline]
    pub fn success(self) {
        self.settle(Outcome::Success);
    }

    /// The call failed.
    #[inline]
    pub fn failure(self) {
        self.settle(Outcome::Failure);
    }

    /// The call came to this. [`Outcome::Neutral`] is the same as dropping the permit.
    #[inline]
    pub fn settle(mut self, outcome: Outcome) {
        let ticket = mem::replace(&mut self.ticket, Ticket::NONE);
        let breaker = self.breaker.borrow();
        breaker.conclude(ticket, outcome, &mut breaker.moment());
    }

    /// The same permit with a handle of its own; costs a reference count.
    pub fn into_owned(mut self) -> OwnedPermit {
        let ticket = mem::replace(&mut self.ticket, Ticket::NONE);
        OwnedPermit::new(self.breaker.borrow().clone(), ticket)
    }

    /// A number that stands for this permit, for a door whose language makes guards dear; none where it holds a place in
    /// half-open, or notes when the call began. [`CircuitBreaker::permit_of`] makes a permit of it again, and nothing is
    /// lost where nobody does.
    #[inline]
    pub fn as_number(&self) -> Option<u64> {
        let Ticket { key, began } = self.ticket;
        (Word::of_key(key).phase().passes() && began == Ticket::UNTIMED).then_some(key)
    }

    /// Whether the circuit was half-open when it gave this permit.
    pub fn is_probe(&self) -> bool {
        self.ticket.is_probe()
    }

    /// The breaker that gave it.
    pub fn circuit_breaker(&self) -> &CircuitBreaker {
        self.breaker.borrow()
    }
}

impl CircuitBreaker {
    /// The [number](Grant::as_number) of a permit, where that is all that a call needs now: the circuit is Closed, and no
    /// rule asks how long calls take. Two loads. Where it is none, [`try_acquire`](Self::try_acquire) may still admit.
    #[inline]
    pub fn try_acquire_number(&self) -> Option<u64> {
        let word = self.word();
        (word.phase().passes() && !self.rules().has(Rules::TIMED)).then(|| word.key())
    }

    /// The permit that a [number](Grant::as_number) of this circuit stands for. A number of another's making is a permit
    /// of some time in Closed, and most likely late.
    #[inline]
    pub fn permit_of(&self, number: u64) -> Permit<'_> {
        Permit::new(self, Ticket { key: Word::passing_key(number), began: Ticket::UNTIMED })
    }
}

impl<B: Borrow<CircuitBreaker>> Drop for Grant<B> {
    #[inline]
    fn drop(&mut self) {
        // In Closed a permit holds no place: there is nothing to give back.
        if self.ticket.is_probe() {
            let breaker = self.breaker.borrow();
            breaker.conclude(self.ticket, Outcome::Neutral, &mut breaker.moment());
        }
    }
}

impl<B: Borrow<CircuitBreaker>> fmt::Debug for Grant<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("circuit", &self.circuit_breaker().name())
            .field("is_probe", &self.is_probe())
            .finish_non_exhaustive()
    }
}

/// Why there is no permit, and when to come back. [`CircuitBreaker::refused`] makes the error of it that names the
/// circuit; this one costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    reason: RefusalReason,
    retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) const fn new(reason: RefusalReason, retry_after: Option<Duration>) -> Self {
        Self { reason, retry_after }
    }

    /// Why.
    pub const fn reason(self) -> RefusalReason {
        self.reason
    }

    /// How long until a call may be admitted; none where nobody can know (half-open, or forced).
    pub const fn retry_after(self) -> Option<Duration> {
        self.retry_after
    }
}
