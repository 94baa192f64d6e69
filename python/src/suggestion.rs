//! "Did you mean": refusals of words that are not known, with the one that was meant. Which one is close, `suggestion.py`
//! says: nothing of it is imported before something is refused.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use service_mesh::ConfigError;

use crate::errors::config_error_saying;
use crate::guarded::CallOut;

/// A value of a field that is none of its words. `switches` may stand there too.
pub(crate) fn unknown_word(
    field: &'static str,
    value: &Bound<'_, PyAny>,
    switches: &str,
    words: &[&'static str],
) -> PyErr {
    let build = || {
        let quoted = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ");
        let error = ConfigError::new(field, value.repr()?, format!("{switches}{quoted}"));
        let text = format!("{error}{}", did_you_mean(value, words)?);
        Ok(config_error_saying(value.py(), &error, &text))
    };
    build().unwrap_or_else(|error| error)
}

/// Refuses what was given by a name that is none of `known`, as Python refuses an unknown argument of `function`.
pub(crate) fn refuse_unknown(function: &str, given: &Bound<'_, PyDict>, known: &[&str]) -> PyResult<()> {
    for name in given.keys() {
        let text = name.str()?;
        if !known.contains(&&*text.to_string_lossy()) {
            let meant = did_you_mean(&name, known)?;
            let told = format!("{function}() got an unexpected keyword argument {}{meant}", name.repr()?);
            return Err(PyTypeError::new_err(told));
        }
    }
    Ok(())
}

/// What ends the sentence about a word that is not known; nothing if none is close.
fn did_you_mean(written: &Bound<'_, PyAny>, known: &[&str]) -> PyResult<String> {
    let py = written.py();
    let known = PyList::new(py, known)?;
    let suggest = py.import("codomyrmex.service_mesh.suggestion")?.getattr("did_you_mean")?;
    suggest.call_out([&written.str()?.into_any(), known.as_any()])?.extract()
}
