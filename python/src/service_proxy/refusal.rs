//! What a caller gets who gets no result.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use service_mesh::{CallErrorKind, Refused};

use super::parts::Parts;
use crate::errors::{circuit_open_error, no_healthy_instance_error};
use crate::guarded::{CallOut, ImportOut};

impl Parts {
    /// What a caller gets whom the machine refused.
    pub(crate) fn refusal(&self, py: Python<'_>, refused: &Refused, last: Option<PyErr>) -> PyErr {
        self.stopped(py, refused.kind(), refused.attempts(), last)
    }

    /// What a caller gets who gets no result; the last failure of this call is its cause.
    #[cold]
    fn stopped(&self, py: Python<'_>, kind: &CallErrorKind, attempts: u32, last: Option<PyErr>) -> PyErr {
        static DEADLINE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        static ATTEMPT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        const MODELS: &str = "codomyrmex.service_mesh.models";
        let name = self.name(py);
        let late = |class: PyResult<&Bound<'_, PyType>>, message: String| {
            let known = PyDict::new(py);
            let error = known
                .set_item("service", &name)
                .and(class)
                .and_then(|class| class.call_out_with(&(message,).into_pyobject(py)?, Some(&known)));
            error.map_or_else(|error| error, PyErr::from_value)
        };
        let error = match kind {
            CallErrorKind::CircuitOpen(open) => {
                let cause = last.as_ref().map(|last| last.value(py).clone().into_any().unbind());
                circuit_open_error(py, open.name(), open.reason(), open.retry_after(), cause)
            }
            CallErrorKind::NoHealthyInstance(_) => no_healthy_instance_error(py, &name),
            CallErrorKind::DeadlineExceeded => {
                late(DEADLINE.import_out(py, MODELS, "DeadlineExceededError"), format!("The time for {name} is up"))
            }
            CallErrorKind::AttemptTimedOut => {
                late(ATTEMPT.import_out(py, MODELS, "AttemptTimedOutError"), format!("An attempt at {name} timed out"))
            }
            other => PyRuntimeError::new_err(other.to_string()),
        };
        if let Some(last) = last {
            error.set_cause(py, Some(last));
        }
        if attempts > 1 {
            self.add_note(py, &error, attempts);
        }
        error
    }

    /// Says of an error that is about to be raised how many attempts there were.
    pub(super) fn add_note(&self, py: Python<'_>, error: &PyErr, attempts: u32) {
        let note = format!("the call of {} ended after {attempts} attempts", self.name(py));
        // An error that takes no notes is as good without.
        drop(error.value(py).call_method1(intern!(py, "add_note"), (note,)));
    }
}
