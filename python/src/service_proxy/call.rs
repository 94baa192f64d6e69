//! A call whose attempts and waits Python makes.

use std::sync::{Arc, Mutex, MutexGuard};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use service_mesh::{Answer, Attempt, ServiceProxy as Core, Verdict};

use super::ServiceProxy;
use super::attempt::{Memory, Next};
use super::parts::Parts;
use crate::lock::lock;

/// One call that Python drives: the async drivers'.
///
/// `begin` makes an attempt; then exactly one of `returned`, `raised` and `timed_out` says what came of it. They give the
/// seconds to wait before the next `begin`, or nothing if the call is over. Dropped, the attempt was cancelled.
#[pyclass(frozen, weakref, module = "codomyrmex.service_mesh._native")]
pub(crate) struct Call {
    proxy: Py<ServiceProxy>,
    parts: Arc<Parts>,
    state: Mutex<State>,
}

struct State {
    step: Step,
    memory: Memory,
}

enum Step {
    Ready(service_mesh::Call<Core>),
    Running(Attempt<Core>),
    Over,
}

impl Call {
    pub(super) fn new(
        proxy: Py<ServiceProxy>,
        parts: Arc<Parts>,
        call: service_mesh::Call<Core>,
        memory: Memory,
    ) -> Self {
        let state = State { step: Step::Ready(call), memory };
        Self { proxy, parts, state: Mutex::new(state) }
    }

    /// A call whose attempt is under way.
    pub(super) fn running(proxy: Py<ServiceProxy>, parts: Arc<Parts>, attempt: Attempt<Core>, memory: Memory) -> Self {
        Self { proxy, parts, state: Mutex::new(State { step: Step::Running(attempt), memory }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The step and the memory, taken out: what follows may run Python code, and no lock is held then.
    fn take(&self) -> (Step, Memory) {
        let mut state = self.lock();
        (std::mem::replace(&mut state.step, Step::Over), std::mem::take(&mut state.memory))
    }

    fn put(&self, step: Step, memory: Memory) {
        *self.lock() = State { step, memory };
    }

    fn attempt(&self) -> PyResult<(Attempt<Core>, Memory)> {
        match self.take() {
            (Step::Running(attempt), memory) => Ok((attempt, memory)),
            (step, memory) => {
                self.put(step, memory);
                Err(PyRuntimeError::new_err("no attempt of this call is under way"))
            }
        }
    }

    fn go_on(&self, next: Next<'_, Core>, memory: Memory) -> Option<f64> {
        match next {
            Next::Return(_) => None,
            Next::Retry { after, call } => {
                self.put(Step::Ready(call), memory);
                Some(after.as_secs_f64())
            }
        }
    }
}

#[pymethods]
impl Call {
    /// Begins the next attempt: calls the function with the instance, and gives what it returns and the seconds that the
    /// attempt may take, if anything limits it.
    fn begin<'py>(
        &self,
        func: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<(Bound<'py, PyAny>, Option<f64>)> {
        let py = func.py();
        let (step, mut memory) = self.take();
        let Step::Ready(call) = step else {
            self.put(step, memory);
            return Err(PyRuntimeError::new_err("this call is not ready for an attempt"));
        };
        let attempt = self.parts.admit(py, call, &mut memory)?;
        let instance = self.parts.instance(py, &attempt)?;
        let limit = attempt.time_left().map(|left| left.as_secs_f64());
        self.put(Step::Running(attempt), memory);
        Ok((self.parts.invoke(func, &instance, args, kwargs)?, limit))
    }

    /// Whether an attempt is under way.
    #[getter]
    fn is_running(&self) -> bool {
        matches!(self.lock().step, Step::Running(_))
    }

    /// The attempt came to this result.
    fn returned(&self, py: Python<'_>, result: Bound<'_, PyAny>) -> PyResult<Option<f64>> {
        let (attempt, mut memory) = self.attempt()?;
        if memory.classify.is_none() && !self.parts.judges_results(py)? {
            let verdict = attempt.settle(Answer::success());
            self.parts.tidy(py);
            return match verdict {
                Verdict::Return => Ok(None),
                _ => Err(PyRuntimeError::new_err("a success is final")),
            };
        }
        let next = self.parts.settle(py, attempt, Ok(result), &mut memory)?;
        Ok(self.go_on(next, memory))
    }

    /// The attempt came to this error. If the call is over, this raises what its caller gets.
    fn raised(&self, py: Python<'_>, error: Bound<'_, PyAny>) -> PyResult<Option<f64>> {
        let (attempt, mut memory) = self.attempt()?;
        let next = self.parts.settle(py, attempt, Err(PyErr::from_value(error)), &mut memory)?;
        Ok(self.go_on(next, memory))
    }

    /// The attempt was stopped, since its time was up. If the call is over, this raises what its caller gets.
    fn timed_out(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        let (attempt, mut memory) = self.attempt()?;
        let next = self.parts.settle_late(py, attempt, &mut memory)?;
        Ok(self.go_on(next, memory))
    }

    /// The clock that its waits go by, if it is a manual one.
    #[getter]
    fn clock(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.parts.clock(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.proxy)?;
        // Who holds the lock now is in another thread, and then the call is in use.
        let Ok(state) = self.state.try_lock() else { return Ok(()) };
        visit.call(&state.memory.classify)?;
        visit.call(&state.memory.last)
    }

    fn __clear__(&self) {
        let (step, memory) = self.take();
        drop((step, memory));
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}
