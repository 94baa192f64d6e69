//! `LoadBalancer`: the core's balancer, whose registrations carry the very objects that were registered.
//!
//! A pick is the core's pick and one reference more to the object that it finds there; it reads no attribute. A
//! `ServiceInstance` tells the balancers itself when one of its fields is assigned. Any other object is read by
//! attribute: before each pick, if there is one of them.

mod lease;

use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyInt, PyIterator, PyList, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit, intern};
use service_mesh::{LoadBalancerStrategy, Registration};

use crate::filled::Filled;
use crate::guarded::CallOut;
use crate::instance::{Fields, InstanceState, Weight, described, text};
use crate::lock::lock;
use crate::seconds::{duration, kind};
use crate::testing::{self, ManualClock};

pub(crate) use self::lease::Lease;

/// Picks an instance for each call. See `load_balancer.py`.
#[pyclass(frozen, subclass, dict, weakref, module = "codomyrmex.service_mesh.load_balancer")]
#[derive(Debug)]
pub(crate) struct LoadBalancer {
    filled: Filled,
    /// Made by `__init__`, which is told of the clock.
    balancer: OnceLock<Arc<Balancer>>,
}

/// What a balancer is to the objects that are registered with it.
pub(crate) struct Balancer {
    core: service_mesh::LoadBalancer,
    /// Weights are told to the core in thousandths, because one of them is no whole number. Never taken back.
    ///
    /// Ordering: Relaxed. Whoever sets it tells every weight anew.
    in_parts: AtomicBool,
    /// The objects that are read by attribute.
    foreign: Mutex<Vec<Weak<Object>>>,
    /// Their number.
    ///
    /// Ordering: Relaxed. It publishes nothing; the list has a lock.
    foreigners: AtomicUsize,
}

/// What is attached to a registration: the object that was registered.
pub(crate) struct Object {
    object: Py<PyAny>,
    /// What the core was told last, if it is read by attribute.
    told: Option<Mutex<Fields>>,
}

/// A weight of one is so many parts where some weight is no whole number.
const PARTS: u32 = 1_000;

impl Balancer {
    pub(crate) fn new(core: service_mesh::LoadBalancer) -> Self {
        Self { core, in_parts: AtomicBool::new(false), foreign: Mutex::default(), foreigners: AtomicUsize::new(0) }
    }

    pub(crate) fn core(&self) -> &service_mesh::LoadBalancer {
        &self.core
    }

    /// Registers an object, and returns the one that had its id.
    pub(crate) fn register(self: &Arc<Self>, object: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        let py = object.py();
        let native = InstanceState::of(object)?;
        let fields = native.map_or_else(|| Fields::of(object), |native| Ok(native.get().fields()))?;
        let instance = described(object)?
            .with_weight(self.weight(fields.weight))
            .with_healthy(fields.healthy)
            .with_connections(fields.connections());
        let id = instance.id.clone();
        let told = native.is_none().then(|| Mutex::new(fields));
        let registered = Arc::new(Object { object: object.clone().unbind(), told });
        let replaced = self.core.register_with(instance, registered.clone());
        if let Some(native) = native {
            if let Some(registration) = self.registration_of(&id, object) {
                native.get().hold(self, registration.downgrade(), &id);
                self.follow(py, &id, native.get());
            }
        } else {
            let mut foreign = self.foreign();
            foreign.retain(|other| other.strong_count() > 0);
            foreign.push(Arc::downgrade(&registered));
            self.foreigners.store(foreign.len(), Ordering::Relaxed);
        }
        let replaced = replaced.as_ref().and_then(|replaced| replaced.attachment::<Object>());
        let Some(Object { object: replaced, .. }) = replaced else { return Ok(None) };
        let replaced = replaced.bind(py);
        if !replaced.is(object) {
            self.release(&id, replaced)?;
        }
        Ok(Some(replaced.clone().unbind()))
    }

    /// Takes an object out, and returns it.
    pub(crate) fn deregister(self: &Arc<Self>, py: Python<'_>, id: &str) -> PyResult<Option<Py<PyAny>>> {
        let Some(registration) = self.core.registration(id) else { return Ok(None) };
        let object = self.object(py, &registration)?;
        if self.core.deregister(id).is_some() {
            self.release(id, object.bind(py))?;
        }
        Ok(Some(object))
    }

