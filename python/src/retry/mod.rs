//! `RetryPolicy` and `RetryBudget`: the core's decisions about when to try again, and waits that Python makes.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use pyo3::exceptions::{PyException, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyInt, PyString, PyTuple, PyType};
use pyo3::{IntoPyObjectExt, intern};
use service_mesh::{
    Answer, Environment, Jitter, RetryBudget as CoreBudget, RetryBudgetConfig, RetryConfig, RetryConfigBuilder,
    RetryPolicy as Core, Retrying, UnknownWord,
};

use crate::config::{check_callable, check_errors, number, whole};
use crate::errors::config_error;
use crate::filled::Filled;
use crate::guarded::{CallOut, is_coroutine};
use crate::lock::lock;
use crate::log;
use crate::predicates::{failed_answer, raised_answer};
use crate::seconds::{duration, kind};
use crate::testing::{self, ManualClock, environment};

/// What a decorated function must know of its policy at once.
#[derive(Debug)]
pub(crate) struct Switches(AtomicU8);

/// `failed_result` is given: results are judged.
const RESULTS: u8 = 1;
/// There is a budget: calls are counted when they begin.
const BUDGET: u8 = 2;
/// `execute` is overridden in a subclass.
const EXECUTE: u8 = 4;
/// `get_delay` is overridden in a subclass.
const DELAY: u8 = 8;

impl Switches {
    /// Whether a result is what the call came to, and nobody counts calls.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        // Ordering: Relaxed. A bit says which path is taken; what the path reads is behind the policy's lock.
        self.0.load(Ordering::Relaxed) & !DELAY == 0
    }

    /// Whether results are judged.
    #[inline]
    pub(crate) fn judges_results(&self) -> bool {
        self.has(RESULTS)
    }

    pub(crate) fn overrides_execute(&self) -> bool {
        self.0.load(Ordering::Relaxed) & EXECUTE != 0
    }

    fn has(&self, switch: u8) -> bool {
        self.0.load(Ordering::Relaxed) & switch != 0
    }

    fn set(&self, switch: u8, on: bool) {
        if on {
            self.0.fetch_or(switch, Ordering::Relaxed);
        } else {
            self.0.fetch_and(!switch, Ordering::Relaxed);
        }
    }
}

/// Tries a failed call again, after a wait that grows.
///
/// `execute`, the decorator `with_retry`, and `for attempt in policy:` are three ways to make a call under it. Its fields may
/// be assigned, and hold for the calls that begin after that.
#[pyclass(frozen, subclass, dict, weakref, module = "codomyrmex.service_mesh")]
#[derive(Debug)]
pub(crate) struct RetryPolicy {
    filled: Filled,
    switches: Arc<Switches>,
    environment: OnceLock<Environment>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    core: Core,
    on: Option<Py<PyAny>>,
    ignore: Option<Py<PyAny>>,
    failed_result: Option<Py<PyAny>>,
    budget: Option<Py<RetryBudget>>,
    clock: Option<Py<PyAny>>,
}

