//! Waits in the thread.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::{IntoPyObjectExt, intern};

use crate::guarded::CallOut;

/// Waits with the interpreter free for others: by the clock that was given, or by `time.sleep`, which is looked up now, so
/// that those who have put another in its place are asked.
pub(crate) fn sleep(py: Python<'_>, clock: Option<Py<PyAny>>, wait: Duration) -> PyResult<()> {
    if wait.is_zero() {
        return Ok(());
    }
    let sleeper = match clock {
        Some(clock) => clock.into_bound(py),
        None => py.import(intern!(py, "time"))?.into_any(),
    };
    let seconds = wait.as_secs_f64().into_bound_py_any(py)?;
    sleeper.getattr(intern!(py, "sleep"))?.call_out([&seconds]).map(drop)
}
