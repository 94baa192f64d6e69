//! What a breaker keeps for Python, and whom it tells what happens.

use std::sync::{Arc, Mutex, Weak};

use pyo3::prelude::*;
use pyo3::types::PyString;
use service_mesh::{Event, Timestamp};

use crate::config::CircuitBreakerRules;
use crate::event::circuit_event;
use crate::guarded::CallOut;
use crate::lock::lock;
use crate::log::Log;

/// What is kept for Python. Nothing of it is read by a call that succeeds in Closed.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) name: Option<Py<PyString>>,
    pub(super) config: Option<Py<CircuitBreakerRules>>,
    pub(super) last_failure: Option<Py<PyAny>>,
    /// The datetime that stands for the core's time of the last failure, so that it is the same whenever it is read.
    pub(super) last_failure_time: Option<(Timestamp, Py<PyAny>)>,
    pub(super) listeners: Vec<Py<PyAny>>,
    /// Whether the core tells us what happens.
    pub(super) listens: bool,
    /// None for one that the core has made: its service tells the log.
    pub(super) log: Option<Arc<Log>>,
}

/// Tells the log and Python's listeners what has happened.
pub(super) fn tell(kept: &Weak<Mutex<Kept>>, event: &Event) {
    let Some(kept) = kept.upgrade() else { return };
    // None if the interpreter is going away: then nobody listens any more.
    let _told = Python::try_attach(|py| {
        let (name, log, listeners) = {
            let kept = lock(&kept);
            let listeners: Vec<_> = kept.listeners.iter().map(|listener| listener.clone_ref(py)).collect();
            (kept.name.as_ref().map(|name| name.clone_ref(py)), kept.log.clone(), listeners)
        };
        let name = name.map_or_else(|| event.name.to_string(), |name| name.bind(py).to_string());
        if let Some(log) = log {
            log.hear(py, &name, event);
        }
        let told = if listeners.is_empty() { return } else { circuit_event(py, &name, event) };
        match told {
            Ok(told) => {
                for listener in listeners {
                    if let Err(error) = listener.bind(py).call_out([&told]) {
                        error.write_unraisable(py, Some(listener.bind(py)));
                    }
                }
            }
            Err(error) => error.write_unraisable(py, None),
        }
    });
}
