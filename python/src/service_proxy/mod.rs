//! `ServiceProxy`: one call in one crossing: balance, both circuits, lease, deadline, retry elsewhere.
//!
//! Parts that are exactly ours take part in Rust. A balancer that picks in its own way is asked for each attempt; a
//! breaker that overrides a step of a call, or is none of ours, runs the attempts itself; a policy that overrides its delay
//! is asked for it, and one that overrides `execute` runs the calls itself, each of one attempt.

mod call;

use std::convert::Infallible;
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyString, PyTuple};
use pyo3::{Borrowed, IntoPyObjectExt, PyTraverseError, PyVisit, intern};
use service_mesh::{
    Attempt, CallOptions, CircuitBreakerConfig, Event, EventKind, Explanation, Jitter, Refused,
    RetryBudget as CoreBudget, RetryBudgetConfig, RetryConfig, RetryPolicy as CorePolicy, ServiceProxy as Core,
    ServiceProxyConfig,
};

use self::call::Next;
use crate::circuit_breaker::{Circuit, CircuitBreaker};
use crate::config::{CircuitBreakerRules, Follower, Rules, dataclass_of, number, whole};
use crate::errors::config_error;
use crate::event::circuit_event;
use crate::guarded::{CallOut, is_coroutine};
use crate::instance::text;
use crate::load_balancer::{Balancer, Key, LoadBalancer, overrides_get_instance};
use crate::lock::lock;
use crate::log::Log;
use crate::measures::{Tally, Watch};
use crate::retry::{RetryBudget, RetryPolicy, Switches};
use crate::seconds::{duration, kind};
use crate::story::story;
use crate::testing::{ManualClock, environment};

pub(crate) use self::call::{Call, Memory};

const MODULE: &str = "codomyrmex.service_mesh.service_proxy";

/// Calls one service. See `service_proxy.py`.
#[pyclass(frozen, subclass, dict, weakref, module = "codomyrmex.service_mesh.service_proxy")]
pub(crate) struct ServiceProxy {
    /// None until `__init__` has run. Replaced as a whole when a part is assigned; calls under way keep theirs.
    parts: ArcSwapOption<Parts>,
}

/// What a proxy is made of.
pub(crate) struct Parts {
    core: Core,
    name: Py<PyString>,
    pub(crate) balancer: Arc<Balancer>,
    pub(crate) load_balancer: Py<PyAny>,
    pub(crate) circuit_breaker: Py<PyAny>,
    pub(crate) retry_policy: Py<PyAny>,
    rest: Arc<Rest>,
    /// The configuration of the instances' circuits, where they have one of their own and it has changed.
    instance_rules: Option<Arc<InstanceRules>>,
    /// How the core retries at present.
    retry: Mutex<RetryConfig>,
    /// What the instances' circuits have inherited from the service's.
    inherited: Mutex<Arc<CircuitBreakerConfig>>,
    /// What must be known at once of the policy, where it is ours.
    switches: Option<Arc<Switches>>,
    /// The service's circuit, where it is the core's too.
    pub(crate) circuit: Option<Arc<Circuit>>,
    pub(crate) chooser: Chooser,
    pub(crate) policy: Policy,
    /// The breaker runs the attempts.
    pub(crate) is_guarded: bool,
    /// The whole call is the core's.
    is_plain: bool,
}

/// Who picks the instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chooser {
    /// The core.
    Ours,
    /// A subclass, in its own way; it may be told whom to leave out.
    Subclass { takes_exclude: bool },
    /// A balancer that is none of ours.
    Foreign { takes_exclude: bool },
}

impl Chooser {
    pub(crate) fn takes_exclude(self) -> bool {
        matches!(self, Self::Subclass { takes_exclude: true } | Self::Foreign { takes_exclude: true })
    }
}

/// Who retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// The core.
    Ours,
    /// The core, after the waits of a subclass.
    Delays,
    /// A policy that runs the calls itself; each is one attempt here.
    Executes,
}

