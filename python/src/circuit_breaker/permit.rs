//! Leave to make one call, as a Python object, and the awaitable that is ready at once.

use std::sync::Mutex;

use pyo3::exceptions::PyStopIteration;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use service_mesh::{Outcome, OwnedPermit};

use super::CircuitBreaker;

use crate::lock::lock;

/// Leave to make one call through a circuit breaker: `breaker.acquire()`.
///
/// The first verdict counts and later ones do nothing; without one, released or collected, it is neutral.
#[pyclass(frozen, weakref, module = "codomyrmex.service_mesh")]
#[derive(Debug)]
pub(crate) struct Permit {
    breaker: Py<CircuitBreaker>,
    leave: Mutex<Option<OwnedPermit>>,
    is_probe: bool,
}

impl Permit {
    pub(crate) fn new(breaker: Py<CircuitBreaker>, permit: Option<OwnedPermit>) -> Self {
        let is_probe = permit.as_ref().is_some_and(OwnedPermit::is_probe);
        Self { breaker, leave: Mutex::new(permit), is_probe }
    }

    /// The permit itself, once. The lock is released when this returns: a verdict may run listeners.
    pub(crate) fn take(&self) -> Option<OwnedPermit> {
        lock(&self.leave).take()
    }

    /// The call came to this, by `error` if it failed.
    fn settle(&self, py: Python<'_>, outcome: Outcome, error: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        match self.take() {
            Some(permit) => CircuitBreaker::conclude(self.breaker.bind(py), Some(permit), outcome, error),
            None => Ok(()),
        }
    }
}

#[pymethods]
impl Permit {
    /// The call succeeded.
    fn success(&self, py: Python<'_>) -> PyResult<()> {
        self.settle(py, Outcome::Success, None)
    }

    /// The call failed, with this error if there is one.
    #[pyo3(signature = (error=None))]
    fn failure(&self, py: Python<'_>, error: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        self.settle(py, Outcome::Failure, error.as_ref())
    }

    /// The call says nothing: whatever the permit held is given back.
    fn release(&self) {
        drop(self.take());
    }

    /// Whether the circuit was half-open when it gave this permit.
    #[getter]
    fn is_probe(&self) -> bool {
        self.is_probe
    }

    /// The breaker that gave it.
    #[getter]
    fn circuit_breaker(&self, py: Python<'_>) -> Py<CircuitBreaker> {
        self.breaker.clone_ref(py)
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let Some(permit) = self.take() else { return Ok(()) };
        CircuitBreaker::conclude_block(self.breaker.bind(py), Some(permit), error)
    }

    fn __aenter__(slf: Py<Self>) -> Ready {
        Ready::with(slf.into_any())
    }

    fn __aexit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> PyResult<Ready> {
        self.__exit__(py, kind, error, traceback)?;
        Ok(Ready::with(py.None()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.breaker)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let settled = lock(&self.leave).is_none();
        let kind = if self.is_probe { "probe" } else { "permit" };
        let name = self.breaker.bind(py).get().name_text(py);
        format!("<{kind} of {name:?}{}>", if settled { ", settled" } else { "" })
    }
}

/// What is awaited and ready at once: the awaitable of an `async with` that waits for nothing.
#[pyclass(frozen, module = "codomyrmex.service_mesh._native")]
#[derive(Debug)]
pub(crate) struct Ready {
    value: Py<PyAny>,
}

impl Ready {
    pub(crate) fn with(value: Py<PyAny>) -> Self {
        Self { value }
    }
}

#[pymethods]
impl Ready {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Err(PyStopIteration::new_err((self.value.clone_ref(py),)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.value)
    }
}
