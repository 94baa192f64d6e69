//! Jitter as Python says it: `True` for the seed's factor, `False` for none, and words for the others.

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString};
use service_mesh::{Jitter, UnknownWord};

use crate::seconds::kind;
use crate::suggestion::unknown_word;

/// What is assigned.
pub(super) fn read_jitter(value: &Bound<'_, PyAny>) -> PyResult<Jitter> {
    if let Ok(on) = value.cast::<PyBool>() {
        return Ok(on.is_true().into());
    }
    let word = value.cast::<PyString>().map_err(|_| {
        PyTypeError::new_err(format!("jitter must be a bool or the name of a jitter, not {}", kind(value)))
    })?;
    word.to_str()?
        .parse()
        .map_err(|_: UnknownWord| unknown_word("jitter", value, "True, False, ", &Jitter::ALL.map(Jitter::as_str)))
}

/// What is read.
pub(crate) fn jitter_as_read(py: Python<'_>, jitter: Jitter) -> PyResult<Bound<'_, PyAny>> {
    match jitter {
        Jitter::Proportional => true.into_bound_py_any(py),
        Jitter::None => false.into_bound_py_any(py),
        other => other.as_str().into_bound_py_any(py),
    }
}
