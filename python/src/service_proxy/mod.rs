//! `ServiceProxy`: one call in one crossing: balance, both circuits, lease, deadline, retry elsewhere.
//!
//! Parts that are exactly ours take part in Rust. A balancer that picks in its own way is asked for each attempt; a
//! breaker that overrides a step of a call, or is none of ours, runs the attempts itself; a policy that overrides its delay
//! is asked for it, and one that overrides `execute` runs the calls itself, each of one attempt.

mod asked;
mod attempt;
mod blocking;
mod call;
mod chooser;
mod instance_rules;
mod listeners;
mod parts;
mod policy;
mod refusal;
mod switched_off;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit, intern};
use service_mesh::{ConfigError, ServiceProxy as Core, ServiceProxyConfig};

use self::asked::what_is_asked;
use self::parts::Rest;
use self::policy::Policy;
use self::switched_off::budget_of;
use crate::circuit_breaker::CircuitBreaker;
use crate::errors::config_error;
use crate::field::number;
use crate::guarded::{CallOut, ImportOut};
use crate::instance::text;
use crate::load_balancer::LoadBalancer;
use crate::log::Log;
use crate::measures::Tally;
use crate::retry::RetryPolicy;
use crate::said::Said;
use crate::seconds::duration;
use crate::testing::{ManualClock, environment};

pub(crate) use self::asked::Asked;
pub(crate) use self::attempt::Memory;
pub(crate) use self::call::Call;
pub(crate) use self::listeners::Listeners;
pub(crate) use self::parts::{Parts, Present};

const MODULE: &str = "codomyrmex.service_mesh.service_proxy";

/// Calls a service with everything that a call needs: balance, circuits, time limits, and a retry elsewhere.
///
/// ```python
/// payments = ServiceProxy("payments", timeout=2, attempt_timeout=0.5)
/// payments.load_balancer.register(ServiceInstance(id="1", host="api-1", port=8080))
///
/// def charge(instance, amount):
///     return requests.post(f"http://{instance.address}/charge", json={"amount": amount}, timeout=0.5).json()
///
/// payments.call(charge, 100)
/// ```
///
/// `call` runs the function with the instance that is next, and again with another one if it fails. The instance's circuit
/// judges every attempt; the service's hears of a failure only where no other instance could make good for it. `await
/// payments.call(f)` and `await payments.call_async(f)` do the same for coroutine functions; waits are those of asyncio, or of
/// trio where it runs.
///
/// - `load_balancer`, `circuit_breaker`, `retry_policy`: its parts. By default `LoadBalancer()`,
///   `CircuitBreaker(service_name)` and `RetryPolicy()`.
/// - `instance_circuit_breaker`: the `CircuitBreakerConfig` of each instance's circuit; `None` for no such circuits. By
///   default that of the service's.
/// - `timeout`: how long a call may take, with its retries and waits; `attempt_timeout`: how long one attempt may. In seconds,
///   or a `timedelta`, above 0. By default there is no limit.
/// - `budget`: the `RetryBudget` that retries are charged to; `None` for none. By default one of its own.
/// - `max_ejected_ratio`: the share of the instances that their circuits may take out at once. Above 0, at most 1, the default.
/// - `explain_ratio`: the share of the calls whose story is logged. 0, the default, to 1.
/// - `listeners`: are called with a `CircuitEvent` of all that happens.
/// - `clock`: a `testing.ManualClock`, for tests.
///
/// A value out of range is a `ConfigError`, which is a `ValueError`. What a caller gets who gets no result: the function's own
/// last error, with a note of the attempts; `NoHealthyInstanceError`; `CircuitOpenError`, at once and without a wait, with
/// `retry_after` and the last failure of the call as its `__cause__`; `DeadlineExceededError` and `AttemptTimedOutError`. A
/// running sync attempt cannot be stopped: its time limits are looked at between attempts, and one that outlasted its own is a
/// failure of its instance.
#[pyclass(frozen, subclass, dict, weakref, module = "codomyrmex.service_mesh.service_proxy")]
pub(crate) struct ServiceProxy {
    /// None until `__init__` has run. Replaced as a whole when a part is assigned; calls under way keep theirs.
    parts: ArcSwapOption<Parts>,
}

