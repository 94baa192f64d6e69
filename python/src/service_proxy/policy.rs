//! The retry policy of a proxy, whoever made it: who retries, and how at present.

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use service_mesh::{Jitter, RetryBudget as CoreBudget, RetryConfig};

use crate::errors::config_error;
use crate::field::{number, whole};
use crate::retry::{RetryPolicy, jitter_as_read};
use crate::seconds::duration;

/// Who retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// The core.
    Ours,
    /// The core, after the waits of a subclass.
    Delays,
    /// A policy that runs the calls itself; each is one attempt here.
    Executes,
}

impl Policy {
    pub(super) fn of(retry_policy: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(if overrides(retry_policy, "execute")? {
            Self::Executes
        } else if overrides(retry_policy, "get_delay")? {
            Self::Delays
        } else {
            Self::Ours
        })
    }
}

/// Whether a policy is not ours, or a subclass has this method of its own.
fn overrides(policy: &Bound<'_, PyAny>, method: &str) -> PyResult<bool> {
    let ours = policy.py().get_type::<RetryPolicy>();
    if policy.get_type().is(&ours) {
        return Ok(false);
    }
    match policy.get_type().getattr_opt(method)? {
        Some(own) => Ok(!own.is(ours.getattr(method)?)),
        None => Ok(false),
    }
}

/// How a policy retries now: its fields may be assigned at any time. One that is not ours is read by attribute.
pub(super) fn retry_config(policy: &Bound<'_, PyAny>) -> PyResult<RetryConfig> {
    let py = policy.py();
    if let Ok(ours) = policy.cast::<RetryPolicy>() {
        return Ok(ours.get().core().config().clone());
    }
    let mut config = RetryConfig::builder();
    if let Some(retries) = policy.getattr_opt(intern!(py, "max_retries"))? {
        config = config.max_retries(whole("max_retries", &retries, "0 to 4294967295")?);
    }
    if let Some(delay) = policy.getattr_opt(intern!(py, "initial_delay"))? {
        config = config.initial_delay(duration("initial_delay", &delay)?);
    }
    if let Some(delay) = policy.getattr_opt(intern!(py, "max_delay"))? {
        config = config.max_delay(duration("max_delay", &delay)?);
    }
    if let Some(base) = policy.getattr_opt(intern!(py, "exponential_base"))? {
        config = config.exponential_base(number("exponential_base", &base)?);
    }
    if let Some(jitter) = policy.getattr_opt(intern!(py, "jitter"))? {
        config = config.jitter(jitter_of(&jitter)?);
    }
    if let Some(longest) = policy.getattr_opt(intern!(py, "retry_after_max"))? {
        config = config.retry_after_max(duration("retry_after_max", &longest)?);
    }
    config.build().map_err(|error| config_error(py, &error))
}

fn jitter_of(jitter: &Bound<'_, PyAny>) -> PyResult<Jitter> {
    match jitter.cast::<PyString>() {
        Ok(word) => word.to_string_lossy().parse().map_err(|error| PyValueError::new_err(format!("jitter: {error}"))),
        Err(_) => Ok(Jitter::from(jitter.is_truthy()?)),
    }
}

/// The attributes of a policy that retries so.
pub(super) fn retry_fields<'py>(py: Python<'py>, config: &RetryConfig) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("max_retries", config.max_retries())?;
    fields.set_item("initial_delay", config.initial_delay().as_secs_f64())?;
    fields.set_item("max_delay", config.max_delay().as_secs_f64())?;
    fields.set_item("exponential_base", config.exponential_base())?;
    fields.set_item("jitter", jitter_as_read(py, config.jitter())?)?;
    fields.set_item("retry_after_max", config.retry_after_max().as_secs_f64())?;
    Ok(fields)
}

/// The budget that a policy of ours was given; it counts in place of the proxy's.
pub(super) fn budget_of_policy(policy: &Bound<'_, PyAny>) -> Option<CoreBudget> {
    policy.cast::<RetryPolicy>().ok().and_then(|policy| policy.get().core().budget().cloned())
}
