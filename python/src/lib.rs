//! The extension module `codomyrmex.service_mesh._native`: what decides, for Python.
//!
//! Decisions stay in the `service-mesh` crate, and what Python people subclass, print, copy and match stays in Python
//! (`codomyrmex/service_mesh/models.py`). Here is what lies between: classes whose state is in Rust, and the one step that
//! each call takes across the border.
//!
//! # Rules of this crate
//! - Classes are frozen: all their state is atomic, or behind a lock that is held for a few instructions. No Python code
//!   runs under a lock, so that nobody waits for a lock whose holder waits for the interpreter.
//! - Python objects that a class keeps are shown to the garbage collector (`__traverse__`).
//! - `unsafe` stands in one module, `guarded`, each with a numbered argument.
#![deny(unsafe_code)]
#![allow(
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    clippy::trivially_copy_pass_by_ref,
    reason = "the signatures that Python's arguments are extracted into"
)]

mod answer;
mod circuit_breaker;
mod config;
mod errors;
mod event;
mod field;
mod filled;
mod guarded;
mod instance;
mod interpreter;
mod load_balancer;
mod lock;
mod log;
mod measures;
mod mesh;
mod predicates;
mod retry;
mod said;
mod seconds;
mod service_proxy;
mod sleep;
mod story;
mod suggestion;
mod testing;
mod unbegun;

use pyo3::prelude::*;

/// Made by `import codomyrmex.service_mesh`; nobody imports it by hand.
#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::circuit_breaker::CircuitBreaker;
    #[pymodule_export]
    use crate::circuit_breaker::Permit;
    #[pymodule_export]
    use crate::config::{CircuitBreakerRules, count_window_rules, time_window_rules};
    #[pymodule_export]
    use crate::guarded::{guard_with_circuit_breaker, guard_with_retry_policy, halves_of_a_call};
    #[pymodule_export]
    use crate::instance::InstanceState;
    #[pymodule_export]
    use crate::interpreter::claim_interpreter;
    #[pymodule_export]
    use crate::load_balancer::Lease;
    #[pymodule_export]
    use crate::load_balancer::LoadBalancer;
    #[pymodule_export]
    use crate::measures::Measures;
    #[pymodule_export]
    use crate::mesh::Mesh;
    #[pymodule_export]
    use crate::retry::{RetryBudget, RetryCall, RetryPolicy};
    #[pymodule_export]
    use crate::service_proxy::Call;
    #[pymodule_export]
    use crate::service_proxy::{Asked, ServiceProxy};
    #[pymodule_export]
    use crate::testing::{ManualClock, switch_testing};
    #[pymodule_export]
    use crate::unbegun::Unbegun;

    #[pymodule_init]
    fn prepare(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        crate::guarded::prepare(module.py())
    }
}
