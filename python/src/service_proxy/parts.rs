//! What a proxy is made of, whoever made each part, and the core that it makes of them.

use std::ops::Deref;
use std::sync::{Arc, Mutex};

use arc_swap::Guard;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{PyTraverseError, PyVisit};
use service_mesh::{
    Attempt, CallOptions, CircuitBreakerConfig, Event, Refused, RetryBudget as CoreBudget, RetryConfig,
    RetryPolicy as CorePolicy, ServiceProxy as Core, ServiceProxyConfig,
};

use super::chooser::Chooser;
use super::instance_rules::InstanceRules;
use super::listeners::Listeners;
use super::policy::{Policy, budget_of_policy, retry_config, retry_fields};
use super::switched_off::is_off;
use crate::circuit_breaker::{Circuit, CircuitBreaker};
use crate::config::dataclass_of;
use crate::load_balancer::{Balancer, LoadBalancer};
use crate::lock::lock;
use crate::measures::{Tally, Watch};
use crate::retry::{RetryPolicy, Switches};
use crate::seconds::kind;
use crate::testing::{ManualClock, environment};

/// What a proxy is made of.
pub(crate) struct Parts {
    core: Core,
    name: Py<PyString>,
    pub(super) balancer: Arc<Balancer>,
    pub(super) load_balancer: Py<PyAny>,
    pub(super) circuit_breaker: Py<PyAny>,
    pub(super) retry_policy: Py<PyAny>,
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
    pub(super) circuit: Option<Arc<Circuit>>,
    pub(super) chooser: Chooser,
    pub(super) policy: Policy,
    /// The breaker runs the attempts.
    pub(super) is_guarded: bool,
    /// The whole call is the core's.
    is_plain: bool,
}

/// What a proxy was given beside its parts, and keeps when one of them is assigned.
pub(super) struct Rest {
    instance_circuit_breaker: Option<Py<PyAny>>,
    config: ServiceProxyConfig,
    budget: Option<CoreBudget>,
    listeners: Arc<Listeners>,
    /// Who counts what happens here.
    measures: Mutex<Vec<Arc<Tally>>>,
    clock: Option<Py<ManualClock>>,
}

/// The parts that a call began with.
pub(crate) struct Present(Guard<Option<Arc<Parts>>>);

impl Present {
    pub(super) fn of(parts: Guard<Option<Arc<Parts>>>) -> Option<Self> {
        parts.is_some().then_some(Self(parts))
    }

