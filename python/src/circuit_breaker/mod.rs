//! `CircuitBreaker`: the core's breaker as a Python object, with the attributes that Python's users assign.
//!
//! What decides is the core. Here is what Python adds: the configuration that is alive, predicates over errors and results,
//! the last failure, `with` blocks, listeners, and subclasses whose overridden methods are asked instead of the core.

mod permit;

use std::borrow::Borrow;
use std::cell::RefCell;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::thread::{self, ThreadId};
use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use pyo3::{IntoPyObjectExt, intern};
use service_mesh::{
    CircuitBreaker as Core, CircuitSnapshot, CircuitState, Event, Grant, Outcome, OwnedPermit, Refusal, RefusalReason,
    Timestamp, UnknownWord,
};

use self::permit::Ready;
use crate::config::{CircuitBreakerRules, Follower, Rules, dataclass_of, whole};
use crate::errors::{circuit_open_error, models};
use crate::event::circuit_event;
use crate::filled::Filled;
use crate::guarded::{CallOut, calling_frame, is_coroutine};
use crate::lock::lock;
use crate::log::Log;
use crate::predicates::{error_outcome, result_outcome};
use crate::seconds::kind;
use crate::testing::{ManualClock, environment};

pub(crate) use self::permit::Permit;

/// What the hot path must know of a circuit, beside the core.
#[derive(Debug)]
pub(crate) struct Circuit {
    core: Core,
    /// [`RESULTS`], [`ERRORS`], [`KEPT`], [`HOOKED`].
    ///
    /// Ordering: Relaxed. A bit says which path is taken; what the path reads is read under the interpreter or a lock.
    flags: AtomicU8,
}

/// `failed_result` is given: results are judged.
const RESULTS: u8 = 1;
/// `on` or `ignore` is given.
const ERRORS: u8 = 2;
/// A last failure is kept, which goes when the circuit is Closed again.
const KEPT: u8 = 4;
/// A method that takes part in a call is overridden in a subclass.
const HOOKED: u8 = 8;

impl Circuit {
    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// Whether a success is no more than that: nobody wants to see the result, and nothing is to be cleared away.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.flags() == 0
    }

    #[inline]
    pub(crate) fn is_hooked(&self) -> bool {
        self.flags() & HOOKED != 0
    }

    #[inline]
    fn flags(&self) -> u8 {
        // What judges errors alone does not concern a success.
        self.flags.load(Ordering::Relaxed) & !ERRORS
    }

    fn judges_errors(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & ERRORS != 0
    }

    fn set(&self, flag: u8, on: bool) {
        if on {
            self.flags.fetch_or(flag, Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!flag, Ordering::Relaxed);
        }
    }
}

impl Follower for Circuit {
    fn follow(&self, rules: &Rules) {
        self.core.update_config(Arc::clone(&rules.config));
        self.set(ERRORS, rules.judges_errors());
        self.set(RESULTS, rules.judges_results);
    }
}

/// Stops calling what keeps failing, and finds out carefully when it works again.
///
/// `execute`, the decorator `with_circuit_breaker`, `with breaker:` and `breaker.acquire()` are four ways to make a call
/// under it, and may be mixed.
#[pyclass(frozen, subclass, dict, weakref, module = "codomyrmex.service_mesh")]
#[derive(Debug)]
pub(crate) struct CircuitBreaker {
    filled: Filled,
    circuit: OnceLock<Arc<Circuit>>,
    /// Which methods a subclass overrides: fixed when the object is made.
    hooks: Hooks,
    /// The `with` blocks that have begun and not ended.
    blocks: Mutex<Vec<Block>>,
    kept: Arc<Mutex<Kept>>,
}

/// What is kept for Python. Nothing of it is read by a call that succeeds in Closed.
#[derive(Debug, Default)]
struct Kept {
    name: Option<Py<PyString>>,
    config: Option<Py<CircuitBreakerRules>>,
    last_failure: Option<Py<PyAny>>,
    /// The datetime that stands for the core's time of the last failure, so that it is the same whenever it is read.
    last_failure_time: Option<(Timestamp, Py<PyAny>)>,
    listeners: Vec<Py<PyAny>>,
    /// Whether the core tells us what happens.
    listens: bool,
    /// None for one that the core has made: its service tells the log.
    log: Option<Arc<Log>>,
}

