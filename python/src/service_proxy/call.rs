//! One call of a service proxy, between the core's machine and Python: who is next, what a result means, what is raised.
//!
//! The sync driver runs the machine in one crossing; the async driver, in `service_proxy.py`, takes a step of [`Call`] for
//! each attempt, since what waits between is Python's.

use std::borrow::Borrow;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};
use pyo3::{IntoPyObjectExt, PyTraverseError, PyVisit, intern};
use service_mesh::{Answer, Attempt, CallErrorKind, Outcome, Refused, ServiceProxy as Core, Verdict};

use super::{Chooser, Parts, Policy, ServiceProxy};
use crate::answer::Judges;
use crate::circuit_breaker::CircuitBreaker;
use crate::errors::{circuit_open_error, no_healthy_instance_error};
use crate::guarded::CallOut;
use crate::instance::text;
use crate::load_balancer::Object;
use crate::lock::lock;
use crate::seconds::duration;
use crate::testing::{attempts_at_most, wait};

/// How often one whose `get_instance` cannot be told whom to leave out is asked before one comes back who was tried.
const QUESTIONS: usize = 16;

/// What a call remembers of its attempts.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The last error of its own, as an object: its traceback may lead back to the call, and the collector is shown it.
    last: Option<Py<PyAny>>,
    /// The ids of the instances that it tried, where Python chooses.
    tried: Vec<String>,
    /// Says first what an attempt means, where the call was asked for with it.
    classify: Option<Py<PyAny>>,
}

impl Memory {
    pub(crate) fn classified_by(classify: Option<Py<PyAny>>) -> Self {
        Self { classify, ..Self::default() }
    }

    fn take_last(&mut self, py: Python<'_>) -> Option<PyErr> {
        self.last.take().map(|last| PyErr::from_value(last.into_bound(py)))
    }
}

/// What comes after an attempt.
pub(crate) enum Next<'py, P: Borrow<Core>> {
    /// This is the call's result.
    Return(Bound<'py, PyAny>),
    /// Wait, and admit the next attempt.
    Retry { after: Duration, call: service_mesh::Call<P> },
}

impl Parts {
    /// The next attempt, or the refusal.
    pub(crate) fn admit<P: Borrow<Core>>(
        &self,
        py: Python<'_>,
        call: service_mesh::Call<P>,
        memory: &mut Memory,
    ) -> PyResult<Attempt<P>> {
        self.balancer.refresh(py)?;
        let admitted = match self.chooser {
            Chooser::Ours => call.admit(),
            Chooser::Subclass { .. } | Chooser::Foreign { .. } => self.admit_chosen(py, call, memory)?,
        };
        admitted.map_err(|refused| self.refusal(py, &refused, memory.take_last(py)))
    }

    /// Admits whomever a balancer chooses that is not ours, or that picks in its own way.
    #[cold]
    fn admit_chosen<P: Borrow<Core>>(
        &self,
        py: Python<'_>,
        call: service_mesh::Call<P>,
        memory: &mut Memory,
    ) -> PyResult<Result<Attempt<P>, Refused>> {
        // All are named beforehand: the machine picks from those who were registered when it began.
        let mut chosen = Vec::new();
        while let Some(id) = self.choose(py, &memory.tried, &chosen)? {
            let circuit = self.core().instance_circuit_breaker(&id);
            chosen.push(id);
            if circuit.is_none_or(|circuit| circuit.can_execute()) {
                break;
            }
        }
        let mut chosen = chosen.into_iter();
        let admitted = call.admit_by(|| chosen.next());
        memory.tried.extend(admitted.as_ref().ok().map(|attempt| attempt.instance().id.clone()));
        Ok(admitted)
    }

    /// Whom the balancer chooses, preferring those who were not tried, and never one whose circuit refused just now.
    fn choose(&self, py: Python<'_>, tried: &[String], asked: &[String]) -> PyResult<Option<String>> {
        let balancer = self.load_balancer.bind(py);
        let get_instance = balancer.getattr(intern!(py, "get_instance"))?;
        if self.chooser.takes_exclude() {
            for exclude in [[tried, asked].concat(), asked.to_vec()] {
                let options = PyDict::new(py);
                options.set_item("exclude", PyList::new(py, &exclude)?)?;
                let instance = get_instance.call_out_with(&PyTuple::empty(py), Some(&options))?;
                if !instance.is_none() {
                    let id = self.known(&instance)?;
                    return Ok((!asked.contains(&id)).then_some(id));
                }
            }
            return Ok(None);
        }
        let mut again = None;
        for _ in 0..QUESTIONS {
            let instance = get_instance.call_out([])?;
            if instance.is_none() {
                break;
            }
            let id = self.known(&instance)?;
            if asked.contains(&id) {
                continue;
            }
            if !tried.contains(&id) {
                return Ok(Some(id));
            }
            again = Some(id);
        }
        Ok(again)
    }

