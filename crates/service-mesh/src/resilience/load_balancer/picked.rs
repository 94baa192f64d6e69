//! An instance that was picked, without a count.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use service_mesh_models::ServiceInstance;

use super::endpoint::Endpoint;
use super::registration::Registration;
use super::snapshot::EndpointSet;
use crate::resilience::sync::Loaded;

/// An instance that was picked. It reads as a [`ServiceInstance`] and touches no shared count, about 10 ns less than
/// [`get_instance`](super::LoadBalancer::get_instance).
///
/// To be held for moments: it keeps the whole set of its time alive, and from the ninth one that a thread holds on, it
/// costs what `get_instance` costs.
pub struct Picked {
    set: Loaded<EndpointSet>,
    index: usize,
}

impl Picked {
    #[inline]
    pub(super) fn new(set: Loaded<EndpointSet>, index: usize) -> Self {
        Self { set, index }
    }

    /// The instance, to be kept for longer.
    #[inline]
    pub fn instance(&self) -> &Arc<ServiceInstance> {
        self.endpoint().instance()
    }

    /// What was [registered with](super::LoadBalancer::register_with) it, if it is of this type.
    #[inline]
    pub fn attachment<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.endpoint().attachment()
    }

    /// Its registration, to be kept for longer.
    pub fn registration(&self) -> Registration {
        Registration::new(self.endpoint().clone())
    }

    #[inline]
    fn endpoint(&self) -> &Endpoint {
        &self.set.endpoints()[self.index]
    }
}

impl Deref for Picked {
    type Target = ServiceInstance;

    #[inline]
    fn deref(&self) -> &ServiceInstance {
        self.instance()
    }
}

impl fmt::Debug for Picked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Picked").field(self.instance()).finish()
    }
}
