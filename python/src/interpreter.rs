//! One interpreter a process: the first that imports this.
//!
//! The classes of this crate, and what it looked up of Python's, are one set for the process. A sub-interpreter must not see
//! them: objects would be counted by two interpreters at once. Since Python 3.12 the import is refused by the interpreter
//! itself; 3.11 hands the module to every interpreter without running its initialization again, so that nobody but us
//! could tell.

use std::sync::OnceLock;

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;

/// Called by the package when it is imported, and an error in any interpreter but the first.
///
/// Each interpreter has a `builtins` of its own, as long as it lives: its address tells them apart.
#[pyfunction]
pub(crate) fn claim_interpreter(py: Python<'_>) -> PyResult<()> {
    static OWNER: OnceLock<usize> = OnceLock::new();
    let builtins = py.import("builtins")?.as_ptr() as usize;
    if *OWNER.get_or_init(|| builtins) == builtins {
        return Ok(());
    }
    Err(PyImportError::new_err(
        "codomyrmex.service_mesh serves one interpreter a process, and another one has imported it already: \
         sub-interpreters are not supported",
    ))
}
