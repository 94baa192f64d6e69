//! `RetryBudget`: the core's budget as a Python object.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use service_mesh::{RetryBudget as Core, RetryBudgetConfig};

use crate::errors::config_error;
use crate::field::number;
use crate::said::Said;
use crate::testing::{ManualClock, environment};

/// Bounds the retries of all who share it: in any 10 seconds at most `ratio` times the calls, and `floor_per_second` times
/// 10. A retry that it does not grant is not made, and the call comes to the error that it has.
#[pyclass(frozen, subclass, weakref, module = "codomyrmex.service_mesh")]
#[derive(Debug)]
pub(crate) struct RetryBudget {
    core: Core,
}

#[pymethods]
impl RetryBudget {
    #[new]
    #[pyo3(
        signature = (ratio=Said::Nothing, floor_per_second=Said::Nothing, *, clock=None),
        text_signature = "(ratio=0.2, floor_per_second=10.0, *, clock=None)"
    )]
    fn new(
        py: Python<'_>,
        ratio: Said<'_>,
        floor_per_second: Said<'_>,
        clock: Option<&Bound<'_, ManualClock>>,
    ) -> PyResult<Self> {
        let mut config = RetryBudgetConfig::builder();
        if let Some(ratio) = ratio.this() {
            config = config.ratio(number("ratio", &ratio)?);
        }
        if let Some(floor) = floor_per_second.this() {
            config = config.floor_per_second(number("floor_per_second", &floor)?);
        }
        let config = config.build().map_err(|error| config_error(py, &error))?;
        Ok(Self { core: Core::with_environment(config, environment(clock)) })
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

    /// Retries that one call earns. 0 to 10, default 0.2.
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
    pub(crate) fn core(&self) -> &Core {
        &self.core
    }
}
