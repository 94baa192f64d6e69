//! Who picks the instances of a proxy, and how one that picks in its own way is asked.

use std::borrow::Borrow;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyTuple};
use service_mesh::{Attempt, Refused, ServiceProxy as Core};

use super::MODULE;
use super::attempt::Memory;
use super::parts::Parts;
use crate::guarded::{CallOut, ImportOut};
use crate::instance::text;
use crate::load_balancer::{LoadBalancer, overrides_get_instance};

/// Who picks the instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chooser {
    /// The core.
    Ours,
    /// A subclass, in its own way; it may be told whom to leave out.
    Subclass { takes_exclude: bool },
    /// A balancer that is none of ours.
    Foreign { takes_exclude: bool },
}

impl Chooser {
    pub(super) fn of(load_balancer: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(match load_balancer.cast::<LoadBalancer>() {
            Err(_) => Self::Foreign { takes_exclude: takes_exclude(load_balancer)? },
            Ok(ours) if overrides_get_instance(ours)? => {
                Self::Subclass { takes_exclude: takes_exclude(load_balancer)? }
            }
            Ok(_) => Self::Ours,
        })
    }

    fn takes_exclude(self) -> bool {
        matches!(self, Self::Subclass { takes_exclude: true } | Self::Foreign { takes_exclude: true })
    }
}

/// Whether a balancer's own `get_instance` may be told whom to leave out.
fn takes_exclude(balancer: &Bound<'_, PyAny>) -> PyResult<bool> {
    static TAKES: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    TAKES.import_out(balancer.py(), MODULE, "_takes_exclude")?.call_out([balancer])?.is_truthy()
}

/// How often one whose `get_instance` cannot be told whom to leave out is asked before one comes back who was tried.
const QUESTIONS: usize = 16;

impl Parts {
    /// Admits whomever a balancer chooses that is not ours, or that picks in its own way.
    #[cold]
    pub(super) fn admit_chosen<P: Borrow<Core>>(
        &self,
        py: Python<'_>,
        call: service_mesh::Call<P>,
        memory: &mut Memory,
    ) -> PyResult<Result<Attempt<P>, Refused>> {
        // All are named beforehand: the machine picks from those who were registered when it began.
        let mut chosen = Vec::new();
        while let Some(id) = self.choose(py, &memory.tried, &chosen)? {
            let circuit = self.core().instance_circuit_breaker(&id);
            chosen.push(id);
            if circuit.is_none_or(|circuit| circuit.can_execute()) {
                break;
            }
        }
        let mut chosen = chosen.into_iter();
        let admitted = call.admit_by(|| chosen.next());
        memory.tried.extend(admitted.as_ref().ok().map(|attempt| attempt.instance().id.clone()));
        Ok(admitted)
    }

    /// Whom the balancer chooses, preferring those who were not tried, and never one whose circuit refused just now.
    fn choose(&self, py: Python<'_>, tried: &[String], asked: &[String]) -> PyResult<Option<String>> {
        let balancer = self.load_balancer.bind(py);
        let get_instance = balancer.getattr(intern!(py, "get_instance"))?;
        if self.chooser.takes_exclude() {
            for exclude in [[tried, asked].concat(), asked.to_vec()] {
                let options = PyDict::new(py);
                options.set_item("exclude", PyList::new(py, &exclude)?)?;
                let instance = get_instance.call_out_with(&PyTuple::empty(py), Some(&options))?;
                if !instance.is_none() {
                    let id = self.known(&instance)?;
                    return Ok((!asked.contains(&id)).then_some(id));
                }
            }
            return Ok(None);
        }
        let mut again = None;
        for _ in 0..QUESTIONS {
            let instance = get_instance.call_out([])?;
            if instance.is_none() {
                break;
            }
            let id = self.known(&instance)?;
            if asked.contains(&id) {
                continue;
            }
            if !tried.contains(&id) {
                return Ok(Some(id));
            }
            again = Some(id);
        }
        Ok(again)
    }

    /// The id of an instance, which is registered here if it is not yet: its circuit and its connections are kept so.
    fn known(&self, instance: &Bound<'_, PyAny>) -> PyResult<String> {
        let id = text(&instance.getattr("id")?)?;
        if !self.balancer.has(&id, instance) {
            if matches!(self.chooser, Chooser::Foreign { .. }) {
                self.balancer.register_pickable(instance)?;
            } else {
                self.balancer.register(instance)?;
            }
        }
        Ok(id)
    }
}
