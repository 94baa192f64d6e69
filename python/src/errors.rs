//! The errors and enumerations of `models.py`, as Rust raises and returns them: looked up once.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use service_mesh::{CircuitState, ConfigError, RefusalReason};

use crate::guarded::CallOut;

/// What `models.py` defines and this crate needs. Looked up when it is first needed, since that module imports this one.
pub(crate) struct Models {
    circuit_open_error: Py<PyType>,
    no_healthy_instance_error: Py<PyType>,
    config_error: Py<PyType>,
    states: [Py<PyAny>; 3],
}

/// The looked-up parts of `models.py`.
pub(crate) fn models(py: Python<'_>) -> PyResult<&'static Models> {
    static MODELS: PyOnceLock<Models> = PyOnceLock::new();
    MODELS.get_or_try_init(py, || {
        let module = py.import("codomyrmex.service_mesh.models")?;
        let class = |name| Ok::<_, PyErr>(module.getattr(name)?.cast_into::<PyType>()?.unbind());
        let states = module.getattr("CircuitState")?;
        let state = |state: CircuitState| states.call1((state.as_str(),)).map(Bound::unbind);
        let [closed, open, half_open] = CircuitState::ALL;
        Ok(Models {
            circuit_open_error: class("CircuitOpenError")?,
            no_healthy_instance_error: class("NoHealthyInstanceError")?,
            config_error: class("ConfigError")?,
            states: [state(closed)?, state(open)?, state(half_open)?],
        })
    })
}

impl Models {
    /// The member of `CircuitState`.
    pub(crate) fn state(&self, state: CircuitState) -> &Py<PyAny> {
        &self.states[state as usize]
    }

    /// Whether an error says that a call was refused: the one that was called was not asked.
    pub(crate) fn is_refusal(&self, error: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = error.py();
        Ok(error.is_instance(self.circuit_open_error.bind(py))?
            || error.is_instance(self.no_healthy_instance_error.bind(py))?)
    }
}

/// An error that was raised while another was judged, with that one as its context, as Python does where one is handled.
pub(crate) fn while_handling(py: Python<'_>, raised: PyErr, judged: &Bound<'_, PyAny>) -> PyErr {
    if raised.context(py).is_none() && !raised.value(py).is(judged) {
        raised.set_context(py, Some(PyErr::from_value(judged.clone())));
    }
    raised
}

/// `CircuitOpenError`, with everything that is known.
pub(crate) fn circuit_open_error(
    py: Python<'_>,
    name: &str,
    reason: RefusalReason,
    retry_after: Option<Duration>,
    last_failure: Option<Py<PyAny>>,
) -> PyErr {
    let text = match reason {
        RefusalReason::HalfOpenFull => format!("Circuit {name} is half open and its probes are taken"),
        _ => format!("Circuit {name} is open"),
    };
    let build = || {
        let models = models(py)?;
        let known = PyDict::new(py);
        known.set_item("name", name)?;
        known.set_item("state", models.state(reason.state()))?;
        known.set_item("reason", reason.as_str())?;
        known.set_item("retry_after", retry_after.map(|wait| wait.as_secs_f64()))?;
        known.set_item("last_failure", last_failure)?;
        models.circuit_open_error.bind(py).call_out_with(&(text,).into_pyobject(py)?, Some(&known))
    };
    build().map_or_else(|error| error, PyErr::from_value)
}

/// `NoHealthyInstanceError` of a service.
pub(crate) fn no_healthy_instance_error(py: Python<'_>, service: &str) -> PyErr {
    let build = || {
        let known = PyDict::new(py);
        known.set_item("service", service)?;
        let text = format!("No healthy instances for {service}");
        models(py)?.no_healthy_instance_error.bind(py).call_out_with(&(text,).into_pyobject(py)?, Some(&known))
    };
    build().map_or_else(|error| error, PyErr::from_value)
}

/// `ConfigError`, which is a `ValueError` too.
pub(crate) fn config_error(py: Python<'_>, error: &ConfigError) -> PyErr {
    config_error_saying(py, error, &error.to_string())
}

/// The same with a text of its own.
pub(crate) fn config_error_saying(py: Python<'_>, error: &ConfigError, text: &str) -> PyErr {
    let build = || {
        let known = PyDict::new(py);
        known.set_item("field", error.field())?;
        known.set_item("value", error.value())?;
        known.set_item("allowed", error.allowed())?;
        models(py)?.config_error.bind(py).call_out_with(&(text,).into_pyobject(py)?, Some(&known))
    };
    build().map_or_else(|error| error, PyErr::from_value)
}
