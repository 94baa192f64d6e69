//! The decorated sync function: a callable that costs a few nanoseconds more than the function that it guards.
//!
//! `#[pyclass] __call__` builds a tuple and a dict for each call, since `PyO3` knows no vectorcall for it (its issue 4252);
//! with a keyword that costs 190 ns. This is a heap type over `pyo3::ffi` that hands the arguments on where they lie. It is
//! what a function is to Python: it binds as a method, has a `__dict__` for `functools.update_wrapper`, is seen by the
//! garbage collector, may be referenced weakly, and pickles by its qualified name.
//!
//! All the `unsafe` of this crate is in this module: [`class`] is the type, [`kind`] what it does when it is called, [`pair`] the
//! ways that a call can go, [`method`] the same for `execute`, and [`call_out`] how Python is called back. What the SAFETY
//! comments of all of them lean on:
//!
//! 1. The interpreter calls a slot of a type attached to the thread, with a receiver of that type, and keeps the receiver and
//!    the arguments alive until the slot returns.
//! 2. A `Guarded` is made by `make` alone, which fills every field before anybody else sees the object.
//! 3. `func` and `guard` are strong references, set once and released by `clear` or `dealloc` alone. The collector calls
//!    `clear` for what nobody can reach, so that no call is under way then or begins later, and `dealloc` comes last.
//! 4. A reference that the interpreter gives back as new is ours, and becomes one [`Bound`] or is handed on once.
#![allow(unsafe_code, reason = "the one module of this crate that may")]

mod arguments;
mod attached;
mod call_out;
mod class;
mod coroutine;
mod kind;
mod method;
mod pair;

use std::sync::Arc;

use pyo3::ffi;
use pyo3::prelude::*;

use self::class::make;
use self::kind::{Begin, Native, Succeed, WithCircuitBreaker, WithRetry};
use self::method::add_method;
use crate::circuit_breaker::CircuitBreaker;
use crate::retry::RetryPolicy;
use crate::service_proxy::ServiceProxy;

pub(crate) use self::call_out::{CallOut, ImportOut, callable};
pub(crate) use self::coroutine::{is_coroutine, is_coroutine_function};

/// Puts a breaker before a sync function.
#[pyfunction]
pub(crate) fn guard_with_circuit_breaker<'py>(
    func: &Bound<'py, PyAny>,
    breaker: &Bound<'py, CircuitBreaker>,
) -> PyResult<Bound<'py, PyAny>> {
    let circuit = Arc::clone(breaker.get().circuit());
    make::<WithCircuitBreaker>(func, breaker.as_any(), Native::Circuit { core: circuit.core().clone(), circuit })
}

/// `breaker._begin`, and `breaker._succeed` that gives the result back, for a closure that calls them for every call: a
/// method of `PyO3`'s costs 15 ns more each.
#[pyfunction]
pub(crate) fn halves_of_a_call<'py>(
    breaker: &Bound<'py, CircuitBreaker>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let circuit = breaker.get().circuit();
    let native = || Native::Circuit { core: circuit.core().clone(), circuit: Arc::clone(circuit) };
    let none = breaker.py().None().into_bound(breaker.py());
    Ok((make::<Begin>(&none, breaker.as_any(), native())?, make::<Succeed>(&none, breaker.as_any(), native())?))
}

/// Puts a retry policy before a sync function.
#[pyfunction]
pub(crate) fn guard_with_retry_policy<'py>(
    func: &Bound<'py, PyAny>,
    policy: &Bound<'py, RetryPolicy>,
) -> PyResult<Bound<'py, PyAny>> {
    make::<WithRetry>(func, policy.as_any(), Native::Policy(Arc::clone(policy.get().switches())))
}

/// The address of the frame that called us.
pub(crate) fn calling_frame(_py: Python<'_>) -> usize {
    // SAFETY: the token shows that we are attached; the frame is not touched.
    unsafe { ffi::PyEval_GetFrame() }.addr()
}

/// Looks up what the hot path compares with, and what could not be imported any more while the interpreter finalizes.
pub(crate) fn prepare(py: Python<'_>) -> PyResult<()> {
    class::prepare(py)?;
    call_out::prepare();
    coroutine::prepare(py)?;
    add_method::<CircuitBreaker>(py)?;
    add_method::<RetryPolicy>(py)?;
    add_method::<ServiceProxy>(py)
}
