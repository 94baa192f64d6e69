//! Calls of Python, whose thread may end in them.

use std::ffi::c_void;
use std::hint::black_box;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::type_object::PyTypeCheck;
use pyo3::types::{PyDict, PyTuple};

use crate::seconds::kind;

/// What a user gave us to call, called so that his thread may end meanwhile.
///
/// Before Python 3.14, a daemon thread that comes back to an interpreter which finalizes is ended where it stands, by
/// `pthread_exit`: the stack is unwound, through the Rust that made the call, and that ends the process. Here the thread waits
/// for the end of the process instead, as it does from Python 3.14 on. `PyO3` does the same where it attaches (its
/// `HangThread`), and not where it calls; so what runs for long or waits goes through here.
pub(crate) trait CallOut<'py> {
    /// Calls it with these arguments, at most three.
    fn call_out<const N: usize>(&self, arguments: [&Bound<'py, PyAny>; N]) -> PyResult<Bound<'py, PyAny>>;

    /// Calls it with as many as there are.
    fn call_out_with(
        &self,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>>;
}

impl<'py> CallOut<'py> for Bound<'py, PyAny> {
    #[inline]
    fn call_out<const N: usize>(&self, arguments: [&Self; N]) -> PyResult<Self> {
        const { assert!(N <= 3) }
        // The first place is the callable's, which may put the receiver of a bound method there.
        let mut values = [ptr::null_mut(); 4];
        for (value, argument) in values[1..].iter_mut().zip(arguments) {
            *value = argument.as_ptr();
        }
        let count = N | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        // SAFETY: the token of a `Bound` shows that we are attached. There are N arguments behind the first place, which the
        // flag lends; what comes back is new, or null with an error set.
        unsafe {
            let result = vectorcall(self.as_ptr(), values.as_mut_ptr().add(1), count, ptr::null_mut());
            Bound::from_owned_ptr_or_err(self.py(), result)
        }
    }

    fn call_out_with(&self, args: &Bound<'py, PyTuple>, kwargs: Option<&Bound<'py, PyDict>>) -> PyResult<Self> {
        let end = HereTheThreadEnds;
        // SAFETY: as above; what is loaded is `PyObject_Call`, or null.
        let result = unsafe {
            let kwargs = kwargs.map_or(ptr::null_mut(), Bound::as_ptr);
            match std::mem::transmute::<*mut c_void, Option<Call>>(CALL.load(Ordering::Relaxed)) {
                Some(call) => call(self.as_ptr(), args.as_ptr(), kwargs),
                None => ffi::PyObject_Call(self.as_ptr(), args.as_ptr(), kwargs),
            }
        };
        std::mem::forget(end);
        // SAFETY: what comes back is new, or null with an error set.
        unsafe { Bound::from_owned_ptr_or_err(self.py(), result) }
    }
}

/// What a user gave us to call later, if it can be called.
pub(crate) fn callable(what: &str, given: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    if given.is_callable() {
        return Ok(given.clone().unbind());
    }
    Err(PyTypeError::new_err(format!("{what} must be callable, not {}", kind(given))))
}

/// What is imported where it is first needed, which runs Python for a while.
pub(crate) trait ImportOut<T> {
    /// What this module calls so, kept from the first time on.
    fn import_out<'py>(&self, py: Python<'py>, module: &str, name: &str) -> PyResult<&Bound<'py, T>>;
}

impl<T: PyTypeCheck> ImportOut<T> for PyOnceLock<Py<T>> {
    fn import_out<'py>(&self, py: Python<'py>, module: &str, name: &str) -> PyResult<&Bound<'py, T>> {
        let imported = self.get_or_try_init(py, || {
            // With a name that is wanted of it, what comes back is the module and not the package.
            let arguments = (module, py.None(), py.None(), (name,)).into_pyobject(py)?;
            let module = py.import("builtins")?.getattr("__import__")?.call_out_with(&arguments, None)?;
            Ok::<_, PyErr>(module.getattr(name)?.cast_into()?.unbind())
        })?;
        Ok(imported.bind(py))
    }
}

/// Stands in a frame that calls Python. It is forgotten when the call comes back, and dropped when the stack is unwound: no
/// panic comes from Python, so that it is the thread that ends.
struct HereTheThreadEnds;

impl Drop for HereTheThreadEnds {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

/// Looks up what is called.
pub(super) fn prepare() {
    VECTORCALL.store(black_box(ffi::PyObject_Vectorcall as *mut c_void), Ordering::Relaxed);
    CALL.store(black_box(ffi::PyObject_Call as *mut c_void), Ordering::Relaxed);
}

/// # Safety
/// As of `PyObject_Vectorcall`.
#[inline]
pub(super) unsafe fn vectorcall(
    callable: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let end = HereTheThreadEnds;
    // SAFETY: our caller's; what is loaded is `PyObject_Vectorcall`, or null.
    let result = unsafe {
        match std::mem::transmute::<*mut c_void, Option<Vectorcall>>(VECTORCALL.load(Ordering::Relaxed)) {
            Some(call) => call(callable, values, count, names),
            None => ffi::PyObject_Vectorcall(callable, values, count, names),
        }
    };
    std::mem::forget(end);
    result
}

type Vectorcall = unsafe extern "C-unwind" fn(
    *mut ffi::PyObject,
    *const *mut ffi::PyObject,
    usize,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;
type Call =
    unsafe extern "C-unwind" fn(*mut ffi::PyObject, *mut ffi::PyObject, *mut ffi::PyObject) -> *mut ffi::PyObject;

/// `PyObject_Vectorcall` and `PyObject_Call`, as functions that may unwind. `PyO3` declares that they do not, and what the
/// compiler knows not to unwind has no place where it could be held up. So it must not know what is stored here, which
/// `black_box` sees to: a static that only one value is ever stored to is seen through.
///
/// Ordering: Relaxed. They are stored while the module is imported, before anything can be called.
static VECTORCALL: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static CALL: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