/// What a proxy was given beside its parts, and keeps when one of them is assigned.
struct Rest {
    instance_circuit_breaker: Option<Py<PyAny>>,
    config: ServiceProxyConfig,
    budget: Option<CoreBudget>,
    listeners: Arc<Listeners>,
    /// Who counts what happens here.
    measures: Mutex<Vec<Arc<Tally>>>,
    clock: Option<Py<ManualClock>>,
}

/// The listeners of a proxy, held once: by Python's collector they are found in the proxy.
#[derive(Default)]
pub(crate) struct Listeners {
    all: Mutex<Vec<Py<PyAny>>>,
    /// None where somebody else tells the log of the same service.
    log: Option<Log>,
}

/// A configuration of the instances' own that has changed, and is taken up where it matters: before the next verdict.
#[derive(Default)]
struct InstanceRules(Mutex<Option<Arc<CircuitBreakerConfig>>>);

impl Follower for InstanceRules {
    fn follow(&self, rules: &Rules) {
        *lock(&self.0) = Some(Arc::clone(&rules.config));
    }
}

impl Listeners {
    /// These, if there are any.
    pub(crate) fn of(listeners: Option<&Bound<'_, PyAny>>, log: Log) -> PyResult<Self> {
        let all = Self { log: Some(log), ..Self::default() };
        for listener in listeners.map(PyAnyMethods::try_iter).transpose()?.into_iter().flatten() {
            let listener = callable("a listener", &listener?)?;
            lock(&all.all).push(listener);
        }
        Ok(all)
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
        let config = config.build().map_err(|error| config_error(py, &error))?;
        let rest = Arc::new(Rest {
            instance_circuit_breaker: instance_circuit_breaker.this().map(Bound::unbind),
            config,
            budget: budget_of(budget.this().as_ref(), clock)?,
            listeners: Arc::new(Listeners::of(listeners, Log::new(environment(clock)))?),
            measures: Mutex::default(),
            clock: clock.map(|clock| clock.clone().unbind()),
        });
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
        let call = parts.core.begin_owned(&options);
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
        CALL.import(slf.py(), MODULE, "_call_async")?
            .call_out_with(&(slf, slf.py().None(), func, args, kwargs).into_pyobject(slf.py())?, None)
    }