/// A `with` block that has begun.
#[derive(Debug)]
struct Block {
    /// The address of the frame that the block is in, by which it is told apart from other threads' and other tasks' blocks.
    frame: usize,
    thread: ThreadId,
    leave: Leave,
}

/// The leave that a block has.
#[derive(Debug)]
enum Leave {
    Number(u64),
    /// None where an overridden `can_execute` says yes and the core no.
    Permit(Option<OwnedPermit>),
}

/// Which of the methods that take part in a call are overridden in a subclass.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "one for each method, none of which excludes another")]
struct Hooks {
    /// Any of them, or `execute`.
    any: bool,
    can_execute: bool,
    record_success: bool,
    record_failure: bool,
}

impl Hooks {
    fn of(class: &Bound<'_, PyType>) -> PyResult<Self> {
        let py = class.py();
        let own = py.get_type::<CircuitBreaker>();
        if class.is(&own) {
            return Ok(Self::default());
        }
        let differs = |name| Ok::<_, PyErr>(!class.getattr(name)?.is(own.getattr(name)?));
        let can_execute = differs(intern!(py, "can_execute"))?;
        let record_success = differs(intern!(py, "record_success"))?;
        let record_failure = differs(intern!(py, "record_failure"))?;
        let any = can_execute || record_success || record_failure || differs(intern!(py, "execute"))?;
        Ok(Self { any, can_execute, record_success, record_failure })
    }
}

thread_local! {
    /// The permits whose verdict an overridden method is about to give: where that method calls ours, it is for them.
    static AT_VERDICT: RefCell<Vec<(usize, OwnedPermit)>> = const { RefCell::new(Vec::new()) };
}

