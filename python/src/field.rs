//! What Python may give for a field, and the complaint about what it may not.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};
use service_mesh::ConfigError;

use crate::errors::config_error;
use crate::seconds::{finite_or_not, kind};

pub(crate) fn optional<'py, T>(
    value: &Bound<'py, PyAny>,
    read: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<T>,
) -> PyResult<Option<T>> {
    if value.is_none() { Ok(None) } else { read(value).map(Some) }
}

/// A whole number. What the core cannot even hold is out of range as well, and of the range the caller knows the text.
pub(crate) fn whole(field: &'static str, value: &Bound<'_, PyAny>, allowed: &'static str) -> PyResult<u32> {
    let number = value
        .cast::<PyInt>()
        .map_err(|_| PyTypeError::new_err(format!("{field} must be an int, not {}", kind(value))))?;
    number.extract().map_err(|_| {
        let text = number.str().map_or_else(|_| "out of range".to_owned(), |text| text.to_string());
        config_error(value.py(), &ConfigError::new(field, text, allowed))
    })
}

/// Any number. An integer that no float can hold is read as infinite, and told to be out of range by whoever asks for it.
pub(crate) fn number(field: &'static str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    finite_or_not(value).map_err(|_| PyTypeError::new_err(format!("{field} must be a number, not {}", kind(value))))
}

/// Refuses what says nothing of an error: only types, callables and tuples of them do.
pub(crate) fn check_errors(field: &'static str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Ok(several) = value.cast::<PyTuple>() {
        return several.iter().try_for_each(|one| check_errors(field, &one));
    }
    if value.is_callable() {
        return Ok(());
    }
    let kind = kind(value);
    Err(PyTypeError::new_err(format!("{field} must be an exception type, a predicate, or a tuple of them, not {kind}")))
}

pub(crate) fn check_callable(field: &'static str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    if value.is_none() || value.is_callable() {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!("{field} must be a predicate or None, not {}", kind(value))))
}

/// What is read of a field: seconds for a `timedelta`, all else as it was given.
pub(crate) fn as_read<'py>(name: &str, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if name.ends_with("_seconds") && value.hasattr("total_seconds")? {
        return value.call_method0("total_seconds");
    }
    Ok(value.clone())
}
