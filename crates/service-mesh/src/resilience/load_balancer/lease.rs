//! A connection that is counted for as long as it lasts.

use std::fmt;
use std::sync::Arc;

use service_mesh_models::ServiceInstance;

use super::endpoint::Endpoint;

/// An instance that was picked, and one connection counted for it until this is dropped: on success, error, panic and
/// cancel alike. It may outlive the instance's registration and the balancer.
#[must_use = "a lease that is dropped at once counts nothing"]
pub struct Lease {
    endpoint: Endpoint,
}

impl Lease {
    #[inline]
    pub(crate) fn new(endpoint: &Endpoint) -> Self {
        endpoint.connect();
        Self { endpoint: endpoint.clone() }
    }

    /// The instance that was picked, as it was registered then.
    #[inline]
    pub fn instance(&self) -> &Arc<ServiceInstance> {
        self.endpoint.instance()
    }
}

impl Drop for Lease {
    #[inline]
    fn drop(&mut self) {
        self.endpoint.disconnect();
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("instance", self.instance()).finish()
    }
}