#[pymethods]
impl CircuitBreaker {
    #[new]
    #[classmethod]
    #[pyo3(
        signature = (*_args, **_kwargs),
        text_signature = "(name, config=None, *, listeners=None, clock=None)"
    )]
    fn __new__(
        class: &Bound<'_, PyType>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        Ok(Self {
            filled: Filled::YES,
            circuit: OnceLock::new(),
            hooks: Hooks::of(class)?,
            blocks: Mutex::default(),
            kept: Arc::default(),
        })
    }

    #[pyo3(signature = (name, config=None, *, listeners=None, clock=None))]
    fn __init__(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyAny>,
        config: Option<&Bound<'_, PyAny>>,
        listeners: Option<&Bound<'_, PyAny>>,
        clock: Option<&Bound<'_, ManualClock>>,
    ) -> PyResult<()> {
        let this = slf.get();
        this.set_name(name)?;
        this.circuit.get_or_init(|| {
            let environment = environment(clock);
            this.kept().log = Some(Arc::new(Log::new(environment.clone())));
            let core = Core::builder(this.name_text(slf.py())).environment(environment).build();
            this.circuit_of(core)
        });
        this.listen();
        this.set_config(slf.py(), config)?;
        for listener in listeners.map(PyAnyMethods::try_iter).transpose()?.into_iter().flatten() {
            this.subscribe(listener?)?;
        }
        Ok(())
    }

    // ----- calls -----

    /// Calls `func` if the circuit admits it, and counts what comes of it. Of a coroutine function it is the awaited
    /// call that is protected, and asked for when it is awaited.
    // Called where a call is out of the ordinary when it begins: `guarded` has `execute` itself, and this text.
    #[pyo3(name = "_execute", signature = (func, /, *args, **kwargs))]
    fn execute<'py>(
        slf: &Bound<'py, Self>,
        func: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let circuit = slf.get().circuit();
        if circuit.is_hooked() {
            let permit = Self::admit(slf)?;
            return Self::settle(slf, permit, func.call_out_with(args, kwargs));
        }
        match circuit.core.try_acquire() {
            Ok(permit) => Self::settle(slf, Some(permit), func.call_out_with(args, kwargs)),
            Err(refusal) => Self::refuse(slf, func, refusal),
        }
    }

    /// Whether a call would be admitted now, without taking a place. A circuit whose open time has passed becomes
    /// half-open by being asked.
    fn can_execute(&self) -> bool {
        self.core().can_execute()
    }

    /// Counts a success by hand, against the present state; in open it is late.
    fn record_success(&self, py: Python<'_>) {
        self.record(py, Outcome::Success, None);
    }

    /// Counts a failure by hand, against the present state; in open it is late.
    #[pyo3(signature = (error=None))]
    fn record_failure(&self, py: Python<'_>, error: Option<Bound<'_, PyAny>>) {
        self.record(py, Outcome::Failure, error.as_ref());
    }

    /// Leave to make one call, which is a context manager too.
    ///
    /// Raises `CircuitOpenError` where there is none.
    fn acquire(slf: &Bound<'_, Self>) -> PyResult<Permit> {
        let permit = Self::admit(slf)?;
        Ok(Permit::new(slf.clone().unbind(), permit))
    }

    /// Decorates a function.
    fn __call__<'py>(slf: &Bound<'py, Self>, func: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        static DECORATOR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let module = "codomyrmex.service_mesh.public_decorators";
        DECORATOR.import(slf.py(), module, "with_circuit_breaker")?.call1((slf,))?.call1((func,))
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let circuit = slf.get().circuit();
        let leave = match circuit.core.try_acquire_number() {
            Some(number) if !circuit.is_hooked() => Leave::Number(number),
            _ => Leave::Permit(Self::admit(slf)?),
        };
        let block = Block { frame: calling_frame(slf.py()), thread: thread::current().id(), leave };
        slf.get().blocks().push(block);
        Ok(slf.clone())
    }

    fn __exit__(
        slf: &Bound<'_, Self>,
        _kind: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        match slf.get().end_block(calling_frame(slf.py())) {
            Some(Leave::Number(number)) => {
                let circuit = slf.get().circuit();
                let permit = circuit.core.permit_of(number);
                if error.is_none() && circuit.is_plain() {
                    permit.success();
                    return Ok(());
                }
                Self::conclude_block(slf, Some(permit), error)
            }
            Some(Leave::Permit(permit)) => Self::conclude_block(slf, permit, error),
            None => Ok(()),
        }
    }

    fn __aenter__(slf: &Bound<'_, Self>) -> PyResult<Ready> {
        Ok(Ready::with(Self::__enter__(slf)?.into_any().unbind()))
    }

    fn __aexit__(
        slf: &Bound<'_, Self>,
        kind: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> PyResult<Ready> {
        Self::__exit__(slf, kind, error, traceback)?;
        Ok(Ready::with(slf.py().None()))
    }

    /// Asks for leave, for a call that Python drives: a number where that is enough, else a permit.
    fn _begin<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let circuit = slf.get().circuit();
        match circuit.core.try_acquire_number() {
            Some(number) if !circuit.is_hooked() => number.into_bound_py_any(slf.py()),
            _ => Self::acquire(slf)?.into_bound_py_any(slf.py()),
        }
    }

    /// What `_begin` admitted came to this result.
    fn _succeed(slf: &Bound<'_, Self>, leave: &Bound<'_, PyAny>, result: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(permit) = leave.cast::<Permit>() {
            let Some(permit) = permit.get().take() else { return Ok(()) };
            return Self::succeeded(slf, Some(permit), result);
        }
        let circuit = slf.get().circuit();
        let permit = circuit.core.permit_of(leave.extract()?);
        if circuit.is_plain() {
            permit.success();
            return Ok(());
        }
        Self::succeeded(slf, Some(permit), result)
    }

    /// What `_begin` admitted came to this error.
    fn _fail(slf: &Bound<'_, Self>, leave: &Bound<'_, PyAny>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(permit) = leave.cast::<Permit>() {
            return match permit.get().take() {
                Some(permit) => Self::conclude_block(slf, Some(permit), error),
                None => Ok(()),
            };
        }
        Self::conclude_block(slf, Some(slf.get().core().permit_of(leave.extract()?)), error)
    }

    // ----- by hand -----

    /// Refuses every call until `reset` or `force_closed`.
    fn force_open(&self) {
        self.core().force_open();
    }

    /// Admits every call and never trips, but goes on counting, until `reset` or `force_open`.
    fn force_closed(&self, py: Python<'_>) {
        self.core().force_closed();
        self.tidy(py);
    }

    /// Back to automatic: closed, with nothing counted. Verdicts of calls that are under way are late.
    fn reset(&self, py: Python<'_>) {
        self.core().reset();
        self.tidy(py);
    }

    /// Goes by another configuration, or by its own with some fields changed (a copy, so that no other breaker changes).
    /// State, counts and listeners stay.
    #[pyo3(signature = (config=None, /, **fields))]
    fn update_config(
        &self,
        py: Python<'_>,
        config: Option<&Bound<'_, PyAny>>,
        fields: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        static REPLACE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let base = match config {
            Some(config) => config.clone(),
            None => self.config(py)?.into_any(),
        };
        let Some(fields) = fields else { return self.set_config(py, Some(&base)) };
        let changed = REPLACE.import(py, "dataclasses", "replace")?.call((base,), Some(fields))?;
        self.set_config(py, Some(&changed))
    }

    // ----- what is read and assigned -----

    /// The name, which refusals and events carry.
    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        let name = self.kept().name.as_ref().map(|name| name.clone_ref(py));
        name.map_or_else(|| PyString::new(py, ""), |name| name.into_bound(py))
    }

    #[setter]
    fn set_name(&self, name: &Bound<'_, PyAny>) -> PyResult<()> {
        let name = name.str()?.unbind();
        let before = self.kept().name.replace(name);
        drop(before);
        Ok(())
    }

    /// Its configuration, which is alive: a field that is assigned there, or another configuration here, holds at once.
    #[getter]
    fn config<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, CircuitBreakerRules>> {
        if self.kept().config.is_none() {
            self.set_config(py, None)?;
        }
        let config = self.kept().config.as_ref().map(|config| config.clone_ref(py));
        config.map(|config| config.into_bound(py)).ok_or_else(|| PyTypeError::new_err("the breaker has no config"))
    }

    #[setter]
    fn set_config(&self, py: Python<'_>, config: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let config = match config {
            Some(config) if !config.is_none() => config.cast::<CircuitBreakerRules>().cloned().map_err(|_| {
                PyTypeError::new_err(format!("config must be a CircuitBreakerConfig, not {}", kind(config)))
            })?,
            _ => {
                CLASS.import(py, "codomyrmex.service_mesh.models", "CircuitBreakerConfig")?.call_out([])?.cast_into()?
            }
        };
        if !config.get().is_complete() {
            config.getattr(intern!(py, "_complete"))?.call_out([])?;
        }
        let circuit = self.circuit();
        let before = self.kept().config.replace(config.clone().unbind());
        if let Some(before) = before {
            before.get().detach(circuit);
        }
        config.get().attach(circuit);
        Ok(())
    }

    /// The present state. It is still `OPEN` when the open time has passed, until somebody asks to be admitted. What is
    /// assigned, a member or its value, holds as if it had come about by itself.
    #[getter]
    fn state(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(models(py)?.state(self.core().state()).clone_ref(py))
    }

    #[setter]
    fn set_state(&self, state: &Bound<'_, PyAny>) -> PyResult<()> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let class = CLASS.import(state.py(), "codomyrmex.service_mesh.models", "CircuitState")?;
        let word: String = class.call1((state,))?.getattr("value")?.extract()?;
        self.core().assign_state(word.parse().map_err(|error: UnknownWord| PyValueError::new_err(error.to_string()))?);
        self.tidy(state.py());
        Ok(())
    }

    /// Failures in a row; while open, those that tripped the circuit.
    #[getter]
    fn failure_count(&self) -> u32 {
        self.core().failure_count()
    }

    #[setter]
    fn set_failure_count(&self, count: &Bound<'_, PyAny>) -> PyResult<()> {
        self.core().assign_failure_count(whole("failure_count", count, "0 to 16777215")?);
        Ok(())
    }

    /// Successes of probes since the circuit became half-open.
    #[getter]
    fn success_count(&self) -> u32 {
        self.core().success_count()
    }

    #[setter]
    fn set_success_count(&self, count: &Bound<'_, PyAny>) -> PyResult<()> {
        self.core().assign_success_count(whole("success_count", count, "0 to 16777215")?);
        Ok(())
    }

    /// Probes in flight.
    #[getter]
    fn half_open_calls(&self) -> u32 {
        self.core().half_open_calls()
    }

    #[setter]
    fn set_half_open_calls(&self, count: &Bound<'_, PyAny>) -> PyResult<()> {
        self.core().assign_half_open_calls(whole("half_open_calls", count, "0 to half_open_max_calls")?);
        Ok(())
    }

    /// When a failure was last counted: local time without a time zone, or `None`.
    #[getter]
    fn last_failure_time<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let core = self.core();
        let Some(at) = core.last_failure_time() else { return Ok(None) };
        if let Some((known, time)) = &self.kept().last_failure_time
            && *known == at
        {
            return Ok(Some(time.bind(py).clone()));
        }
        let age = core.snapshot().last_failure_age.unwrap_or_default();
        let time = ago(py, age)?;
        let before = self.kept().last_failure_time.replace((at, time.clone().unbind()));
        drop(before);
        Ok(Some(time))
    }

    #[setter]
    fn set_last_failure_time(&self, time: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let age = time.map(how_long_ago).transpose()?;
        self.core().assign_last_failure(age);
        let known = self.core().last_failure_time().zip(time.map(|time| time.clone().unbind()));
        let before = std::mem::replace(&mut self.kept().last_failure_time, known);
        drop(before);
        Ok(())
    }

    /// The seconds for which an open circuit will go on refusing; `None` in other states, and if it is forced.
    #[getter]
    fn retry_after(&self) -> Option<f64> {
        self.core().retry_after().map(|wait| wait.as_secs_f64())
    }

    /// The failure that a refusal has as its cause: the last one, for as long as the circuit is not closed. Its traceback
    /// keeps alive what the failed function held, and so it goes when the circuit recovers.
    #[getter]
    fn last_failure(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.kept().last_failure.as_ref().map(|error| error.clone_ref(py))
    }

    /// Verdicts that came after the state that they belonged to had ended, and were not counted.
    #[getter]
    fn late_outcomes(&self) -> u64 {
        self.core().late_outcomes()
    }

    // ----- listeners -----

    /// Calls `listener` with a `CircuitEvent` of all that happens from now on, in order, with no lock held; it may call
    /// the breaker back. What it raises is reported by `sys.unraisablehook` and harms nothing. Gives it back, so that this
    /// is a decorator too.
    fn subscribe<'py>(&self, listener: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if !listener.is_callable() {
            let kind = kind(&listener);
            return Err(PyTypeError::new_err(format!("a listener must be callable, not {kind}")));
        }
        self.kept().listeners.push(listener.clone().unbind());
        self.listen();
        Ok(listener)
    }

    /// Calls `listener` no more; false if it was none.
    fn unsubscribe(&self, listener: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = listener.py();
        let listeners: Vec<_> = self.kept().listeners.iter().map(|one| one.clone_ref(py)).collect();
        for one in listeners {
            // Equal, not the same: a bound method is another object each time.
            if one.bind(py).eq(listener)? {
                let mut kept = self.kept();
                let place = kept.listeners.iter().position(|other| other.is(&one));
                let removed = place.map(|place| kept.listeners.remove(place));
                drop(kept);
                return Ok(removed.is_some());
            }
        }
        Ok(false)
    }

    // ----- as an object -----

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (kind, name) = (slf.get_type().name()?, slf.get().name(slf.py()).repr()?);
        let core = slf.get().core();
        Ok(format!("<{kind} {name} {}, failure_count={}>", core.state(), core.failure_count()))
    }

    /// Name, configuration, state and counts; not its listeners, nor what its windows hold, nor calls under way.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        static RESTORE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let (this, py) = (slf.get(), slf.py());
        let restore = RESTORE.import(py, HELPERS, "restored")?;
        let CircuitSnapshot { state, forced, failure_count, success_count, trips, last_failure_age, open_rest } =
            this.core().snapshot();
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        let counts = (failure_count, success_count, trips);
        let snapshot = (state.as_str(), forced, counts, seconds(last_failure_age), seconds(open_rest));
        let own = slf.getattr("__dict__")?;
        (restore, (slf.get_type(), this.name(py), this.config(py)?, snapshot, own)).into_pyobject(py)
    }

    #[expect(clippy::type_complexity, reason = "the tuple that `__reduce__` made")]
    fn _restore(&self, snapshot: (String, bool, (u32, u32, u32), Option<f64>, Option<f64>)) -> PyResult<()> {
        let (state, forced, (failure_count, success_count, trips), last_failure_age, open_rest) = snapshot;
        let time = |seconds: Option<f64>| seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        self.core().restore(&CircuitSnapshot {
            state: state.parse().map_err(|error: UnknownWord| PyValueError::new_err(error.to_string()))?,
            forced,
            failure_count,
            success_count,
            trips,
            last_failure_age: time(last_failure_age),
            open_rest: time(open_rest),
        });
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if !self.filled.is_filled() {
            return Ok(());
        }
        // Who holds the lock now is in another thread, and then the object is in use.
        let Ok(kept) = self.kept.try_lock() else { return Ok(()) };
        visit.call(&kept.config)?;
        visit.call(&kept.last_failure)?;
        kept.listeners.iter().try_for_each(|listener| visit.call(listener))
    }

    fn __clear__(&self) {
        let mut kept = self.kept();
        let cleared = (kept.config.take(), kept.last_failure.take(), std::mem::take(&mut kept.listeners));
        drop(kept);
        drop(cleared);
    }
}

