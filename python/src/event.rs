//! What is told to Python's listeners.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use service_mesh::{Event, EventKind, Transition, TransitionReason, TripReason};

use crate::errors::models;
use crate::guarded::{CallOut, ImportOut};

/// The `CircuitEvent` of what happened to the one called `name`.
pub(crate) fn circuit_event<'py>(py: Python<'py>, name: &str, event: &Event) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = CLASS.import_out(py, "codomyrmex.service_mesh.models", "CircuitEvent")?;
    let told = PyDict::new(py);
    let kind = match &event.kind {
        EventKind::Transition(transition) => {
            tell_transition(&told, transition)?;
            "transition"
        }
        EventKind::Refused { reason, retry_after } => {
            told.set_item("reason", reason.as_str())?;
            told.set_item("retry_after", retry_after.map(|wait| wait.as_secs_f64()))?;
            "refused"
        }
        EventKind::LateOutcome(outcome) => {
            told.set_item("outcome", outcome.as_str())?;
            "late_outcome"
        }
        EventKind::ProbesWrittenOff { probes } => {
            told.set_item("details", details(py, [("probes", *probes)])?)?;
            "probes_written_off"
        }
        EventKind::EjectionCapped => "ejection_capped",
        EventKind::Retry { attempts, instance, cause, after } => {
            told.set_item("retry_after", after.as_secs_f64())?;
            let details = details(py, [("attempts", *attempts)])?;
            details.set_item("instance", instance)?;
            details.set_item("cause", cause.as_str())?;
            told.set_item("details", details)?;
            "retry"
        }
        EventKind::GivenUp { attempts, instance, cause, reason } => {
            told.set_item("reason", reason.as_str())?;
            let details = details(py, [("attempts", *attempts)])?;
            details.set_item("instance", instance)?;
            details.set_item("cause", cause.as_str())?;
            told.set_item("details", details)?;
            "given_up"
        }
        EventKind::BudgetExhausted => "budget_exhausted",
        EventKind::Story(_) => "story",
        _ => "other",
    };
    let renamed = Event { name: name.into(), kind: event.kind.clone() };
    told.set_item("text", renamed.to_string())?;
    class.call_out_with(&(name, kind).into_pyobject(py)?, Some(&told))
}

fn tell_transition(told: &Bound<'_, PyDict>, transition: &Transition) -> PyResult<()> {
    let py = told.py();
    let models = models(py)?;
    told.set_item("from_state", models.state(transition.from))?;
    told.set_item("to_state", models.state(transition.to))?;
    told.set_item("reason", transition.reason.as_str())?;
    let TransitionReason::Tripped(trip) = &transition.reason else { return Ok(()) };
    let counts = PyDict::new(py);
    match *trip {
        TripReason::ConsecutiveFailures { failures, threshold } => {
            counts.set_item("failures", failures)?;
            counts.set_item("threshold", threshold)?;
        }
        TripReason::FailureRatio { window, failures, calls, ratio } => {
            counts.set_item("window", window.to_string())?;
            counts.set_item("failures", failures)?;
            counts.set_item("calls", calls)?;
            counts.set_item("ratio", ratio)?;
        }
        TripReason::SlowCallRatio { window, slow, calls, ratio } => {
            counts.set_item("window", window.to_string())?;
            counts.set_item("slow", slow)?;
            counts.set_item("calls", calls)?;
            counts.set_item("ratio", ratio)?;
        }
        _ => {}
    }
    told.set_item("details", counts)
}

fn details<'py, const N: usize>(py: Python<'py>, counts: [(&str, u32); N]) -> PyResult<Bound<'py, PyDict>> {
    let details = PyDict::new(py);
    for (name, count) in counts {
        details.set_item(name, count)?;
    }
    Ok(details)
}
