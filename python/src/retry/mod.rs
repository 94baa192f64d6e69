//! `RetryPolicy`: the core's decisions about when to try again, with the attributes that Python's users assign.

mod again;
mod budget;
mod call;
mod jitter;
mod switches;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use pyo3::exceptions::PyException;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyInt, PyTuple, PyType};
use service_mesh::{Environment, RetryConfig, RetryConfigBuilder, RetryPolicy as Core, Retrying};

use self::again::awaited;
use self::jitter::read_jitter;
use self::switches::{BUDGET, DELAY, EXECUTE, RESULTS};
use crate::errors::config_error;
use crate::field::{check_callable, check_errors, number, whole};
use crate::filled::Filled;
use crate::guarded::{CallOut, ImportOut, is_coroutine};
use crate::lock::lock;
use crate::said::Said;
use crate::seconds::duration;
use crate::sleep::sleep;
use crate::suggestion::refuse_unknown;
use crate::testing::{ManualClock, environment};

pub(crate) use self::again::awaited_coroutine;
pub(crate) use self::budget::RetryBudget;
pub(crate) use self::call::RetryCall;
pub(crate) use self::jitter::jitter_as_read;
pub(crate) use self::switches::Switches;

/// Where the Python halves of this module are.
const HELPERS: &str = "codomyrmex.service_mesh.retry";

/// What it is made of, and what of it may be read and assigned.
const FIELDS: [&str; 10] = [
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
];

