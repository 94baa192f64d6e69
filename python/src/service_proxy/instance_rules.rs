//! The configuration of the instances' circuits, where they have one of their own.

use std::sync::{Arc, Mutex};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use service_mesh::CircuitBreakerConfig;

use crate::config::{CircuitBreakerRules, Follower, Rules};
use crate::guarded::CallOut;
use crate::lock::lock;
use crate::seconds::kind;

/// A configuration of the instances' own that has changed, and is taken up where it matters: before the next verdict.
#[derive(Default)]
pub(super) struct InstanceRules(Mutex<Option<Arc<CircuitBreakerConfig>>>);

impl InstanceRules {
    /// Goes by what was given, from now on. `circuit_breaker` is the service's.
    pub(super) fn follow(given: &Bound<'_, PyAny>, circuit_breaker: &Bound<'_, PyAny>) -> PyResult<Arc<Self>> {
        let config = given.cast::<CircuitBreakerRules>().map_err(|_| {
            let kind = kind(given);
            PyTypeError::new_err(format!("instance_circuit_breaker must be a CircuitBreakerConfig or None, not {kind}"))
        })?;
        if config.get().judges() {
            same_predicates(config.as_any(), circuit_breaker)?;
        }
        let this = Arc::new(Self::default());
        config.get().attach(&this);
        Ok(this)
    }

    /// The configuration, if it has changed since this was asked last; at first it has.
    pub(super) fn take_changed(&self) -> Option<Arc<CircuitBreakerConfig>> {
        lock(&self.0).take()
    }
}

impl Follower for InstanceRules {
    fn follow(&self, rules: &Rules) {
        *lock(&self.0) = Some(Arc::clone(&rules.config));
    }
}

/// What an attempt means is one thing to both circuits: the instances' configuration has no predicates of its own.
fn same_predicates(config: &Bound<'_, PyAny>, circuit_breaker: &Bound<'_, PyAny>) -> PyResult<()> {
    let of_service = circuit_breaker.getattr_opt("config")?;
    for name in ["on", "ignore", "failed_result"] {
        let (own, default) = (config.getattr(name)?, config.get_type().call_out([])?.getattr(name)?);
        let service = of_service.as_ref().map(|config| config.getattr_opt(name)).transpose()?.flatten();
        if !own.eq(&default)? && !service.is_some_and(|service| own.eq(service).unwrap_or(false)) {
            return Err(PyValueError::new_err(format!(
                "instance_circuit_breaker: {name} must be that of the service's circuit breaker, which judges for both"
            )));
        }
    }
    Ok(())
}
