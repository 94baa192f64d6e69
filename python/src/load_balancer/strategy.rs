//! How a balancer picks, by Python's words.

use std::str::FromStr;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use service_mesh::LoadBalancerStrategy;

use crate::guarded::CallOut;
use crate::seconds::kind;

/// The strategy that a member of `LoadBalancerStrategy` or its value names.
pub(super) fn strategy_of(value: &Bound<'_, PyAny>) -> PyResult<LoadBalancerStrategy> {
    let word = value.getattr_opt("value")?.unwrap_or_else(|| value.clone());
    let unknown = || {
        let words = LoadBalancerStrategy::ALL.map(|strategy| format!("{:?}", strategy.as_str())).join(", ");
        let text = value.repr().map_or_else(|_| kind(value), |text| text.to_string());
        PyValueError::new_err(format!("{text} is no load balancer strategy; there are {words}"))
    };
    let word = word.cast::<PyString>().map_err(|_| unknown())?;
    LoadBalancerStrategy::from_str(&word.to_string_lossy()).map_err(|_| unknown())
}

/// The member of `LoadBalancerStrategy`.
pub(super) fn member_of(py: Python<'_>, strategy: LoadBalancerStrategy) -> PyResult<Py<PyAny>> {
    let members = py.import("codomyrmex.service_mesh.models")?.getattr("LoadBalancerStrategy")?;
    members.call_out([PyString::new(py, strategy.as_str()).as_any()]).map(Bound::unbind)
}
