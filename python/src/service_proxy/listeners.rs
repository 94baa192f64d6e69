//! Whoever hears what happens in a proxy: Python's listeners, and the log.

use std::sync::Mutex;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use service_mesh::{Event, EventKind};

use crate::event::circuit_event;
use crate::guarded::{CallOut, callable};
use crate::lock::lock;
use crate::log::Log;

/// The listeners of a proxy, held once: by Python's collector they are found in the proxy.
#[derive(Default)]
pub(crate) struct Listeners {
    all: Mutex<Vec<Py<PyAny>>>,
    /// None where somebody else tells the log of the same service.
    log: Option<Log>,
}

impl Listeners {
    /// These, if there are any.
    pub(crate) fn of(listeners: Option<&Bound<'_, PyAny>>, log: Log) -> PyResult<Self> {
        let all = Self { log: Some(log), ..Self::default() };
        for listener in listeners.map(PyAnyMethods::try_iter).transpose()?.into_iter().flatten() {
            all.add(&listener?)?;
        }
        Ok(all)
    }

    pub(super) fn add(&self, listener: &Bound<'_, PyAny>) -> PyResult<()> {
        let listener = callable("a listener", listener)?;
        lock(&self.all).push(listener);
        Ok(())
    }

    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        lock(&self.all).iter().try_for_each(|listener| visit.call(listener))
    }

    pub(crate) fn clear(&self) {
        let listeners = std::mem::take(&mut *lock(&self.all));
        drop(listeners);
    }

    /// Tells the listeners, and the log unless the service's circuit has done so, which is an object of its own.
    pub(crate) fn tell(&self, event: &Event, circuit_is_logged: bool) {
        // None if the interpreter is going away: then nobody listens any more.
        let _told = Python::try_attach(|py| {
            if let Some(log) = &self.log
                && !(circuit_is_logged && is_of_service_circuit(event))
            {
                log.hear(py, &event.name, event);
            }
            let listeners: Vec<_> = lock(&self.all).iter().map(|listener| listener.clone_ref(py)).collect();
            for listener in listeners {
                let told = circuit_event(py, &event.name, event).and_then(|event| listener.bind(py).call_out([&event]));
                if let Err(error) = told {
                    error.write_unraisable(py, Some(listener.bind(py)));
                }
            }
        });
    }
}

/// Whether an event is of the service's circuit. Those of instances are named `SERVICE/INSTANCE`.
fn is_of_service_circuit(event: &Event) -> bool {
    let of_call = matches!(event.kind, EventKind::Retry { .. } | EventKind::BudgetExhausted | EventKind::Story(_));
    !of_call && !event.name.contains('/')
}

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listeners").finish_non_exhaustive()
    }
}
