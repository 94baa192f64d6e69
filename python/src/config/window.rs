//! `CountWindow` and `TimeWindow`: checked when they are made; they do not change.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use service_mesh::{CountWindow, TimeWindow};

use crate::errors::config_error;
use crate::field::{as_read, number, optional, whole};
use crate::seconds::{duration, kind};

/// Checks a count window, and gives back its fields as they are to be read.
#[pyfunction]
pub(crate) fn count_window_rules<'py>(fields: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
    count_window(fields)?;
    all_as_read(fields)
}

/// Checks a time window, and gives back its fields as they are to be read.
#[pyfunction]
pub(crate) fn time_window_rules<'py>(fields: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
    time_window(fields)?;
    all_as_read(fields)
}

pub(super) fn count_window(fields: &Bound<'_, PyDict>) -> PyResult<CountWindow> {
    let mut window = CountWindow::builder();
    for (name, value) in fields {
        window = match &*name.extract::<String>()? {
            "size" => window.size(whole("size", &value, "1 to 1048576")?),
            "minimum_calls" => window.minimum_calls(whole("minimum_calls", &value, "1 to 4294967295")?),
            "failure_ratio" => window.failure_ratio(optional(&value, |value| number("failure_ratio", value))?),
            "slow_call_ratio" => window.slow_call_ratio(optional(&value, |value| number("slow_call_ratio", value))?),
            "slow_call_seconds" => window.slow_call(optional(&value, |value| duration("slow_call_seconds", value))?),
            _ => window,
        };
    }
    window.build().map_err(|error| config_error(fields.py(), &error))
}

pub(super) fn time_window(fields: &Bound<'_, PyDict>) -> PyResult<TimeWindow> {
    let mut window = TimeWindow::builder();
    for (name, value) in fields {
        window = match &*name.extract::<String>()? {
            "duration_seconds" => window.duration(duration("duration_seconds", &value)?),
            "buckets" => window.buckets(whole("buckets", &value, "10 to 1000")?),
            "minimum_calls" => window.minimum_calls(whole("minimum_calls", &value, "1 to 4294967295")?),
            "failure_ratio" => window.failure_ratio(optional(&value, |value| number("failure_ratio", value))?),
            "slow_call_ratio" => window.slow_call_ratio(optional(&value, |value| number("slow_call_ratio", value))?),
            "slow_call_seconds" => window.slow_call(optional(&value, |value| duration("slow_call_seconds", value))?),
            _ => window,
        };
    }
    window.build().map_err(|error| config_error(fields.py(), &error))
}

/// The fields of a window, which is an instance of this class of ours.
pub(super) fn fields_of<'py>(window: &Bound<'py, PyAny>, field: &str, class: &str) -> PyResult<Bound<'py, PyDict>> {
    let py = window.py();
    if !window.is_instance(&py.import("codomyrmex.service_mesh.models")?.getattr(class)?)? {
        return Err(PyTypeError::new_err(format!("{field} must be a {class} or None, not {}", kind(window))));
    }
    Ok(window.getattr("__dict__")?.cast_into()?)
}

fn all_as_read<'py>(fields: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
    let normal = PyDict::new(fields.py());
    for (name, value) in fields {
        normal.set_item(&name, as_read(name.extract::<String>()?.as_str(), &value)?)?;
    }
    Ok(normal)
}
