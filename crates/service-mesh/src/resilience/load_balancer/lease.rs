//! A connection that is counted for as long as it lasts.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use service_mesh_models::ServiceInstance;

use super::endpoint::Endpoint;
use super::registration::Registration;
use super::snapshot::{EndpointSet, Pick, UNTIMED};
use crate::resilience::outcome::Outcome;
use crate::resilience::sync::Loaded;

/// An instance that was picked, and one connection counted for it until this is dropped: on success, error, panic and
/// cancel alike. It may outlive the instance's registration and the balancer; it keeps the set of its time alive, which
/// is one pointer an instance and what the strategy prepared.
///
/// Under [`PeakEwma`](service_mesh_models::LoadBalancerStrategy::PeakEwma) it also measures how long the call took:
/// [`settle`](Self::settle) it with what came of it. Dropped without that, it only tells that an answer takes at least
/// so long.
#[must_use = "a lease that is dropped at once counts nothing"]
pub struct Lease {
    /// Not a handle of the endpoint: to count those would be two more shared additions.
    set: Loaded<EndpointSet>,
    pick: Pick,
    outcome: Outcome,
}

impl Lease {
    #[inline]
    pub(super) fn new(set: Loaded<EndpointSet>, pick: Pick) -> Self {
        set.endpoints()[pick.index()].connect();
        Self { set, pick, outcome: Outcome::Neutral }
    }

    /// The instance that was picked, as it was registered then.
    #[inline]
    pub fn instance(&self) -> &Arc<ServiceInstance> {
        self.endpoint().instance()
    }

    /// What was [registered with](super::LoadBalancer::register_with) it, if it is of this type.
    #[inline]
    pub fn attachment<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.endpoint().attachment()
    }

    /// Its registration, which may be kept for longer.
    pub fn registration(&self) -> Registration {
        Registration::new(self.endpoint().clone())
    }

    /// Gives the connection back and says what came of the call, for strategies that learn from it. A failure counts as
    /// a slow answer, a neutral outcome as none.
    #[inline]
    pub fn settle(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    #[inline]
    fn endpoint(&self) -> &Endpoint {
        &self.set.endpoints()[self.pick.index()]
    }
}

impl Drop for Lease {
    #[inline]
    fn drop(&mut self) {
        if self.pick.began != UNTIMED {
            self.set.observe(self.pick.index(), self.pick.began, self.outcome);
        }
        self.endpoint().disconnect();
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("instance", self.instance()).finish()
    }
}
