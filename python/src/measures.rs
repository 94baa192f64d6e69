//! What is counted of calls, attempts and circuits, for whoever reads it: the integrations with Prometheus and
//! OpenTelemetry.
//!
//! It is counted here, as it happens, and Python is asked for nothing on a call; it reads the sums when somebody looks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use service_mesh::{AttemptReport, CallReport, Event, EventKind, Listener, Observer};

use crate::circuit_breaker::CircuitBreaker;
use crate::lock::lock;
use crate::service_proxy::ServiceProxy;

/// The sums of all that it watches.
#[pyclass(frozen, module = "codomyrmex.service_mesh._native")]
#[derive(Debug)]
pub(crate) struct Measures(Arc<Tally>);

/// The sums, shared with those who add to them.
#[derive(Debug)]
pub(crate) struct Tally {
    /// The upper bounds of a duration's buckets, in seconds, growing.
    bounds: Box<[f64]>,
    sums: Mutex<Sums>,
}

type Labels<const N: usize> = [Box<str>; N];

#[derive(Clone, Debug, Default)]
struct Sums {
    /// By service, instance and outcome.
    calls: BTreeMap<Labels<3>, u64>,
    /// By service and outcome.
    durations: BTreeMap<Labels<2>, Durations>,
    /// By service, instance and outcome.
    attempts: BTreeMap<Labels<3>, u64>,
    /// By service and reason.
    retries: BTreeMap<Labels<2>, u64>,
    /// By service.
    budget_exhausted: BTreeMap<Labels<1>, u64>,
    /// By circuit, from, to and reason.
    transitions: BTreeMap<Labels<4>, u64>,
    /// By circuit.
    refused: BTreeMap<Labels<1>, u64>,
    /// By circuit.
    late_outcomes: BTreeMap<Labels<1>, u64>,
}

#[derive(Clone, Debug, Default)]
struct Durations {
    /// In each bucket; those beyond the last are in `all` alone.
    buckets: Vec<u64>,
    all: u64,
    seconds: f64,
}

#[pymethods]
impl Measures {
    /// `bounds` are the upper ends of the buckets of a duration, in seconds.
    #[new]
    fn new(bounds: Vec<f64>) -> PyResult<Self> {
        let grow = bounds.windows(2).all(|pair| pair[0] < pair[1]);
        if !grow || bounds.iter().any(|bound| !bound.is_finite()) {
            return Err(PyValueError::new_err("buckets must be numbers of seconds that grow"));
        }
        Ok(Self(Arc::new(Tally { bounds: bounds.into(), sums: Mutex::default() })))
    }

    /// From now on the calls of a proxy, its retries and its circuits are counted.
    fn watch_proxy(&self, proxy: &Bound<'_, ServiceProxy>) -> PyResult<()> {
        proxy.get().measure(&self.0)
    }

    /// From now on what happens to a circuit is counted, which stands alone.
    fn watch_circuit(&self, circuit: &Bound<'_, CircuitBreaker>) {
        circuit.get().core().subscribe(Watch(Arc::clone(&self.0)));
    }

    /// The sums, each a dict from labels, in a tuple, to a number; a duration's is of its buckets (cumulative), all, and the
    /// seconds.
    fn read<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let read = PyDict::new(py);
        // A copy: making objects may run a collection, and that anybody's code.
        let sums = self.0.lock().clone();
        read.set_item("calls", counts(py, &sums.calls)?)?;
        read.set_item("attempts", counts(py, &sums.attempts)?)?;
        read.set_item("retries", counts(py, &sums.retries)?)?;
        read.set_item("budget_exhausted", counts(py, &sums.budget_exhausted)?)?;
        read.set_item("transitions", counts(py, &sums.transitions)?)?;
        read.set_item("refused", counts(py, &sums.refused)?)?;
        read.set_item("late_outcomes", counts(py, &sums.late_outcomes)?)?;
        let durations = PyDict::new(py);
        for (labels, of) in &sums.durations {
            let cumulative = of.buckets.iter().scan(0, |sum, bucket| {
                *sum += bucket;
                Some(*sum)
            });
            let buckets: Vec<_> = self.0.bounds.iter().copied().zip(cumulative).collect();
            durations.set_item(key(py, labels)?, (buckets, of.all, of.seconds))?;
        }
        read.set_item("durations", durations)?;
        Ok(read)
    }
}

fn counts<'py, const N: usize>(py: Python<'py>, counts: &BTreeMap<Labels<N>, u64>) -> PyResult<Bound<'py, PyDict>> {
    let read = PyDict::new(py);
    for (labels, count) in counts {
        read.set_item(key(py, labels)?, count)?;
    }
    Ok(read)
}

fn key<'py, const N: usize>(py: Python<'py>, labels: &Labels<N>) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, labels.iter().map(|label| &**label))
}

impl Tally {
    fn lock(&self) -> MutexGuard<'_, Sums> {
        lock(&self.sums)
    }

    fn took(&self, durations: &mut Durations, took: Duration) {
        let seconds = took.as_secs_f64();
        durations.buckets.resize(self.bounds.len(), 0);
        if let Some(bucket) = self.bounds.iter().position(|bound| seconds <= *bound) {
            durations.buckets[bucket] += 1;
        }
        durations.all += 1;
        durations.seconds += seconds;
    }
}

/// Adds to a tally what it is told.
pub(crate) struct Watch(pub(crate) Arc<Tally>);

impl Listener for Watch {
    fn on_event(&self, event: &Event) {
        let name = Box::from(&*event.name);
        let mut sums = self.0.lock();
        let count = match &event.kind {
            EventKind::Transition(change) => {
                let words = [change.from.as_str(), change.to.as_str(), change.reason.as_str()].map(Box::from);
                let [from, to, reason] = words;
                sums.transitions.entry([name, from, to, reason]).or_default()
            }
            EventKind::Refused { .. } => sums.refused.entry([name]).or_default(),
            EventKind::LateOutcome(_) => sums.late_outcomes.entry([name]).or_default(),
            EventKind::BudgetExhausted => sums.budget_exhausted.entry([name]).or_default(),
            // Retries are counted with their reason, which the attempt tells; the others have no number of their own.
            _ => return,
        };
        *count += 1;
    }
}

impl Observer for Watch {
    fn attempt_ended(&self, attempt: &AttemptReport<'_>) {
        let service = || Box::from(&**attempt.service);
        let outcome = attempt.outcome.as_str();
        let instance = Box::from(&*attempt.instance.id);
        let mut sums = self.0.lock();
        *sums.attempts.entry([service(), instance, outcome.into()]).or_default() += 1;
        if attempt.retry_after.is_some() {
            let reason = if attempt.timed_out { "timed_out" } else { outcome };
            *sums.retries.entry([service(), reason.into()]).or_default() += 1;
        }
    }

    fn call_ended(&self, call: &CallReport<'_>) {
        let service = || Box::from(&**call.service);
        let outcome = call.outcome_word();
        let instance = Box::from(call.instance.map_or("", |instance| &*instance.id));
        let mut sums = self.0.lock();
        *sums.calls.entry([service(), instance, outcome.into()]).or_default() += 1;
        self.0.took(sums.durations.entry([service(), outcome.into()]).or_default(), call.took);
    }
}