    /// To be kept for longer.
    pub(super) fn share(&self) -> Arc<Parts> {
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

impl Rest {
    pub(super) fn new(
        instance_circuit_breaker: Option<Py<PyAny>>,
        config: ServiceProxyConfig,
        budget: Option<CoreBudget>,
        listeners: Listeners,
        clock: Option<Py<ManualClock>>,
    ) -> Self {
        let listeners = Arc::new(listeners);
        Self { instance_circuit_breaker, config, budget, listeners, measures: Mutex::default(), clock }
    }
}

impl Parts {
    pub(super) fn new(
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
        let chooser = Chooser::of(load_balancer)?;
        let ours = load_balancer.cast::<LoadBalancer>().ok();
        let balancer = ours.map_or_else(
            || Arc::new(Balancer::new(service_mesh::LoadBalancer::default())),
            |ours| Arc::clone(ours.get().balancer()),
        );
        let circuit = circuit_breaker.cast::<CircuitBreaker>().ok().map(|breaker| Arc::clone(breaker.get().circuit()));
        let is_guarded = circuit.as_ref().is_none_or(|circuit| circuit.is_hooked());
        let ours_policy = retry_policy.cast::<RetryPolicy>().ok();
        let policy = Policy::of(retry_policy)?;
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
                let rules = InstanceRules::follow(given.bind(py), circuit_breaker)?;
                let present = rules.take_changed().unwrap_or_default();
                builder = builder.instance_circuit_breaker((*present).clone());
                instance_rules = Some(rules);
            }
        }
        let retry = retry_config(retry_policy)?;
        let core_policy = CorePolicy::builder().config(retry.clone()).environment(environment);
        builder = match budget_of_policy(retry_policy).or_else(|| rest.budget.clone()) {
            Some(budget) => builder.retry_policy(core_policy.budget(budget).build()),
            None => builder.retry_policy(core_policy.build()).without_retry_budget(),
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
            policy,
            is_guarded,
            is_plain: chooser == Chooser::Ours && !is_guarded && policy != Policy::Executes,
        })
    }

    /// The parts of a proxy that exists: objects are made for them.
    pub(super) fn of_core(py: Python<'_>, core: Core, clock: Option<&Py<ManualClock>>) -> PyResult<Self> {
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

    pub(super) fn name_object(&self) -> &Py<PyString> {
        &self.name
    }

    pub(crate) fn name(&self, py: Python<'_>) -> String {
        self.name.bind(py).to_string_lossy().into_owned()
    }

    pub(crate) fn clock(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.rest.clock.as_ref().map(|clock| clock.clone_ref(py).into_any())
    }

    pub(super) fn rest(&self) -> &Arc<Rest> {
        &self.rest
    }

    pub(super) fn listeners(&self) -> &Listeners {
        &self.rest.listeners
    }

    /// Whether a call can be the core's from its begin to its first result.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.is_plain && !self.balancer.reads_objects()
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
                if let Some(config) = rules.take_changed() {
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

    /// Tells the parts what a reload has changed in these sections of the file.
    pub(super) fn follow(&self, py: Python<'_>, sections: &[&'static str]) -> PyResult<()> {
        if sections.contains(&"instances") {
            self.balancer.listed_anew(py)?;
        }
        if sections.contains(&"circuit_breaker")
            && let Ok(breaker) = self.circuit_breaker.bind(py).cast::<CircuitBreaker>()
        {
            let config = self.core.circuit_breaker().config();
            breaker.setattr(intern!(py, "config"), dataclass_of(py, &config)?)?;
            *lock(&self.inherited) = config;
        }
        if sections.contains(&"retry") || sections.contains(&"budget") {
            let policy = self.core.retry_policy();
            let config = policy.config().clone();
            for (name, value) in retry_fields(py, &config)? {
                self.retry_policy.bind(py).setattr(name.cast::<PyString>()?, value)?;
            }
            *lock(&self.retry) = config;
        }
        Ok(())
    }

    /// From now on what happens here is counted; also when a part is assigned.
    pub(super) fn measure(&self, tally: &Arc<Tally>) {
        lock(&self.rest.measures).push(Arc::clone(tally));
        self.core.subscribe(Watch(Arc::clone(tally)));
        self.core.observe(Watch(Arc::clone(tally)));
    }

    pub(super) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.load_balancer)?;
        visit.call(&self.circuit_breaker)?;
        visit.call(&self.retry_policy)?;
        visit.call(&self.rest.instance_circuit_breaker)?;
        visit.call(&self.rest.clock)?;
        self.instance_rules.as_ref().map_or(Ok(()), |rules| rules.visit(visit))?;
        self.rest.listeners.visit(visit)
    }

    fn environment(&self, py: Python<'_>) -> service_mesh::Environment {
        environment(self.rest.clock.as_ref().map(|clock| clock.bind(py)))
    }
}

/// The configuration of a breaker, as the core takes it: that of ours, or the default.
fn config_of(breaker: &Bound<'_, PyAny>) -> PyResult<CircuitBreakerConfig> {
    match breaker.cast::<CircuitBreaker>() {
        Ok(ours) => Ok((*ours.get().circuit().core().config()).clone()),
        Err(_) => Ok(CircuitBreakerConfig::default()),
    }
}

fn needs(part: &Bound<'_, PyAny>, name: &str, method: &str) -> PyResult<()> {
    if part.hasattr(method)? {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!("{name} must have a method {method}, and {} has none", kind(part))))
}
