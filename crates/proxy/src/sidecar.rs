//! What all threads of a sidecar share: the services, and where requests go.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use service_mesh::{Mesh, MeshBuilder, PolicyChanges, PolicyError};

use crate::access_log::AccessLog;
use crate::limits::Gate;
use crate::listener::Clients;
use crate::metrics::Text;
use crate::refusal::{Reason, Refusals};
use crate::route::RouteTable;
use crate::service::Service;

/// What all threads of a sidecar share. Clones are handles of the same.
#[derive(Clone)]
pub struct Sidecar(Arc<Inner>);

struct Inner {
    mesh: Mesh,
    table: ArcSwap<RouteTable>,
    /// How many services there ever were; held while the table changes.
    services: Mutex<usize>,
    access_log: AccessLog,
    /// Of each listener that there was, by name.
    clients: Mutex<BTreeMap<String, Arc<Clients>>>,
    /// Of requests that are for no service.
    refusals: Refusals,
}

impl Sidecar {
    /// Serves the services of this mesh by the routes of its policy.
    pub fn new(mesh: Mesh) -> Self {
        let inner = Inner {
            mesh,
            table: ArcSwap::default(),
            services: Mutex::new(0),
            access_log: AccessLog::default(),
            clients: Mutex::default(),
            refusals: Refusals::default(),
        };
        inner.rebuild(&mut inner.services.lock().unwrap_or_else(PoisonError::into_inner));
        Self(Arc::new(inner))
    }

    /// What a sidecar's mesh begins with: where the policy says nothing, half of the instances may be ejected at once.
    ///
    /// A library's caller learns at once that every instance fails; behind a sidecar, half of them answering now and
    /// then is better than none (Envoy caps at a tenth, which with three instances is none at all).
    pub fn builder() -> MeshBuilder {
        Mesh::builder().max_ejected_ratio(0.5).expect("0.5 is a ratio")
    }

    /// A sidecar of the policy in this text.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn from_policy(text: &str) -> Result<Self, PolicyError> {
        Ok(Self::new(Self::builder().read_text(text)?))
    }

    /// The services, alive.
    pub fn mesh(&self) -> &Mesh {
        &self.0.mesh
    }

    /// Puts another policy in force, and tells what it has changed. Services that it does not change keep everything:
    /// circuits, counts, connections, requests in flight.
    ///
    /// # Errors
    /// Every mistake in it; nothing has changed then.
    pub fn reload(&self, text: &str) -> Result<PolicyChanges, PolicyError> {
        let mut services = self.0.services.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = self.0.mesh.reload(text)?;
        self.0.rebuild(&mut services);
        Ok(changes)
    }

    /// Requests in flight to the service of this name, at this moment; none if there is no such service.
    pub fn in_flight(&self, service: &str) -> Option<u32> {
        Some(self.0.table.load().services.get(service)?.gate.in_flight())
    }

    /// The access log, which writes nothing until it is told where.
    pub(crate) fn access_log(&self) -> &AccessLog {
        &self.0.access_log
    }

    /// The clients of the listeners of this name. Who was connected under other limits still is.
    pub(crate) fn clients(&self, listener: &str) -> Arc<Clients> {
        let mut clients = self.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(clients.entry(listener.to_owned()).or_default())
    }

    /// The sidecar answers itself, for this reason; to the service of this name, if it got so far.
    pub(crate) fn refuses(&self, service: Option<&str>, reason: Reason) {
        let table = self.table();
        match service.and_then(|name| table.services.get(name)) {
            Some(service) => service.gate.refusals.count(reason),
            None => self.0.refusals.count(reason),
        }
    }

    /// What is counted beside the calls.
    pub(crate) fn render(&self, text: &mut Text) {
        let table = self.table();
        let gates = || table.services.iter().map(|(name, service)| (name.as_str(), &service.gate));
        text.gauge("service_mesh_requests_in_flight", "Requests that were let in, and whose answers have not passed.");
        gates().for_each(|(name, gate)| text.sample(&[("service", name)], gate.in_flight().into()));
        text.gauge("service_mesh_requests_queued", "Requests that wait for their turn.");
        gates().for_each(|(name, gate)| text.sample(&[("service", name)], gate.queued().into()));
        text.gauge("service_mesh_upstream_connections", "Connections to the instances of the service, idle ones too.");
        gates().for_each(|(name, gate)| text.sample(&[("service", name)], gate.connections().into()));
        text.counter("service_mesh_requests_refused_total", "Requests that the sidecar answered itself, by why.");
        let none = ("", &self.0.refusals);
        for (name, refusals) in std::iter::once(none).chain(gates().map(|(name, gate)| (name, &gate.refusals))) {
            for (reason, count) in refusals.counts() {
                text.sample(&[("service", name), ("reason", reason.as_str())], count);
            }
        }
        let clients = self.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
        text.gauge("service_mesh_client_connections", "Clients that are connected.");
        clients.iter().for_each(|(name, clients)| text.sample(&[("listener", name)], clients.connected().into()));
        text.counter("service_mesh_client_connections_refused_total", "Clients that were disconnected as too many.");
        clients.iter().for_each(|(name, clients)| text.sample(&[("listener", name)], clients.turned_away()));
    }

    pub(crate) fn table(&self) -> arc_swap::Guard<Arc<RouteTable>> {
        self.0.table.load()
    }
}

impl Inner {
    fn rebuild(&self, made: &mut usize) {
        let (present, policy) = (self.table.load(), self.mesh.policy());
        let services = self.mesh.services().into_iter().filter_map(|proxy| {
            let name = proxy.name().to_owned();
            let policy = policy.services.get(&name)?;
            let gate = if let Some(present) = present.services.get(&name) {
                Arc::clone(&present.gate)
            } else {
                *made += 1;
                Gate::new(*made - 1)
            };
            Some((name, Arc::new(Service::new(proxy, policy, gate))))
        });
        let services: BTreeMap<_, _> = services.collect();
        self.table.store(Arc::new(RouteTable::new(&policy, services)));
    }
}

impl fmt::Debug for Sidecar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sidecar").field("mesh", &self.0.mesh).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_keeps_what_is_counted_of_a_service() {
        let sidecar = Sidecar::from_policy("[services.a]\n[services.b]").unwrap();
        let gate = Arc::clone(&sidecar.table().services["b"].gate);
        sidecar.reload("[services.b]\nlimits.in_flight = 1\n[services.c]").unwrap();
        let table = sidecar.table();
        assert!(Arc::ptr_eq(&gate, &table.services["b"].gate));
        assert_eq!(table.services["b"].limits.in_flight(), 1);
        assert_eq!(table.services["c"].gate.id(), 2);
        assert_eq!(sidecar.in_flight("a"), None);
    }
}