    /// Decorates a function whose first argument is the instance, so that it is called without.
    fn __call__<'py>(slf: &Bound<'py, Self>, func: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        static DECORATED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        DECORATED.import(slf.py(), MODULE, "_decorated")?.call1((slf, func))
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
        let asked = Asked {
            key: key.map(Key::of).transpose()?,
            timeout: timeout.map(|timeout| duration("timeout", timeout)).transpose()?,
            explains: explain,
            classify: classify.map(|classify| callable("classify", classify)).transpose()?,
            story: Mutex::default(),
        };
        OPTIONS.import(slf.py(), MODULE, "ServiceProxyOptions")?.call1((slf, Bound::new(slf.py(), asked)?))
    }

    // ----- parts -----

    /// The service's name.
    #[getter]
    fn service_name(&self, py: Python<'_>) -> PyResult<Py<PyString>> {
        Ok(self.parts()?.name.clone_ref(py))
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
        let Some(core) = parts.core.instance_circuit_breaker(&id) else { return Ok(None) };
        CircuitBreaker::of_core(slf.py(), core).map(Some)
    }

    /// Tells a listener what happens here, in the service's circuit and in those of the instances, from now on. It is
    /// called with an event, holds up the call that caused it, and harms nothing if it raises.
    fn subscribe(&self, listener: &Bound<'_, PyAny>) -> PyResult<()> {
        let listener = callable("a listener", listener)?;
        lock(&self.parts()?.rest.listeners.all).push(listener);
        Ok(())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let name = slf.get().service_name(slf.py())?;
        Ok(format!("{}({})", slf.get_type().name()?, name.bind(slf.py()).repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let parts = self.parts.load();
        let Some(parts) = &*parts else { return Ok(()) };
        visit.call(&parts.load_balancer)?;
        visit.call(&parts.circuit_breaker)?;
        visit.call(&parts.retry_policy)?;
        visit.call(&parts.rest.instance_circuit_breaker)?;
        visit.call(&parts.rest.clock)?;
        parts.rest.listeners.visit(&visit)
    }

    fn __clear__(&self) {
        self.parts.store(None);
    }
}

impl ServiceProxy {
    fn parts(&self) -> PyResult<Present> {
        let parts = self.parts.load();
        match *parts {
            Some(_) => Ok(Present(parts)),
            None => Err(PyRuntimeError::new_err("ServiceProxy.__init__ was not called")),
        }
    }

    /// The parts, if a call can be the core's from its begin to its first result.
    #[inline]
    pub(crate) fn plain_parts(&self) -> Option<Present> {
        self.parts().ok().filter(|parts| parts.is_plain && !parts.balancer.reads_objects())
    }

    /// The object of a proxy that a policy file describes.
    pub(crate) fn of_core(py: Python<'_>, core: Core, clock: Option<&Py<ManualClock>>) -> PyResult<Self> {
        let parts = Parts::of_core(py, core, clock)?;
        Ok(Self { parts: ArcSwapOption::from_pointee(parts) })
    }

    /// Tells the parts what a reload has changed in these sections of the file.
    pub(crate) fn follow(&self, py: Python<'_>, sections: &[&'static str]) -> PyResult<()> {
        let parts = self.parts()?;
        if sections.contains(&"instances") {
            parts.balancer.listed_anew(py)?;
        }
        if sections.contains(&"circuit_breaker")
            && let Ok(breaker) = parts.circuit_breaker.bind(py).cast::<CircuitBreaker>()
        {
            let config = parts.core.circuit_breaker().config();
            breaker.setattr(intern!(py, "config"), dataclass_of(py, &config)?)?;
            *lock(&parts.inherited) = config;
        }
        if sections.contains(&"retry") || sections.contains(&"budget") {
            let policy = parts.core.retry_policy();
            let config = policy.config().clone();
            for (name, value) in retry_fields(py, &config)? {
                parts.retry_policy.bind(py).setattr(name.cast::<PyString>()?, value)?;
            }
            *lock(&parts.retry) = config;
        }
        Ok(())
    }

    /// From now on what happens here is counted; also when a part is assigned.
    pub(crate) fn measure(&self, tally: &Arc<Tally>) -> PyResult<()> {
        let parts = self.parts()?;
        lock(&parts.rest.measures).push(Arc::clone(tally));
        parts.core.subscribe(Watch(Arc::clone(tally)));
        parts.core.observe(Watch(Arc::clone(tally)));
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
        let name = name.unwrap_or_else(|| parts.name.bind(py));
        let (balancer, breaker, policy) = (load_balancer.bind(py), circuit_breaker.bind(py), retry_policy.bind(py));
        let parts = Parts::new(name, balancer, breaker, policy, Arc::clone(&parts.rest))?;
        self.parts.store(Some(Arc::new(parts)));
        Ok(())
    }

    /// A call that was refused before its first attempt: of a coroutine function it is told when it is awaited.
    #[cold]
    pub(crate) fn refuse<'py>(
        slf: &Bound<'py, Self>,
        parts: &Present,
        refused: &Refused,
        func: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        static IS_COROUTINE_FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = slf.py();
        if IS_COROUTINE_FUNCTION.import(py, "inspect", "iscoroutinefunction")?.call_out([func])?.is_truthy()? {
            return Self::call_async(slf, func, args, kwargs);
        }
        Err(parts.refusal(py, refused, None))
    }

    /// A call that is not the plain one.
    #[cold]
    fn call_otherwise<'py>(
        slf: &Bound<'py, Self>,
        parts: &Present,
        asked: Option<&Bound<'py, Asked>>,
        func: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if parts.policy != Policy::Executes {
            return Self::call_with(slf, parts, asked, func, args, kwargs);
        }
        let py = slf.py();
        let asked = asked.map_or_else(|| py.None().into_bound(py), |asked| asked.as_any().clone());
        let before = [slf.getattr(intern!(py, "_call_once"))?, asked, func.clone()];
        let args = PyTuple::new(py, before.into_iter().chain(args.iter()).collect::<Vec<_>>())?;
        parts.retry_policy.bind(py).getattr(intern!(py, "execute"))?.call_out_with(&args, kwargs)
    }

    /// The call itself, from its begin.
    #[cold]
    fn call_with<'py>(
        slf: &Bound<'py, Self>,
        parts: &Present,
        asked: Option<&Bound<'py, Asked>>,
        func: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let (options, mut memory) = what_is_asked(py, asked);
        let attempt = parts.admit(py, parts.core.begin(&options), &mut memory)?;
        let instance = parts.instance(py, &attempt)?;
        let result = parts.invoke(func, &instance, args, kwargs);
        Self::go_on(slf, parts, memory, attempt, result, func, args, kwargs)
    }

    /// A call whose first attempt has come back, with anything.
    #[cold]
    #[expect(clippy::too_many_arguments, reason = "all that a call is about")]
    pub(crate) fn go_on<'py>(
        slf: &Bound<'py, Self>,
        parts: &Present,
        mut memory: Memory,
        mut attempt: Attempt<&Core>,
        mut result: PyResult<Bound<'py, PyAny>>,
        func: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        static BEGUN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = slf.py();
        loop {
            if let Ok(coroutine) = &result
                && is_coroutine(coroutine)
            {
                let limit = attempt.time_left().map(|left| left.as_secs_f64());
                let call = Call::running(slf.clone().unbind(), parts.share(), attempt.into_owned(), memory);
                return BEGUN
                    .import(py, MODULE, "_begun")?
                    .call_out_with(&(call, coroutine, limit, func, args, kwargs).into_pyobject(py)?, None);
            }
            match parts.settle(py, attempt, result, &mut memory)? {
                Next::Return(result) => return Ok(result),
                Next::Retry { after, call } => {
                    parts.sleep(py, after)?;
                    attempt = parts.admit(py, call, &mut memory)?;
                    let instance = parts.instance(py, &attempt)?;
                    result = parts.invoke(func, &instance, args, kwargs);
                }
            }
        }
    }
}

