//! A call whose attempts and waits Python makes.

use std::sync::Mutex;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use service_mesh::Retrying;

use super::RetryPolicy;
use crate::lock::lock;

/// One call that Python drives: it is told what came of each attempt, and says how long to wait before the next.
#[pyclass(frozen, module = "codomyrmex.service_mesh._native")]
#[derive(Debug)]
pub(crate) struct RetryCall {
    policy: Py<RetryPolicy>,
    retrying: Mutex<Retrying>,
}

impl RetryCall {
    pub(super) fn new(policy: &Bound<'_, RetryPolicy>, retrying: Retrying) -> Self {
        Self { policy: policy.clone().unbind(), retrying: Mutex::new(retrying) }
    }

    /// Predicates run without the lock: a call is driven by one at a time, and if not, the last one wins.
    fn step<R>(&self, step: impl FnOnce(&mut Retrying) -> R) -> R {
        let mut retrying = lock(&self.retrying).clone();
        let result = step(&mut retrying);
        *lock(&self.retrying) = retrying;
        result
    }
}

#[pymethods]
impl RetryCall {
    /// The seconds to wait after this error; `None` if it is the last, which then has a note of the attempts.
    fn after_error(&self, py: Python<'_>, error: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
        let wait = self.step(|retrying| RetryPolicy::wait_after_error(self.policy.bind(py), retrying, error))?;
        Ok(wait.map(|wait| wait.as_secs_f64()))
    }

    /// The seconds to wait after this result; `None` if it is what the call comes to.
    fn after_result(&self, py: Python<'_>, result: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
        let wait = self.step(|retrying| RetryPolicy::wait_after_result(self.policy.bind(py), retrying, result))?;
        Ok(wait.map(|wait| wait.as_secs_f64()))
    }

    /// Attempts so far, with the one that is under way.
    #[getter]
    fn attempts(&self) -> u32 {
        self.step(|retrying| retrying.attempts())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.policy)
    }
}
