//! Whether an argument was given, where `None` would say something, or is refused like any other wrong value.

use std::convert::Infallible;

use pyo3::Borrowed;
use pyo3::prelude::*;

/// What was said, if anything was.
pub(crate) enum Said<'py> {
    Nothing,
    This(Bound<'py, PyAny>),
}

impl<'py> Said<'py> {
    pub(crate) fn this(self) -> Option<Bound<'py, PyAny>> {
        match self {
            Self::Nothing => None,
            Self::This(this) => Some(this),
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for Said<'py> {
    type Error = Infallible;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> Result<Self, Infallible> {
        Ok(Self::This(object.to_owned()))
    }
}
