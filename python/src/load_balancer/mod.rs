//! `LoadBalancer`: the core's balancer, whose registrations carry the very objects that were registered.
//!
//! A pick is the core's pick and one reference more to the object that it finds there; it reads no attribute. A
//! `ServiceInstance` tells the balancers itself when one of its fields is assigned. Any other object is read by
//! attribute: before each pick, if there is one of them.

mod balancer;
mod key;
mod lease;
mod strategy;

use std::sync::{Arc, OnceLock};

use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyIterator, PyList, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit, intern};

use self::strategy::{member_of, strategy_of};
use crate::filled::Filled;
use crate::guarded::CallOut;
use crate::instance::text;
use crate::seconds::duration;
use crate::testing::{self, ManualClock};

pub(crate) use self::balancer::{Balancer, Object};
pub(crate) use self::key::Key;
pub(crate) use self::lease::Lease;

/// Picks an instance for each call: who is next among the instances of a service.
///
/// ```python
/// balancer = LoadBalancer(LoadBalancerStrategy.LEAST_CONNECTIONS)
/// balancer.register(ServiceInstance(id="1", host="api-1", port=8080))
/// with balancer.lease() as instance:
///     print(f"Routing to: {instance.address}")
/// ```
///
/// `lease` counts a connection until the block is left, and raises `NoHealthyInstanceError` if nobody can be picked;
/// `get_instance` counts none, and gives `None` then.
///
/// - `strategy`: a `LoadBalancerStrategy` or its value, such as `"p2c"`. Default `ROUND_ROBIN`; a word that is no strategy is
///   a `ConfigError`, which is a `ValueError`.
/// - `instances`: are registered, in this order.
/// - `slow_start`: for how many seconds, or what `timedelta`, the share of a new or recovered instance rises to what its
///   weight says, where weights count. By default it has its full share at once.
/// - `clock`: a `testing.ManualClock`, for tests.
///
/// Objects that are no `ServiceInstance` may be registered too, if they have an `id`; and subclasses may hide `weight`,
/// `healthy` or `connections` behind attributes of their own. Both are read by attribute before each pick, which costs 0.1 µs
/// an object.
#[pyclass(frozen, subclass, dict, weakref, module = "codomyrmex.service_mesh.load_balancer")]
#[derive(Debug)]
pub(crate) struct LoadBalancer {
    filled: Filled,
    /// Made by `__init__`, which is told of the clock.
    balancer: OnceLock<Arc<Balancer>>,
}

