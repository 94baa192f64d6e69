//! The calls that are driven here, in the thread of their caller: attempt, verdict, wait, and the next attempt.
//!
//! A call whose function turns out to give back a coroutine goes on in `service_proxy.py`, as a [`Call`].

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};
use service_mesh::{Attempt, Refused, ServiceProxy as Core};

use super::asked::{Asked, what_is_asked};
use super::attempt::{Memory, Next};
use super::call::Call;
use super::parts::Present;
use super::policy::Policy;
use super::{MODULE, ServiceProxy};
use crate::guarded::{CallOut, ImportOut, is_coroutine, is_coroutine_function};
use crate::sleep::sleep;

impl ServiceProxy {
    /// A call that was refused before its first attempt: of a coroutine function it is told when it is awaited.
    #[cold]
    pub(crate) fn refuse<'py>(
        slf: &Bound<'py, Self>,
        parts: &Present,
        refused: &Refused,
        func: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        if is_coroutine_function(func)? {
            return Self::call_async(slf, func, args, kwargs);
        }
        Err(parts.refusal(py, refused, None))
    }

    /// A call that is not the plain one.
    #[cold]
    pub(super) fn call_otherwise<'py>(
        slf: &Bound<'py, Self>,
        parts: &Present,
        asked: Option<&Bound<'py, Asked>>,
        func: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if parts.policy != Policy::Executes {
            return Self::call_with(slf, parts, asked, func, args, kwargs);
        }
        let py = slf.py();
        let asked = asked.map_or_else(|| py.None().into_bound(py), |asked| asked.as_any().clone());
        let before = [slf.getattr(intern!(py, "_call_once"))?, asked, func.clone()];
        let args = PyTuple::new(py, before.into_iter().chain(args.iter()).collect::<Vec<_>>())?;
        parts.retry_policy.bind(py).getattr(intern!(py, "execute"))?.call_out_with(&args, kwargs)
    }

    /// The call itself, from its begin.
    #[cold]
    pub(super) fn call_with<'py>(
        slf: &Bound<'py, Self>,
        parts: &Present,
        asked: Option<&Bound<'py, Asked>>,
        func: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let (options, mut memory) = what_is_asked(py, asked);
        let attempt = parts.admit(py, parts.core().begin(&options), &mut memory)?;
        let instance = parts.instance(py, &attempt)?;
        let result = parts.invoke(func, &instance, args, kwargs);
        Self::go_on(slf, parts, memory, attempt, result, func, args, kwargs)
    }

    /// A call whose first attempt has come back, with anything.
    #[cold]
    #[expect(clippy::too_many_arguments, reason = "all that a call is about")]
    pub(crate) fn go_on<'py>(
        slf: &Bound<'py, Self>,
        parts: &Present,
        mut memory: Memory,
        mut attempt: Attempt<&Core>,
        mut result: PyResult<Bound<'py, PyAny>>,
        func: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        static BEGUN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = slf.py();
        loop {
            if let Ok(coroutine) = &result
                && is_coroutine(coroutine)
            {
                let limit = attempt.time_left().map(|left| left.as_secs_f64());
                let call = Call::running(slf.clone().unbind(), parts.share(), attempt.into_owned(), memory);
                return BEGUN
                    .import_out(py, MODULE, "_begun")?
                    .call_out_with(&(call, coroutine, limit, func, args, kwargs).into_pyobject(py)?, None);
            }
            match parts.settle(py, attempt, result, &mut memory)? {
                Next::Return(result) => return Ok(result),
                Next::Retry { after, call } => {
                    sleep(py, parts.clock(py), after)?;
                    attempt = parts.admit(py, call, &mut memory)?;
                    let instance = parts.instance(py, &attempt)?;
                    result = parts.invoke(func, &instance, args, kwargs);
                }
            }
        }
    }
}