#[pymethods]
impl RetryPolicy {
    #[new]
    #[classmethod]
    #[pyo3(
        signature = (*_args, **_kwargs),
        text_signature = "(max_retries=3, initial_delay=0.1, max_delay=10.0, exponential_base=2.0, jitter=True, *, \
                          retry_after_max=60.0, on=..., ignore=(), failed_result=None, budget=None, clock=None)"
    )]
    fn __new__(
        class: &Bound<'_, PyType>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let own = class.py().get_type::<Self>();
        let differs = |name| Ok::<_, PyErr>(!class.is(&own) && !class.getattr(name)?.is(own.getattr(name)?));
        let switches = Switches(AtomicU8::new(0));
        switches.set(EXECUTE, differs("execute")?);
        switches.set(DELAY, differs("get_delay")?);
        Ok(Self {
            filled: Filled::YES,
            switches: Arc::new(switches),
            environment: OnceLock::new(),
            kept: Mutex::default(),
        })
    }

    #[expect(clippy::too_many_arguments, reason = "the seed's, and what goes beyond it by keyword")]
    #[pyo3(signature = (
        max_retries=None, initial_delay=None, max_delay=None, exponential_base=None, jitter=None, *,
        retry_after_max=None, on=None, ignore=None, failed_result=None, budget=None, clock=None,
    ))]
    fn __init__(
        slf: &Bound<'_, Self>,
        max_retries: Option<&Bound<'_, PyAny>>,
        initial_delay: Option<&Bound<'_, PyAny>>,
        max_delay: Option<&Bound<'_, PyAny>>,
        exponential_base: Option<&Bound<'_, PyAny>>,
        jitter: Option<&Bound<'_, PyAny>>,
        retry_after_max: Option<&Bound<'_, PyAny>>,
        on: Option<&Bound<'_, PyAny>>,
        ignore: Option<&Bound<'_, PyAny>>,
        failed_result: Option<&Bound<'_, PyAny>>,
        budget: Option<&Bound<'_, RetryBudget>>,
        clock: Option<&Bound<'_, ManualClock>>,
    ) -> PyResult<()> {
        let this = slf.get();
        this.environment.get_or_init(|| environment(clock));
        let mut config = RetryConfig::builder();
        if let Some(value) = max_retries {
            config = config.max_retries(retries(value)?);
        }
        if let Some(value) = initial_delay {
            config = config.initial_delay(duration("initial_delay", value)?);
        }
        if let Some(value) = max_delay {
            config = config.max_delay(duration("max_delay", value)?);
        }
        if let Some(value) = exponential_base {
            config = config.exponential_base(number("exponential_base", value)?);
        }
        if let Some(value) = jitter {
            config = config.jitter(read_jitter(value)?);
        }
        if let Some(value) = retry_after_max {
            config = config.retry_after_max(duration("retry_after_max", value)?);
        }
        let config = config.build().map_err(|error| config_error(slf.py(), &error))?;
        if let Some(on) = on {
            this.set_on(on)?;
        }
        if let Some(ignore) = ignore {
            this.set_ignore(ignore)?;
        }
        this.set_failed_result(slf.py(), failed_result)?;
        let clock = clock.map(|clock| clock.clone().into_any().unbind());
        let before = std::mem::replace(&mut this.kept().clock, clock);
        drop(before);
        let before = std::mem::replace(&mut this.kept().budget, budget.map(|budget| budget.clone().unbind()));
        drop(before);
        this.rebuild(slf.py(), Some(config));
        Ok(())
    }

    // ----- calls -----

    /// The wait in seconds before retry `attempt`, counted from 0: `initial_delay * exponential_base ** attempt`, at most
    /// `max_delay`, then jitter, and again at most `max_delay`.
    fn get_delay(&self, attempt: &Bound<'_, PyAny>) -> PyResult<f64> {
        let allowed = "at least 0";
        let attempt = match attempt.extract::<u32>() {
            Ok(attempt) => attempt,
            Err(_) if attempt.is_instance_of::<PyInt>() && attempt.gt(0)? => u32::MAX,
            Err(_) => whole("attempt", attempt, allowed)?,
        };
        let core = self.kept().core.clone();
        Ok(core.get_delay(attempt).as_secs_f64())
    }

    /// Calls `func` until it succeeds, or until the policy gives up; then its last error comes back as it is, with a note of
    /// the attempts if there were several. Of a coroutine function it is the awaited call that is tried again.
    // Called where a call is out of the ordinary when it begins: `guarded` has `execute` itself, and this text.
    #[pyo3(name = "_execute", signature = (func, /, *args, **kwargs))]
    fn execute<'py>(
        slf: &Bound<'py, Self>,
        func: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let this = slf.get();
        let began = this.begin();
        let result = func.call_out_with(args, kwargs);
        if let Ok(value) = &result {
            if is_coroutine(value) {
                return awaited(slf, began, func, args, kwargs, value);
            }
            if began.is_none() {
                return result;
            }
        }
        Self::again(slf, began, result, &mut || func.call_out_with(args, kwargs))
    }

    /// Decorates a function.
    fn __call__<'py>(slf: &Bound<'py, Self>, func: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        static DECORATOR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let module = "codomyrmex.service_mesh.public_decorators";
        DECORATOR.import(slf.py(), module, "with_retry")?.call1((slf,))?.call1((func,))
    }

    /// `for attempt in policy: with attempt: ...` runs the block until it succeeds, or until the policy gives up.
    fn __iter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static ATTEMPTS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        ATTEMPTS.import(slf.py(), HELPERS, "Attempts")?.call1((slf,))
    }

    /// The same, with waits that are awaited.
    fn __aiter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::__iter__(slf)
    }

    /// A call begins that Python drives; `None` where nobody counts it, and any result is what it comes to.
    fn _begin(slf: &Bound<'_, Self>) -> Option<RetryCall> {
        slf.get().begin().map(|retrying| RetryCall::new(slf, retrying))
    }

    /// The same call, after its first attempt has failed.
    fn _call(slf: &Bound<'_, Self>) -> RetryCall {
        RetryCall::new(slf, slf.get().retrying())
    }

    /// Waits in the thread.
    fn _sleep(&self, py: Python<'_>, seconds: f64) -> PyResult<()> {
        self.sleep(py, Duration::try_from_secs_f64(seconds).unwrap_or_default())
    }

    /// The clock that it was given, whose waits are made instead of the system's.
    #[getter(_clock)]
    fn clock(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.kept().clock.as_ref().map(|clock| clock.clone_ref(py))
    }

    // ----- what is read and assigned -----

    /// How often a call is tried again: 3 is at most four attempts. Default 3.
    #[getter]
    fn max_retries(&self) -> u32 {
        self.kept().core.config().max_retries()
    }

    #[setter]
    fn set_max_retries(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let retries = retries(value)?;
        self.change(value.py(), |config| config.max_retries(retries))
    }

    /// The wait before the first retry, in seconds. Default 0.1.
    #[getter]
    fn initial_delay(&self) -> f64 {
        self.kept().core.config().initial_delay().as_secs_f64()
    }

    #[setter]
    fn set_initial_delay(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let delay = duration("initial_delay", value)?;
        self.change(value.py(), |config| config.initial_delay(delay))
    }

    /// The longest wait, jitter included, in seconds. Default 10.
    #[getter]
    fn max_delay(&self) -> f64 {
        self.kept().core.config().max_delay().as_secs_f64()
    }

    #[setter]
    fn set_max_delay(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let delay = duration("max_delay", value)?;
        self.change(value.py(), |config| config.max_delay(delay))
    }

    /// What each further wait is multiplied by. At least 1, default 2.
    #[getter]
    fn exponential_base(&self) -> f64 {
        self.kept().core.config().exponential_base()
    }

    #[setter]
    fn set_exponential_base(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let base = number("exponential_base", value)?;
        self.change(value.py(), |config| config.exponential_base(base))
    }

    /// `True` for a factor of 0.5 to 1.5, `False` for none, or `"full"`, `"equal"`, `"decorrelated"`.
    #[getter]
    fn jitter<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let jitter = self.kept().core.config().jitter();
        match jitter {
            Jitter::Proportional => true.into_bound_py_any(py),
            Jitter::None => false.into_bound_py_any(py),
            other => other.as_str().into_bound_py_any(py),
        }
    }

    #[setter]
    fn set_jitter(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let jitter = read_jitter(value)?;
        self.change(value.py(), |config| config.jitter(jitter))
    }

    /// The longest `Retry-After` that is waited for, in seconds; a call that is asked to wait longer gives up at once.
    #[getter]
    fn retry_after_max(&self) -> f64 {
        self.kept().core.config().retry_after_max().as_secs_f64()
    }

    #[setter]
    fn set_retry_after_max(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let max = duration("retry_after_max", value)?;
        self.change(value.py(), |config| config.retry_after_max(max))
    }

    /// Which errors are tried again: a type, a predicate, or a tuple of them.
    #[getter]
    fn on<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        let on = self.kept().on.as_ref().map(|on| on.clone_ref(py));
        on.map_or_else(|| py.get_type::<PyException>().into_any(), |on| on.into_bound(py))
    }

    #[setter]
    fn set_on(&self, on: &Bound<'_, PyAny>) -> PyResult<()> {
        check_errors("on", on)?;
        let before = self.kept().on.replace(on.clone().unbind());
        drop(before);
        Ok(())
    }

    /// Which errors are not tried again, though they are among `on`.
    #[getter]
    fn ignore<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        let ignore = self.kept().ignore.as_ref().map(|ignore| ignore.clone_ref(py));
        ignore.map_or_else(|| PyTuple::empty(py).into_any(), |ignore| ignore.into_bound(py))
    }

    #[setter]
    fn set_ignore(&self, ignore: &Bound<'_, PyAny>) -> PyResult<()> {
        check_errors("ignore", ignore)?;
        let before = self.kept().ignore.replace(ignore.clone().unbind());
        drop(before);
        Ok(())
    }

    /// Says of a result whether the call is to be tried again; a result that is the last is returned nevertheless.
    #[getter]
    fn failed_result(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.kept().failed_result.as_ref().map(|failed| failed.clone_ref(py))
    }

    #[setter]
    fn set_failed_result(&self, py: Python<'_>, failed: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let _ = py;
        if let Some(failed) = failed {
            check_callable("failed_result", failed)?;
        }
        let failed = failed.filter(|failed| !failed.is_none()).map(|failed| failed.clone().unbind());
        self.switches.set(RESULTS, failed.is_some());
        let before = std::mem::replace(&mut self.kept().failed_result, failed);
        drop(before);
        Ok(())
    }

    /// What its retries are charged to, or `None`.
    #[getter]
    fn budget(&self, py: Python<'_>) -> Option<Py<RetryBudget>> {
        self.kept().budget.as_ref().map(|budget| budget.clone_ref(py))
    }

    #[setter]
    fn set_budget(&self, py: Python<'_>, budget: Option<&Bound<'_, RetryBudget>>) {
        let before = std::mem::replace(&mut self.kept().budget, budget.map(|budget| budget.clone().unbind()));
        drop(before);
        self.rebuild(py, None);
    }

    // ----- as an object -----

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (this, kind) = (slf.get(), slf.get_type().name()?);
        Ok(format!(
            "{kind}(max_retries={}, initial_delay={:?}, max_delay={:?}, exponential_base={:?}, jitter={})",
            this.max_retries(),
            this.initial_delay(),
            this.max_delay(),
            this.exponential_base(),
            this.jitter(slf.py())?.repr()?,
        ))
    }

    /// All but its clock.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        static RESTORE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = slf.py();
        let fields = PyDict::new(py);
        for name in [
            "max_retries",
            "initial_delay",
            "max_delay",
            "exponential_base",
            "jitter",
            "retry_after_max",
            "on",
            "ignore",
            "failed_result",
            "budget",
        ] {
            fields.set_item(name, slf.getattr(name)?)?;
        }
        let restore = RESTORE.import(py, HELPERS, "restored")?;
        (restore, (slf.get_type(), fields, slf.getattr("__dict__")?)).into_pyobject(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if !self.filled.is_filled() {
            return Ok(());
        }
        // Who holds the lock now is in another thread, and then the object is in use.
        let Ok(kept) = self.kept.try_lock() else { return Ok(()) };
        for held in [&kept.on, &kept.ignore, &kept.failed_result, &kept.clock] {
            visit.call(held)?;
        }
        visit.call(&kept.budget)
    }

    fn __clear__(&self) {
        let cleared = std::mem::take(&mut *self.kept());
        drop(cleared);
    }
}

