//! Options of one call.

use std::sync::Mutex;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use service_mesh::{CallOptions, Explanation};

use super::attempt::Memory;
use crate::guarded::callable;
use crate::load_balancer::Key;
use crate::lock::lock;
use crate::seconds::duration;
use crate::story::story;

/// What one call asks for beyond the proxy's settings; kept by `ServiceProxyOptions`.
#[pyclass(frozen, module = "codomyrmex.service_mesh._native")]
#[derive(Debug)]
pub(crate) struct Asked {
    key: Option<Key>,
    timeout: Option<Duration>,
    explains: bool,
    classify: Option<Py<PyAny>>,
    story: Mutex<Option<Explanation>>,
}

/// What was asked for one call, if anything was.
pub(super) fn what_is_asked(py: Python<'_>, asked: Option<&Bound<'_, Asked>>) -> (CallOptions, Memory) {
    asked.map_or_else(Default::default, |asked| (asked.get().options(), asked.get().memory(py)))
}

impl Asked {
    pub(super) fn new(
        key: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
        explains: bool,
        classify: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        Ok(Self {
            key: key.map(Key::of).transpose()?,
            timeout: timeout.map(|timeout| duration("timeout", timeout)).transpose()?,
            explains,
            classify: classify.map(|classify| callable("classify", classify)).transpose()?,
            story: Mutex::default(),
        })
    }

    fn options(&self) -> CallOptions {
        let mut options = CallOptions::new();
        if let Some(key) = &self.key {
            options = options.key(key);
        }
        if let Some(timeout) = self.timeout {
            options = options.timeout(timeout);
        }
        if self.explains {
            let explanation = Explanation::new();
            options = options.explain(&explanation);
            *lock(&self.story) = Some(explanation);
        }
        options
    }

    fn memory(&self, py: Python<'_>) -> Memory {
        Memory::classified_by(self.classify.as_ref().map(|classify| classify.clone_ref(py)))
    }
}

#[pymethods]
impl Asked {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.classify)
    }

    /// The story of the last call that has begun, once it is over.
    fn story<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let told = lock(&self.story).as_ref().and_then(Explanation::story);
        told.map(|told| story(py, &told)).transpose()
    }
}
