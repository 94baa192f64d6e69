//! What `async def` gives back, told apart by its type.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::call_out::{CallOut, ImportOut};

/// Whether this is a coroutine: what `async def` gives back.
#[inline]
pub(crate) fn is_coroutine(value: &Bound<'_, PyAny>) -> bool {
    ptr::eq(value.get_type_ptr(), COROUTINE.load(Ordering::Relaxed))
}

/// Whether this is a function that gives back coroutines: what `async def` defines.
pub(crate) fn is_coroutine_function(func: &Bound<'_, PyAny>) -> PyResult<bool> {
    static IS_COROUTINE_FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let ask = IS_COROUTINE_FUNCTION.import_out(func.py(), "inspect", "iscoroutinefunction")?;
    ask.call_out([func])?.is_truthy()
}

#[inline]
pub(super) fn is_coroutine_at(value: NonNull<ffi::PyObject>) -> bool {
    // SAFETY: it has just been given back to us as new.
    let class = unsafe { ffi::Py_TYPE(value.as_ptr()) };
    ptr::eq(class, COROUTINE.load(Ordering::Relaxed))
}

/// Looks the type up.
pub(super) fn prepare(py: Python<'_>) -> PyResult<()> {
    let coroutine = py.import("types")?.getattr("CoroutineType")?.cast_into::<PyType>()?;
    // Never given back: the interpreter holds this type for ever anyway.
    COROUTINE.store(coroutine.into_ptr().cast(), Ordering::Relaxed);
    Ok(())
}

/// `types.CoroutineType`, which lives as long as the interpreter.
///
/// Ordering: Relaxed. It is stored while the module is imported, before anything can be decorated.
static COROUTINE: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(ptr::null_mut());