    fn release(self: &Arc<Self>, id: &str, object: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Some(native) = InstanceState::of(object)? {
            native.get().release(self, id);
        }
        Ok(())
    }

    /// Tells the core what is said of an instance now. Whatever races, the last that the core hears is the present.
    pub(crate) fn follow(self: &Arc<Self>, py: Python<'_>, id: &str, state: &InstanceState) {
        let mut fields = state.fields();
        loop {
            self.core.set_weight(id, self.weight(fields.weight));
            self.core.mark_healthy(id, fields.healthy);
            let present = state.fields();
            if (present.weight, present.healthy) == (fields.weight, fields.healthy) {
                break;
            }
            fields = present;
        }
        // Another object may have taken the id meanwhile, and has then been told what is not its own.
        if let Some(registration) = self.core.registration(id)
            && let Some(Object { object, told }) = registration.attachment()
        {
            match (object.bind(py).cast::<InstanceState>(), told) {
                (_, Some(told)) => *lock(told) = fields,
                (Ok(other), None) if !std::ptr::eq(other.get(), state) => self.follow(py, id, other.get()),
                _ => {}
            }
        }
    }

    /// Reads the objects that are read by attribute, and tells the core what has changed. To be called before a pick.
    #[inline]
    pub(crate) fn refresh(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        if self.reads_objects() { self.read_foreign(py) } else { Ok(()) }
    }

    /// Whether some object is read by attribute before each pick.
    #[inline]
    pub(crate) fn reads_objects(&self) -> bool {
        self.foreigners.load(Ordering::Relaxed) > 0
    }

    #[cold]
    fn read_foreign(&self, py: Python<'_>) -> PyResult<()> {
        let foreign: Vec<_> = self.foreign().iter().filter_map(Weak::upgrade).collect();
        for object in foreign {
            let Object { object, told: Some(told) } = &*object else { continue };
            let object = object.bind(py);
            let fields = Fields::of(object)?;
            let before = std::mem::replace(&mut *lock(told), fields);
            if before == fields {
                continue;
            }
            let id = text(&object.getattr("id")?)?;
            if self.registration_of(&id, object).is_some() {
                self.core.set_weight(&id, self.weight(fields.weight));
                self.core.mark_healthy(&id, fields.healthy);
                self.core.set_connections(&id, fields.connections());
            }
        }
        Ok(())
    }

    /// Registers an object whose balancer answers for its health and weight.
    pub(crate) fn register_pickable(&self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let registered = Object { object: object.clone().unbind(), told: None };
        drop(self.core.register_with(described(object)?, Arc::new(registered)));
        Ok(())
    }

    /// Whether this object is registered under this id.
    pub(crate) fn has(&self, id: &str, object: &Bound<'_, PyAny>) -> bool {
        self.registration_of(id, object).is_some()
    }

    /// A list of instances has been put in force: tells the objects what it says of them, and lets them know their
    /// registrations again.
    pub(crate) fn listed_anew(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        for status in self.core.endpoints() {
            let Some(registration) = self.core.registration(&status.instance.id) else { continue };
            let Some(known) = registration.attachment::<Object>() else { continue };
            let object = known.object.bind(py);
            let Some(native) = InstanceState::of(object)? else { continue };
            native.get().hold(self, registration.downgrade(), &status.instance.id);
            if self.in_parts.load(Ordering::Relaxed) {
                // A list speaks of whole weights, and may leave others in parts: what the objects say holds.
                self.follow(py, &status.instance.id, native.get());
            } else {
                native.get().take(py, Weight::Whole(status.weight), status.healthy);
            }
        }
        Ok(())
    }

    /// The registration of this id, if it is this object's.
    fn registration_of(&self, id: &str, object: &Bound<'_, PyAny>) -> Option<Registration> {
        let registration = self.core.registration(id)?;
        let is_his = registration.attachment::<Object>().is_some_and(|known| known.object.is(object));
        is_his.then_some(registration)
    }

    /// The object of a registration. One that no Python code has registered, such as a policy file's, gets one now.
    pub(crate) fn object(self: &Arc<Self>, py: Python<'_>, registration: &Registration) -> PyResult<Py<PyAny>> {
        if let Some(known) = registration.attachment::<Object>() {
            return Ok(known.object.clone_ref(py));
        }
        self.make_object(py, registration)
    }

