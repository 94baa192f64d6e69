//! What a balancer is to the objects that are registered with it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use service_mesh::Registration;

use crate::guarded::CallOut;
use crate::instance::{Fields, InstanceState, Weight, described, text};
use crate::lock::lock;

/// The core's balancer, and what it has been told of the objects.
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
    pub(super) fn registration_of(&self, id: &str, object: &Bound<'_, PyAny>) -> Option<Registration> {
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
    pub(super) fn make_object(self: &Arc<Self>, py: Python<'_>, registration: &Registration) -> PyResult<Py<PyAny>> {
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
        let object = class.call_out_with(&PyTuple::empty(py), Some(&known))?.unbind();
        registration.attach(Arc::new(Object { object, told: None }));
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
