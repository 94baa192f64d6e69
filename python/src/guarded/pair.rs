//! A function and what guards it, and every way that a call of the two can go.
//!
//! The numbers in the SAFETY comments are those of [`super`].

use std::ptr::{self, NonNull};

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use service_mesh::{Attempt, CircuitBreaker as Core, Permit, Refusal, Refused, Retrying, ServiceProxy as ProxyCore};

use super::arguments::Arguments;
use super::attached::{attached, attached_with};
use super::call_out::{CallOut, vectorcall};
use super::coroutine::{is_coroutine, is_coroutine_at};
use crate::circuit_breaker::{Circuit, CircuitBreaker};
use crate::retry::{RetryPolicy, Switches, awaited_coroutine};
use crate::service_proxy::{Memory, Parts, Present, ServiceProxy};

/// A function, and what guards it for a call: in a decorated function, or in the hands of whoever calls `execute`. Both are
/// alive for as long as the call: see 1 and 3.
#[repr(C)]
pub(super) struct Pair {
    /// The function that is guarded.
    pub(super) func: *mut ffi::PyObject,
    /// The `CircuitBreaker` or `RetryPolicy`.
    pub(super) guard: *mut ffi::PyObject,
}

/// The name of a method.
pub(super) type Name = fn(Python<'_>) -> &Bound<'_, PyString>;

/// So many arguments are handed on with the instance before them without a look at the heap.
const FEW: usize = 6;

impl Pair {
    /// Calls the function with an instance, and the caller's arguments behind it.
    #[inline]
    pub(super) fn run_with(&self, instance: &Py<PyAny>, arguments: Arguments) -> *mut ffi::PyObject {
        let Arguments { values, count, names } = arguments;
        // SAFETY: a pure function of a number.
        let positional = unsafe { ffi::PyVectorcall_NARGS(count) }.unsigned_abs();
        // SAFETY: by 1; the names are a tuple, if there are any.
        let named = if names.is_null() { 0 } else { unsafe { ffi::PyTuple_Size(names) }.unsigned_abs() };
        if positional + named > FEW {
            return self.run_with_many(instance, arguments);
        }
        // The first place is the callee's to write to, which saves a bound method a copy.
        let mut all = [ptr::null_mut(); 2 + FEW];
        all[1] = instance.as_ptr();
        // SAFETY: by 1, `values` holds so many arguments, and there is room for them.
        unsafe { ptr::copy_nonoverlapping(values, all[2..].as_mut_ptr(), positional + named) };
        let count = (1 + positional) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        // SAFETY: by 1 and 3; the instance is alive for as long as its borrow, and what lies before it may be written to.
        unsafe { vectorcall(self.func, all.as_mut_ptr().add(1), count, names) }
    }

    /// The same with many arguments.
    #[cold]
    pub(super) fn run_with_many(&self, instance: &Py<PyAny>, arguments: Arguments) -> *mut ffi::PyObject {
        attached(|py| {
            let (positional, keywords) = arguments.collect(py)?;
            let all = PyTuple::new(py, [instance.bind(py).clone()].into_iter().chain(positional).collect::<Vec<_>>())?;
            self.func(py).call_out_with(&all, keywords.as_ref())
        })
    }

    /// The same with an instance that no Python code has seen yet.
    #[cold]
    pub(super) fn run_with_new_object(
        &self,
        parts: &Parts,
        attempt: &Attempt<&ProxyCore>,
        arguments: Arguments,
    ) -> *mut ffi::PyObject {
        let made = attached_with(|py| parts.instance(py, attempt).map(Bound::unbind));
        made.map_or(ptr::null_mut(), |instance| self.run_with(&instance, arguments))
    }

    /// What follows the first attempt of a proxy's call where that was no plain success.
    #[cold]
    pub(super) fn go_on(
        &self,
        parts: &Present,
        attempt: Attempt<&ProxyCore>,
        first: Option<NonNull<ffi::PyObject>>,
        arguments: Arguments,
    ) -> *mut ffi::PyObject {
        attached(|py| {
            // SAFETY: by 4; without a result there is an error.
            let first = unsafe { Bound::from_owned_ptr_or_err(py, first.map_or(ptr::null_mut(), NonNull::as_ptr)) };
            let proxy = self.guard(py).cast_into::<ServiceProxy>()?;
            let (positional, keywords) = arguments.collect(py)?;
            let positional = PyTuple::new(py, positional)?;
            let (func, memory) = (self.func(py), Memory::default());
            ServiceProxy::go_on(&proxy, parts, memory, attempt, first, &func, &positional, keywords.as_ref())
        })
    }

    /// What a proxy's caller gets whose call was refused before its first attempt.
    #[cold]
    pub(super) fn refuse_call(&self, parts: &Present, refused: &Refused, arguments: Arguments) -> *mut ffi::PyObject {
        attached(|py| {
            let proxy = self.guard(py).cast_into::<ServiceProxy>()?;
            let (positional, keywords) = arguments.collect(py)?;
            let positional = PyTuple::new(py, positional)?;
            ServiceProxy::refuse(&proxy, parts, refused, &self.func(py), &positional, keywords.as_ref())
        })
    }

    /// A call for which the circuit has given this number.
    #[inline]
    pub(super) fn run_admitted(
        &self,
        core: &Core,
        circuit: &Circuit,
        number: u64,
        arguments: Arguments,
    ) -> *mut ffi::PyObject {
        let result = self.run(arguments);
        match NonNull::new(result) {
            Some(value) if circuit.is_plain() && !is_coroutine_at(value) => {
                core.permit_of(number).success();
                result
            }
            value => self.settle(core.permit_of(number), value),
        }
    }

    /// A call that nobody counts, and whose result nobody judges.
    #[inline]
    pub(super) fn run_and_retry(&self, arguments: Arguments) -> *mut ffi::PyObject {
        let result = self.run(arguments);
        match NonNull::new(result) {
            Some(value) if !is_coroutine_at(value) => result,
            value => self.retry(None, value, arguments),
        }
    }

    /// Calls the function with the caller's arguments.
    #[inline]
    pub(super) fn run(&self, Arguments { values, count, names }: Arguments) -> *mut ffi::PyObject {
        // SAFETY: by 1 and 3. The flag in `count`, that `values[-1]` may be written meanwhile, is our caller's promise, and we
        // do not use it ourselves.
        unsafe { vectorcall(self.func, values, count, names) }
    }

    /// A call that is a probe, or timed, or refused.
    #[cold]
    pub(super) fn ask_and_run(&self, core: &Core, arguments: Arguments) -> *mut ffi::PyObject {
        match core.try_acquire() {
            Ok(permit) => {
                let result = self.run(arguments);
                self.settle(permit, NonNull::new(result))
            }
            Err(refusal) => self.refuse(refusal),
        }
    }

    /// A result that is more than a success, or an error if there is none.
    #[cold]
    pub(super) fn settle(&self, permit: Permit<'_>, result: Option<NonNull<ffi::PyObject>>) -> *mut ffi::PyObject {
        attached(|py| {
            let breaker = self.guard(py).cast_into::<CircuitBreaker>()?;
            // SAFETY: by 4; without a result there is an error.
            let result = unsafe { Bound::from_owned_ptr_or_err(py, result.map_or(ptr::null_mut(), NonNull::as_ptr)) };
            CircuitBreaker::settle(&breaker, Some(permit), result)
        })
    }

    #[cold]
    pub(super) fn refuse(&self, refusal: Refusal) -> *mut ffi::PyObject {
        attached(|py| Err(self.guard(py).cast_into::<CircuitBreaker>()?.get().refused(py, refusal)))
    }

    /// A call that a budget counts, whose result is judged, or that a subclass makes.
    #[cold]
    pub(super) fn retry_from_the_first(&self, switches: &Switches, arguments: Arguments) -> *mut ffi::PyObject {
        if switches.overrides_execute() {
            return self.call_guard(arguments, |py| intern!(py, "execute"));
        }
        let began = attached_with(|py| Ok(self.guard(py).cast_into::<RetryPolicy>()?.get().begin()));
        match began {
            Some(began) => self.retry(began, NonNull::new(self.run(arguments)), arguments),
            None => ptr::null_mut(),
        }
    }

    /// What follows the first attempt of a call.
    #[cold]
    pub(super) fn retry(
        &self,
        began: Option<Retrying>,
        first: Option<NonNull<ffi::PyObject>>,
        arguments: Arguments,
    ) -> *mut ffi::PyObject {
        attached(|py| {
            let policy = self.guard(py).cast_into::<RetryPolicy>()?;
            // SAFETY: by 4; without a result there is an error.
            let first = unsafe { Bound::from_owned_ptr_or_err(py, first.map_or(ptr::null_mut(), NonNull::as_ptr)) };
            if let Ok(first) = &first
                && is_coroutine(first)
            {
                let (positional, keywords) = arguments.collect(py)?;
                return awaited_coroutine(&policy, began, &self.func(py), positional, keywords.as_ref(), first);
            }
            RetryPolicy::again(&policy, began, first, &mut || {
                // SAFETY: by 4; without a result there is an error.
                unsafe { Bound::from_owned_ptr_or_err(py, self.run(arguments)) }
            })
        })
    }

    /// A result that is more than a success, or whose leave is a permit.
    #[cold]
    pub(super) fn succeed(&self, arguments: Arguments) -> *mut ffi::PyObject {
        attached(|py| {
            let (positional, _) = arguments.collect(py)?;
            let result = positional.get(1).cloned();
            self.guard(py).call_method1(intern!(py, "_succeed"), PyTuple::new(py, positional)?)?;
            Ok(result.unwrap_or_else(|| py.None().into_bound(py)))
        })
    }

    /// The call through a method of the guard, which gets the function first.
    #[cold]
    pub(super) fn call_guard(&self, arguments: Arguments, name: Name) -> *mut ffi::PyObject {
        attached(|py| {
            let (positional, keywords) = arguments.collect(py)?;
            let mut all = vec![self.func(py)];
            all.extend(positional);
            self.guard(py).getattr(name(py))?.call_out_with(&PyTuple::new(py, all)?, keywords.as_ref())
        })
    }

    /// A method of the guard with the arguments as they are.
    #[cold]
    pub(super) fn call_method(&self, arguments: Arguments, name: Name) -> *mut ffi::PyObject {
        attached(|py| {
            let (positional, keywords) = arguments.collect(py)?;
            self.guard(py).getattr(name(py))?.call_out_with(&PyTuple::new(py, positional)?, keywords.as_ref())
        })
    }

    pub(super) fn func<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        // SAFETY: by 3.
        unsafe { Bound::from_borrowed_ptr(py, self.func) }
    }

    pub(super) fn guard<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        // SAFETY: by 3.
        unsafe { Bound::from_borrowed_ptr(py, self.guard) }
    }
}
