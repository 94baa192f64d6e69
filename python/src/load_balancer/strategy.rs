//! How a balancer picks, by Python's words.

use std::str::FromStr;

use pyo3::prelude::*;
use pyo3::types::PyString;
use service_mesh::LoadBalancerStrategy;

use crate::guarded::CallOut;
use crate::suggestion::unknown_word;

/// The strategy that a member of `LoadBalancerStrategy` or its value names.
pub(super) fn strategy_of(value: &Bound<'_, PyAny>) -> PyResult<LoadBalancerStrategy> {
    let word = value.getattr_opt("value")?.unwrap_or_else(|| value.clone());
    let words = || LoadBalancerStrategy::ALL.map(LoadBalancerStrategy::as_str);
    let unknown = || unknown_word("strategy", value, "", &words());
    let word = word.cast::<PyString>().map_err(|_| unknown())?;
    LoadBalancerStrategy::from_str(&word.to_string_lossy()).map_err(|_| unknown())
}

/// The member of `LoadBalancerStrategy`.
pub(super) fn member_of(py: Python<'_>, strategy: LoadBalancerStrategy) -> PyResult<Py<PyAny>> {
    let members = py.import("codomyrmex.service_mesh.models")?.getattr("LoadBalancerStrategy")?;
    members.call_out([PyString::new(py, strategy.as_str()).as_any()]).map(Bound::unbind)
}
