//! One attempt of a call, between the core's machine and Python: who is next, what a result means, what comes then.
//!
//! The driver in [`blocking`](super::blocking) runs the machine in one crossing; those in `service_proxy.py` take a step of
//! [`Call`](super::Call) for each attempt, since what waits between is Python's.

use std::borrow::Borrow;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{IntoPyObjectExt, intern};
use service_mesh::{Answer, Attempt, Outcome, ServiceProxy as Core, Verdict};

use super::chooser::Chooser;
use super::parts::Parts;
use super::policy::Policy;
use crate::answer::Judges;
use crate::circuit_breaker::CircuitBreaker;
use crate::errors::while_handling;
use crate::guarded::CallOut;
use crate::load_balancer::Object;
use crate::seconds::duration;
use crate::testing::{attempts_at_most, wait};

/// What a call remembers of its attempts.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The last error of its own, as an object: its traceback may lead back to the call, and the collector is shown it.
    pub(super) last: Option<Py<PyAny>>,
    /// The ids of the instances that it tried, where Python chooses.
    pub(super) tried: Vec<String>,
    /// Says first what an attempt means, where the call was asked for with it.
    pub(super) classify: Option<Py<PyAny>>,
}

impl Memory {
    pub(crate) fn classified_by(classify: Option<Py<PyAny>>) -> Self {
        Self { classify, ..Self::default() }
    }

    pub(super) fn take_last(&mut self, py: Python<'_>) -> Option<PyErr> {
        self.last.take().map(|last| PyErr::from_value(last.into_bound(py)))
    }
}

/// What comes after an attempt.
pub(crate) enum Next<'py, P: Borrow<Core>> {
    /// This is the call's result.
    Return(Bound<'py, PyAny>),
    /// Wait, and admit the next attempt.
    Retry { after: Duration, call: service_mesh::Call<P> },
}

impl Parts {
    /// The next attempt, or the refusal.
    pub(crate) fn admit<P: Borrow<Core>>(
        &self,
        py: Python<'_>,
        call: service_mesh::Call<P>,
        memory: &mut Memory,
    ) -> PyResult<Attempt<P>> {
        self.balancer.refresh(py)?;
        let admitted = match self.chooser {
            Chooser::Ours => call.admit(),
            Chooser::Subclass { .. } | Chooser::Foreign { .. } => self.admit_chosen(py, call, memory)?,
        };
        admitted.map_err(|refused| self.refusal(py, &refused, memory.take_last(py)))
    }