#[pymethods]
impl ServiceProxy {
    #[new]
    #[pyo3(
        signature = (*_args, **_kwargs),
        text_signature = "(service_name, load_balancer=None, circuit_breaker=None, retry_policy=None, *, \
            instance_circuit_breaker=..., timeout=None, attempt_timeout=None, budget=..., max_ejected_ratio=None, \
            explain_ratio=None, listeners=None, clock=None)"
    )]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { parts: ArcSwapOption::empty() }
    }

    #[pyo3(signature = (
        service_name, load_balancer = None, circuit_breaker = None, retry_policy = None, *,
        instance_circuit_breaker = Said::Nothing, timeout = None, attempt_timeout = None, budget = Said::Nothing,
        max_ejected_ratio = None, explain_ratio = None, listeners = None, clock = None,
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are named, in Python")]
    fn __init__(
        &self,
        service_name: &Bound<'_, PyAny>,
        load_balancer: Option<&Bound<'_, PyAny>>,
        circuit_breaker: Option<&Bound<'_, PyAny>>,
        retry_policy: Option<&Bound<'_, PyAny>>,
        instance_circuit_breaker: Said<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
        attempt_timeout: Option<&Bound<'_, PyAny>>,
        budget: Said<'_>,
        max_ejected_ratio: Option<&Bound<'_, PyAny>>,
        explain_ratio: Option<&Bound<'_, PyAny>>,
        listeners: Option<&Bound<'_, PyAny>>,
        clock: Option<&Bound<'_, ManualClock>>,
    ) -> PyResult<()> {
        let py = service_name.py();
        let mut config = ServiceProxyConfig::builder();
        if let Some(timeout) = timeout {
            config = config.call_timeout(duration("timeout", timeout)?);
        }
        if let Some(timeout) = attempt_timeout {
            config = config.attempt_timeout(duration("attempt_timeout", timeout)?);
        }
        if let Some(ratio) = max_ejected_ratio {
            config = config.max_ejected_ratio(number("max_ejected_ratio", ratio)?);
        }
        if let Some(ratio) = explain_ratio {
            config = config.explain_ratio(number("explain_ratio", ratio)?);
        }
        let config = config.build().map_err(|error| config_error(py, &by_argument(error)))?;
        let rest = Arc::new(Rest::new(
            instance_circuit_breaker.this().map(Bound::unbind),
            config,
            budget_of(budget.this().as_ref(), clock)?,
            Listeners::of(listeners, Log::new(environment(clock)))?,
            clock.map(|clock| clock.clone().unbind()),
        ));
        let options = PyDict::new(py);
        options.set_item("clock", clock)?;
        let load_balancer = match load_balancer {
            Some(balancer) => balancer.clone(),
            None => py.get_type::<LoadBalancer>().call((), Some(&options))?,
        };
        let circuit_breaker = match circuit_breaker {
            Some(breaker) => breaker.clone(),
            None => py.get_type::<CircuitBreaker>().call((service_name,), Some(&options))?,
        };
        let retry_policy = match retry_policy {
            Some(policy) => policy.clone(),
            None => py.get_type::<RetryPolicy>().call((), Some(&options))?,
        };
        let name = service_name.str()?;
        let parts = Parts::new(&name, &load_balancer, &circuit_breaker, &retry_policy, rest)?;
        self.parts.store(Some(Arc::new(parts)));
        Ok(())
    }

    // ----- calls -----

    /// Calls `func(instance, *args, **kwargs)` with an instance of the balancer, and again with another if it fails.
    ///
    /// Of a coroutine function the awaited call is protected: `await proxy.call(func)`.
    // Called where a call is out of the ordinary when it begins: `guarded` has `call` itself, and this text.
    #[pyo3(name = "_call", signature = (func, /, *args, **kwargs))]
    fn call<'py>(
        slf: &Bound<'py, Self>,
        func: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::call_otherwise(slf, &slf.get().parts()?, None, func, args, kwargs)
    }

    /// Like `call`, with what was asked for this call alone.
    fn _call_with<'py>(
        slf: &Bound<'py, Self>,
        asked: &Bound<'py, Asked>,
        func: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::call_otherwise(slf, &slf.get().parts()?, Some(asked), func, args, kwargs)
    }

    /// Like `call`, of one attempt: what a policy of the user's own calls again and again.
    #[pyo3(signature = (asked, func, /, *args, **kwargs))]
    fn _call_once<'py>(
        slf: &Bound<'py, Self>,
        asked: Option<&Bound<'py, Asked>>,
        func: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::call_with(slf, &slf.get().parts()?, asked, func, args, kwargs)
    }

    /// Whether it retries itself, or a policy of the user's own does, by its `execute`.
    #[getter]
    fn _runs_calls_here(&self) -> PyResult<bool> {
        Ok(self.parts()?.policy != Policy::Executes)
    }

    /// Begins a call that Python drives.
    #[pyo3(signature = (asked = None))]
    fn _begin(slf: &Bound<'_, Self>, asked: Option<&Bound<'_, Asked>>) -> PyResult<Call> {
        let parts = slf.get().parts()?;
        let (options, memory) = what_is_asked(slf.py(), asked);
        let call = parts.core().begin_owned(&options);
        Ok(Call::new(slf.clone().unbind(), parts.share(), call, memory))
    }

    /// Calls a coroutine function, or any other whose result is awaitable.
    #[pyo3(signature = (func, /, *args, **kwargs))]
    fn call_async<'py>(
        slf: &Bound<'py, Self>,
        func: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        static CALL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        CALL.import_out(slf.py(), MODULE, "_call_async")?
            .call_out_with(&(slf, slf.py().None(), func, args, kwargs).into_pyobject(slf.py())?, None)
    }

    /// Decorates a function whose first argument is the instance, so that it is called without.
    fn __call__<'py>(slf: &Bound<'py, Self>, func: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        static DECORATED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        DECORATED.import_out(slf.py(), MODULE, "_decorated")?.call_out([slf.as_any(), func])
    }

    /// The same proxy for calls that ask for more: the `key` that they are about, a `timeout` of their own, or to
    /// `explain` what happened. It has `call`, `call_async`, decorates, and tells the `story` of its last call.
    ///
    /// `classify(result, error)` says of each attempt what it means, as an `Answer`; where it gives `None`, the predicates
    /// of the breaker and the policy say it. What is no `Exception` and refusals are not asked about.
    ///
    /// A policy that overrides `execute` makes calls of one attempt, and what is asked holds for each of them.
    #[pyo3(signature = (*, key = None, timeout = None, explain = false, classify = None))]
    fn with_options<'py>(
        slf: &Bound<'py, Self>,
        key: Option<&Bound<'py, PyAny>>,
        timeout: Option<&Bound<'py, PyAny>>,
        explain: bool,
        classify: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        static OPTIONS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let asked = Asked::new(key, timeout, explain, classify)?;
        let asked = Bound::new(slf.py(), asked)?;
        OPTIONS.import_out(slf.py(), MODULE, "ServiceProxyOptions")?.call_out([slf.as_any(), asked.as_any()])
    }

    // ----- parts -----

    /// The service's name.
    #[getter]
    fn service_name(&self, py: Python<'_>) -> PyResult<Py<PyString>> {
        Ok(self.parts()?.name_object().clone_ref(py))
    }

    #[setter]
    fn set_service_name(&self, name: &Bound<'_, PyAny>) -> PyResult<()> {
        let parts = self.parts()?;
        let py = name.py();
        self.replace(py, &parts, Some(&name.str()?), &parts.load_balancer, &parts.circuit_breaker, &parts.retry_policy)
    }

    /// The balancer; instances are registered there.
    #[getter]
    fn load_balancer(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.parts()?.load_balancer.clone_ref(py))
    }

    #[setter]
    fn set_load_balancer(&self, py: Python<'_>, load_balancer: Py<PyAny>) -> PyResult<()> {
        let parts = self.parts()?;
        self.replace(py, &parts, None, &load_balancer, &parts.circuit_breaker, &parts.retry_policy)
    }

    /// The service's circuit breaker.
    #[getter]
    fn circuit_breaker(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.parts()?.circuit_breaker.clone_ref(py))
    }

    #[setter]
    fn set_circuit_breaker(&self, py: Python<'_>, circuit_breaker: Py<PyAny>) -> PyResult<()> {
        let parts = self.parts()?;
        self.replace(py, &parts, None, &parts.load_balancer, &circuit_breaker, &parts.retry_policy)
    }

    /// How it retries.
    #[getter]
    fn retry_policy(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.parts()?.retry_policy.clone_ref(py))
    }

    #[setter]
    fn set_retry_policy(&self, py: Python<'_>, retry_policy: Py<PyAny>) -> PyResult<()> {
        let parts = self.parts()?;
        self.replace(py, &parts, None, &parts.load_balancer, &parts.circuit_breaker, &retry_policy)
    }

    /// The circuit of an instance, as a view of it; `None` if no instance of this id can be picked, or instances have no
    /// circuits.
    fn instance_circuit_breaker(
        slf: &Bound<'_, Self>,
        instance: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Py<CircuitBreaker>>> {
        let parts = slf.get().parts()?;
        let id = match instance.getattr_opt(intern!(slf.py(), "id"))? {
            Some(id) => text(&id)?,
            None => text(instance)?,
        };
        parts.catch_up(slf.py())?;
        let Some(core) = parts.core().instance_circuit_breaker(&id) else { return Ok(None) };
        CircuitBreaker::of_core(slf.py(), core).map(Some)
    }

    /// Tells a listener what happens here, in the service's circuit and in those of the instances, from now on. It is
    /// called with an event, holds up the call that caused it, and harms nothing if it raises.
    fn subscribe(&self, listener: &Bound<'_, PyAny>) -> PyResult<()> {
        self.parts()?.listeners().add(listener)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let name = slf.get().service_name(slf.py())?;
        Ok(format!("{}({})", slf.get_type().name()?, name.bind(slf.py()).repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let parts = self.parts.load();
        parts.as_ref().map_or(Ok(()), |parts| parts.visit(&visit))
    }

    fn __clear__(&self) {
        self.parts.store(None);
    }
}

impl ServiceProxy {
    fn parts(&self) -> PyResult<Present> {
        Present::of(self.parts.load()).ok_or_else(|| PyRuntimeError::new_err("ServiceProxy.__init__ was not called"))
    }

    /// The parts, if a call can be the core's from its begin to its first result.
    #[inline]
    pub(crate) fn plain_parts(&self) -> Option<Present> {
        self.parts().ok().filter(|parts| parts.is_plain())
    }

    /// The object of a proxy that a policy file describes.
    pub(crate) fn of_core(py: Python<'_>, core: Core, clock: Option<&Py<ManualClock>>) -> PyResult<Self> {
        let parts = Parts::of_core(py, core, clock)?;
        Ok(Self { parts: ArcSwapOption::from_pointee(parts) })
    }

    /// Tells the parts what a reload has changed in these sections of the file.
    pub(crate) fn follow(&self, py: Python<'_>, sections: &[&'static str]) -> PyResult<()> {
        self.parts()?.follow(py, sections)
    }

    /// From now on what happens here is counted; also when a part is assigned.
    pub(crate) fn measure(&self, tally: &Arc<Tally>) -> PyResult<()> {
        self.parts()?.measure(tally);
        Ok(())
    }

    fn replace(
        &self,
        py: Python<'_>,
        parts: &Parts,
        name: Option<&Bound<'_, PyString>>,
        load_balancer: &Py<PyAny>,
        circuit_breaker: &Py<PyAny>,
        retry_policy: &Py<PyAny>,
    ) -> PyResult<()> {
        let name = name.unwrap_or_else(|| parts.name_object().bind(py));
        let (balancer, breaker, policy) = (load_balancer.bind(py), circuit_breaker.bind(py), retry_policy.bind(py));
        let parts = Parts::new(name, balancer, breaker, policy, Arc::clone(parts.rest()))?;
        self.parts.store(Some(Arc::new(parts)));
        Ok(())
    }
}

/// The refusal of a field, by the name of the argument that it was given as.
fn by_argument(error: ConfigError) -> ConfigError {
    let argument = match error.field() {
        "call_timeout_seconds" => "timeout",
        "attempt_timeout_seconds" => "attempt_timeout",
        _ => return error,
    };
    ConfigError::new(argument, error.value(), error.allowed())
}

impl std::fmt::Debug for ServiceProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceProxy").finish_non_exhaustive()
    }
}
