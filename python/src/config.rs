//! `CircuitBreakerConfig` and its windows: checked, and alive.
//!
//! The dataclass in `models.py` is what Python sees; its base, [`CircuitBreakerRules`], has the same values as the core
//! takes them, and knows the breakers that use them. Every assignment is checked here first: if the new whole is valid, the
//! breakers are told, and only then is the attribute set. Assignments that race each change what the other has left.

use std::sync::{Arc, Mutex, MutexGuard, Weak};

use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyInt, PyString, PyTuple};
use service_mesh::{CircuitBreakerConfig, CircuitBreakerConfigBuilder, ConfigError, CountWindow, TimeWindow};

use crate::errors::config_error;
use crate::guarded::CallOut;
use crate::lock::lock;
use crate::seconds::{duration, finite_or_not, kind};

/// The fields that say what an error or a result means, and stay in Python.
pub(crate) const PREDICATES: [&str; 3] = ["on", "ignore", "failed_result"];

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
    /// Whether a predicate that is not the default may be assigned to this field; an error says why not.
    fn admit(&self, field: &str, predicate: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = (field, predicate);
        Ok(())
    }

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
            draft = Change::of(&name, &value)?.apply(draft);
            normal.set_item(&name, as_read(&name, &value)?)?;
        }
        let rules = draft.finish().map_err(|error| config_error(py, &error))?;
        let told = self.lock().publish(rules);
        drop(told);
        Ok(normal)
    }

    /// Assigns an attribute. A field is checked first, and those who go by it are told before the attribute is set; from one
    /// to the other no Python code runs, so that of two assignments that race the later one is what holds and what is read.
    fn _assign(slf: &Bound<'_, Self>, name: &Bound<'_, PyString>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        static SET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let (this, py) = (slf.get(), slf.py());
        let set =
            SET.get_or_try_init(py, || py.get_type::<PyAny>().getattr("__setattr__").map(Bound::unbind))?.bind(py);
        if !this.is_complete() {
            return set.call1((slf, name, value)).map(drop);
        }
        let word = name.to_string_lossy();
        let (change, normal) = (Change::of(&word, value)?, as_read(&word, value)?);
        if PREDICATES.contains(&&*word) && !value.eq(slf.get_type().getattr(name)?)? {
            this.followers().iter().try_for_each(|follower| follower.admit(&word, value))?;
        }
        this.change(change).map_err(|error| config_error(py, &error))?;
        set.call1((slf, name, normal)).map(drop)
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

    /// Whether it says of errors or results what they mean.
    pub(crate) fn judges(&self) -> bool {
        let live = self.lock();
        live.rules.judges_errors() || live.rules.judges_results
    }

    /// Whether the dataclass has given all its fields.
    pub(crate) fn is_complete(&self) -> bool {
        self.lock().complete
    }

    /// To be dropped without the lock: one of them may be the last to hold what it holds of Python's.
    fn followers(&self) -> Vec<Arc<dyn Follower>> {
        self.lock().followers.iter().filter_map(Weak::upgrade).collect()
    }

    /// Makes one change to what holds now, whoever has changed it meanwhile.
    fn change(&self, change: Change) -> Result<(), ConfigError> {
        let mut live = self.lock();
        let rules = change.apply(Draft::of(&live.rules)).finish()?;
        let told = live.publish(rules);
        drop(live);
        drop(told);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        lock(&self.live)
    }
}