#[pymethods]
impl LoadBalancer {
    #[new]
    #[pyo3(
        signature = (*_args, **_kwargs),
        text_signature = "(strategy=None, instances=None, *, slow_start=None, clock=None)"
    )]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { filled: Filled::YES, balancer: OnceLock::new() }
    }

    /// `slow_start` is how long the share of a new or recovered instance rises to what its weight says, where weights
    /// count. `clock` is a `testing.ManualClock`, for tests.
    #[pyo3(signature = (strategy = None, instances = None, *, slow_start = None, clock = None))]
    fn __init__(
        slf: &Bound<'_, Self>,
        strategy: Option<&Bound<'_, PyAny>>,
        instances: Option<&Bound<'_, PyAny>>,
        slow_start: Option<&Bound<'_, PyAny>>,
        clock: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let clock = clock.map(testing::clock_of).transpose()?;
        let slow_start = slow_start.map(|slow_start| duration("slow_start", slow_start)).transpose()?;
        let strategy = strategy.map(strategy_of).transpose()?;
        let core = slf.get().balancer_in(clock).core();
        if let Some(slow_start) = slow_start {
            core.set_slow_start(slow_start);
        }
        if let Some(strategy) = strategy {
            core.set_strategy(strategy);
        }
        if let Some(instances) = instances {
            for instance in instances.try_iter()? {
                slf.getattr(intern!(slf.py(), "register"))?.call_out([&instance?])?;
            }
        }
        Ok(())
    }

    /// How it picks: a `LoadBalancerStrategy`; its value, a `str`, may be assigned too.
    #[getter]
    fn strategy(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        member_of(py, self.balancer().core().strategy())
    }

    #[setter]
    fn set_strategy(&self, strategy: &Bound<'_, PyAny>) -> PyResult<()> {
        self.balancer().core().set_strategy(strategy_of(strategy)?);
        Ok(())
    }

    /// Adds an instance behind the others, or puts it in the place of the one with the same id, which is returned.
    ///
    /// With the same host and port, connections in flight stay counted.
    #[pyo3(signature = (instance, /))]
    fn register(&self, instance: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        self.balancer().register(instance)
    }

    /// Takes an instance out and returns it; `None` if there is none with this id.
    fn deregister(&self, instance_id: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        self.balancer().deregister(instance_id.py(), &text(instance_id)?)
    }

    /// Marks an instance, and the object itself, healthy or unhealthy. Whether there is one with this id.
    #[pyo3(signature = (instance_id, healthy = true))]
    fn mark_healthy(&self, py: Python<'_>, instance_id: &Bound<'_, PyAny>, healthy: bool) -> PyResult<bool> {
        let id = text(instance_id)?;
        let Some(registration) = self.balancer().core().registration(&id) else { return Ok(false) };
        self.balancer().object(py, &registration)?.bind(py).setattr(intern!(py, "healthy"), healthy)?;
        self.balancer().refresh(py)?;
        Ok(true)
    }

    /// The next instance by the strategy, the very object that was registered; `None` if none is registered, healthy and
    /// of a weight above 0. Counts no connection: see `lease`.
    ///
    /// `key` is what the call is about, for `CONSISTENT_HASH`: a string, bytes, an integer, or a tuple of such. `exclude`
    /// are instances, or ids, that are not to be picked: those that were tried, for instance.
    #[pyo3(signature = (key = None, exclude = None))]
    fn get_instance(
        &self,
        py: Python<'_>,
        key: Option<&Bound<'_, PyAny>>,
        exclude: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let balancer = self.balancer();
        balancer.refresh(py)?;
        let picked = match (key, exclude) {
            (None, None) => balancer.core().pick(),
            (Some(key), None) => self.pick_for(key)?,
            (key, Some(exclude)) => self.pick_except(key, exclude)?,
        };
        let Some(picked) = picked else { return Ok(None) };
        match picked.attachment::<Object>() {
            Some(known) => Ok(Some(known.object().clone_ref(py))),
            None => balancer.make_object(py, &picked.registration()).map(Some),
        }
    }

    /// The next instance, with one connection counted until the block is left: `with balancer.lease() as instance:`.
    ///
    /// Raises `NoHealthyInstanceError` if there is none. `key` and `exclude` are those of `get_instance`.
    #[pyo3(signature = (key = None, exclude = None))]
    fn lease(
        slf: &Bound<'_, Self>,
        key: Option<&Bound<'_, PyAny>>,
        exclude: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Lease> {
        let (py, balancer) = (slf.py(), slf.get().balancer());
        if overrides_get_instance(slf)? {
            return Self::lease_of_own_choice(slf, key, exclude);
        }
        balancer.refresh(py)?;
        let excluded = exclude.map(ids_of).transpose()?.unwrap_or_default();
        let excluded: Vec<&str> = excluded.iter().map(String::as_str).collect();
        let lease = match key.map(Key::of).transpose()? {
            None => balancer.core().acquire_except(&excluded),
            Some(key) => balancer.core().acquire_for_except(&key, &excluded),
        };
        let lease = lease.ok_or_else(|| nobody_healthy(py))?;
        let object = balancer.object(py, &lease.registration())?;
        Ok(Lease::new(lease, object))
    }

    /// How many connections to this instance are leased, without those that somebody else counts; 0 if there is none.
    fn leased(&self, instance_id: &Bound<'_, PyAny>) -> PyResult<u32> {
        let registration = self.balancer().core().registration(&text(instance_id)?);
        Ok(registration.map_or(0, |registration| registration.in_flight()))
    }

    fn __len__(&self) -> usize {
        self.balancer().core().registrations().len()
    }

    /// A balancer without instances is one nevertheless.
    #[expect(clippy::unused_self, reason = "a method of Python's")]
    fn __bool__(&self) -> bool {
        true
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        self.objects(py)?.try_iter()
    }

    /// Whether this instance, or one of this id, is registered.
    fn __contains__(&self, instance: &Bound<'_, PyAny>) -> PyResult<bool> {
        match instance.cast::<PyString>() {
            Ok(id) => Ok(self.balancer().core().registration(&id.to_string_lossy()).is_some()),
            Err(_) => match instance.getattr_opt("id")? {
                Some(id) => Ok(self.balancer().registration_of(&text(&id)?, instance).is_some()),
                None => Ok(false),
            },
        }
    }

    /// The instance of this id.
    fn __getitem__(&self, py: Python<'_>, instance_id: &str) -> PyResult<Py<PyAny>> {
        let registration = self.balancer().core().registration(instance_id);
        let registration = registration.ok_or_else(|| PyKeyError::new_err(instance_id.to_owned()))?;
        self.balancer().object(py, &registration)
    }

    /// The instances by id, alive: what is put there is registered, what is deleted is taken out.
    #[getter]
    fn _instances<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("codomyrmex.service_mesh.load_balancer")?.getattr("_Instances")?.call_out([slf.as_any()])
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let (strategy, instances) = (slf.getattr("strategy")?, slf.get().objects(py)?);
        Ok(format!("{}({}, {})", slf.get_type().name()?, strategy.str()?, instances.repr()?))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let py = slf.py();
        let make = py.import("copyreg")?.getattr("__newobj__")?;
        let state = (slf.getattr("strategy")?, slf.get().objects(py)?, slf.getattr("__dict__")?);
        (make, (slf.get_type(),), state).into_pyobject(py)
    }

    fn __setstate__(
        slf: &Bound<'_, Self>,
        state: (Bound<'_, PyAny>, Bound<'_, PyList>, Bound<'_, PyDict>),
    ) -> PyResult<()> {
        let (strategy, instances, attributes) = state;
        slf.get().set_strategy(&strategy)?;
        slf.getattr("__dict__")?.cast::<PyDict>()?.update(attributes.as_mapping())?;
        instances.iter().try_for_each(|instance| slf.get().balancer().register(&instance).map(drop))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if !self.filled.is_filled() {
            return Ok(());
        }
        let Some(balancer) = self.balancer.get() else { return Ok(()) };
        for registration in balancer.core().registrations() {
            if let Some(known) = registration.attachment::<Object>() {
                visit.call(known.object())?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        self.balancer().core().set_instances([]);
    }
}

impl LoadBalancer {
    pub(crate) fn of(core: service_mesh::LoadBalancer) -> Self {
        Self { filled: Filled::YES, balancer: OnceLock::from(Arc::new(Balancer::new(core))) }
    }

    #[inline]
    pub(crate) fn balancer(&self) -> &Arc<Balancer> {
        // A subclass may have forgotten to call our `__init__`: then all is as by default.
        self.balancer_in(None)
    }

    /// The balancer, which is made now if it is not yet.
    #[inline]
    fn balancer_in(&self, clock: Option<&Bound<'_, ManualClock>>) -> &Arc<Balancer> {
        self.balancer.get_or_init(|| {
            let environment = testing::environment(clock);
            Arc::new(Balancer::new(service_mesh::LoadBalancer::builder().environment(environment).build()))
        })
    }

    #[inline]
    fn pick_for(&self, key: &Bound<'_, PyAny>) -> PyResult<Option<service_mesh::Picked>> {
        let core = self.balancer().core();
        // Text where it lies, which nearly every key is.
        if let Ok(text) = key.cast::<PyString>()
            && let Ok(text) = text.to_str()
        {
            return Ok(core.pick_for(text));
        }
        Ok(core.pick_for(&Key::of(key)?))
    }

    #[cold]
    fn pick_except(
        &self,
        key: Option<&Bound<'_, PyAny>>,
        exclude: &Bound<'_, PyAny>,
    ) -> PyResult<Option<service_mesh::Picked>> {
        let excluded = ids_of(exclude)?;
        let excluded: Vec<&str> = excluded.iter().map(String::as_str).collect();
        let core = self.balancer().core();
        Ok(match key.map(Key::of).transpose()? {
            None => core.pick_except(&excluded),
            Some(key) => core.pick_for_except(&key, &excluded),
        })
    }

    /// A subclass picks in its own way; the connection is counted here all the same.
    #[cold]
    fn lease_of_own_choice(
        slf: &Bound<'_, Self>,
        key: Option<&Bound<'_, PyAny>>,
        exclude: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Lease> {
        let py = slf.py();
        let options = PyDict::new(py);
        if let Some(key) = key {
            options.set_item("key", key)?;
        }
        if let Some(exclude) = exclude {
            options.set_item("exclude", exclude)?;
        }
        let instance = slf.getattr(intern!(py, "get_instance"))?.call_out_with(&PyTuple::empty(py), Some(&options))?;
        if instance.is_none() {
            return Err(nobody_healthy(py));
        }
        let id = text(&instance.getattr("id")?)?;
        let lease = slf.get().balancer().core().acquire_where(|registered| registered.id == id);
        Ok(Lease::of_own_choice(lease, instance.unbind()))
    }

    /// All objects, in order of registration.
    fn objects<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let registrations = self.balancer().core().registrations();
        let objects: PyResult<Vec<_>> =
            registrations.iter().map(|registration| self.balancer().object(py, registration)).collect();
        PyList::new(py, objects?)
    }
}

/// Whether a subclass picks in its own way.
pub(crate) fn overrides_get_instance(balancer: &Bound<'_, LoadBalancer>) -> PyResult<bool> {
    static OWN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if balancer.is_exact_instance_of::<LoadBalancer>() {
        return Ok(false);
    }
    let (py, name) = (balancer.py(), intern!(balancer.py(), "get_instance"));
    let own = OWN.get_or_try_init(py, || py.get_type::<LoadBalancer>().getattr(name).map(Bound::unbind))?;
    Ok(!balancer.get_type().getattr(name)?.is(own))
}

#[cold]
fn nobody_healthy(py: Python<'_>) -> PyErr {
    let text = PyString::new(py, "No healthy instances");
    let class = py.import("codomyrmex.service_mesh.models").and_then(|models| models.getattr("NoHealthyInstanceError"));
    class.and_then(|class| class.call_out([text.as_any()])).map_or_else(|error| error, PyErr::from_value)
}

/// The ids that are excluded: of instances or by themselves, one or several.
fn ids_of(exclude: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    if exclude.is_instance_of::<PyString>() || exclude.hasattr("id")? {
        return Ok(vec![id_of(exclude)?]);
    }
    exclude.try_iter()?.map(|one| id_of(&one?)).collect()
}

fn id_of(instance: &Bound<'_, PyAny>) -> PyResult<String> {
    match instance.getattr_opt("id")? {
        Some(id) => text(&id),
        None => text(instance),
    }
}
