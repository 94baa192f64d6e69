//! One assignment to a configuration.

use std::sync::Arc;

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use service_mesh::{CircuitBreakerConfigBuilder, ConfigError};

use super::Rules;
use super::window::{count_window, fields_of, time_window};
use crate::field::{check_callable, check_errors, number, optional, whole};
use crate::seconds::duration;

/// Rules that are being changed.
pub(super) struct Draft {
    config: CircuitBreakerConfigBuilder,
    judges_on: bool,
    judges_ignore: bool,
    judges_results: bool,
}

impl Draft {
    pub(super) fn of(rules: &Rules) -> Self {
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

    pub(super) fn finish(self) -> Result<Rules, ConfigError> {
        Ok(Rules {
            config: Arc::new(self.config.build()?),
            judges_on: self.judges_on,
            judges_ignore: self.judges_ignore,
            judges_results: self.judges_results,
        })
    }
}

/// What an assignment changes, read from Python already: no Python code runs while it is applied.
pub(super) struct Change(Box<dyn FnOnce(Draft) -> Draft>);

impl Change {
    /// The assignment of one field. A name that is none of ours changes nothing.
    pub(super) fn of(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Self> {
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

    pub(super) fn apply(self, draft: Draft) -> Draft {
        self.0(draft)
    }
}

/// What the core allows for its counts.
const COUNTS: &str = "1 to 16777215";
