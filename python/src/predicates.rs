//! What Python says of results: which errors and which values are failures.
//!
//! The predicates stay Python objects, attributes of the configuration or the policy that they were given to, and are read
//! when something is to be judged. Rust knows beforehand only whether there are any.

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use service_mesh::Outcome;

use crate::errors::models;

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
    if errors.is_instance_of::<PyType>() { error.is_instance(errors) } else { errors.call1((error,))?.is_truthy() }
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
    let is_failure = !failed.is_none() && failed.call1((result,))?.is_truthy()?;
    Ok(if is_failure { Outcome::Failure } else { Outcome::Success })
}