impl CircuitBreaker {
    /// A Python object for a breaker that the core has made.
    pub(crate) fn of_core(py: Python<'_>, core: Core) -> PyResult<Py<Self>> {
        let config = dataclass_of(py, &core.config())?;
        let this = Self {
            filled: Filled::YES,
            circuit: OnceLock::new(),
            hooks: Hooks::default(),
            blocks: Mutex::default(),
            kept: Arc::default(),
        };
        {
            let mut kept = this.kept();
            kept.name = Some(PyString::new(py, core.name()).unbind());
            kept.config = Some(config.clone().unbind());
        }
        let circuit = this.circuit.get_or_init(|| this.circuit_of(core));
        config.get().attach(circuit);
        Py::new(py, this)
    }

    /// From the first time on, the core tells us what happens.
    fn listen(&self) {
        if !std::mem::replace(&mut self.kept().listens, true) {
            let kept = Arc::downgrade(&self.kept);
            self.core().subscribe(move |event: &Event| tell(&kept, event));
        }
    }

    pub(crate) fn core(&self) -> &Core {
        &self.circuit().core
    }

    #[inline]
    pub(crate) fn circuit(&self) -> &Arc<Circuit> {
        // A subclass may have forgotten to call our `__init__`: then all is as by default.
        self.circuit.get_or_init(|| self.circuit_of(Core::new("")))
    }

