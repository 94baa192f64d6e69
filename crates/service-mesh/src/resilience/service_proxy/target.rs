//! What an async attempt is told.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use service_mesh_models::ServiceInstance;

use crate::environment::Environment;
use crate::resilience::clock::Timestamp;

/// What an async attempt is told: which instance to call, which attempt it is, and how long it has. It owns what it
/// tells, so that the future may keep it; it dereferences to the instance.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) instance: Arc<ServiceInstance>,
    pub(super) number: u32,
    pub(super) limit: Option<(Timestamp, Environment)>,
}

impl Target {
    /// The instance to call.
    pub fn instance(&self) -> &Arc<ServiceInstance> {
        &self.instance
    }

    /// Which attempt of its call this is, counted from 1.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// How long it may still take, by its own limit and the call's deadline; none without either. The driver cuts it
    /// off then; a server may be told.
    pub fn time_left(&self) -> Option<Duration> {
        self.limit.as_ref().map(|(limit, environment)| limit.since(environment.now()))
    }
}

impl Deref for Target {
    type Target = ServiceInstance;

    fn deref(&self) -> &ServiceInstance {
        &self.instance
    }
}