/// Tries a failed call again, after a wait that grows.
///
/// ```python
/// policy = RetryPolicy(max_retries=2, initial_delay=0.05, jitter="full", on=OSError)
/// policy.execute(print, "sent")
/// ```
///
/// `execute`, the decorator `with_retry`, and `for attempt in policy:` are three ways to make a call under it. Its fields may
/// be assigned, and hold for the calls that begin after that. Delays are seconds, or a `timedelta`. What a call comes to is
/// its last error as it is, with a note of the attempts if there were several.
///
/// - `max_retries`: attempts after the first, at least 0. Default 3, which makes at most four attempts.
/// - `initial_delay`: the wait before the first retry. Default 0.1.
/// - `max_delay`: the longest wait, jitter included. Default 10.
/// - `exponential_base`: what each further wait is multiplied by. At least 1, default 2.
/// - `jitter`: the chance in a wait. `True`, the default, or `"proportional"` is a factor of 0.5 to 1.5, `False` or `"none"`
///   is none; or `"full"`, `"equal"`, `"decorrelated"`.
/// - `retry_after_max`: the longest `Retry-After` that is waited for. Default 60.
/// - `on`, `ignore`: which errors are tried again, and which of them are not. By default every `Exception` is.
/// - `failed_result`: says of a result whether the call is to be tried again. By default none is.
/// - `budget`: a `RetryBudget` that its retries are charged to. By default there is none.
/// - `clock`: a `testing.ManualClock`, for tests.
///
/// A value out of range is a `ConfigError`, which is a `ValueError`.
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
        let switches = Switches::default();
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
        max_retries=Said::Nothing, initial_delay=Said::Nothing, max_delay=Said::Nothing,
        exponential_base=Said::Nothing, jitter=Said::Nothing, *, retry_after_max=Said::Nothing, on=Said::Nothing,
        ignore=Said::Nothing, failed_result=None, budget=None, clock=None, **others
    ))]
    fn __init__(
        slf: &Bound<'_, Self>,
        max_retries: Said<'_>,
        initial_delay: Said<'_>,
        max_delay: Said<'_>,
        exponential_base: Said<'_>,
        jitter: Said<'_>,
        retry_after_max: Said<'_>,
        on: Said<'_>,
        ignore: Said<'_>,
        failed_result: Option<&Bound<'_, PyAny>>,
        budget: Option<&Bound<'_, RetryBudget>>,
        clock: Option<&Bound<'_, ManualClock>>,
        others: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        if let Some(others) = others {
            let known: Vec<_> = FIELDS.into_iter().chain(["clock"]).collect();
            refuse_unknown(&slf.get_type().name()?.to_string_lossy(), others, &known)?;
        }
        let this = slf.get();
        this.environment.get_or_init(|| environment(clock));
        let mut config = RetryConfig::builder();
        if let Some(value) = max_retries.this() {
            config = config.max_retries(retries(&value)?);
        }
        if let Some(value) = initial_delay.this() {
            config = config.initial_delay(duration("initial_delay", &value)?);
        }
        if let Some(value) = max_delay.this() {
            config = config.max_delay(duration("max_delay", &value)?);
        }
        if let Some(value) = exponential_base.this() {
            config = config.exponential_base(number("exponential_base", &value)?);
        }
        if let Some(value) = jitter.this() {
            config = config.jitter(read_jitter(&value)?);
        }
        if let Some(value) = retry_after_max.this() {
            config = config.retry_after_max(duration("retry_after_max", &value)?);
        }
        let config = config.build().map_err(|error| config_error(slf.py(), &error))?;
        let (on, ignore) = (on.this(), ignore.this());
        on.as_ref().map_or(Ok(()), |on| check_errors("on", on))?;
        ignore.as_ref().map_or(Ok(()), |ignore| check_errors("ignore", ignore))?;
        failed_result.map_or(Ok(()), |failed| check_callable("failed_result", failed))?;
        // All or nothing: a second `__init__` that fails leaves the policy as it was.
        let kept = Kept {
            core: this.core_of(config, budget),
            on: on.map(Bound::unbind),
            ignore: ignore.map(Bound::unbind),
            failed_result: failed_result.map(|failed| failed.clone().unbind()),
            budget: budget.map(|budget| budget.clone().unbind()),
            clock: clock.map(|clock| clock.clone().into_any().unbind()),
        };
        this.switches.set(RESULTS, kept.failed_result.is_some());
        this.switches.set(BUDGET, kept.budget.is_some());
        let before = std::mem::replace(&mut *this.kept(), kept);
        drop(before);
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
        DECORATOR.import_out(slf.py(), module, "with_retry")?.call_out([slf.as_any()])?.call_out([func])
    }

    /// `for attempt in policy: with attempt: ...` runs the block until it succeeds, or until the policy gives up.
    fn __iter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static ATTEMPTS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        ATTEMPTS.import_out(slf.py(), HELPERS, "Attempts")?.call_out([slf.as_any()])
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
        sleep(py, self.clock(py), Duration::try_from_secs_f64(seconds).unwrap_or_default())
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
        jitter_as_read(py, self.kept().core.config().jitter())
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
    fn set_budget(&self, budget: Option<&Bound<'_, RetryBudget>>) {
        let mut kept = self.kept();
        kept.core = self.core_of(kept.core.config().clone(), budget);
        let before = std::mem::replace(&mut kept.budget, budget.map(|budget| budget.clone().unbind()));
        self.switches.set(BUDGET, budget.is_some());
        drop(kept);
        drop(before);
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
        for name in FIELDS {
            fields.set_item(name, slf.getattr(name)?)?;
        }
        let restore = RESTORE.import_out(py, HELPERS, "restored")?;
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

    fn change(&self, py: Python<'_>, change: impl FnOnce(RetryConfigBuilder) -> RetryConfigBuilder) -> PyResult<()> {
        let changed = {
            let mut kept = self.kept();
            let config = change(kept.core.config().to_builder()).build();
            config.map(|config| kept.core = self.core_of(config, kept.budget.as_ref().map(|budget| budget.bind(py))))
        };
        changed.map_err(|error| config_error(py, &error))
    }

    fn core_of(&self, config: RetryConfig, budget: Option<&Bound<'_, RetryBudget>>) -> Core {
        let mut core = Core::builder().config(config);
        if let Some(environment) = self.environment.get() {
            core = core.environment(environment.clone());
        }
        if let Some(budget) = budget {
            core = core.budget(budget.get().core().clone());
        }
        core.build()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }
}

fn retries(value: &Bound<'_, PyAny>) -> PyResult<u32> {
    whole("max_retries", value, "0 to 4294967295")
}