    /// The id of an instance, which is registered here if it is not yet: its circuit and its connections are kept so.
    fn known(&self, instance: &Bound<'_, PyAny>) -> PyResult<String> {
        let id = text(&instance.getattr("id")?)?;
        if !self.balancer.has(&id, instance) {
            if matches!(self.chooser, Chooser::Foreign { .. }) {
                self.balancer.register_pickable(instance)?;
            } else {
                self.balancer.register(instance)?;
            }
        }
        Ok(id)
    }

    /// The object of an attempt's instance.
    #[inline]
    pub(crate) fn instance<'py, P: Borrow<Core>>(
        &self,
        py: Python<'py>,
        attempt: &Attempt<P>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match attempt.attachment::<Object>() {
            Some(known) => Ok(known.object().bind(py).clone()),
            None => Ok(self.balancer.object(py, &attempt.registration())?.into_bound(py)),
        }
    }

    /// Runs the function, under a breaker that wants to run it itself if there is one.
    #[inline]
    pub(crate) fn invoke<'py>(
        &self,
        func: &Bound<'py, PyAny>,
        instance: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = func.py();
        if self.is_guarded {
            let before = [func.clone(), instance.clone()];
            let args = PyTuple::new(py, before.into_iter().chain(args.iter()).collect::<Vec<_>>())?;
            return self.circuit_breaker.bind(py).getattr(intern!(py, "execute"))?.call_out_with(&args, kwargs);
        }
        match (args.len(), kwargs) {
            (0, None) => func.call_out([instance]),
            (1, None) => func.call_out([instance, &*args.get_borrowed_item(0)?]),
            (2, None) => func.call_out([instance, &*args.get_borrowed_item(0)?, &*args.get_borrowed_item(1)?]),
            _ => {
                let all = PyTuple::new(py, std::iter::once(instance.clone()).chain(args.iter()).collect::<Vec<_>>())?;
                func.call_out_with(&all, kwargs)
            }
        }
    }

    /// Takes what came of an attempt that is no plain success, and says what comes next; or raises what the caller gets.
    #[cold]
    pub(crate) fn settle<'py, P: Borrow<Core>>(
        &self,
        py: Python<'py>,
        attempt: Attempt<P>,
        result: PyResult<Bound<'py, PyAny>>,
        memory: &mut Memory,
    ) -> PyResult<Next<'py, P>> {
        // Predicates run before anything is judged; where one fails, the attempt is dropped, and says nothing.
        self.catch_up(py)?;
        let (circuit_breaker, retry_policy) = (self.circuit_breaker.bind(py), self.retry_policy.bind(py));
        let classify = memory.classify.as_ref().map(|classify| classify.bind(py));
        let judges = Judges { circuit_breaker, retry_policy, classify };
        let answer = match &result {
            Ok(result) => judges.of_result(result)?,
            Err(error) => {
                let error = error.value(py);
                judges.of_error(error.as_any()).inspect_err(|mistake| mistake.set_context_of(py, error))?
            }
        };
        let number = attempt.number();
        let last_one = attempts_at_most().is_some_and(|most| number >= most) || self.policy == Policy::Executes;
        let verdict = attempt.settle(if last_one { answer.retryable(false) } else { answer });
        self.note(py, answer.outcome(), result.as_ref().err());
        match verdict {
            Verdict::Return => self.returned(py, result, number, memory),
            Verdict::Refused(refused) => Err(self.refusal(py, &refused, result.err().or_else(|| memory.take_last(py)))),
            Verdict::Retry { after, call } => {
                if let Err(error) = result {
                    memory.last = Some(error.into_value(py).into_any());
                }
                Ok(Next::Retry { after: self.wait(py, after, answer.earliest_retry(), number)?, call })
            }
        }
    }

    /// The service's breaker keeps its last failure, as it does for calls of its own.
    #[cold]
    fn note(&self, py: Python<'_>, outcome: Outcome, error: Option<&PyErr>) {
        if self.circuit.is_some()
            && let Ok(breaker) = self.circuit_breaker.bind(py).cast::<CircuitBreaker>()
        {
            breaker.get().note(py, outcome, error.map(|error| error.value(py).as_any()));
        }
    }

    /// After a success that nobody judged: the service's breaker lets go of the failure that it keeps, if it has recovered.
    #[inline]
    pub(crate) fn tidy(&self, py: Python<'_>) {
        if self.circuit.as_ref().is_some_and(|circuit| !circuit.is_plain()) {
            self.note(py, Outcome::Success, None);
        }
    }

    /// An attempt's time is up, and the driver has stopped it.
    pub(crate) fn settle_late<'py, P: Borrow<Core>>(
        &self,
        py: Python<'py>,
        attempt: Attempt<P>,
        memory: &mut Memory,
    ) -> PyResult<Next<'py, P>> {
        self.catch_up(py)?;
        let number = attempt.number();
        let last_one = attempts_at_most().is_some_and(|most| number >= most) || self.policy == Policy::Executes;
        match attempt.stop(Answer::failure().retryable(!last_one)) {
            Ok((after, call)) => Ok(Next::Retry { after: self.wait(py, after, None, number)?, call }),
            Err(refused) => Err(self.refusal(py, &refused, memory.take_last(py))),
        }
    }

    fn returned<'py, P: Borrow<Core>>(
        &self,
        py: Python<'py>,
        result: PyResult<Bound<'py, PyAny>>,
        number: u32,
        memory: &mut Memory,
    ) -> PyResult<Next<'py, P>> {
        let error = match result {
            Ok(result) => return Ok(Next::Return(result)),
            Err(error) => error,
        };
        if number > 1 {
            self.add_note(py, &error, number);
        }
        // A breaker of the user's own may have refused this attempt; the failure before it is its cause.
        if let Some(last) = memory.take_last(py)
            && crate::errors::models(py)?.is_refusal(error.value(py).as_any())?
            && error.cause(py).is_none()
        {
            error.set_cause(py, Some(last));
        }
        Err(error)
    }

    /// The wait before the next attempt: the machine's, unless a subclass has its own, and none while nobody waits.
    fn wait(&self, py: Python<'_>, after: Duration, earliest: Option<Duration>, number: u32) -> PyResult<Duration> {
        if self.policy != Policy::Delays {
            return Ok(wait(after));
        }
        let policy = self.retry_policy.bind(py);
        let retry = (number - 1).into_bound_py_any(py)?;
        let delay = policy.getattr(intern!(py, "get_delay"))?.call_out([&retry])?;
        Ok(wait(duration("get_delay", &delay)?.max(earliest.unwrap_or_default())))
    }

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
            let error =
                known.set_item("service", &name).and(class).and_then(|class| class.call((message,), Some(&known)));
            error.map_or_else(|error| error, PyErr::from_value)
        };
        let error = match kind {
            CallErrorKind::CircuitOpen(open) => {
                let cause = last.as_ref().map(|last| last.value(py).clone().into_any().unbind());
                circuit_open_error(py, open.name(), open.reason(), open.retry_after(), cause)
            }
            CallErrorKind::NoHealthyInstance(_) => no_healthy_instance_error(py, &name),
            CallErrorKind::DeadlineExceeded => {
                late(DEADLINE.import(py, MODELS, "DeadlineExceededError"), format!("The time for {name} is up"))
            }
            CallErrorKind::AttemptTimedOut => {
                late(ATTEMPT.import(py, MODELS, "AttemptTimedOutError"), format!("An attempt at {name} timed out"))
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
    fn add_note(&self, py: Python<'_>, error: &PyErr, attempts: u32) {
        let note = format!("the call of {} ended after {attempts} attempts", self.name(py));
        // An error that takes no notes is as good without.
        drop(error.value(py).call_method1(intern!(py, "add_note"), (note,)));
    }
}

/// Keeps what a predicate was judging beside the predicate's own error.
trait Context {
    fn set_context_of(&self, py: Python<'_>, judged: &Bound<'_, pyo3::exceptions::PyBaseException>);
}

impl Context for PyErr {
    fn set_context_of(&self, py: Python<'_>, judged: &Bound<'_, pyo3::exceptions::PyBaseException>) {
        if self.context(py).is_none() && !self.value(py).is(judged) {
            self.set_context(py, Some(Self::from_value(judged.clone().into_any())));
        }
    }
}

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
    pub(crate) fn new(
        proxy: Py<ServiceProxy>,
        parts: Arc<Parts>,
        call: service_mesh::Call<Core>,
        memory: Memory,
    ) -> Self {
        let state = State { step: Step::Ready(call), memory };
        Self { proxy, parts, state: Mutex::new(state) }
    }

    /// A call whose attempt is under way.
    pub(crate) fn running(proxy: Py<ServiceProxy>, parts: Arc<Parts>, attempt: Attempt<Core>, memory: Memory) -> Self {
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
