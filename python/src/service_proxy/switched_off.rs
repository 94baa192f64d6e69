//! Parts that a proxy may do without: `None` switches them off.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBool;
use service_mesh::{RetryBudget as CoreBudget, RetryBudgetConfig};

use crate::retry::RetryBudget;
use crate::seconds::kind;
use crate::testing::{ManualClock, environment};

/// `None` and `False` switch off.
pub(super) fn is_off(said: &Bound<'_, PyAny>) -> bool {
    said.is_none() || said.is(PyBool::new(said.py(), false))
}

/// The budget that was asked for: the default one, none, or one of its own.
pub(super) fn budget_of(
    budget: Option<&Bound<'_, PyAny>>,
    clock: Option<&Bound<'_, ManualClock>>,
) -> PyResult<Option<CoreBudget>> {
    let default = || CoreBudget::with_environment(RetryBudgetConfig::default(), environment(clock));
    match budget {
        None => Ok(Some(default())),
        Some(budget) if is_off(budget) => Ok(None),
        Some(budget) if budget.is_instance_of::<PyBool>() => Ok(Some(default())),
        Some(budget) if budget.is_instance_of::<RetryBudget>() => {
            Ok(Some(budget.cast::<RetryBudget>()?.get().core().clone()))
        }
        Some(budget) => {
            Err(PyTypeError::new_err(format!("budget must be a RetryBudget or None, not {}", kind(budget))))
        }
    }
}
