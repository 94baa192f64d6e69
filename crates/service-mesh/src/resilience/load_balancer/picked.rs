//! An instance that was picked, without a count.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use service_mesh_models::ServiceInstance;

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
        self.set.endpoints()[self.index].instance()
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
