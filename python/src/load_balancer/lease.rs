//! `Lease`: a connection that is counted for as long as a block runs.

use std::sync::Mutex;

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{PyTraverseError, PyVisit};
use service_mesh::Outcome;

use crate::lock::lock;

/// A connection of an instance, counted until the block is left, `release` is called, or this is collected.
///
/// `with balancer.lease() as instance:` gives the instance. A block that is left by an exception is a failure for
/// strategies that learn from it (`PEAK_EWMA`); one that was cancelled says nothing.
#[pyclass(frozen, weakref, module = "codomyrmex.service_mesh.load_balancer")]
#[derive(Debug)]
pub(crate) struct Lease {
    lease: Mutex<Option<service_mesh::Lease>>,
    instance: Py<PyAny>,
}

impl Lease {
    pub(crate) fn new(lease: service_mesh::Lease, instance: Py<PyAny>) -> Self {
        Self::of_own_choice(Some(lease), instance)
    }

    /// A subclass may choose an instance that is not registered: there is no connection to count then.
    pub(crate) fn of_own_choice(lease: Option<service_mesh::Lease>, instance: Py<PyAny>) -> Self {
        Self { lease: Mutex::new(lease), instance }
    }

    fn settle(&self, outcome: Outcome) {
        let lease = lock(&self.lease).take();
        if let Some(lease) = lease {
            lease.settle(outcome);
        }
    }
}

#[pymethods]
impl Lease {
    /// The instance, the very object that was registered.
    #[getter]
    fn instance(&self, py: Python<'_>) -> Py<PyAny> {
        self.instance.clone_ref(py)
    }

    /// Gives the connection back and says nothing of the call. Once given back, this does nothing.
    fn release(&self) {
        self.settle(Outcome::Neutral);
    }

    fn __enter__(&self, py: Python<'_>) -> Py<PyAny> {
        self.instance.clone_ref(py)
    }

    #[pyo3(signature = (kind, _error, _traceback, /))]
    fn __exit__(
        &self,
        kind: Option<&Bound<'_, PyType>>,
        _error: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        self.settle(match kind {
            None => Outcome::Success,
            Some(kind) if kind.is_subclass_of::<PyException>()? => Outcome::Failure,
            Some(_) => Outcome::Neutral,
        });
        Ok(false)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Lease({})", self.instance.bind(py).repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.instance)
    }
}