    #[cold]
    fn make_object(self: &Arc<Self>, py: Python<'_>, registration: &Registration) -> PyResult<Py<PyAny>> {
        let instance = registration.instance();
        let status = self.core.endpoints().into_iter().find(|status| status.instance.id == instance.id);
        let (healthy, weight) =
            status.map_or((instance.healthy, instance.weight), |status| (status.healthy, status.weight));
        let known = PyDict::new(py);
        known.set_item("id", &instance.id)?;
        known.set_item("host", &instance.host)?;
        known.set_item("port", instance.port)?;
        known.set_item("weight", weight)?;
        known.set_item("healthy", healthy)?;
        known.set_item("connections", registration.connections())?;
        known.set_item("metadata", instance.metadata.clone())?;
        let class = py.import("codomyrmex.service_mesh.models")?.getattr("ServiceInstance")?;
        registration.attach(Arc::new(Object { object: class.call((), Some(&known))?.unbind(), told: None }));
        // Of two who make one at the same time, one wins.
        let object = registration.attachment::<Object>().map(|known| known.object.clone_ref(py));
        let object = object.ok_or_else(|| PyTypeError::new_err("something else is attached to this instance"))?;
        if let Ok(native) = object.bind(py).cast::<InstanceState>() {
            native.get().hold(self, registration.downgrade(), &instance.id);
        }
        Ok(object)
    }

    /// A weight as the core is told it: in whole numbers, or in parts of one as soon as some weight is a fraction.
    fn weight(&self, weight: Weight) -> u32 {
        match weight.whole() {
            Some(whole) if !self.in_parts.load(Ordering::Relaxed) => whole,
            _ => {
                if !self.in_parts.swap(true, Ordering::Relaxed) {
                    for status in self.core.endpoints() {
                        self.core.set_weight(&status.instance.id, status.weight.saturating_mul(PARTS));
                    }
                }
                weight.in_parts(PARTS)
            }
        }
    }

    fn foreign(&self) -> MutexGuard<'_, Vec<Weak<Object>>> {
        lock(&self.foreign)
    }
}

impl Object {
    pub(crate) fn object(&self) -> &Py<PyAny> {
        &self.object
    }
}

