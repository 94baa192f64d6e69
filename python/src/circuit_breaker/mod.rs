//! `CircuitBreaker`: the core's breaker as a Python object, with the attributes that Python's users assign.
//!
//! What decides is the core. Here is what Python adds: the configuration that is alive, predicates over errors and results,
//! the last failure, `with` blocks, listeners, and subclasses whose overridden methods are asked instead of the core.

mod blocks;
mod circuit;
mod hooks;
mod kept;
mod last_failure;
mod permit;
mod verdict;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use pyo3::{IntoPyObjectExt, intern};
use service_mesh::{CircuitBreaker as Core, CircuitSnapshot, Event, Outcome, UnknownWord};

use self::blocks::{Blocks, Leave};
use self::hooks::Hooks;
use self::kept::{Kept, tell};
use self::last_failure::{ago, how_long_ago};
use self::permit::Ready;
use crate::config::{CircuitBreakerRules, dataclass_of};
use crate::errors::models;
use crate::field::whole;
use crate::filled::Filled;
use crate::guarded::{CallOut, ImportOut, callable, calling_frame};
use crate::lock::lock;
use crate::log::Log;
use crate::seconds::kind;
use crate::suggestion::refuse_unknown;
use crate::testing::{ManualClock, environment};

pub(crate) use self::circuit::Circuit;
pub(crate) use self::permit::Permit;

/// Where the Python halves of this module are.
const HELPERS: &str = "codomyrmex.service_mesh.circuit_breaker";

/// Stops calling what keeps failing, and finds out carefully when it works again.
///
/// ```python
/// breaker = CircuitBreaker("payments", failure_threshold=3, timeout_seconds=10)
/// breaker.execute(print, "paid")
/// ```
///
/// `execute`, the decorator `with_circuit_breaker`, `with breaker:` and `breaker.acquire()` are four ways to make a call
/// under it, and may be mixed. A call that is refused is a `CircuitOpenError`, and was not made.
///
/// - `config`: a `CircuitBreakerConfig`, which says what its fields mean, with their units, ranges and defaults. They may
///   be given one by one in its place, as above.
/// - `listeners`: are called with a `CircuitEvent` of all that happens.
/// - `clock`: a `testing.ManualClock`, for tests.
///
/// A value out of range is a `ConfigError`, which is a `ValueError`.
#[pyclass(frozen, subclass, dict, weakref, module = "codomyrmex.service_mesh")]
#[derive(Debug)]
pub(crate) struct CircuitBreaker {
    filled: Filled,
    circuit: OnceLock<Arc<Circuit>>,
    /// Which methods a subclass overrides: fixed when the object is made.
    hooks: Hooks,
    /// The `with` blocks that have begun and not ended.
    blocks: Blocks,
    kept: Arc<Mutex<Kept>>,
}

