//! `CircuitBreakerConfig` and its windows: checked, and alive.
//!
//! The dataclass in `models.py` is what Python sees; its base, [`CircuitBreakerRules`], has the same values as the core
//! takes them, and knows the breakers that use them. Every assignment is checked here first: if the new whole is valid, the
//! breakers are told, and only then is the attribute set.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyTuple};
use service_mesh::{CircuitBreakerConfig, CircuitBreakerConfigBuilder, ConfigError, CountWindow, TimeWindow};

use crate::errors::config_error;
use crate::seconds::{duration, kind};

/// What the core allows for its counts.
const COUNTS: &str = "1 to 16777215";

/// The native base of `CircuitBreakerConfig`. Not for use by itself.
#[pyclass(frozen, subclass, weakref, module = "codomyrmex.service_mesh._native")]
#[derive(Debug)]
pub(crate) struct CircuitBreakerRules {
    live: Mutex<Live>,
}

/// Somebody who goes by a configuration, and is told when it changes.
pub(crate) trait Follower: Send + Sync {
    /// These are the rules from now on.
    fn follow(&self, rules: &Rules);
}

/// A configuration as the core takes it, and what must be known at once of the predicates, which stay in Python.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) config: Arc<CircuitBreakerConfig>,
    /// `on` is not the default.
    judges_on: bool,
    /// `ignore` is not the default.
    judges_ignore: bool,
    /// `failed_result` is given.
    pub(crate) judges_results: bool,
}

impl Rules {
    /// Whether anything but the default is said of errors.
    pub(crate) fn judges_errors(&self) -> bool {
        self.judges_on || self.judges_ignore
    }
}

#[derive(Default)]
struct Live {
    /// Whether the dataclass has all its fields; until then nothing is checked.
    complete: bool,
    rules: Rules,
    followers: Vec<Weak<dyn Follower>>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("rules", &self.rules).finish_non_exhaustive()
    }
}

#[pymethods]
impl CircuitBreakerRules {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { live: Mutex::default() }
    }

    /// Takes all fields at once, and gives back those that are read otherwise than they were written.
    fn _take<'py>(&self, fields: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
        let py = fields.py();
        let mut draft = Draft::of(&Rules::default());
        let normal = PyDict::new(py);
        for (name, value) in fields {
            let name = name.extract::<String>()?;
            normal.set_item(&name, draft.change(&name, &value)?)?;
        }
        self.publish(draft.finish(py)?);
        Ok(normal)
    }

    /// Checks a field that is about to be assigned, tells those who go by it, and gives back what is to be read.
    fn _check<'py>(&self, name: &str, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = value.py();
        let rules = {
            let live = self.lock();
            if !live.complete {
                return Ok(value);
            }
            live.rules.clone()
        };
        let mut draft = Draft::of(&rules);
        let normal = draft.change(name, &value)?;
        self.publish(draft.finish(py)?);
        Ok(normal)
    }
}

impl CircuitBreakerRules {
    /// Tells `follower` the present rules, and every change from now on.
    pub(crate) fn attach(&self, follower: &Arc<impl Follower + 'static>) {
        let follower: Arc<dyn Follower> = follower.clone();
        let mut live = self.lock();
        live.followers.retain(|other| other.strong_count() > 0);
        live.followers.push(Arc::downgrade(&follower));
        follower.follow(&live.rules);
    }

    /// `follower` goes by another configuration now.
    pub(crate) fn detach(&self, follower: &Arc<impl Follower + 'static>) {
        let address = Arc::as_ptr(follower).cast::<()>();
        self.lock().followers.retain(|other| other.as_ptr().cast::<()>() != address);
    }

    /// Whether the dataclass has given all its fields.
    pub(crate) fn is_complete(&self) -> bool {
        self.lock().complete
    }