/// What was asked for one call, if anything was.
fn what_is_asked(py: Python<'_>, asked: Option<&Bound<'_, Asked>>) -> (CallOptions, Memory) {
    asked.map_or_else(Default::default, |asked| (asked.get().options(), asked.get().memory(py)))
}

/// The parts that a call began with.
pub(crate) struct Present(Guard<Option<Arc<Parts>>>);

impl Present {
    /// To be kept for longer.
    fn share(&self) -> Arc<Parts> {
        self.0.as_ref().map(Arc::clone).expect("only what is some is present")
    }
}

impl Deref for Present {
    type Target = Parts;

    #[inline]
    fn deref(&self) -> &Parts {
        self.0.as_deref().expect("only what is some is present")
    }
}

impl Parts {
    fn new(
        name: &Bound<'_, PyString>,
        load_balancer: &Bound<'_, PyAny>,
        circuit_breaker: &Bound<'_, PyAny>,
        retry_policy: &Bound<'_, PyAny>,
        rest: Arc<Rest>,
    ) -> PyResult<Self> {
        let py = name.py();
        needs(load_balancer, "load_balancer", "get_instance")?;
        needs(circuit_breaker, "circuit_breaker", "execute")?;
        needs(retry_policy, "retry_policy", "get_delay")?;
        let ours = load_balancer.cast::<LoadBalancer>().ok();
        let chooser = match ours {
            None => Chooser::Foreign { takes_exclude: takes_exclude(load_balancer)? },
            Some(ours) if overrides_get_instance(ours)? => {
                Chooser::Subclass { takes_exclude: takes_exclude(load_balancer)? }
            }
            Some(_) => Chooser::Ours,
        };
        let balancer = ours.map_or_else(
            || Arc::new(Balancer::new(service_mesh::LoadBalancer::default())),
            |ours| Arc::clone(ours.get().balancer()),
        );
        let circuit = circuit_breaker.cast::<CircuitBreaker>().ok().map(|breaker| Arc::clone(breaker.get().circuit()));
        let is_guarded = circuit.as_ref().is_none_or(|circuit| circuit.is_hooked());
        let ours_policy = retry_policy.cast::<RetryPolicy>().ok();
        let way = if overrides(retry_policy, "execute")? {
            Policy::Executes
        } else if overrides(retry_policy, "get_delay")? {
            Policy::Delays
        } else {
            Policy::Ours
        };
        let environment = environment(rest.clock.as_ref().map(|clock| clock.bind(py)));
        let mut builder = Core::builder(name.to_string_lossy().into_owned())
            .load_balancer(balancer.core().clone())
            .config(rest.config.clone())
            .listener({
                let listeners = Arc::clone(&rest.listeners);
                let circuit_is_logged = circuit.is_some();
                move |event: &Event| listeners.tell(event, circuit_is_logged)
            });
        for tally in lock(&rest.measures).iter() {
            builder = builder.listener(Watch(Arc::clone(tally))).observer(Watch(Arc::clone(tally)));
        }
        if rest.clock.is_some() || circuit.is_none() {
            builder = builder.environment(environment.clone());
        }
        match &circuit {
            Some(circuit) if !is_guarded => builder = builder.shared_circuit_breaker(circuit.core().clone()),
            // The attempts pass through the breaker itself; the core's never refuses.
            _ => builder = builder.circuit_breaker(config_of(circuit_breaker)?),
        }
        let mut instance_rules = None;
        match &rest.instance_circuit_breaker {
            None => {}
            Some(given) if is_off(given.bind(py)) => builder = builder.without_instance_circuit_breakers(),
            Some(given) => {
                let config = given.bind(py).cast::<CircuitBreakerRules>().map_err(|_| {
                    let kind = kind(given.bind(py));
                    PyTypeError::new_err(format!(
                        "instance_circuit_breaker must be a CircuitBreakerConfig or None, not {kind}"
                    ))
                })?;
                if config.get().judges() {
                    same_predicates(config.as_any(), circuit_breaker)?;
                }
                let follower = Arc::new(InstanceRules::default());
                config.get().attach(&follower);
                let present = lock(&follower.0).take().unwrap_or_default();
                builder = builder.instance_circuit_breaker((*present).clone());
                instance_rules = Some(follower);
            }
        }
        let retry = retry_config(retry_policy)?;
        let policy = CorePolicy::builder().config(retry.clone()).environment(environment);
        builder = match budget_of_policy(retry_policy).or_else(|| rest.budget.clone()) {
            Some(budget) => builder.retry_policy(policy.budget(budget).build()),
            None => builder.retry_policy(policy.build()).without_retry_budget(),
        };
        let core = builder.build();
        let inherited = Mutex::new(core.circuit_breaker().config());
        if is_guarded {
            core.circuit_breaker().force_closed();
        }
        Ok(Self {
            core,
            name: name.clone().unbind(),
            balancer,
            load_balancer: load_balancer.clone().unbind(),
            circuit_breaker: circuit_breaker.clone().unbind(),
            retry_policy: retry_policy.clone().unbind(),
            circuit: circuit.filter(|_| !is_guarded),
            switches: ours_policy.map(|policy| Arc::clone(policy.get().switches())),
            rest,
            instance_rules,
            retry: Mutex::new(retry),
            inherited,
            chooser,
            policy: way,
            is_guarded,
            is_plain: chooser == Chooser::Ours && !is_guarded && way != Policy::Executes,
        })
    }

