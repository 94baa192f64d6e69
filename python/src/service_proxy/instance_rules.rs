//! The configuration of the instances' circuits, where they have one of their own.

use std::sync::{Arc, Mutex};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use service_mesh::CircuitBreakerConfig;

use crate::config::{CircuitBreakerRules, Follower, PREDICATES, Rules};
use crate::lock::lock;
use crate::seconds::kind;

/// Who goes by that configuration. What an attempt means is one thing to both circuits, so that it may have no predicates but
/// those of the service's.
pub(super) struct InstanceRules {
    /// What has changed, and is taken up where it matters: before the next verdict.
    changed: Mutex<Option<Arc<CircuitBreakerConfig>>>,
    /// The service's.
    circuit_breaker: Py<PyAny>,
}

impl InstanceRules {
    /// Goes by what was given, from now on.
    pub(super) fn follow(given: &Bound<'_, PyAny>, circuit_breaker: &Bound<'_, PyAny>) -> PyResult<Arc<Self>> {
        let config = given.cast::<CircuitBreakerRules>().map_err(|_| {
            let kind = kind(given);
            PyTypeError::new_err(format!("instance_circuit_breaker must be a CircuitBreakerConfig or None, not {kind}"))
        })?;
        let this = Arc::new(Self { changed: Mutex::default(), circuit_breaker: circuit_breaker.clone().unbind() });
        if config.get().judges() {
            for field in PREDICATES {
                let predicate = config.getattr(field)?;
                if !predicate.eq(config.get_type().getattr(field)?)? {
                    this.admit(field, &predicate)?;
                }
            }
        }
        config.get().attach(&this);
        Ok(this)
    }

    /// The configuration, if it has changed since this was asked last; at first it has.
    pub(super) fn take_changed(&self) -> Option<Arc<CircuitBreakerConfig>> {
        lock(&self.changed).take()
    }

    pub(super) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.circuit_breaker)
    }
}

impl Follower for InstanceRules {
    fn admit(&self, field: &str, predicate: &Bound<'_, PyAny>) -> PyResult<()> {
        let of_service = self.circuit_breaker.bind(predicate.py()).getattr_opt("config")?;
        let of_service = of_service.map(|config| config.getattr_opt(field)).transpose()?.flatten();
        if of_service.is_some_and(|of_service| predicate.eq(of_service).unwrap_or(false)) {
            return Ok(());
        }
        Err(PyValueError::new_err(format!(
            "instance_circuit_breaker: {field} must be that of the service's circuit breaker, which judges for both"
        )))
    }

    fn follow(&self, rules: &Rules) {
        *lock(&self.changed) = Some(Arc::clone(&rules.config));
    }
}