impl RetryPolicy {
    /// What a decorated function must know at once.
    pub(crate) fn switches(&self) -> &Arc<Switches> {
        &self.switches
    }

    /// The policy as the core has it now, with its budget and its clock.
    pub(crate) fn core(&self) -> Core {
        self.kept().core.clone()
    }

    /// A call begins; none where nobody counts calls and any result is what the call comes to.
    pub(crate) fn begin(&self) -> Option<Retrying> {
        self.switches.has(RESULTS | BUDGET).then(|| self.retrying())
    }

    fn retrying(&self) -> Retrying {
        self.kept().core.retrying()
    }

    /// All attempts after the first, which came to `result`.
    #[cold]
    pub(crate) fn again<'py>(
        slf: &Bound<'py, Self>,
        began: Option<Retrying>,
        mut result: PyResult<Bound<'py, PyAny>>,
        call: &mut dyn FnMut() -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let mut retrying = began.unwrap_or_else(|| slf.get().retrying());
        loop {
            let wait = match &result {
                Ok(value) => Self::wait_after_result(slf, &mut retrying, value)?,
                Err(error) => {
                    let value = error.value(py).as_any();
                    match Self::wait_after_error(slf, &mut retrying, value) {
                        Ok(wait) => wait,
                        Err(other) => {
                            // As Python does where an error is raised while another is handled.
                            drop(other.value(py).setattr(intern!(py, "__context__"), value));
                            return Err(other);
                        }
                    }
                }
            };
            let Some(wait) = wait else { return result };
            // Let go of before the wait: what an attempt held is not held for seconds more.
            drop(result);
            slf.get().sleep(py, wait)?;
            result = call();
        }
    }

    /// How long to wait after this error, none if it is the last; then it has a note of the attempts.
    fn wait_after_error(
        slf: &Bound<'_, Self>,
        retrying: &mut Retrying,
        error: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Duration>> {
        let answer = raised_answer(slf.as_any(), error)?;
        let wait = Self::wait_after(slf, retrying, &answer)?;
        if wait.is_none() && retrying.attempts() > 1 && error.is_instance_of::<PyException>() {
            note_attempts(error, retrying.attempts());
        }
        Ok(wait)
    }

    fn wait_after_result(
        slf: &Bound<'_, Self>,
        retrying: &mut Retrying,
        result: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Duration>> {
        if !slf.get().switches.has(RESULTS) {
            return Ok(None);
        }
        let answer = failed_answer(slf.as_any(), result)?;
        Self::wait_after(slf, retrying, &answer)
    }

    fn wait_after(slf: &Bound<'_, Self>, retrying: &mut Retrying, answer: &Answer) -> PyResult<Option<Duration>> {
        let attempts = retrying.attempts();
        if testing::attempts_at_most().is_some_and(|most| attempts >= most) {
            return Ok(None);
        }
        let Some(wait) = retrying.wait_after(answer, None) else { return Ok(None) };
        log::retry(slf.py(), attempts, wait);
        if !slf.get().switches.has(DELAY) {
            return Ok(Some(testing::wait(wait)));
        }
        let number = (attempts - 1).into_bound_py_any(slf.py())?;
        let own = slf.getattr(intern!(slf.py(), "get_delay"))?.call_out([&number])?;
        let own = duration("get_delay", &own)?;
        Ok(Some(testing::wait(own.max(answer.earliest_retry().unwrap_or_default()))))
    }

    /// Waits in the thread, with the interpreter free for others: by the clock that was given, or by `time.sleep`, which is
    /// looked up now, so that those who have put another in its place are asked.
    pub(crate) fn sleep(&self, py: Python<'_>, wait: Duration) -> PyResult<()> {
        if wait.is_zero() {
            return Ok(());
        }
        let sleeper = match self.clock(py) {
            Some(clock) => clock.into_bound(py),
            None => py.import(intern!(py, "time"))?.into_any(),
        };
        let seconds = wait.as_secs_f64().into_bound_py_any(py)?;
        sleeper.getattr(intern!(py, "sleep"))?.call_out([&seconds]).map(drop)
    }

    fn change(&self, py: Python<'_>, change: impl FnOnce(RetryConfigBuilder) -> RetryConfigBuilder) -> PyResult<()> {
        let builder = self.kept().core.config().to_builder();
        let config = change(builder).build().map_err(|error| config_error(py, &error))?;
        self.rebuild(py, Some(config));
        Ok(())
    }

    /// The core's policy anew: with this configuration or its own, and with the budget that is kept.
    fn rebuild(&self, py: Python<'_>, config: Option<RetryConfig>) {
        let mut kept = self.kept();
        let config = config.unwrap_or_else(|| kept.core.config().clone());
        let mut core = Core::builder().config(config);
        if let Some(environment) = self.environment.get() {
            core = core.environment(environment.clone());
        }
        if let Some(budget) = &kept.budget {
            core = core.budget(budget.bind(py).get().core.clone());
        }
        self.switches.set(BUDGET, kept.budget.is_some());
        kept.core = core.build();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }
}

/// Where the Python halves of this module are.
const HELPERS: &str = "codomyrmex.service_mesh.retry";

/// The awaited call, whose first coroutine there is already.
fn awaited<'py>(
    policy: &Bound<'py, RetryPolicy>,
    began: Option<Retrying>,
    func: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
    first: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    static AWAITED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let call = began.map(|retrying| RetryCall::new(policy, retrying));
    AWAITED
        .import(policy.py(), HELPERS, "awaited")?
        .call_out_with(&(policy, call, func, args, kwargs, first).into_pyobject(policy.py())?, None)
}