    /// The parts of a proxy that exists: objects are made for them.
    fn of_core(py: Python<'_>, core: Core, clock: Option<&Py<ManualClock>>) -> PyResult<Self> {
        let load_balancer = Bound::new(py, LoadBalancer::of(core.load_balancer().clone()))?;
        let breaker = CircuitBreaker::of_core(py, core.circuit_breaker())?;
        let policy = core.retry_policy();
        let fields = retry_fields(py, policy.config())?;
        fields.set_item("clock", clock)?;
        let retry_policy = py.get_type::<RetryPolicy>().call((), Some(&fields))?.cast_into::<RetryPolicy>()?;
        let listeners = Arc::new(Listeners::default());
        let told = Arc::clone(&listeners);
        core.subscribe(move |event: &Event| told.tell(event, true));
        let rest = Rest {
            instance_circuit_breaker: None,
            config: core.config(),
            budget: policy.budget().cloned(),
            listeners,
            measures: Mutex::default(),
            clock: clock.map(|clock| clock.clone_ref(py)),
        };
        Ok(Self {
            name: PyString::new(py, core.name()).unbind(),
            balancer: Arc::clone(load_balancer.get().balancer()),
            load_balancer: load_balancer.into_any().unbind(),
            circuit: Some(Arc::clone(breaker.get().circuit())),
            circuit_breaker: breaker.into_any(),
            switches: Some(Arc::clone(retry_policy.get().switches())),
            retry_policy: retry_policy.into_any().unbind(),
            rest: Arc::new(rest),
            instance_rules: None,
            retry: Mutex::new(policy.config().clone()),
            inherited: Mutex::new(core.circuit_breaker().config()),
            chooser: Chooser::Ours,
            policy: Policy::Ours,
            is_guarded: false,
            is_plain: true,
            core,
        })
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    pub(crate) fn name(&self, py: Python<'_>) -> String {
        self.name.bind(py).to_string_lossy().into_owned()
    }

    pub(crate) fn clock(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.rest.clock.as_ref().map(|clock| clock.clone_ref(py).into_any())
    }

    /// Begins a call, and its first attempt.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "an attempt is large, and is not to be returned through memory")]
    pub(crate) fn admit_first(&self) -> Result<Attempt<&Core>, Refused> {
        self.core.begin(&CallOptions::new()).admit()
    }

    /// Whether nobody wants to see the results of attempts, as far as can be told at once.
    #[inline]
    pub(crate) fn is_indifferent(&self) -> bool {
        self.circuit.as_ref().is_some_and(|circuit| circuit.is_plain())
            && self.switches.as_ref().is_some_and(|switches| !switches.judges_results())
    }

    /// Whether somebody wants to see the results of attempts.
    #[inline]
    pub(crate) fn judges_results(&self, py: Python<'_>) -> PyResult<bool> {
        if self.is_indifferent() { Ok(false) } else { self.asks_for_results(py) }
    }

    #[cold]
    fn asks_for_results(&self, py: Python<'_>) -> PyResult<bool> {
        let name = intern!(py, "failed_result");
        let config = self.circuit_breaker.bind(py).getattr_opt(intern!(py, "config"))?;
        for judge in [Some(self.retry_policy.bind(py).clone()), config].into_iter().flatten() {
            if judge.getattr_opt(name)?.is_some_and(|failed| !failed.is_none()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tells the core what has been assigned to the parts since: to be called before a verdict that may depend on it.
    pub(crate) fn catch_up(&self, py: Python<'_>) -> PyResult<()> {
        let retry = retry_config(self.retry_policy.bind(py))?;
        if std::mem::replace(&mut *lock(&self.retry), retry.clone()) != retry {
            let policy = CorePolicy::builder().config(retry).environment(self.environment(py));
            let budget = budget_of_policy(self.retry_policy.bind(py)).or_else(|| self.rest.budget.clone());
            self.core.update_retry_policy(match budget {
                Some(budget) => policy.budget(budget).build(),
                None => policy.build(),
            });
        }
        match &self.instance_rules {
            Some(rules) => {
                let changed = lock(&rules.0).take();
                if let Some(config) = changed {
                    self.core.update_instance_circuit_breaker(config);
                }
            }
            None if self.rest.instance_circuit_breaker.is_none() => {
                let config = match &self.circuit {
                    Some(circuit) => circuit.core().config(),
                    None => Arc::new(config_of(self.circuit_breaker.bind(py))?),
                };
                let known = std::mem::replace(&mut *lock(&self.inherited), Arc::clone(&config));
                if !Arc::ptr_eq(&known, &config) && *known != *config {
                    self.core.update_circuit_breaker(config);
                }
            }
            None => {}
        }
        Ok(())
    }

    fn environment(&self, py: Python<'_>) -> service_mesh::Environment {
        environment(self.rest.clock.as_ref().map(|clock| clock.bind(py)))
    }

    /// Waits before a retry, as the clock says, or by `time.sleep`, which lets other threads run.
    fn sleep(&self, py: Python<'_>, after: Duration) -> PyResult<()> {
        if after.is_zero() {
            return Ok(());
        }
        let waits = match &self.rest.clock {
            Some(clock) => clock.bind(py).as_any().clone(),
            None => py.import(intern!(py, "time"))?.into_any(),
        };
        let seconds = after.as_secs_f64().into_bound_py_any(py)?;
        waits.getattr(intern!(py, "sleep"))?.call_out([&seconds]).map(drop)
    }
}

/// What an attempt means is one thing to both circuits: the instances' configuration has no predicates of its own.
fn same_predicates(config: &Bound<'_, PyAny>, circuit_breaker: &Bound<'_, PyAny>) -> PyResult<()> {
    let of_service = circuit_breaker.getattr_opt("config")?;
    for name in ["on", "ignore", "failed_result"] {
        let (own, default) = (config.getattr(name)?, config.get_type().call0()?.getattr(name)?);
        let service = of_service.as_ref().map(|config| config.getattr_opt(name)).transpose()?.flatten();
        if !own.eq(&default)? && !service.is_some_and(|service| own.eq(service).unwrap_or(false)) {
            return Err(PyValueError::new_err(format!(
                "instance_circuit_breaker: {name} must be that of the service's circuit breaker, which judges for both"
            )));
        }
    }
    Ok(())
}

/// The attributes of a policy that retries so.
fn retry_fields<'py>(py: Python<'py>, config: &RetryConfig) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("max_retries", config.max_retries())?;
    fields.set_item("initial_delay", config.initial_delay().as_secs_f64())?;
    fields.set_item("max_delay", config.max_delay().as_secs_f64())?;
    fields.set_item("exponential_base", config.exponential_base())?;
    match config.jitter() {
        Jitter::None => fields.set_item("jitter", false)?,
        Jitter::Proportional => fields.set_item("jitter", true)?,
        other => fields.set_item("jitter", other.as_str())?,
    }
    fields.set_item("retry_after_max", config.retry_after_max().as_secs_f64())?;
    Ok(fields)
}

/// The budget that a policy of ours was given; it counts in place of the proxy's.
fn budget_of_policy(policy: &Bound<'_, PyAny>) -> Option<CoreBudget> {
    policy.cast::<RetryPolicy>().ok().and_then(|policy| policy.get().core().budget().cloned())
}

/// How a policy retries now: its fields may be assigned at any time. One that is not ours is read by attribute.
fn retry_config(policy: &Bound<'_, PyAny>) -> PyResult<RetryConfig> {
    let py = policy.py();
    if let Ok(ours) = policy.cast::<RetryPolicy>() {
        return Ok(ours.get().core().config().clone());
    }
    let mut config = RetryConfig::builder();
    if let Some(retries) = policy.getattr_opt(intern!(py, "max_retries"))? {
        config = config.max_retries(whole("max_retries", &retries, "0 to 4294967295")?);
    }
    if let Some(delay) = policy.getattr_opt(intern!(py, "initial_delay"))? {
        config = config.initial_delay(duration("initial_delay", &delay)?);
    }
    if let Some(delay) = policy.getattr_opt(intern!(py, "max_delay"))? {
        config = config.max_delay(duration("max_delay", &delay)?);
    }
    if let Some(base) = policy.getattr_opt(intern!(py, "exponential_base"))? {
        config = config.exponential_base(number("exponential_base", &base)?);
    }
    if let Some(jitter) = policy.getattr_opt(intern!(py, "jitter"))? {
        config = config.jitter(jitter_of(&jitter)?);
    }
    if let Some(longest) = policy.getattr_opt(intern!(py, "retry_after_max"))? {
        config = config.retry_after_max(duration("retry_after_max", &longest)?);
    }
    config.build().map_err(|error| config_error(py, &error))
}

fn jitter_of(jitter: &Bound<'_, PyAny>) -> PyResult<Jitter> {
    match jitter.cast::<PyString>() {
        Ok(word) => word.to_string_lossy().parse().map_err(|error| PyValueError::new_err(format!("jitter: {error}"))),
        Err(_) => Ok(Jitter::from(jitter.is_truthy()?)),
    }
}

/// The configuration of a breaker, as the core takes it: that of ours, or the default.
fn config_of(breaker: &Bound<'_, PyAny>) -> PyResult<CircuitBreakerConfig> {
    match breaker.cast::<CircuitBreaker>() {
        Ok(ours) => Ok((*ours.get().circuit().core().config()).clone()),
        Err(_) => Ok(CircuitBreakerConfig::default()),
    }
}

/// What was said of something, if anything was: `None` says that there is none.
enum Said<'py> {
    Nothing,
    This(Bound<'py, PyAny>),
}

impl<'py> Said<'py> {
    fn this(self) -> Option<Bound<'py, PyAny>> {
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

/// `None` and `False` switch off.
fn is_off(said: &Bound<'_, PyAny>) -> bool {
    said.is_none() || said.is(PyBool::new(said.py(), false))
}

/// The budget that was asked for: the default one, none, or one of its own.
fn budget_of(
    budget: Option<&Bound<'_, PyAny>>,
    clock: Option<&Bound<'_, ManualClock>>,
) -> PyResult<Option<CoreBudget>> {
    let default = || CoreBudget::with_environment(RetryBudgetConfig::default(), environment(clock));
    match budget {
        None => Ok(Some(default())),
        Some(budget) if is_off(budget) => Ok(None),
        Some(budget) if budget.is_instance_of::<PyBool>() => Ok(Some(default())),
        Some(budget) if budget.is_instance_of::<RetryBudget>() => {
            Ok(Some(budget.cast::<RetryBudget>()?.get().core().clone()))
        }
        Some(budget) => {
            Err(PyTypeError::new_err(format!("budget must be a RetryBudget or None, not {}", kind(budget))))
        }
    }
}

fn callable(what: &str, given: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    if given.is_callable() {
        return Ok(given.clone().unbind());
    }
    Err(PyTypeError::new_err(format!("{what} must be callable, not {}", kind(given))))
}

fn needs(part: &Bound<'_, PyAny>, name: &str, method: &str) -> PyResult<()> {
    if part.hasattr(method)? {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!("{name} must have a method {method}, and {} has none", kind(part))))
}

/// Whether a policy is not ours, or a subclass has this method of its own.
fn overrides(policy: &Bound<'_, PyAny>, method: &str) -> PyResult<bool> {
    let ours = policy.py().get_type::<RetryPolicy>();
    if policy.get_type().is(&ours) {
        return Ok(false);
    }
    match policy.get_type().getattr_opt(method)? {
        Some(own) => Ok(!own.is(ours.getattr(method)?)),
        None => Ok(false),
    }
}

/// Whether a balancer's own `get_instance` may be told whom to leave out.
fn takes_exclude(balancer: &Bound<'_, PyAny>) -> PyResult<bool> {
    static TAKES: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    TAKES.import(balancer.py(), MODULE, "_takes_exclude")?.call1((balancer,))?.is_truthy()
}

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

impl Asked {
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

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listeners").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ServiceProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceProxy").finish_non_exhaustive()
    }
}
