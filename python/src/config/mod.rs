//! `CircuitBreakerConfig` and its windows: checked, and alive.
//!
//! The dataclass in `models.py` is what Python sees; its base, [`CircuitBreakerRules`], has the same values as the core
//! takes them, and knows the breakers that use them. Every assignment is checked here first: if the new whole is valid, the
//! breakers are told, and only then is the attribute set. Assignments that race each change what the other has left.

mod change;
mod window;

use std::sync::{Arc, Mutex, MutexGuard, Weak};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple};
use service_mesh::{CircuitBreakerConfig, ConfigError};

use self::change::{Change, Draft};
use crate::errors::config_error;
use crate::field::as_read;
use crate::guarded::CallOut;
use crate::lock::lock;

pub(crate) use self::window::{count_window_rules, time_window_rules};

/// The fields that say what an error or a result means, and stay in Python.
pub(crate) const PREDICATES: [&str; 3] = ["on", "ignore", "failed_result"];

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