/// The same for a decorated function, which hands on what it got from it.
#[cold]
pub(crate) fn awaited_coroutine<'py>(
    policy: &Bound<'py, RetryPolicy>,
    began: Option<Retrying>,
    func: &Bound<'py, PyAny>,
    args: Vec<Bound<'py, PyAny>>,
    kwargs: Option<&Bound<'py, PyDict>>,
    first: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    awaited(policy, began, func, &PyTuple::new(policy.py(), args)?, kwargs, first)
}

/// Says of an error that is about to be raised how many attempts there were.
pub(crate) fn note_attempts(error: &Bound<'_, PyAny>, attempts: u32) {
    let note = || error.call_method1("add_note", (format!("the call failed after {attempts} attempts"),));
    // An error that takes no notes is as good without.
    drop(note());
}

fn retries(value: &Bound<'_, PyAny>) -> PyResult<u32> {
    whole("max_retries", value, "0 to 4294967295")
}

fn read_jitter(value: &Bound<'_, PyAny>) -> PyResult<Jitter> {
    if let Ok(on) = value.cast::<PyBool>() {
        return Ok(on.is_true().into());
    }
    let word = value.cast::<PyString>().map_err(|_| {
        PyTypeError::new_err(format!("jitter must be a bool or the name of a jitter, not {}", kind(value)))
    })?;
    word.to_str()?.parse().map_err(|error: UnknownWord| PyValueError::new_err(format!("jitter: {error}")))
}

