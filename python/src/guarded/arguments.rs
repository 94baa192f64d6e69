//! The arguments of a call, as they lie in the caller's hands.
//!
//! The numbers in the SAFETY comments are those of [`super`].

use std::ptr::NonNull;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// Positional ones, and behind them one for each name.
#[derive(Clone, Copy)]
pub(super) struct Arguments {
    pub(super) values: *const *mut ffi::PyObject,
    pub(super) count: usize,
    pub(super) names: *mut ffi::PyObject,
}

impl Arguments {
    /// The number that `_begin` gave, and a result, if that is what these two are.
    #[inline]
    pub(super) fn leave(self) -> Option<(u64, *mut ffi::PyObject)> {
        // SAFETY: by 1, `values` holds so many arguments; what is looked at first is whether it is an integer. One that is not
        // of our making and does not fit becomes another number, which is late.
        unsafe {
            let is_ours = ffi::PyVectorcall_NARGS(self.count) == 2 && ffi::PyLong_CheckExact(*self.values) != 0;
            is_ours.then(|| (ffi::PyLong_AsUnsignedLongLongMask(*self.values), *self.values.add(1)))
        }
    }

    /// The positional ones, and the others by name.
    #[expect(clippy::type_complexity, reason = "what `call` takes")]
    pub(super) fn collect(self, py: Python<'_>) -> PyResult<(Vec<Bound<'_, PyAny>>, Option<Bound<'_, PyDict>>)> {
        // SAFETY: a pure function of a number.
        let positional = unsafe { ffi::PyVectorcall_NARGS(self.count) }.unsigned_abs();
        // SAFETY: by 1, `values` holds so many arguments, and behind them one for each name.
        let value = |place: usize| unsafe { Bound::from_borrowed_ptr(py, *self.values.add(place)) };
        let names = NonNull::new(self.names).map(|names| {
            // SAFETY: by 1; it is a tuple of strings.
            unsafe { Bound::from_borrowed_ptr(py, names.as_ptr()).cast_into_unchecked::<PyTuple>() }
        });
        let Some(names) = names else { return Ok(((0..positional).map(value).collect(), None)) };
        let keywords = PyDict::new(py);
        for (place, name) in (positional..).zip(names) {
            keywords.set_item(name, value(place))?;
        }
        Ok(((0..positional).map(value).collect(), Some(keywords)))
    }
}
