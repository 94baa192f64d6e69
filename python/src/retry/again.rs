//! All attempts of a call after the first: what came of one, the wait, and the next.

use std::time::Duration;

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{IntoPyObjectExt, intern};
use service_mesh::{Answer, Retrying};

use super::call::RetryCall;
use super::switches::{DELAY, RESULTS};
use super::{HELPERS, RetryPolicy};
use crate::errors::while_handling;
use crate::guarded::{CallOut, ImportOut};
use crate::predicates::{failed_answer, raised_answer};
use crate::seconds::duration;
use crate::sleep::sleep;
use crate::{log, testing};

impl RetryPolicy {
    /// All attempts after the first, which came to `result`.
    #[cold]
    pub(crate) fn again<'py>(
        slf: &Bound<'py, Self>,
        began: Option<Retrying>,
        mut result: PyResult<Bound<'py, PyAny>>,
        call: &mut dyn FnMut() -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let mut retrying = began.unwrap_or_else(|| slf.get().retrying());
        loop {
            let wait = match &result {
                Ok(value) => Self::wait_after_result(slf, &mut retrying, value)?,
                Err(error) => {
                    let value = error.value(py).as_any();
                    Self::wait_after_error(slf, &mut retrying, value)
                        .map_err(|mistake| while_handling(py, mistake, value))?
                }
            };
            let Some(wait) = wait else { return result };
            // Let go of before the wait: what an attempt held is not held for seconds more.
            drop(result);
            sleep(py, slf.get().clock(py), wait)?;
            result = call();
        }
    }

    /// How long to wait after this error, none if it is the last; then it has a note of the attempts.
    pub(super) fn wait_after_error(
        slf: &Bound<'_, Self>,
        retrying: &mut Retrying,
        error: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Duration>> {
        let answer = raised_answer(slf.as_any(), error)?;
        let wait = Self::wait_after(slf, retrying, &answer)?;
        if wait.is_none() && retrying.attempts() > 1 && error.is_instance_of::<PyException>() {
            note_attempts(error, retrying.attempts());
        }
        Ok(wait)
    }

    pub(super) fn wait_after_result(
        slf: &Bound<'_, Self>,
        retrying: &mut Retrying,
        result: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Duration>> {
        if !slf.get().switches.has(RESULTS) {
            return Ok(None);
        }
        let answer = failed_answer(slf.as_any(), result)?;
        Self::wait_after(slf, retrying, &answer)
    }

    fn wait_after(slf: &Bound<'_, Self>, retrying: &mut Retrying, answer: &Answer) -> PyResult<Option<Duration>> {
        let attempts = retrying.attempts();
        if testing::attempts_at_most().is_some_and(|most| attempts >= most) {
            return Ok(None);
        }
        let Some(wait) = retrying.wait_after(answer, None) else { return Ok(None) };
        log::retry(slf.py(), attempts, wait);
        if !slf.get().switches.has(DELAY) {
            return Ok(Some(testing::wait(wait)));
        }
        let number = (attempts - 1).into_bound_py_any(slf.py())?;
        let own = slf.getattr(intern!(slf.py(), "get_delay"))?.call_out([&number])?;
        let own = duration("get_delay", &own)?;
        Ok(Some(testing::wait(own.max(answer.earliest_retry().unwrap_or_default()))))
    }
}

/// The awaited call, whose first coroutine there is already.
pub(super) fn awaited<'py>(
    policy: &Bound<'py, RetryPolicy>,
    began: Option<Retrying>,
    func: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
    first: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    static AWAITED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let call = began.map(|retrying| RetryCall::new(policy, retrying));
    AWAITED
        .import_out(policy.py(), HELPERS, "awaited")?
        .call_out_with(&(policy, call, func, args, kwargs, first).into_pyobject(policy.py())?, None)
}

/// The same for a decorated function, which hands on what it got from it.
#[cold]
pub(crate) fn awaited_coroutine<'py>(
    policy: &Bound<'py, RetryPolicy>,
    began: Option<Retrying>,
    func: &Bound<'py, PyAny>,
    args: Vec<Bound<'py, PyAny>>,
    kwargs: Option<&Bound<'py, PyDict>>,
    first: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    awaited(policy, began, func, &PyTuple::new(policy.py(), args)?, kwargs, first)
}

/// Says of an error that is about to be raised how many attempts there were.
fn note_attempts(error: &Bound<'_, PyAny>, attempts: u32) {
    let note = || error.call_method1("add_note", (format!("the call failed after {attempts} attempts"),));
    // An error that takes no notes is as good without.
    drop(note());
}