    fn publish(&self, rules: Rules) {
        let mut live = self.lock();
        live.complete = true;
        live.rules = rules;
        // Under the lock, so that of two assignments that race the later one is the last that everybody hears of. It is
        // Rust alone that runs here.
        for follower in live.followers.iter().filter_map(Weak::upgrade) {
            follower.follow(&live.rules);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rules that are being changed.
struct Draft {
    config: CircuitBreakerConfigBuilder,
    judges_on: bool,
    judges_ignore: bool,
    judges_results: bool,
}

impl Draft {
    fn of(rules: &Rules) -> Self {
        let Rules { config, judges_on, judges_ignore, judges_results } = rules;
        Self {
            config: config.to_builder(),
            judges_on: *judges_on,
            judges_ignore: *judges_ignore,
            judges_results: *judges_results,
        }
    }

    /// Sets one field, and gives back what is to be read of it. A name that is none of ours is left alone.
    fn change<'py>(&mut self, name: &str, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let config = self.config.clone();
        self.config = match name {
            "failure_threshold" => config.failure_threshold(whole("failure_threshold", value, COUNTS)?),
            "success_threshold" => config.success_threshold(whole("success_threshold", value, COUNTS)?),
            "half_open_max_calls" => config.half_open_max_calls(whole("half_open_max_calls", value, COUNTS)?),
            "consecutive" => config.consecutive(value.is_truthy()?),
            "timeout_multiplier" => config.timeout_multiplier(number("timeout_multiplier", value)?),
            "timeout_jitter_ratio" => config.timeout_jitter_ratio(number("timeout_jitter_ratio", value)?),
            "timeout_seconds" => config.timeout(duration("timeout_seconds", value)?),
            "timeout_max_seconds" => {
                config.timeout_max(optional(value, |value| duration("timeout_max_seconds", value))?)
            }
            "probe_timeout_seconds" => {
                config.probe_timeout(optional(value, |value| duration("probe_timeout_seconds", value))?)
            }
            "count_window" => config.count_window(optional(value, |value| count_window(&fields_of(value)?))?),
            "time_window" => config.time_window(optional(value, |value| time_window(&fields_of(value)?))?),
            "on" => {
                check_errors("on", value)?;
                self.judges_on = !value.is(value.py().get_type::<PyException>());
                config
            }
            "ignore" => {
                check_errors("ignore", value)?;
                self.judges_ignore = !value.cast::<PyTuple>().is_ok_and(PyTupleMethods::is_empty);
                config
            }
            "failed_result" => {
                check_callable("failed_result", value)?;
                self.judges_results = !value.is_none();
                config
            }
            _ => config,
        };
        as_read(name, value)
    }

    fn finish(self, py: Python<'_>) -> PyResult<Rules> {
        let config = self.config.build().map_err(|error| config_error(py, &error))?;
        Ok(Rules {
            config: Arc::new(config),
            judges_on: self.judges_on,
            judges_ignore: self.judges_ignore,
            judges_results: self.judges_results,
        })
    }
}

/// The dataclass that says what a configuration of the core says.
pub(crate) fn dataclass_of<'py>(
    py: Python<'py>,
    config: &CircuitBreakerConfig,
) -> PyResult<Bound<'py, CircuitBreakerRules>> {
    let fields = PyDict::new(py);
    fields.set_item("failure_threshold", config.failure_threshold())?;
    fields.set_item("success_threshold", config.success_threshold())?;
    fields.set_item("timeout_seconds", config.timeout().as_secs_f64())?;
    fields.set_item("half_open_max_calls", config.half_open_max_calls())?;
    fields.set_item("consecutive", config.consecutive())?;
    fields.set_item("timeout_multiplier", config.timeout_multiplier())?;
    fields.set_item("timeout_jitter_ratio", config.timeout_jitter_ratio())?;
    fields.set_item("timeout_max_seconds", config.timeout_max().map(|time| time.as_secs_f64()))?;
    fields.set_item("probe_timeout_seconds", config.probe_timeout().map(|time| time.as_secs_f64()))?;
    let models = py.import("codomyrmex.service_mesh.models")?;
    if let Some(window) = config.count_window() {
        let given = PyDict::new(py);
        given.set_item("size", window.size())?;
        given.set_item("minimum_calls", window.minimum_calls())?;
        given.set_item("failure_ratio", window.failure_ratio())?;
        given.set_item("slow_call_ratio", window.slow_call_ratio())?;
        given.set_item("slow_call_seconds", window.slow_call().map(|time| time.as_secs_f64()))?;
        fields.set_item("count_window", models.getattr("CountWindow")?.call((), Some(&given))?)?;
    }
    if let Some(window) = config.time_window() {
        let given = PyDict::new(py);
        given.set_item("duration_seconds", window.duration().as_secs_f64())?;
        given.set_item("buckets", window.buckets())?;
        given.set_item("minimum_calls", window.minimum_calls())?;
        given.set_item("failure_ratio", window.failure_ratio())?;
        given.set_item("slow_call_ratio", window.slow_call_ratio())?;
        given.set_item("slow_call_seconds", window.slow_call().map(|time| time.as_secs_f64()))?;
        fields.set_item("time_window", models.getattr("TimeWindow")?.call((), Some(&given))?)?;
    }
    Ok(models.getattr("CircuitBreakerConfig")?.call((), Some(&fields))?.cast_into()?)
}