    pub(crate) fn name_text(&self, py: Python<'_>) -> String {
        self.name(py).to_string()
    }

    fn circuit_of(&self, core: Core) -> Arc<Circuit> {
        Arc::new(Circuit { core, flags: AtomicU8::new(if self.hooks.any { HOOKED } else { 0 }) })
    }

    fn blocks(&self) -> MutexGuard<'_, Vec<Block>> {
        lock(&self.blocks)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }

    // ----- admission -----

    /// Leave to make a call, asked of the method that a subclass may override. None where that says yes and the core no.
    pub(crate) fn admit(slf: &Bound<'_, Self>) -> PyResult<Option<OwnedPermit>> {
        let (this, py) = (slf.get(), slf.py());
        if !this.hooks.can_execute {
            return this.core().try_acquire_owned().map(Some).map_err(|refusal| this.refused(py, refusal));
        }
        if slf.getattr(intern!(py, "can_execute"))?.call_out([])?.is_truthy()? {
            return Ok(this.core().try_acquire_owned().ok());
        }
        let core = this.core();
        let reason = match core.state() {
            CircuitState::HalfOpen => RefusalReason::HalfOpenFull,
            _ => RefusalReason::Open,
        };
        Err(this.refused_for(py, reason, core.retry_after()))
    }

    /// The error that tells a refusal.
    pub(crate) fn refused(&self, py: Python<'_>, refusal: Refusal) -> PyErr {
        self.refused_for(py, refusal.reason(), refusal.retry_after())
    }

    fn refused_for(&self, py: Python<'_>, reason: RefusalReason, retry_after: Option<Duration>) -> PyErr {
        circuit_open_error(py, &self.name_text(py), reason, retry_after, self.last_failure(py))
    }

    /// A refusal of a call: of a coroutine function it is told when the call is awaited.
    #[cold]
    pub(crate) fn refuse<'py>(
        slf: &Bound<'py, Self>,
        func: &Bound<'py, PyAny>,
        refusal: Refusal,
    ) -> PyResult<Bound<'py, PyAny>> {
        static LATER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        static IS_COROUTINE_FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = slf.py();
        let error = slf.get().refused(py, refusal);
        if !IS_COROUTINE_FUNCTION.import(py, "inspect", "iscoroutinefunction")?.call_out([func])?.is_truthy()? {
            return Err(error);
        }
        // Not asked again when it is awaited: one call is refused once, and listeners hear of it once.
        LATER.import(py, HELPERS, "refused_when_awaited")?.call_out([func, error.value(py).as_any()])
    }

    // ----- verdicts -----

    /// What a call came to, and what the caller gets. A coroutine is no result yet: it asks anew when it is awaited.
    pub(crate) fn settle<'py, B: Borrow<Core>>(
        slf: &Bound<'py, Self>,
        permit: Option<Grant<B>>,
        result: PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match result {
            Ok(coroutine) if is_coroutine(&coroutine) => {
                drop(permit);
                awaited(slf, coroutine)
            }
            Ok(result) => Self::succeeded(slf, permit, &result).map(|()| result),
            Err(error) => Err(Self::failed(slf, permit, error)),
        }
    }

    /// The function gave back this.
    fn succeeded<B: Borrow<Core>>(
        slf: &Bound<'_, Self>,
        permit: Option<Grant<B>>,
        result: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let this = slf.get();
        let outcome = if this.circuit().flags() & RESULTS == 0 {
            Outcome::Success
        } else {
            result_outcome(this.config(slf.py())?.as_any(), result)?
        };
        Self::conclude(slf, permit, outcome, None)
    }

    /// The function raised this; gives back what the caller is to see, which is the same unless a predicate or an
    /// overridden method raised as well.
    fn failed<B: Borrow<Core>>(slf: &Bound<'_, Self>, permit: Option<Grant<B>>, error: PyErr) -> PyErr {
        let py = slf.py();
        let value = error.value(py).clone().into_any();
        match Self::conclude_block(slf, permit, &value) {
            Ok(()) => error,
            Err(other) => {
                // As Python does where an error is raised while another is handled.
                drop(other.value(py).setattr(intern!(py, "__context__"), &value));
                other
            }
        }
    }

    /// A block ended, with this error or with None.
    pub(crate) fn conclude_block<B: Borrow<Core>>(
        slf: &Bound<'_, Self>,
        permit: Option<Grant<B>>,
        error: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if error.is_none() {
            return Self::conclude(slf, permit, Outcome::Success, None);
        }
        let this = slf.get();
        let judge = if this.circuit().judges_errors() { Some(this.config(slf.py())?.into_any()) } else { None };
        let outcome = error_outcome(judge.as_ref(), error)?;
        Self::conclude(slf, permit, outcome, Some(error))
    }

    /// The verdict, given through the method that a subclass may override.
    pub(crate) fn conclude<B: Borrow<Core>>(
        slf: &Bound<'_, Self>,
        permit: Option<Grant<B>>,
        outcome: Outcome,
        error: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        let told = match outcome {
            Outcome::Success if this.hooks.record_success => {
                this.at_verdict(permit, || slf.getattr(intern!(py, "record_success"))?.call_out([]))
            }
            Outcome::Failure if this.hooks.record_failure => {
                this.at_verdict(permit, || slf.getattr(intern!(py, "record_failure"))?.call_out([]))
            }
            _ => {
                match permit {
                    Some(permit) => permit.settle(outcome),
                    None => this.settle_by_hand(outcome),
                }
                Ok(())
            }
        };
        this.note(py, outcome, error);
        told
    }

    /// Runs an overridden method; where it calls ours, that is the verdict on `permit`. If it does not, there is none.
    fn at_verdict<B: Borrow<Core>, R>(
        &self,
        permit: Option<Grant<B>>,
        method: impl FnOnce() -> PyResult<R>,
    ) -> PyResult<()> {
        let Some(permit) = permit else { return method().map(drop) };
        let address = std::ptr::from_ref(self).addr();
        let depth = AT_VERDICT.with_borrow_mut(|permits| {
            permits.push((address, permit.into_owned()));
            permits.len() - 1
        });
        let result = method().map(drop);
        let left = AT_VERDICT.with_borrow_mut(|permits| (permits.len() > depth).then(|| permits.split_off(depth)));
        drop(left);
        result
    }

    /// A verdict by hand, or the one on the permit for which an overridden method is running.
    fn record(&self, py: Python<'_>, outcome: Outcome, error: Option<&Bound<'_, PyAny>>) {
        let address = std::ptr::from_ref(self).addr();
        let permit = if self.hooks.any {
            AT_VERDICT.with_borrow_mut(|permits| permits.pop_if(|(whose, _)| *whose == address))
        } else {
            None
        };
        match permit {
            Some((_, permit)) => permit.settle(outcome),
            None => self.settle_by_hand(outcome),
        }
        self.note(py, outcome, error);
    }

    fn settle_by_hand(&self, outcome: Outcome) {
        match outcome {
            Outcome::Success => self.core().record_success(),
            Outcome::Failure => self.core().record_failure(),
            Outcome::Neutral => {}
        }
    }

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
    fn tidy(&self, _py: Python<'_>) {
        if self.circuit().flags() & KEPT != 0 && self.core().state() == CircuitState::Closed {
            self.circuit().set(KEPT, false);
            let before = self.kept().last_failure.take();
            drop(before);
        }
    }

    /// What the block in this frame that began last has. Where a block ends in another frame than it began in, as those of an
    /// `ExitStack` do, it is the last that this thread began.
    fn end_block(&self, frame: usize) -> Option<Leave> {
        let mut blocks = self.blocks();
        if blocks.last().is_some_and(|block| block.frame == frame) {
            return blocks.pop().map(|block| block.leave);
        }
        let thread = thread::current().id();
        let here = blocks.iter().rposition(|block| block.frame == frame);
        let place = here.or_else(|| blocks.iter().rposition(|block| block.thread == thread))?;
        Some(blocks.remove(place).leave)
    }
}

