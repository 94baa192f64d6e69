//! What a result means to a service proxy: to its circuits, by the breaker's predicates, and to a retry, by the policy's.
//!
//! Each says its part where it was given predicates, and where it was given none it follows the other: what the breaker
//! does not count as a failure is not tried again unless the policy names it, and a result that the policy calls failed
//! is one to the circuits too.

use pyo3::exceptions::{PyException, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use service_mesh::{Answer, Outcome};

use crate::config::CircuitBreakerRules;
use crate::errors::models;
use crate::guarded::CallOut;
use crate::instance::text;
use crate::predicates::{asked_to_wait, error_outcome, matches};
use crate::seconds::{duration, kind};

/// Whoever judges a call's results.
pub(crate) struct Judges<'a, 'py> {
    pub(crate) circuit_breaker: &'a Bound<'py, PyAny>,
    pub(crate) retry_policy: &'a Bound<'py, PyAny>,
    /// `classify(result, error)` of this call: it says all, or `None` to leave it to the others.
    pub(crate) classify: Option<&'a Bound<'py, PyAny>>,
}

impl<'py> Judges<'_, 'py> {
    /// What an error means.
    pub(crate) fn of_error(&self, error: &Bound<'py, PyAny>) -> PyResult<Answer> {
        let py = error.py();
        let says_nothing = !error.is_instance_of::<PyException>() || models(py)?.is_refusal(error)?;
        if !says_nothing && let Some(answer) = self.classified(py.None().bind(py), error)? {
            return Ok(answer);
        }
        let config = self.config()?;
        let outcome = error_outcome(config.as_ref(), error)?;
        let answer = answer(outcome, outcome == Outcome::Failure);
        if says_nothing {
            return Ok(answer.retryable(false));
        }
        let on = self.retry_policy.getattr_opt(intern!(py, "on"))?;
        let ignore = self.retry_policy.getattr_opt(intern!(py, "ignore"))?;
        let named = on.filter(|on| !on.is(py.get_type::<PyException>()));
        let retryable = match &named {
            Some(on) => matches(on, error)?,
            None => answer.is_retryable(),
        };
        let ignored = ignore.map_or(Ok(false), |ignore| matches(&ignore, error))?;
        let answer = answer.retryable(retryable && !ignored);
        if answer.is_retryable() { asked_to_wait(answer, error) } else { Ok(answer) }
    }

    /// What a result means.
    pub(crate) fn of_result(&self, result: &Bound<'py, PyAny>) -> PyResult<Answer> {
        let py = result.py();
        if let Some(answer) = self.classified(result, py.None().bind(py))? {
            return Ok(answer);
        }
        let config = self.config()?;
        let by_breaker = config.map_or(Ok(None), |config| failed(&config, result))?;
        let by_policy = failed(self.retry_policy, result)?;
        let is_failure = by_breaker.or(by_policy).unwrap_or(false);
        let retryable = by_policy.or(by_breaker).unwrap_or(false);
        let answer = answer(if is_failure { Outcome::Failure } else { Outcome::Success }, retryable);
        if retryable { asked_to_wait(answer, result) } else { Ok(answer) }
    }

    fn classified(&self, result: &Bound<'py, PyAny>, error: &Bound<'py, PyAny>) -> PyResult<Option<Answer>> {
        let Some(classify) = self.classify else { return Ok(None) };
        let said = classify.call_out([result, error])?;
        if said.is_none() { Ok(None) } else { read(&said).map(Some) }
    }

    /// The breaker's configuration, if it is one of ours and thus has predicates.
    fn config(&self) -> PyResult<Option<Bound<'py, PyAny>>> {
        let config = self.circuit_breaker.getattr_opt(intern!(self.circuit_breaker.py(), "config"))?;
        Ok(config.filter(PyAnyMethods::is_instance_of::<CircuitBreakerRules>))
    }
}

/// Whether `judge` calls this result failed; none if it does not judge results.
fn failed(judge: &Bound<'_, PyAny>, result: &Bound<'_, PyAny>) -> PyResult<Option<bool>> {
    match judge.getattr_opt(intern!(judge.py(), "failed_result"))? {
        Some(failed) if !failed.is_none() => failed.call_out([result])?.is_truthy().map(Some),
        _ => Ok(None),
    }
}

/// An `Answer` of Python's.
fn read(said: &Bound<'_, PyAny>) -> PyResult<Answer> {
    let py = said.py();
    let no_answer = || PyTypeError::new_err(format!("classify must give an Answer or None, not {}", kind(said)));
    let outcome = said.getattr_opt(intern!(py, "outcome"))?.ok_or_else(no_answer)?;
    let outcome = match &*text(&outcome)? {
        "success" => Outcome::Success,
        "failure" => Outcome::Failure,
        "neutral" => Outcome::Neutral,
        other => {
            let message = format!("outcome must be \"success\", \"failure\" or \"neutral\", not {other:?}");
            return Err(PyValueError::new_err(message));
        }
    };
    let retryable = said.getattr(intern!(py, "retryable"))?;
    let retryable = if retryable.is_none() { outcome == Outcome::Failure } else { retryable.is_truthy()? };
    let answer = answer(outcome, retryable);
    let wait = said.getattr(intern!(py, "retry_after"))?;
    Ok(if wait.is_none() { answer } else { answer.retry_after(duration("retry_after", &wait)?) })
}

fn answer(outcome: Outcome, retryable: bool) -> Answer {
    let answer = match outcome {
        Outcome::Success => Answer::success(),
        Outcome::Failure => Answer::failure(),
        Outcome::Neutral => Answer::neutral(),
    };
    answer.retryable(retryable)
}
