//! What needs `PyO3`, in a slot that the interpreter has called.
//!
//! The numbers in the SAFETY comments are those of [`super`].

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use pyo3::ffi;
use pyo3::panic::PanicException;
use pyo3::prelude::*;

/// Runs what needs `PyO3`, in a slot that the interpreter has called attached, and gives its result back as a slot does.
pub(super) fn attached(body: impl FnOnce(Python<'_>) -> PyResult<Bound<'_, PyAny>>) -> *mut ffi::PyObject {
    attached_with(|py| body(py).map(Bound::into_ptr)).unwrap_or(ptr::null_mut())
}

/// The same for any result; where there is none, the interpreter has the error. A panic is one, as in every method of `PyO3`'s.
pub(super) fn attached_with<R>(body: impl FnOnce(Python<'_>) -> PyResult<R>) -> Option<R> {
    let run = |py: Python<'_>| {
        let result = catch_unwind(AssertUnwindSafe(|| body(py))).unwrap_or_else(|panic| Err(error_of(panic.as_ref())));
        result.map_err(|error| error.restore(py)).ok()
    };
    // SAFETY: by 1, we are attached. `Python::attach` would ask whether the interpreter is initialized, which it denies while
    // it finalizes, and a finalizer may call us then.
    unsafe { Python::attach_unchecked(run) }
}

fn error_of(panic: &(dyn Any + Send)) -> PyErr {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    PanicException::new_err(text.unwrap_or("panic").to_owned())
}
