//! What a call is about, as `CONSISTENT_HASH` takes it.

use std::hash::{Hash, Hasher};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString, PyTuple};

use crate::instance::text;
use crate::seconds::kind;

/// Equal keys go to one instance, from Rust and from Python.
#[derive(Debug)]
pub(crate) enum Key {
    Text(String),
    Bytes(Vec<u8>),
    Number(i64),
    /// What an `i64` does not hold, as text.
    LargeNumber(String),
    Several(Vec<Self>),
}

impl Key {
    pub(crate) fn of(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(text) = value.cast::<PyString>() {
            return Ok(Self::Text(text.to_string_lossy().into_owned()));
        }
        if let Ok(bytes) = value.cast::<PyBytes>() {
            return Ok(Self::Bytes(bytes.as_bytes().to_vec()));
        }
        if value.is_instance_of::<PyInt>() {
            return value
                .extract()
                .map_or_else(|_| text(value).map(Self::LargeNumber), |number| Ok(Self::Number(number)));
        }
        if let Ok(several) = value.cast::<PyTuple>() {
            return several.iter().map(|one| Self::of(&one)).collect::<PyResult<_>>().map(Self::Several);
        }
        let kind = kind(value);
        Err(PyTypeError::new_err(format!("a key must be a str, bytes, an int or a tuple of them, not {kind}")))
    }
}

/// As Rust hashes the same things.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Text(text) | Self::LargeNumber(text) => text.hash(state),
            Self::Bytes(bytes) => bytes.hash(state),
            Self::Number(number) => number.hash(state),
            Self::Several(several) => several.iter().for_each(|one| one.hash(state)),
        }
    }
}
