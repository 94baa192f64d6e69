//! What Python says of results: which errors and which values are failures.
//!
//! The predicates stay Python objects, attributes of the configuration or the policy that they were given to, and are read
//! when something is to be judged. Rust knows beforehand only whether there are any.

use std::time::Duration;

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};
use service_mesh::{Answer, Outcome};

use crate::errors::models;
use crate::guarded::{CallOut, ImportOut};

/// Whether an error is one of `errors`: a type, a predicate, or a tuple of them.
pub(crate) fn matches(errors: &Bound<'_, PyAny>, error: &Bound<'_, PyAny>) -> PyResult<bool> {
    if let Ok(several) = errors.cast::<PyTuple>() {
        for one in several {
            if matches(&one, error)? {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    if errors.is_instance_of::<PyType>() { error.is_instance(errors) } else { errors.call_out([error])?.is_truthy() }
}

/// What an error means to those who hold `judge`, an object with `on` and `ignore`; it is not asked where it says nothing
/// beyond the default.
///
/// What is no `Exception` (an interrupt, a cancellation) and refusals say nothing of the one that was called.
pub(crate) fn error_outcome(judge: Option<&Bound<'_, PyAny>>, error: &Bound<'_, PyAny>) -> PyResult<Outcome> {
    let py = error.py();
    if !error.is_instance_of::<PyException>() || models(py)?.is_refusal(error)? {
        return Ok(Outcome::Neutral);
    }
    let Some(judge) = judge else { return Ok(Outcome::Failure) };
    if matches(&judge.getattr(intern!(py, "ignore"))?, error)? {
        return Ok(Outcome::Neutral);
    }
    Ok(if matches(&judge.getattr(intern!(py, "on"))?, error)? { Outcome::Failure } else { Outcome::Success })
}

/// What a value means to `judge`, an object with `failed_result`.
pub(crate) fn result_outcome(judge: &Bound<'_, PyAny>, result: &Bound<'_, PyAny>) -> PyResult<Outcome> {
    let failed = judge.getattr(intern!(judge.py(), "failed_result"))?;
    let is_failure = !failed.is_none() && failed.call_out([result])?.is_truthy()?;
    Ok(if is_failure { Outcome::Failure } else { Outcome::Success })
}

/// What an error means to `policy`, an object with `on` and `ignore`: whether it is tried again, and when at the earliest.
pub(crate) fn raised_answer(policy: &Bound<'_, PyAny>, error: &Bound<'_, PyAny>) -> PyResult<Answer> {
    let py = error.py();
    if !error.is_instance_of::<PyException>() || models(py)?.is_refusal(error)? {
        return Ok(Answer::neutral());
    }
    let meant = !matches(&policy.getattr(intern!(py, "ignore"))?, error)?
        && matches(&policy.getattr(intern!(py, "on"))?, error)?;
    if meant { asked_to_wait(Answer::failure(), error) } else { Ok(Answer::failure().retryable(false)) }
}

/// What a value means to `policy`, an object with `failed_result`.
pub(crate) fn failed_answer(policy: &Bound<'_, PyAny>, result: &Bound<'_, PyAny>) -> PyResult<Answer> {
    match result_outcome(policy, result)? {
        Outcome::Failure => asked_to_wait(Answer::failure(), result),
        _ => Ok(Answer::success()),
    }
}

/// The answer, not to be tried again before the time that the error or the response names, if it names one.
pub(crate) fn asked_to_wait(answer: Answer, of: &Bound<'_, PyAny>) -> PyResult<Answer> {
    static RETRY_AFTER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let read = RETRY_AFTER.import_out(of.py(), "codomyrmex.service_mesh.retry", "retry_after_of")?;
    let wait: Option<f64> = read.call_out([of])?.extract()?;
    let wait = wait.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Ok(wait.map_or(answer, |wait| answer.retry_after(wait)))
}
