//! A call through a breaker: who admits it, what it came to, and what its caller gets.
//!
//! Every step that a subclass may override is asked of the subclass; the core is told by way of it.

use std::borrow::Borrow;
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use service_mesh::{CircuitBreaker as Core, CircuitState, Grant, Outcome, OwnedPermit, Refusal, RefusalReason};

use super::circuit::RESULTS;
use super::hooks::{at_verdict, permit_at_verdict};
use super::{CircuitBreaker, HELPERS};
use crate::errors::{circuit_open_error, while_handling};
use crate::guarded::{CallOut, ImportOut, is_coroutine, is_coroutine_function};
use crate::predicates::{error_outcome, result_outcome};

impl CircuitBreaker {
    // ----- admission -----

    /// Leave to make a call, asked of the method that a subclass may override. None where that says yes and the core no.
    pub(crate) fn admit(slf: &Bound<'_, Self>) -> PyResult<Option<OwnedPermit>> {
        let (this, py) = (slf.get(), slf.py());
        if !this.hooks.can_execute {
            return this.core().try_acquire_owned().map(Some).map_err(|refusal| this.refused(py, refusal));
        }
        if slf.getattr(intern!(py, "can_execute"))?.call_out([])?.is_truthy()? {
            return Ok(this.core().try_acquire_owned().ok());
        }
        let core = this.core();
        let reason = match core.state() {
            CircuitState::HalfOpen => RefusalReason::HalfOpenFull,
            _ => RefusalReason::Open,
        };
        Err(this.refused_for(py, reason, core.retry_after()))
    }

    /// The error that tells a refusal.
    pub(crate) fn refused(&self, py: Python<'_>, refusal: Refusal) -> PyErr {
        self.refused_for(py, refusal.reason(), refusal.retry_after())
    }

    fn refused_for(&self, py: Python<'_>, reason: RefusalReason, retry_after: Option<Duration>) -> PyErr {
        circuit_open_error(py, &self.name_text(py), reason, retry_after, self.last_failure(py))
    }

    /// A refusal of a call: of a coroutine function it is told when the call is awaited.
    #[cold]
    pub(crate) fn refuse<'py>(
        slf: &Bound<'py, Self>,
        func: &Bound<'py, PyAny>,
        refusal: Refusal,
    ) -> PyResult<Bound<'py, PyAny>> {
        static LATER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = slf.py();
        let error = slf.get().refused(py, refusal);
        if !is_coroutine_function(func)? {
            return Err(error);
        }
        // Not asked again when it is awaited: one call is refused once, and listeners hear of it once.
        LATER.import_out(py, HELPERS, "refused_when_awaited")?.call_out([func, error.value(py).as_any()])
    }

    // ----- verdicts -----

    /// What a call came to, and what the caller gets. A coroutine is no result yet: it asks anew when it is awaited.
    pub(crate) fn settle<'py, B: Borrow<Core>>(
        slf: &Bound<'py, Self>,
        permit: Option<Grant<B>>,
        result: PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match result {
            Ok(coroutine) if is_coroutine(&coroutine) => {
                drop(permit);
                awaited(slf, coroutine)
            }
            Ok(result) => Self::succeeded(slf, permit, &result).map(|()| result),
            Err(error) => Err(Self::failed(slf, permit, error)),
        }
    }

    /// The function gave back this.
    pub(super) fn succeeded<B: Borrow<Core>>(
        slf: &Bound<'_, Self>,
        permit: Option<Grant<B>>,
        result: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let this = slf.get();
        let outcome = if this.circuit().flags() & RESULTS == 0 {
            Outcome::Success
        } else {
            result_outcome(this.config(slf.py())?.as_any(), result)?
        };
        Self::conclude(slf, permit, outcome, None)
    }

    /// The function raised this; gives back what the caller is to see, which is the same unless a predicate or an
    /// overridden method raised as well.
    fn failed<B: Borrow<Core>>(slf: &Bound<'_, Self>, permit: Option<Grant<B>>, error: PyErr) -> PyErr {
        let py = slf.py();
        let value = error.value(py).clone().into_any();
        match Self::conclude_block(slf, permit, &value) {
            Ok(()) => error,
            Err(mistake) => while_handling(py, mistake, &value),
        }
    }

    /// A block ended, with this error or with None.
    pub(crate) fn conclude_block<B: Borrow<Core>>(
        slf: &Bound<'_, Self>,
        permit: Option<Grant<B>>,
        error: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if error.is_none() {
            return Self::conclude(slf, permit, Outcome::Success, None);
        }
        let this = slf.get();
        let judge = if this.circuit().judges_errors() { Some(this.config(slf.py())?.into_any()) } else { None };
        let outcome = error_outcome(judge.as_ref(), error)?;
        Self::conclude(slf, permit, outcome, Some(error))
    }

    /// The verdict, given through the method that a subclass may override.
    pub(crate) fn conclude<B: Borrow<Core>>(
        slf: &Bound<'_, Self>,
        permit: Option<Grant<B>>,
        outcome: Outcome,
        error: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        let told = match outcome {
            Outcome::Success if this.hooks.record_success => {
                at_verdict(slf, permit, || slf.getattr(intern!(py, "record_success"))?.call_out([]))
            }
            Outcome::Failure if this.hooks.record_failure => {
                at_verdict(slf, permit, || slf.getattr(intern!(py, "record_failure"))?.call_out([]))
            }
            _ => {
                match permit {
                    Some(permit) => permit.settle(outcome),
                    None => this.settle_by_hand(outcome),
                }
                Ok(())
            }
        };
        this.note(py, outcome, error);
        told
    }

    /// A verdict by hand, or the one on the permit for which an overridden method is running.
    pub(super) fn record(&self, py: Python<'_>, outcome: Outcome, error: Option<&Bound<'_, PyAny>>) {
        match if self.hooks.any { permit_at_verdict(self) } else { None } {
            Some(permit) => permit.settle(outcome),
            None => self.settle_by_hand(outcome),
        }
        self.note(py, outcome, error);
    }

    fn settle_by_hand(&self, outcome: Outcome) {
        match outcome {
            Outcome::Success => self.core().record_success(),
            Outcome::Failure => self.core().record_failure(),
            Outcome::Neutral => {}
        }
    }
}

/// The same coroutine, whose admission is asked for when it is awaited.
pub(crate) fn awaited<'py>(
    breaker: &Bound<'py, CircuitBreaker>,
    coroutine: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    static AWAITED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    AWAITED.import_out(breaker.py(), HELPERS, "awaited")?.call_out([breaker.as_any(), &coroutine])
}
