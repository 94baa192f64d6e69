//! `ServiceInstance`: a dataclass whose weight, health and connections the balancers see at once.
//!
//! The dataclass in `models.py` is what Python sees. Its base, [`InstanceState`], keeps those three fields and knows the
//! balancers that hold the object, weakly: an assignment tells them, and a pick reads no Python attribute. An object
//! that hides one of the three behind an attribute of its own, or that is no `ServiceInstance` at all, is read by
//! attribute: see `load_balancer`.

use std::sync::{Arc, Mutex, MutexGuard, Weak};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyFloat, PyString, PyTuple};
use service_mesh::{ConfigError, ServiceInstance, WeakRegistration};

use crate::errors::config_error;
use crate::load_balancer::Balancer;
use crate::lock::lock;
use crate::seconds::kind;

/// The native base of `ServiceInstance`. Not for use by itself.
#[pyclass(frozen, subclass, weakref, module = "codomyrmex.service_mesh._native")]
#[derive(Debug, Default)]
pub(crate) struct InstanceState {
    live: Mutex<Live>,
}

/// The fields that balancers go by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fields {
    pub(crate) weight: Weight,
    pub(crate) healthy: bool,
    /// As it was given: `connections -= 1` may pass zero, and come back.
    connections: i64,
}

/// Whole or not, as it was given: what is assigned is what is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Weight {
    Whole(u32),
    /// Not negative.
    Fraction(f64),
}

#[derive(Debug, Default)]
struct Live {
    fields: Fields,
    holders: Vec<Holder>,
}

/// A balancer that an object is registered with.
#[derive(Clone, Debug)]
struct Holder {
    balancer: Weak<Balancer>,
    registration: WeakRegistration,
    id: String,
}

impl Default for Fields {
    fn default() -> Self {
        Self { weight: Weight::Whole(1), healthy: true, connections: 0 }
    }
}

impl Fields {
    /// As the core counts them.
    pub(crate) fn connections(self) -> u32 {
        u32::try_from(self.connections.max(0)).unwrap_or(u32::MAX)
    }

    /// Reads them by attribute, from any object. What it does not have is as it is by default.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let default = Self::default();
        Ok(Self {
            weight: object.getattr_opt("weight")?.map_or(Ok(default.weight), |weight| Weight::of(&weight))?,
            healthy: object.getattr_opt("healthy")?.map_or(Ok(default.healthy), |healthy| healthy.is_truthy())?,
            connections: object.getattr_opt("connections")?.map_or(Ok(0), |connections| count(&connections))?,
        })
    }
}

impl Weight {
    /// Whole numbers, and what can be one, stay whole; what can be a float is one.
    fn of(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let out_of_range = || {
            let text = value.str().map_or_else(|_| "out of range".to_owned(), |text| text.to_string());
            config_error(value.py(), &ConfigError::new("weight", text, "0 to 4294967295"))
        };
        if !value.is_instance_of::<PyFloat>()
            && let Ok(whole) = value.call_method0("__index__")
        {
            return whole.extract().map(Self::Whole).map_err(|_| out_of_range());
        }
        let fraction: f64 = value
            .extract()
            .map_err(|_| PyTypeError::new_err(format!("weight must be a number, not {}", kind(value))))?;
        if (0.0..=f64::from(u32::MAX)).contains(&fraction) { Ok(Self::Fraction(fraction)) } else { Err(out_of_range()) }
    }

    /// The whole number that it is, if it is one.
    pub(crate) fn whole(self) -> Option<u32> {
        match self {
            Self::Whole(whole) => Some(whole),
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and in range")]
            Self::Fraction(fraction) => (fraction.fract() == 0.0).then_some(fraction as u32),
        }
    }

    /// As many `parts` of one as it is, rounded; no less than one of them, unless it is zero.
    pub(crate) fn in_parts(self, parts: u32) -> u32 {
        let weight = match self {
            Self::Whole(whole) => f64::from(whole),
            Self::Fraction(fraction) => fraction,
        };
        if weight == 0.0 {
            return 0;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of floats saturates")]
        let parts = (weight * f64::from(parts)).round() as u32;
        parts.max(1)
    }
}

fn count(value: &Bound<'_, PyAny>) -> PyResult<i64> {
    value.extract().map_err(|_| PyTypeError::new_err(format!("connections must be an int, not {}", kind(value))))
}

#[pymethods]
impl InstanceState {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    /// Its share of the calls, relative to the others; 0 drains it. A fraction counts in thousandths.
    #[getter]
    fn weight<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let weight = self.lock().fields.weight;
        match weight {
            Weight::Whole(whole) => Ok(whole.into_pyobject(py)?.into_any()),
            Weight::Fraction(fraction) => Ok(fraction.into_pyobject(py)?.into_any()),
        }
    }

