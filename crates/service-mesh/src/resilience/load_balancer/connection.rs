//! A connection that goes on when its call has been judged.

use std::fmt;

use super::endpoint::Endpoint;

/// One connection of an instance, counted for the balancer until this is dropped: for a stream or a tunnel, of which the
/// call has ended well while its connection lasts. It says nothing to a circuit, and may outlive the registration.
///
/// ```
/// use service_mesh::{LoadBalancer, LoadBalancerStrategy, Outcome, ServiceInstance};
///
/// let balancer = LoadBalancer::new(LoadBalancerStrategy::LeastConnections);
/// balancer.set_instances(["a", "b"].map(|id| ServiceInstance::new(id, "10.0.0.1", 8080)));
///
/// let lease = balancer.acquire().unwrap();
/// let busy = lease.registration();
/// let stream = busy.connect();
/// lease.settle(Outcome::Success);
/// assert_eq!(busy.in_flight(), 1);
/// assert_ne!(balancer.get_instance().unwrap().id, busy.instance().id);
/// drop(stream);
/// assert_eq!(busy.in_flight(), 0);
/// ```
#[must_use = "a connection that is dropped at once counts nothing"]
pub struct Connection(Endpoint);

impl Connection {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        endpoint.connect();
        Self(endpoint)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.disconnect();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(self.0.instance()).finish()
    }
}
