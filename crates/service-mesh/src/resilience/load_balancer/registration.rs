//! What was registered under one id, to be asked and told without a search.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use service_mesh_models::ServiceInstance;

use super::attachment::Attachment;
use super::connection::Connection;
use super::endpoint::{Endpoint, WeakEndpoint};

/// What was registered under one id: a handle for those who speak of the same instance again and again. Clones are
/// handles of the same registration.
///
/// It may outlive the registration, and tells then what was; counts that are set go nowhere. Registered anew with the
/// same host and port, the instance keeps its counters, and this handle still reaches them.
#[derive(Clone)]
pub struct Registration(Endpoint);

impl Registration {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self(endpoint)
    }

    /// The instance, as it was registered.
    pub fn instance(&self) -> &Arc<ServiceInstance> {
        self.0.instance()
    }

    /// What was [registered with](super::LoadBalancer::register_with) it, if it is of this type.
    pub fn attachment<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.attachment()
    }

    /// Attaches something to a registration that has nothing yet, for those who make it on demand; where there is
    /// something already, that stays. Read it by [`attachment`](Self::attachment): of two who race, one wins.
    pub fn attach(&self, attachment: Attachment) {
        self.0.attach(attachment);
    }

    /// Counts a connection that outlives its call, until it is dropped.
    pub fn connect(&self) -> Connection {
        Connection::new(self.0.clone())
    }

    /// Connections that are counted and were not given back.
    pub fn in_flight(&self) -> u32 {
        self.0.in_flight()
    }

    /// Connections that somebody else counts for it.
    pub fn connections(&self) -> u32 {
        self.0.connections()
    }

    /// Says how many connections somebody else counts for it. One store; the next pick of least connections sees it.
    pub fn set_connections(&self, connections: u32) {
        self.0.set_connections(connections);
    }

    /// A handle that keeps nothing alive: for what is attached and must know its registration.
    pub fn downgrade(&self) -> WeakRegistration {
        WeakRegistration(self.0.downgrade())
    }
}

/// A [`Registration`] that keeps neither the instance nor what is attached to it.
#[derive(Clone, Debug)]
pub struct WeakRegistration(WeakEndpoint);

impl WeakRegistration {
    /// The registration, unless it is gone: neither registered nor held by anybody.
    pub fn upgrade(&self) -> Option<Registration> {
        self.0.upgrade().map(Registration)
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registration").field(self.instance()).finish()
    }
}