    #[setter]
    fn set_weight(&self, weight: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, weight) = (weight.py(), Weight::of(weight)?);
        self.change(py, |fields| fields.weight = weight);
        Ok(())
    }

    /// Whether it may be picked.
    #[getter]
    fn healthy(&self) -> bool {
        self.lock().fields.healthy
    }

    #[setter]
    fn set_healthy(&self, healthy: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, healthy) = (healthy.py(), healthy.is_truthy()?);
        self.change(py, |fields| fields.healthy = healthy);
        Ok(())
    }

    /// Connections that somebody else counts for it.
    #[getter]
    fn connections(&self) -> i64 {
        self.lock().fields.connections
    }

    #[setter]
    fn set_connections(&self, connections: &Bound<'_, PyAny>) -> PyResult<()> {
        let connections = count(connections)?;
        let mut live = self.lock();
        live.fields.connections = connections;
        // One store each, and so under the lock: of two that race, the later is the last that a balancer hears of.
        let (present, registrations) = (live.fields.connections(), live.registrations());
        for registration in &registrations {
            registration.set_connections(present);
        }
        drop(live);
        drop(registrations);
        Ok(())
    }

    /// Connections that balancers have leased and not got back, in all that hold this object.
    #[getter]
    fn in_flight(&self) -> u32 {
        let registrations = self.lock().registrations();
        registrations.iter().map(service_mesh::Registration::in_flight).sum()
    }
}

impl InstanceState {
    /// The native fields of an object, if it is a `ServiceInstance` that hides none of them.
    pub(crate) fn of<'a, 'py>(object: &'a Bound<'py, PyAny>) -> PyResult<Option<&'a Bound<'py, Self>>> {
        static DESCRIPTORS: PyOnceLock<[(Py<PyString>, Py<PyAny>); 3]> = PyOnceLock::new();
        let Ok(native) = object.cast::<Self>() else { return Ok(None) };
        let py = object.py();
        let descriptors = DESCRIPTORS.get_or_try_init(py, || {
            let base = py.get_type::<Self>();
            let descriptor = |name| Ok::<_, PyErr>((PyString::intern(py, name).unbind(), base.getattr(name)?.unbind()));
            Ok::<_, PyErr>([descriptor("weight")?, descriptor("healthy")?, descriptor("connections")?])
        })?;
        let class = object.get_type();
        for (name, descriptor) in descriptors {
            if !class.getattr(name)?.is(descriptor) {
                return Ok(None);
            }
        }
        Ok(Some(native))
    }

    /// The present values.
    pub(crate) fn fields(&self) -> Fields {
        self.lock().fields
    }

    /// From now on this balancer is told of every assignment. It must [`follow`](Balancer::follow) once by itself, for
    /// what was assigned before.
    pub(crate) fn hold(&self, balancer: &Arc<Balancer>, registration: WeakRegistration, id: &str) {
        let mut live = self.lock();
        live.holders.retain(|holder| holder.balancer.strong_count() > 0 && !holder.is(balancer, id));
        let connections = live.fields.connections();
        let present = registration.upgrade();
        if let Some(registration) = &present {
            registration.set_connections(connections);
        }
        live.holders.push(Holder { balancer: Arc::downgrade(balancer), registration, id: id.to_owned() });
        drop(live);
        drop(present);
    }

    /// Takes what somebody else says of the instance, and tells every balancer.
    pub(crate) fn take(&self, py: Python<'_>, weight: Weight, healthy: bool) {
        let present = self.fields();
        if (present.weight, present.healthy) != (weight, healthy) {
            self.change(py, |fields| (fields.weight, fields.healthy) = (weight, healthy));
        }
    }

    /// This balancer holds another object under this id.
    pub(crate) fn release(&self, balancer: &Arc<Balancer>, id: &str) {
        self.lock().holders.retain(|holder| !holder.is(balancer, id));
    }

    fn change(&self, py: Python<'_>, change: impl FnOnce(&mut Fields)) {
        let mut live = self.lock();
        change(&mut live.fields);
        let holders = live.holders.clone();
        drop(live);
        for holder in holders {
            if let Some(balancer) = holder.balancer.upgrade() {
                balancer.follow(py, &holder.id, self);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        lock(&self.live)
    }
}

impl Live {
    /// To be dropped without the lock: a handle may be the last, and then the object goes with it.
    fn registrations(&self) -> Vec<service_mesh::Registration> {
        self.holders.iter().filter_map(|holder| holder.registration.upgrade()).collect()
    }
}

impl Holder {
    fn is(&self, balancer: &Arc<Balancer>, id: &str) -> bool {
        self.balancer.as_ptr() == Arc::as_ptr(balancer) && self.id == id
    }
}

/// What the core is told of an object: who it is, and where. Its host and port decide only whether an object that comes
/// in place of another one takes over its counters, so that anything will do that is read alike twice.
pub(crate) fn described(object: &Bound<'_, PyAny>) -> PyResult<ServiceInstance> {
    let id = text(&object.getattr("id")?)?;
    let host = object.getattr_opt("host")?.map_or_else(|| Ok(String::new()), |host| text(&host))?;
    let port = object.getattr_opt("port")?.and_then(|port| port.extract().ok()).unwrap_or_default();
    Ok(ServiceInstance::new(id, host, port))
}

/// An id, as text: ids of instances are, and whoever counts them may give the number.
pub(crate) fn text(value: &Bound<'_, PyAny>) -> PyResult<String> {
    match value.cast::<PyString>() {
        Ok(text) => Ok(text.to_string_lossy().into_owned()),
        Err(_) => Ok(value.str()?.to_string_lossy().into_owned()),
    }
}