/// Checks a count window, and gives back its fields as they are to be read.
#[pyfunction]
pub(crate) fn count_window_rules<'py>(fields: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
    count_window(fields)?;
    all_as_read(fields)
}

/// Checks a time window, and gives back its fields as they are to be read.
#[pyfunction]
pub(crate) fn time_window_rules<'py>(fields: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
    time_window(fields)?;
    all_as_read(fields)
}

fn count_window(fields: &Bound<'_, PyDict>) -> PyResult<CountWindow> {
    let mut window = CountWindow::builder();
    for (name, value) in fields {
        window = match &*name.extract::<String>()? {
            "size" => window.size(whole("size", &value, "1 to 1048576")?),
            "minimum_calls" => window.minimum_calls(whole("minimum_calls", &value, "1 to 4294967295")?),
            "failure_ratio" => window.failure_ratio(optional(&value, |value| number("failure_ratio", value))?),
            "slow_call_ratio" => window.slow_call_ratio(optional(&value, |value| number("slow_call_ratio", value))?),
            "slow_call_seconds" => window.slow_call(optional(&value, |value| duration("slow_call_seconds", value))?),
            _ => window,
        };
    }
    window.build().map_err(|error| config_error(fields.py(), &error))
}

fn time_window(fields: &Bound<'_, PyDict>) -> PyResult<TimeWindow> {
    let mut window = TimeWindow::builder();
    for (name, value) in fields {
        window = match &*name.extract::<String>()? {
            "duration_seconds" => window.duration(duration("duration_seconds", &value)?),
            "buckets" => window.buckets(whole("buckets", &value, "10 to 1000")?),
            "minimum_calls" => window.minimum_calls(whole("minimum_calls", &value, "1 to 4294967295")?),
            "failure_ratio" => window.failure_ratio(optional(&value, |value| number("failure_ratio", value))?),
            "slow_call_ratio" => window.slow_call_ratio(optional(&value, |value| number("slow_call_ratio", value))?),
            "slow_call_seconds" => window.slow_call(optional(&value, |value| duration("slow_call_seconds", value))?),
            _ => window,
        };
    }
    window.build().map_err(|error| config_error(fields.py(), &error))
}

/// The fields of a dataclass.
fn fields_of<'py>(window: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    Ok(window.getattr("__dict__")?.cast_into()?)
}

fn optional<'py, T>(
    value: &Bound<'py, PyAny>,
    read: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<T>,
) -> PyResult<Option<T>> {
    if value.is_none() { Ok(None) } else { read(value).map(Some) }
}

/// A whole number. What the core cannot even hold is out of range as well, and of the range the caller knows the text.
pub(crate) fn whole(field: &'static str, value: &Bound<'_, PyAny>, allowed: &'static str) -> PyResult<u32> {
    let number = value
        .cast::<PyInt>()
        .map_err(|_| PyTypeError::new_err(format!("{field} must be an int, not {}", kind(value))))?;
    number.extract().map_err(|_| {
        let text = number.str().map_or_else(|_| "out of range".to_owned(), |text| text.to_string());
        config_error(value.py(), &ConfigError::new(field, text, allowed))
    })
}

pub(crate) fn number(field: &'static str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    value.extract().map_err(|_| PyTypeError::new_err(format!("{field} must be a number, not {}", kind(value))))
}

/// Refuses what says nothing of an error: only types, callables and tuples of them do.
pub(crate) fn check_errors(field: &'static str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Ok(several) = value.cast::<PyTuple>() {
        return several.iter().try_for_each(|one| check_errors(field, &one));
    }
    if value.is_callable() {
        return Ok(());
    }
    let kind = kind(value);
    Err(PyTypeError::new_err(format!("{field} must be an exception type, a predicate, or a tuple of them, not {kind}")))
}

pub(crate) fn check_callable(field: &'static str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    if value.is_none() || value.is_callable() {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!("{field} must be a predicate or None, not {}", kind(value))))
}

/// What is read of a field: seconds for a `timedelta`, all else as it was given.
fn as_read<'py>(name: &str, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if name.ends_with("_seconds") && value.hasattr("total_seconds")? {
        return value.call_method0("total_seconds");
    }
    Ok(value.clone())
}

fn all_as_read<'py>(fields: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
    let normal = PyDict::new(fields.py());
    for (name, value) in fields {
        normal.set_item(&name, as_read(name.extract::<String>()?.as_str(), &value)?)?;
    }
    Ok(normal)
}