/// One call that Python drives: it is told what came of each attempt, and says how long to wait before the next.
#[pyclass(frozen, module = "codomyrmex.service_mesh._native")]
#[derive(Debug)]
pub(crate) struct RetryCall {
    policy: Py<RetryPolicy>,
    retrying: Mutex<Retrying>,
}

impl RetryCall {
    fn new(policy: &Bound<'_, RetryPolicy>, retrying: Retrying) -> Self {
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

/// Bounds the retries of all who share it: in any 10 seconds at most `ratio` times the calls, and `floor_per_second` times
/// 10. A retry that it does not grant is not made, and the call comes to the error that it has.
#[pyclass(frozen, subclass, weakref, module = "codomyrmex.service_mesh")]
#[derive(Debug)]
pub(crate) struct RetryBudget {
    core: CoreBudget,
}

#[pymethods]
impl RetryBudget {
    #[new]
    #[pyo3(
        signature = (ratio=None, floor_per_second=None, *, clock=None),
        text_signature = "(ratio=0.2, floor_per_second=10.0, *, clock=None)"
    )]
    fn new(
        py: Python<'_>,
        ratio: Option<&Bound<'_, PyAny>>,
        floor_per_second: Option<&Bound<'_, PyAny>>,
        clock: Option<&Bound<'_, ManualClock>>,
    ) -> PyResult<Self> {
        let mut config = RetryBudgetConfig::builder();
        if let Some(ratio) = ratio {
            config = config.ratio(number("ratio", ratio)?);
        }
        if let Some(floor) = floor_per_second {
            config = config.floor_per_second(number("floor_per_second", floor)?);
        }
        let config = config.build().map_err(|error| config_error(py, &error))?;
        Ok(Self { core: CoreBudget::with_environment(config, environment(clock)) })
    }