impl std::fmt::Debug for Balancer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Balancer").field(&self.core).finish()
    }
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
        slf.get().balancer_in(clock);
        if let Some(slow_start) = slow_start {
            slf.get().balancer().core.set_slow_start(duration("slow_start", slow_start)?);
        }
        if let Some(strategy) = strategy {
            slf.get().set_strategy(strategy)?;
        }
        if let Some(instances) = instances {
            for instance in instances.try_iter()? {
                slf.call_method1(intern!(slf.py(), "register"), (instance?,))?;
            }
        }
        Ok(())
    }

    /// How it picks: a `LoadBalancerStrategy`; its value, a `str`, may be assigned too.
    #[getter]
    fn strategy(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        member_of(py, self.balancer().core.strategy())
    }

    #[setter]
    fn set_strategy(&self, strategy: &Bound<'_, PyAny>) -> PyResult<()> {
        self.balancer().core.set_strategy(strategy_of(strategy)?);
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
        let Some(registration) = self.balancer().core.registration(&id) else { return Ok(false) };
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
            (None, None) => balancer.core.pick(),
            (Some(key), None) => self.pick_for(key)?,
            (key, Some(exclude)) => self.pick_except(key, exclude)?,
        };
        let Some(picked) = picked else { return Ok(None) };
        match picked.attachment::<Object>() {
            Some(known) => Ok(Some(known.object.clone_ref(py))),
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
            None => balancer.core.acquire_except(&excluded),
            Some(key) => balancer.core.acquire_for_except(&key, &excluded),
        };
        let lease = lease.ok_or_else(|| nobody_healthy(py))?;
        let object = balancer.object(py, &lease.registration())?;
        Ok(Lease::new(lease, object))
    }

    /// How many connections to this instance are leased, without those that somebody else counts; 0 if there is none.
    fn leased(&self, instance_id: &Bound<'_, PyAny>) -> PyResult<u32> {
        let registration = self.balancer().core.registration(&text(instance_id)?);
        Ok(registration.map_or(0, |registration| registration.in_flight()))
    }

    fn __len__(&self) -> usize {
        self.balancer().core.registrations().len()
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
            Ok(id) => Ok(self.balancer().core.registration(&id.to_string_lossy()).is_some()),
            Err(_) => match instance.getattr_opt("id")? {
                Some(id) => Ok(self.balancer().registration_of(&text(&id)?, instance).is_some()),
                None => Ok(false),
            },
        }
    }

    /// The instance of this id.
    fn __getitem__(&self, py: Python<'_>, instance_id: &str) -> PyResult<Py<PyAny>> {
        let registration = self.balancer().core.registration(instance_id);
        let registration = registration.ok_or_else(|| pyo3::exceptions::PyKeyError::new_err(instance_id.to_owned()))?;
        self.balancer().object(py, &registration)
    }

    /// The instances by id, alive: what is put there is registered, what is deleted is taken out.
    #[getter]
    fn _instances<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("codomyrmex.service_mesh.load_balancer")?.getattr("_Instances")?.call1((slf,))
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
        for registration in balancer.core.registrations() {
            if let Some(known) = registration.attachment::<Object>() {
                visit.call(&known.object)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        self.balancer().core.set_instances([]);
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
        let core = &self.balancer().core;
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
        let core = &self.balancer().core;
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
        let lease = slf.get().balancer().core.acquire_where(|registered| registered.id == id);
        Ok(Lease::of_own_choice(lease, instance.unbind()))
    }

    /// All objects, in order of registration.
    pub(crate) fn objects<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let registrations = self.balancer().core.registrations();
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
    let class = py.import("codomyrmex.service_mesh.models").and_then(|models| models.getattr("NoHealthyInstanceError"));
    class.and_then(|class| class.call1(("No healthy instances",))).map_or_else(|error| error, PyErr::from_value)
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

/// The strategy that a member of `LoadBalancerStrategy` or its value names.
pub(crate) fn strategy_of(value: &Bound<'_, PyAny>) -> PyResult<LoadBalancerStrategy> {
    let word = value.getattr_opt("value")?.unwrap_or_else(|| value.clone());
    let unknown = || {
        let words = LoadBalancerStrategy::ALL.map(|strategy| format!("{:?}", strategy.as_str())).join(", ");
        let text = value.repr().map_or_else(|_| kind(value), |text| text.to_string());
        PyValueError::new_err(format!("{text} is no load balancer strategy; there are {words}"))
    };
    let word = word.cast::<PyString>().map_err(|_| unknown())?;
    LoadBalancerStrategy::from_str(&word.to_string_lossy()).map_err(|_| unknown())
}

/// The member of `LoadBalancerStrategy`.
fn member_of(py: Python<'_>, strategy: LoadBalancerStrategy) -> PyResult<Py<PyAny>> {
    let members = py.import("codomyrmex.service_mesh.models")?.getattr("LoadBalancerStrategy")?;
    members.call1((strategy.as_str(),)).map(Bound::unbind)
}

/// What a call is about. Equal keys go to one instance, from Rust and from Python.
#[derive(Debug)]
pub(crate) enum Key {
    Text(String),
    Bytes(Vec<u8>),
    Number(i64),
    /// What an `i64` does not hold, as text.
    LargeNumber(String),
    Several(Vec<Self>),
}

impl Key {
    pub(crate) fn of(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(text) = value.cast::<PyString>() {
            return Ok(Self::Text(text.to_string_lossy().into_owned()));
        }
        if let Ok(bytes) = value.cast::<PyBytes>() {
            return Ok(Self::Bytes(bytes.as_bytes().to_vec()));
        }
        if value.is_instance_of::<PyInt>() {
            return value
                .extract()
                .map_or_else(|_| text(value).map(Self::LargeNumber), |number| Ok(Self::Number(number)));
        }
        if let Ok(several) = value.cast::<PyTuple>() {
            return several.iter().map(|one| Self::of(&one)).collect::<PyResult<_>>().map(Self::Several);
        }
        let kind = kind(value);
        Err(PyTypeError::new_err(format!("a key must be a str, bytes, an int or a tuple of them, not {kind}")))
    }
}

/// As Rust hashes the same things.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Text(text) | Self::LargeNumber(text) => text.hash(state),
            Self::Bytes(bytes) => bytes.hash(state),
            Self::Number(number) => number.hash(state),
            Self::Several(several) => several.iter().for_each(|one| one.hash(state)),
        }
    }
}
