//! `CircuitBreaker.execute`, `RetryPolicy.execute` and `ServiceProxy.call`: the same for a function that is given with its
//! arguments.
//!
//! The numbers in the SAFETY comments are those of [`super`].

use std::ffi::{CStr, CString};
use std::ptr::NonNull;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::{Borrowed, PyClass, intern};
use service_mesh::Answer;

use super::arguments::Arguments;
use super::attached::attached;
use super::coroutine::is_coroutine_at;
use super::pair::{Name, Pair};
use crate::circuit_breaker::CircuitBreaker;
use crate::load_balancer::Object;
use crate::retry::RetryPolicy;
use crate::service_proxy::ServiceProxy;

/// A class with a method that runs a function.
pub(super) trait Guard: PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync {
    /// The name of the method.
    const METHOD: &CStr = c"execute";
    /// The same as a method of `PyO3`'s, for what is out of the ordinary.
    const SLOW: Name = |py| intern!(py, "_execute");

    /// A call that is not out of the ordinary when it begins; none if it is, and then nothing has happened.
    fn run_plain(&self, pair: &Pair, arguments: Arguments) -> Option<*mut ffi::PyObject>;
}

/// Gives a class the method that costs no tuple and no dict.
pub(super) fn add_method<G: Guard>(py: Python<'_>) -> PyResult<()> {
    let (class, name) = (py.get_type::<G>(), G::METHOD.to_string_lossy());
    let slow = class.getattr((G::SLOW)(py))?.getattr("__doc__")?.extract::<String>()?;
    let doc = CString::new(format!("{name}($self, func, /, *args, **kwargs)\n--\n\n{slow}"))?;
    // The interpreter keeps pointing at it.
    let method = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: G::METHOD.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: execute::<G> },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: doc.into_raw(),
    }));
    // SAFETY: the method has the signature that its flags tell, and lives for ever; what comes back is new.
    let method = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyDescr_NewMethod(class.as_type_ptr(), method))? };
    class.setattr(&*name, method)
}

/// Like `contextvars.Context.run` they hand the arguments on where they lie, behind the function. What is out of the ordinary
/// goes through [`Guard::SLOW`], which is a method of `PyO3`'s.
unsafe extern "C" fn execute<G: Guard>(
    guard: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let all = Arguments { values, count: count.unsigned_abs(), names };
    // SAFETY: by 1, we are attached, and the descriptor has seen to it that the receiver is a `G`.
    let this = unsafe { Borrowed::from_ptr(Python::assume_attached(), guard).cast_unchecked::<G>() };
    let Some(rest) = all.count.checked_sub(1) else {
        return attached(|_py| {
            let name = G::METHOD.to_string_lossy();
            Err(PyTypeError::new_err(format!("{name}() missing 1 required positional argument: 'func'")))
        });
    };
    // SAFETY: by 1, `values` holds at least one argument.
    let (func, values) = unsafe { (*values, values.add(1)) };
    let arguments = Arguments { values, count: rest, names };
    let pair = Pair { func, guard };
    this.get().run_plain(&pair, arguments).unwrap_or_else(|| pair.call_method(all, G::SLOW))
}

impl Guard for CircuitBreaker {
    #[inline]
    fn run_plain(&self, pair: &Pair, arguments: Arguments) -> Option<*mut ffi::PyObject> {
        let circuit = self.circuit();
        if circuit.is_hooked() {
            return None;
        }
        let number = circuit.core().try_acquire_number()?;
        Some(pair.run_admitted(circuit.core(), circuit, number, arguments))
    }
}

impl Guard for RetryPolicy {
    #[inline]
    fn run_plain(&self, pair: &Pair, arguments: Arguments) -> Option<*mut ffi::PyObject> {
        self.switches().is_plain().then(|| pair.run_and_retry(arguments))
    }
}

impl Guard for ServiceProxy {
    const METHOD: &CStr = c"call";
    const SLOW: Name = |py| intern!(py, "_call");

    #[inline]
    fn run_plain(&self, pair: &Pair, arguments: Arguments) -> Option<*mut ffi::PyObject> {
        let parts = self.plain_parts()?;
        let attempt = match parts.admit_first() {
            Ok(attempt) => attempt,
            Err(refused) => return Some(pair.refuse_call(&parts, &refused, arguments)),
        };
        let result = match attempt.attachment::<Object>() {
            // The attempt keeps it alive.
            Some(known) => pair.run_with(known.object(), arguments),
            None => pair.run_with_new_object(&parts, &attempt, arguments),
        };
        Some(match NonNull::new(result) {
            Some(value) if parts.is_indifferent() && !is_coroutine_at(value) => {
                // A success that nobody judges is final.
                let _ = attempt.settle(Answer::success());
                result
            }
            value => pair.go_on(&parts, attempt, value, arguments),
        })
    }
}