impl Live {
    /// Under the lock, so that of two assignments that race the later one is the last that everybody hears of. It is Rust
    /// alone that runs here: so those who were told are to be dropped without the lock.
    #[must_use]
    fn publish(&mut self, rules: Rules) -> Vec<Arc<dyn Follower>> {
        self.complete = true;
        self.rules = rules;
        let followers: Vec<_> = self.followers.iter().filter_map(Weak::upgrade).collect();
        for follower in &followers {
            follower.follow(&self.rules);
        }
        followers
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

    fn with(mut self, set: impl FnOnce(CircuitBreakerConfigBuilder) -> CircuitBreakerConfigBuilder) -> Self {
        self.config = set(self.config);
        self
    }

    fn finish(self) -> Result<Rules, ConfigError> {
        Ok(Rules {
            config: Arc::new(self.config.build()?),
            judges_on: self.judges_on,
            judges_ignore: self.judges_ignore,
            judges_results: self.judges_results,
        })
    }
}

/// What an assignment changes, read from Python already: no Python code runs while it is applied.
struct Change(Box<dyn FnOnce(Draft) -> Draft>);

impl Change {
    /// The assignment of one field. A name that is none of ours changes nothing.
    fn of(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let change: Box<dyn FnOnce(Draft) -> Draft> = match name {
            "failure_threshold" => {
                let threshold = whole("failure_threshold", value, COUNTS)?;
                Box::new(move |draft| draft.with(|config| config.failure_threshold(threshold)))
            }
            "success_threshold" => {
                let threshold = whole("success_threshold", value, COUNTS)?;
                Box::new(move |draft| draft.with(|config| config.success_threshold(threshold)))
            }
            "half_open_max_calls" => {
                let calls = whole("half_open_max_calls", value, COUNTS)?;
                Box::new(move |draft| draft.with(|config| config.half_open_max_calls(calls)))
            }
            "consecutive" => {
                let consecutive = value.is_truthy()?;
                Box::new(move |draft| draft.with(|config| config.consecutive(consecutive)))
            }
            "timeout_multiplier" => {
                let multiplier = number("timeout_multiplier", value)?;
                Box::new(move |draft| draft.with(|config| config.timeout_multiplier(multiplier)))
            }
            "timeout_jitter_ratio" => {
                let ratio = number("timeout_jitter_ratio", value)?;
                Box::new(move |draft| draft.with(|config| config.timeout_jitter_ratio(ratio)))
            }
            "timeout_seconds" => {
                let timeout = duration("timeout_seconds", value)?;
                Box::new(move |draft| draft.with(|config| config.timeout(timeout)))
            }
            "timeout_max_seconds" => {
                let max = optional(value, |value| duration("timeout_max_seconds", value))?;
                Box::new(move |draft| draft.with(|config| config.timeout_max(max)))
            }
            "probe_timeout_seconds" => {
                let timeout = optional(value, |value| duration("probe_timeout_seconds", value))?;
                Box::new(move |draft| draft.with(|config| config.probe_timeout(timeout)))
            }
            "count_window" => {
                let window = optional(value, |value| count_window(&fields_of(value, "count_window", "CountWindow")?))?;
                Box::new(move |draft| draft.with(|config| config.count_window(window)))
            }
            "time_window" => {
                let window = optional(value, |value| time_window(&fields_of(value, "time_window", "TimeWindow")?))?;
                Box::new(move |draft| draft.with(|config| config.time_window(window)))
            }
            "on" => {
                check_errors("on", value)?;
                let judges_on = !value.is(value.py().get_type::<PyException>());
                Box::new(move |draft| Draft { judges_on, ..draft })
            }
            "ignore" => {
                check_errors("ignore", value)?;
                let judges_ignore = !value.cast::<PyTuple>().is_ok_and(PyTupleMethods::is_empty);
                Box::new(move |draft| Draft { judges_ignore, ..draft })
            }
            "failed_result" => {
                check_callable("failed_result", value)?;
                let judges_results = !value.is_none();
                Box::new(move |draft| Draft { judges_results, ..draft })
            }
            _ => Box::new(|draft| draft),
        };
        Ok(Self(change))
    }

    fn apply(self, draft: Draft) -> Draft {
        self.0(draft)
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
    let made = |class: &str, fields: &Bound<'py, PyDict>| {
        let models = py.import("codomyrmex.service_mesh.models")?;
        models.getattr(class)?.call_out_with(&PyTuple::empty(py), Some(fields))
    };
    if let Some(window) = config.count_window() {
        let given = PyDict::new(py);
        given.set_item("size", window.size())?;
        given.set_item("minimum_calls", window.minimum_calls())?;
        given.set_item("failure_ratio", window.failure_ratio())?;
        given.set_item("slow_call_ratio", window.slow_call_ratio())?;
        given.set_item("slow_call_seconds", window.slow_call().map(|time| time.as_secs_f64()))?;
        fields.set_item("count_window", made("CountWindow", &given)?)?;
    }
    if let Some(window) = config.time_window() {
        let given = PyDict::new(py);
        given.set_item("duration_seconds", window.duration().as_secs_f64())?;
        given.set_item("buckets", window.buckets())?;
        given.set_item("minimum_calls", window.minimum_calls())?;
        given.set_item("failure_ratio", window.failure_ratio())?;
        given.set_item("slow_call_ratio", window.slow_call_ratio())?;
        given.set_item("slow_call_seconds", window.slow_call().map(|time| time.as_secs_f64()))?;
        fields.set_item("time_window", made("TimeWindow", &given)?)?;
    }
    Ok(made("CircuitBreakerConfig", &fields)?.cast_into()?)
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

/// The fields of a window, which is an instance of this class of ours.
fn fields_of<'py>(window: &Bound<'py, PyAny>, field: &str, class: &str) -> PyResult<Bound<'py, PyDict>> {
    let py = window.py();
    if !window.is_instance(&py.import("codomyrmex.service_mesh.models")?.getattr(class)?)? {
        return Err(PyTypeError::new_err(format!("{field} must be a {class} or None, not {}", kind(window))));
    }
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

/// Any number. An integer that no float can hold is read as infinite, and told to be out of range by whoever asks for it.
pub(crate) fn number(field: &'static str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    finite_or_not(value).map_err(|_| PyTypeError::new_err(format!("{field} must be a number, not {}", kind(value))))
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
