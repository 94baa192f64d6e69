//! The last failure of a circuit: the error itself, while a refusal may need it for its cause, and when it was.

use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use service_mesh::{CircuitState, Outcome};

use super::CircuitBreaker;
use super::circuit::KEPT;
use crate::seconds::kind;

impl CircuitBreaker {
    /// The last failure is kept for as long as there may be a refusal whose cause it is.
    pub(crate) fn note(&self, py: Python<'_>, outcome: Outcome, error: Option<&Bound<'_, PyAny>>) {
        if outcome == Outcome::Failure
            && let Some(error) = error
            && self.core().state() != CircuitState::Closed
        {
            let before = self.kept().last_failure.replace(error.clone().unbind());
            self.circuit().set(KEPT, true);
            drop(before);
        }
        self.tidy(py);
    }

    /// Lets go of the last failure when the circuit is Closed.
    pub(super) fn tidy(&self, _py: Python<'_>) {
        if self.circuit().flags() & KEPT != 0 && self.core().state() == CircuitState::Closed {
            self.circuit().set(KEPT, false);
            let before = self.kept().last_failure.take();
            drop(before);
        }
    }
}

/// The naive local time that lies so far back.
pub(super) fn ago(py: Python<'_>, age: Duration) -> PyResult<Bound<'_, PyAny>> {
    let datetime = py.import("datetime")?;
    let age = datetime.getattr("timedelta")?.call1((0, age.as_secs_f64()))?;
    datetime.getattr("datetime")?.call_method0("now")?.sub(age)
}

/// How far a datetime lies back; what lies ahead is now.
pub(super) fn how_long_ago(time: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let zone = time.getattr("tzinfo").map_err(|_| {
        let kind = kind(time);
        PyTypeError::new_err(format!("last_failure_time must be a datetime or None, not {kind}"))
    })?;
    let now = time.py().import("datetime")?.getattr("datetime")?.call_method1("now", (zone,))?;
    let seconds: f64 = now.sub(time)?.call_method0("total_seconds")?.extract()?;
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}