#[pymethods]
impl CircuitBreaker {
    #[new]
    #[classmethod]
    #[pyo3(
        signature = (*_args, **_kwargs),
        text_signature = "(name, config=None, *, listeners=None, clock=None, **fields)"
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
            blocks: Blocks::default(),
            kept: Arc::default(),
        })
    }

    #[pyo3(signature = (name, config=None, *, listeners=None, clock=None, **fields))]
    fn __init__(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyAny>,
        config: Option<&Bound<'_, PyAny>>,
        listeners: Option<&Bound<'_, PyAny>>,
        clock: Option<&Bound<'_, ManualClock>>,
        fields: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        // All or nothing: a second `__init__` that fails leaves the breaker as it was.
        let config = match fields {
            Some(fields) => config_of_fields(&slf.get_type(), config, fields)?,
            None => checked_config(py, config)?,
        };
        let mut heard = Vec::new();
        for listener in listeners.map(PyAnyMethods::try_iter).transpose()?.into_iter().flatten() {
            heard.push(callable("a listener", &listener?)?);
        }
        this.set_name(name)?;
        this.circuit.get_or_init(|| {
            let environment = environment(clock);
            this.kept().log = Some(Arc::new(Log::new(environment.clone())));
            let core = Core::builder(this.name_text(py)).environment(environment).build();
            this.circuit_of(core)
        });
        this.listen();
        this.go_by(config);
        this.kept().listeners.extend(heard);
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
        match circuit.core().try_acquire() {
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
        DECORATOR.import_out(slf.py(), module, "with_circuit_breaker")?.call_out([slf.as_any()])?.call_out([func])
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let circuit = slf.get().circuit();
        let leave = match circuit.core().try_acquire_number() {
            Some(number) if !circuit.is_hooked() => Leave::Number(number),
            _ => Leave::Permit(Self::admit(slf)?),
        };
        slf.get().blocks.begin(calling_frame(slf.py()), leave);
        Ok(slf.clone())
    }

    fn __exit__(
        slf: &Bound<'_, Self>,
        _kind: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        match slf.get().blocks.end(calling_frame(slf.py())) {
            Some(Leave::Number(number)) => {
                let circuit = slf.get().circuit();
                let permit = circuit.core().permit_of(number);
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
        match circuit.core().try_acquire_number() {
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
        let permit = circuit.core().permit_of(leave.extract()?);
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
            Some(config) => checked_config(py, Some(config))?,
            None => self.config(py)?,
        };
        let Some(fields) = fields else { return self.set_config(py, Some(&base)) };
        refuse_unknown_fields("update_config", fields, &base, &[])?;
        let changed = REPLACE
            .import_out(py, "dataclasses", "replace")?
            .call_out_with(&(base,).into_pyobject(py)?, Some(fields))?;
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
    fn set_config<'py>(&self, py: Python<'py>, config: Option<&Bound<'py, PyAny>>) -> PyResult<()> {
        self.go_by(checked_config(py, config)?);
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
        let class = CLASS.import_out(state.py(), "codomyrmex.service_mesh.models", "CircuitState")?;
        // `value` is a property, which runs Python.
        let word: String = class.call_out([state])?.getattr("_value_")?.extract()?;
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
        let called = callable("a listener", &listener)?;
        self.kept().listeners.push(called);
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
        let restore = RESTORE.import_out(py, HELPERS, "restored")?;
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
            blocks: Blocks::default(),
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

    /// From now on this is its configuration.
    fn go_by(&self, config: Bound<'_, CircuitBreakerRules>) {
        let circuit = self.circuit();
        let before = self.kept().config.replace(config.clone().unbind());
        if let Some(before) = before {
            before.get().detach(circuit);
        }
        config.get().attach(circuit);
    }

    /// From the first time on, the core tells us what happens.
    fn listen(&self) {
        if !std::mem::replace(&mut self.kept().listens, true) {
            let kept = Arc::downgrade(&self.kept);
            self.core().subscribe(move |event: &Event| tell(&kept, event));
        }
    }

    pub(crate) fn core(&self) -> &Core {
        self.circuit().core()
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
        Arc::new(Circuit::new(core, self.hooks.any))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }
}

/// A configuration that was given, or the default one.
/// The configuration that has these fields, which were given to a breaker in the place of one.
fn config_of_fields<'py>(
    breaker: &Bound<'py, PyType>,
    config: Option<&Bound<'py, PyAny>>,
    fields: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, CircuitBreakerRules>> {
    let py = breaker.py();
    let class = config_class(py)?;
    refuse_unknown_fields(&breaker.name()?.to_string_lossy(), fields, class, &["listeners", "clock"])?;
    if config.is_some_and(|config| !config.is_none()) {
        return Err(PyTypeError::new_err("give either a config or its fields, not both"));
    }
    Ok(class.call_out_with(&PyTuple::empty(py), Some(fields))?.cast_into()?)
}

/// Refuses what is no field of this configuration, nor one of the other arguments of the function.
fn refuse_unknown_fields(
    function: &str,
    given: &Bound<'_, PyDict>,
    config: &Bound<'_, PyAny>,
    others: &[&str],
) -> PyResult<()> {
    let fields = config.getattr(intern!(config.py(), "__dataclass_fields__"))?;
    let names: Vec<String> = fields.cast::<PyDict>()?.keys().extract()?;
    let known: Vec<_> = names.iter().map(String::as_str).chain(others.iter().copied()).collect();
    refuse_unknown(function, given, &known)
}

fn config_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import_out(py, "codomyrmex.service_mesh.models", "CircuitBreakerConfig")
}

fn checked_config<'py>(
    py: Python<'py>,
    config: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, CircuitBreakerRules>> {
    let config = match config {
        Some(config) if !config.is_none() => config.cast::<CircuitBreakerRules>().cloned().map_err(|_| {
            PyTypeError::new_err(format!("config must be a CircuitBreakerConfig, not {}", kind(config)))
        })?,
        _ => config_class(py)?.call_out([])?.cast_into()?,
    };
    if !config.get().is_complete() {
        config.getattr(intern!(py, "_complete"))?.call_out([])?;
    }
    Ok(config)
}
