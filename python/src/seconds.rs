//! Durations, as Python says them: a number of seconds, or a `datetime.timedelta`.

use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyInt;
use service_mesh::duration_from_seconds;

use crate::errors::config_error;

/// The duration that a Python value stands for.
///
/// # Errors
/// `TypeError` for what is neither a number nor a `timedelta`, `ConfigError` for what is negative or not finite.
pub(crate) fn duration(field: &'static str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds = match finite_or_not(value) {
        Ok(seconds) => seconds,
        Err(_) => value.call_method0("total_seconds").and_then(|seconds| seconds.extract()).map_err(|_| {
            PyTypeError::new_err(format!("{field} must be a number of seconds or a timedelta, not {}", kind(value)))
        })?,
    };
    duration_from_seconds(field, seconds).map_err(|error| config_error(value.py(), &error))
}

/// A number as a float: infinite if it is an integer that is too large for one.
pub(crate) fn finite_or_not(value: &Bound<'_, PyAny>) -> PyResult<f64> {
    match value.extract() {
        Err(_) if value.is_instance_of::<PyInt>() => Ok(if value.gt(0)? { f64::INFINITY } else { f64::NEG_INFINITY }),
        result => result,
    }
}

/// The name of a value's type, for a complaint.
pub(crate) fn kind(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string())
}