/// Where the Python halves of this module are.
const HELPERS: &str = "codomyrmex.service_mesh.circuit_breaker";

/// The same coroutine, whose admission is asked for when it is awaited.
pub(crate) fn awaited<'py>(
    breaker: &Bound<'py, CircuitBreaker>,
    coroutine: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    static AWAITED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    AWAITED.import(breaker.py(), HELPERS, "awaited")?.call_out([breaker.as_any(), &coroutine])
}

/// Tells the log and Python's listeners what has happened.
fn tell(kept: &Weak<Mutex<Kept>>, event: &Event) {
    let Some(kept) = kept.upgrade() else { return };
    // None if the interpreter is going away: then nobody listens any more.
    let _told = Python::try_attach(|py| {
        let (name, log, listeners) = {
            let kept = lock(&kept);
            let listeners: Vec<_> = kept.listeners.iter().map(|listener| listener.clone_ref(py)).collect();
            (kept.name.as_ref().map(|name| name.clone_ref(py)), kept.log.clone(), listeners)
        };
        let name = name.map_or_else(|| event.name.to_string(), |name| name.bind(py).to_string());
        if let Some(log) = log {
            log.hear(py, &name, event);
        }
        let told = if listeners.is_empty() { return } else { circuit_event(py, &name, event) };
        match told {
            Ok(told) => {
                for listener in listeners {
                    if let Err(error) = listener.bind(py).call_out([&told]) {
                        error.write_unraisable(py, Some(listener.bind(py)));
                    }
                }
            }
            Err(error) => error.write_unraisable(py, None),
        }
    });
}

/// The naive local time that lies so far back.
fn ago(py: Python<'_>, age: Duration) -> PyResult<Bound<'_, PyAny>> {
    let datetime = py.import("datetime")?;
    let age = datetime.getattr("timedelta")?.call1((0, age.as_secs_f64()))?;
    datetime.getattr("datetime")?.call_method0("now")?.sub(age)
}

/// How far a datetime lies back; what lies ahead is now.
fn how_long_ago(time: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let zone = time.getattr("tzinfo").map_err(|_| {
        let kind = kind(time);
        PyTypeError::new_err(format!("last_failure_time must be a datetime or None, not {kind}"))
    })?;
    let now = time.py().import("datetime")?.getattr("datetime")?.call_method1("now", (zone,))?;
    let seconds: f64 = now.sub(time)?.call_method0("total_seconds")?.extract()?;
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}
