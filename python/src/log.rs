//! What Python's `logging` is told without being asked: changes of state, refusals, retries, and what may need a hand.
//!
//! The logger is `codomyrmex.service_mesh`. A program that has not imported `logging` has nobody who listens, and nothing
//! is done for it. Refusals come by the thousand when a circuit is open: of each circuit one record a second is made, which
//! says how many they were.

use std::sync::Mutex;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyModule};
use pyo3::{IntoPyObjectExt, intern};
use service_mesh::{CircuitState, Environment, Event, EventKind, Timestamp};

use crate::event::circuit_event;
use crate::guarded::CallOut;
use crate::lock::lock;

const LOGGER: &str = "codomyrmex.service_mesh";

/// Of refusals, one record in this time.
const EVERY: Duration = Duration::from_secs(1);

/// How weighty a record is, as `logging` counts.
#[derive(Clone, Copy)]
enum Level {
    Debug = 10,
    Info = 20,
    Warning = 30,
}

/// Tells the log of one circuit, or of one service.
#[derive(Debug)]
pub(crate) struct Log {
    environment: Environment,
    refusals: Mutex<Refusals>,
}

/// The refusals that were not told yet, and from when on they may be.
#[derive(Debug, Default)]
struct Refusals {
    untold: u64,
    next: Timestamp,
}

impl Log {
    pub(crate) fn new(environment: Environment) -> Self {
        Self { environment, refusals: Mutex::default() }
    }

    /// Something happened to the one called `name`.
    pub(crate) fn hear(&self, py: Python<'_>, name: &str, event: &Event) {
        let Some(logging) = logging(py) else { return };
        let (level, refusals) = match &event.kind {
            EventKind::Transition(change) if change.to == CircuitState::Open => (Level::Warning, 0),
            EventKind::ProbesWrittenOff { .. } | EventKind::EjectionCapped => (Level::Warning, 0),
            EventKind::Transition(_) | EventKind::Story(_) => (Level::Info, 0),
            EventKind::Refused { .. } => match self.refusals_to_tell() {
                Some(refusals) => (Level::Info, refusals),
                None => return,
            },
            _ => (Level::Debug, 0),
        };
        let told = tell(&logging, level, |logger| {
            let event = circuit_event(py, name, event)?;
            let text = event.getattr(intern!(py, "text"))?.extract::<String>()?;
            let text = if refusals > 1 { format!("{text}; {refusals} since the last record") } else { text };
            let extra = PyDict::new(py);
            extra.set_item("service_mesh", event)?;
            let more = PyDict::new(py);
            more.set_item("extra", extra)?;
            let arguments = (level as u8, "%s", text).into_pyobject(py)?;
            logger.getattr(intern!(py, "log"))?.call_out_with(&arguments, Some(&more)).map(drop)
        });
        unraised(py, told);
    }

    /// How many refusals there were since the last record, if another is due.
    fn refusals_to_tell(&self) -> Option<u64> {
        let now = self.environment.now();
        let mut refusals = lock(&self.refusals);
        refusals.untold += 1;
        if now < refusals.next {
            return None;
        }
        refusals.next = now.after(EVERY);
        Some(std::mem::take(&mut refusals.untold))
    }
}

/// A policy without a service is about to try again.
pub(crate) fn retry(py: Python<'_>, attempts: u32, wait: Duration) {
    let Some(logging) = logging(py) else { return };
    let told = tell(&logging, Level::Debug, |logger| {
        let text = format!("retry in {wait:?} after {attempts} attempts");
        let arguments = (Level::Debug as u8, "%s", text).into_pyobject(py)?;
        logger.getattr(intern!(py, "log"))?.call_out_with(&arguments, None).map(drop)
    });
    unraised(py, told);
}

/// `logging`, if the program uses it.
fn logging(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    static MODULES: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let modules = MODULES.get_or_try_init(py, || PyModule::import(py, "sys")?.getattr("modules").map(Bound::unbind));
    modules.ok()?.bind(py).get_item(intern!(py, "logging")).ok()
}

fn tell(
    logging: &Bound<'_, PyAny>,
    level: Level,
    write: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<()>,
) -> PyResult<()> {
    static LOGGER_OF_OURS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = logging.py();
    let logger = LOGGER_OF_OURS.get_or_try_init(py, || {
        let logger = logging.getattr(intern!(py, "getLogger"))?.call_out([intern!(py, LOGGER).as_any()])?;
        // Or a program that has set up no logging would find our warnings on its standard error.
        let silent = logging.getattr(intern!(py, "NullHandler"))?.call_out([])?;
        logger.getattr(intern!(py, "addHandler"))?.call_out([&silent])?;
        Ok::<_, PyErr>(logger.unbind())
    })?;
    let logger = logger.bind(py);
    let level = (level as u8).into_bound_py_any(py)?;
    if logger.getattr(intern!(py, "isEnabledFor"))?.call_out([&level])?.is_truthy()? {
        write(logger)?;
    }
    Ok(())
}

/// A record that cannot be made harms nobody's call.
fn unraised(py: Python<'_>, told: PyResult<()>) {
    if let Err(error) = told {
        error.write_unraisable(py, None);
    }
}