    /// The object of an attempt's instance.
    #[inline]
    pub(crate) fn instance<'py, P: Borrow<Core>>(
        &self,
        py: Python<'py>,
        attempt: &Attempt<P>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match attempt.attachment::<Object>() {
            Some(known) => Ok(known.object().bind(py).clone()),
            None => Ok(self.balancer.object(py, &attempt.registration())?.into_bound(py)),
        }
    }

    /// Runs the function, under a breaker that wants to run it itself if there is one.
    #[inline]
    pub(crate) fn invoke<'py>(
        &self,
        func: &Bound<'py, PyAny>,
        instance: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = func.py();
        if self.is_guarded {
            let before = [func.clone(), instance.clone()];
            let args = PyTuple::new(py, before.into_iter().chain(args.iter()).collect::<Vec<_>>())?;
            return self.circuit_breaker.bind(py).getattr(intern!(py, "execute"))?.call_out_with(&args, kwargs);
        }
        match (args.len(), kwargs) {
            (0, None) => func.call_out([instance]),
            (1, None) => func.call_out([instance, &*args.get_borrowed_item(0)?]),
            (2, None) => func.call_out([instance, &*args.get_borrowed_item(0)?, &*args.get_borrowed_item(1)?]),
            _ => {
                let all = PyTuple::new(py, std::iter::once(instance.clone()).chain(args.iter()).collect::<Vec<_>>())?;
                func.call_out_with(&all, kwargs)
            }
        }
    }

    /// Takes what came of an attempt that is no plain success, and says what comes next; or raises what the caller gets.
    #[cold]
    pub(crate) fn settle<'py, P: Borrow<Core>>(
        &self,
        py: Python<'py>,
        attempt: Attempt<P>,
        result: PyResult<Bound<'py, PyAny>>,
        memory: &mut Memory,
    ) -> PyResult<Next<'py, P>> {
        // Predicates run before anything is judged; where one fails, the attempt is dropped, and says nothing.
        self.catch_up(py)?;
        let (circuit_breaker, retry_policy) = (self.circuit_breaker.bind(py), self.retry_policy.bind(py));
        let classify = memory.classify.as_ref().map(|classify| classify.bind(py));
        let judges = Judges { circuit_breaker, retry_policy, classify };
        let answer = match &result {
            Ok(result) => judges.of_result(result)?,
            Err(error) => {
                let error = error.value(py).as_any();
                judges.of_error(error).map_err(|mistake| while_handling(py, mistake, error))?
            }
        };
        let number = attempt.number();
        let last_one = attempts_at_most().is_some_and(|most| number >= most) || self.policy == Policy::Executes;
        let verdict = attempt.settle(if last_one { answer.retryable(false) } else { answer });
        self.note(py, answer.outcome(), result.as_ref().err());
        match verdict {
            Verdict::Return => self.returned(py, result, number, memory),
            Verdict::Refused(refused) => Err(self.refusal(py, &refused, result.err().or_else(|| memory.take_last(py)))),
            Verdict::Retry { after, call } => {
                if let Err(error) = result {
                    memory.last = Some(error.into_value(py).into_any());
                }
                Ok(Next::Retry { after: self.wait(py, after, answer.earliest_retry(), number)?, call })
            }
        }
    }

    /// The service's breaker keeps its last failure, as it does for calls of its own.
    #[cold]
    fn note(&self, py: Python<'_>, outcome: Outcome, error: Option<&PyErr>) {
        if self.circuit.is_some()
            && let Ok(breaker) = self.circuit_breaker.bind(py).cast::<CircuitBreaker>()
        {
            breaker.get().note(py, outcome, error.map(|error| error.value(py).as_any()));
        }
    }

    /// After a success that nobody judged: the service's breaker lets go of the failure that it keeps, if it has recovered.
    #[inline]
    pub(crate) fn tidy(&self, py: Python<'_>) {
        if self.circuit.as_ref().is_some_and(|circuit| !circuit.is_plain()) {
            self.note(py, Outcome::Success, None);
        }
    }

    /// An attempt's time is up, and the driver has stopped it.
    pub(crate) fn settle_late<'py, P: Borrow<Core>>(
        &self,
        py: Python<'py>,
        attempt: Attempt<P>,
        memory: &mut Memory,
    ) -> PyResult<Next<'py, P>> {
        self.catch_up(py)?;
        let number = attempt.number();
        let last_one = attempts_at_most().is_some_and(|most| number >= most) || self.policy == Policy::Executes;
        match attempt.stop(Answer::failure().retryable(!last_one)) {
            Ok((after, call)) => Ok(Next::Retry { after: self.wait(py, after, None, number)?, call }),
            Err(refused) => Err(self.refusal(py, &refused, memory.take_last(py))),
        }
    }

    fn returned<'py, P: Borrow<Core>>(
        &self,
        py: Python<'py>,
        result: PyResult<Bound<'py, PyAny>>,
        number: u32,
        memory: &mut Memory,
    ) -> PyResult<Next<'py, P>> {
        let error = match result {
            Ok(result) => return Ok(Next::Return(result)),
            Err(error) => error,
        };
        if number > 1 {
            self.add_note(py, &error, number);
        }
        // A breaker of the user's own may have refused this attempt; the failure before it is its cause.
        if let Some(last) = memory.take_last(py)
            && crate::errors::models(py)?.is_refusal(error.value(py).as_any())?
            && error.cause(py).is_none()
        {
            error.set_cause(py, Some(last));
        }
        Err(error)
    }

    /// The wait before the next attempt: the machine's, unless a subclass has its own, and none while nobody waits.
    fn wait(&self, py: Python<'_>, after: Duration, earliest: Option<Duration>, number: u32) -> PyResult<Duration> {
        if self.policy != Policy::Delays {
            return Ok(wait(after));
        }
        let policy = self.retry_policy.bind(py);
        let retry = (number - 1).into_bound_py_any(py)?;
        let delay = policy.getattr(intern!(py, "get_delay"))?.call_out([&retry])?;
        Ok(wait(duration("get_delay", &delay)?.max(earliest.unwrap_or_default())))
    }
}