    /// A call begins: it earns `ratio` of a retry.
    fn deposit(&self) {
        self.core.deposit();
    }

    /// Takes a retry out, if there is one; it cannot be given back. Where it is false there must be no retry.
    fn withdraw(&self) -> bool {
        self.core.withdraw()
    }

    /// How many retries could be taken out now.
    #[getter]
    fn balance(&self) -> u64 {
        self.core.balance()
    }

    /// The share of the calls that may be tried again. 0 to 1, default 0.2.
    #[getter]
    fn ratio(&self) -> f64 {
        self.core.config().ratio()
    }

    #[setter]
    fn set_ratio(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let config = self.core.config().to_builder().ratio(number("ratio", value)?).build();
        self.core.update_config(config.map_err(|error| config_error(value.py(), &error))?);
        Ok(())
    }

    /// Retries per second that are granted whatever the calls. At least 0, default 10.
    #[getter]
    fn floor_per_second(&self) -> f64 {
        self.core.config().floor_per_second()
    }

    #[setter]
    fn set_floor_per_second(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let config = self.core.config().to_builder().floor_per_second(number("floor_per_second", value)?).build();
        self.core.update_config(config.map_err(|error| config_error(value.py(), &error))?);
        Ok(())
    }

    fn __repr__(&self) -> String {
        format!("RetryBudget(ratio={:?}, floor_per_second={:?})", self.ratio(), self.floor_per_second())
    }

    /// Its configuration; what was earned and charged stays where it was.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let this = slf.get();
        (slf.get_type(), (this.ratio(), this.floor_per_second())).into_pyobject(slf.py())
    }
}

impl RetryBudget {
    /// The budget that the core charges.
    pub(crate) fn core(&self) -> &CoreBudget {
        &self.core
    }
}
