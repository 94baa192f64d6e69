//! A coroutine that another is going to await.

use std::sync::Mutex;

use pyo3::prelude::*;

use crate::lock::lock;

/// Holds a coroutine, and closes it if nobody takes it: a task that is cancelled before it begins has forgotten nothing, and
/// is to be warned of nothing.
///
/// The collector is not shown the coroutine, on purpose. Of a cycle that it breaks up it calls the finalizers in any order,
/// and the coroutine's own would complain before this one has closed it. What a coroutine holds that has not begun are its
/// arguments; only if those lead back to the one that was going to await it are they kept for ever.
#[pyclass(frozen, module = "codomyrmex.service_mesh._native")]
#[derive(Debug)]
pub(crate) struct Unbegun {
    coroutine: Mutex<Option<Py<PyAny>>>,
}

#[pymethods]
impl Unbegun {
    #[new]
    fn new(coroutine: Py<PyAny>) -> Self {
        Self { coroutine: Mutex::new(Some(coroutine)) }
    }

    /// The coroutine, which the caller is going to await now.
    fn take(&self) -> Option<Py<PyAny>> {
        lock(&self.coroutine).take()
    }
}

impl Drop for Unbegun {
    fn drop(&mut self) {
        if let Some(coroutine) = self.take() {
            // None if the interpreter is going away, which warns of nothing then.
            let _closed = Python::try_attach(|py| {
                if let Err(error) = coroutine.call_method0(py, "close") {
                    error.write_unraisable(py, Some(coroutine.bind(py)));
                }
            });
        }
    }
}
