//! The story of a call, as Python reads it.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use service_mesh::{AttemptStory, Ending, GivenUp, Outcome, PassedOver, Story};

use crate::guarded::CallOut;

/// The `Story` of `service_proxy.py`.
pub(crate) fn story<'py>(py: Python<'py>, story: &Story) -> PyResult<Bound<'py, PyAny>> {
    let attempts: PyResult<Vec<_>> = story.attempts.iter().map(|attempt| attempt_story(py, attempt)).collect();
    let told = PyDict::new(py);
    told.set_item("service", &*story.service)?;
    told.set_item("attempts", PyTuple::new(py, attempts?)?)?;
    told.set_item(
        "ending",
        match &story.ending {
            Ending::Returned(outcome) => outcome.as_str(),
            Ending::Refused(kind) | Ending::TimedOut(kind) => kind.as_str(),
            Ending::Abandoned => "abandoned",
        },
    )?;
    told.set_item("given_up", story.given_up.map(GivenUp::as_str))?;
    told.set_item("took", story.took.as_secs_f64())?;
    told.set_item("text", story.to_string())?;
    made(py, "Story", &told)
}

fn attempt_story<'py>(py: Python<'py>, attempt: &AttemptStory) -> PyResult<Bound<'py, PyAny>> {
    let passed_over: PyResult<Vec<_>> = attempt.passed_over.iter().map(|over| passed_over_story(py, over)).collect();
    let told = PyDict::new(py);
    told.set_item("instance", &attempt.instance)?;
    told.set_item("passed_over", PyTuple::new(py, passed_over?)?)?;
    told.set_item("outcome", attempt.outcome.map(Outcome::as_str))?;
    told.set_item("timed_out", attempt.timed_out)?;
    told.set_item("began_after", attempt.began_after.as_secs_f64())?;
    told.set_item("took", attempt.took.as_secs_f64())?;
    made(py, "AttemptStory", &told)
}

fn passed_over_story<'py>(py: Python<'py>, over: &PassedOver) -> PyResult<Bound<'py, PyAny>> {
    let told = PyDict::new(py);
    told.set_item("instance", &over.instance)?;
    told.set_item("reason", over.reason.as_str())?;
    told.set_item("retry_after", over.retry_after.map(|wait| wait.as_secs_f64()))?;
    made(py, "PassedOver", &told)
}

fn made<'py>(py: Python<'py>, class: &str, told: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
    py.import("codomyrmex.service_mesh.service_proxy")?.getattr(class)?.call_out_with(&PyTuple::empty(py), Some(told))
}
