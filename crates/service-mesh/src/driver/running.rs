//! A permit while the user's function runs.

use crate::resilience::circuit_breaker::Permit;
use crate::resilience::outcome::Outcome;

/// A permit whose function is running: if it panics, that is a failure. Only that function's panic counts, so that it is
/// armed for just as long as the function is on the stack; dropped otherwise, its future was cancelled.
pub(super) struct Running<'a> {
    permit: Option<Permit<'a>>,
    armed: bool,
}

impl<'a> Running<'a> {
    pub(super) fn new(permit: Permit<'a>) -> Self {
        Self { permit: Some(permit), armed: false }
    }

    /// Runs the user's code.
    #[inline]
    pub(super) fn run<R>(&mut self, f: impl FnOnce() -> R) -> R {
        self.armed = true;
        let result = f();
        self.armed = false;
        result
    }

    /// The function has returned.
    #[inline]
    pub(super) fn settle(mut self, outcome: Outcome) {
        if let Some(permit) = self.permit.take() {
            permit.settle(outcome);
        }
    }
}

impl Drop for Running<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.armed
            && let Some(permit) = self.permit.take()
        {
            permit.failure();
        }
    }
}
