//! The methods that take part in a call, where a subclass overrides them.

use std::borrow::Borrow;
use std::cell::RefCell;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;
use service_mesh::{CircuitBreaker as Core, Grant, OwnedPermit};

use super::CircuitBreaker;

/// Which of the methods that take part in a call are overridden in a subclass.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "one for each method, none of which excludes another")]
pub(super) struct Hooks {
    /// Any of them, or `execute`.
    pub(super) any: bool,
    pub(super) can_execute: bool,
    pub(super) record_success: bool,
    pub(super) record_failure: bool,
}

impl Hooks {
    pub(super) fn of(class: &Bound<'_, PyType>) -> PyResult<Self> {
        let py = class.py();
        let own = py.get_type::<CircuitBreaker>();
        if class.is(&own) {
            return Ok(Self::default());
        }
        let differs = |name| Ok::<_, PyErr>(!class.getattr(name)?.is(own.getattr(name)?));
        let can_execute = differs(intern!(py, "can_execute"))?;
        let record_success = differs(intern!(py, "record_success"))?;
        let record_failure = differs(intern!(py, "record_failure"))?;
        let any = can_execute || record_success || record_failure || differs(intern!(py, "execute"))?;
        Ok(Self { any, can_execute, record_success, record_failure })
    }
}

thread_local! {
    /// The permits whose verdict an overridden method is about to give: where that method calls ours, it is for them.
    static AT_VERDICT: RefCell<Vec<(usize, OwnedPermit)>> = const { RefCell::new(Vec::new()) };
}

/// Runs an overridden method; where it calls ours, that is the verdict on `permit`. If it does not, there is none.
pub(super) fn at_verdict<B: Borrow<Core>, R>(
    breaker: &Bound<'_, CircuitBreaker>,
    permit: Option<Grant<B>>,
    method: impl FnOnce() -> PyResult<R>,
) -> PyResult<()> {
    let Some(permit) = permit else { return method().map(drop) };
    let address = address(breaker.get());
    let depth = AT_VERDICT.with_borrow_mut(|permits| {
        permits.push((address, permit.into_owned()));
        permits.len() - 1
    });
    let result = method().map(drop);
    let left = AT_VERDICT.with_borrow_mut(|permits| (permits.len() > depth).then(|| permits.split_off(depth)));
    drop(left);
    result
}

/// The permit for which an overridden method of this breaker is running, once.
pub(super) fn permit_at_verdict(breaker: &CircuitBreaker) -> Option<OwnedPermit> {
    let address = address(breaker);
    let permit = AT_VERDICT.with_borrow_mut(|permits| permits.pop_if(|(whose, _)| *whose == address));
    permit.map(|(_, permit)| permit)
}

fn address(breaker: &CircuitBreaker) -> usize {
    std::ptr::from_ref(breaker).addr()
}
