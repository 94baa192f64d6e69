//! Discovery: who the instances of a service are, while it runs.
//!
//! A [`Source`] yields the sets that are to be put in force, one after the other; what it does to find them is its own
//! affair. Whatever it yields goes through `LoadBalancer::set_instances`, so that an instance that stays keeps its
//! connections, its circuit and its health.
//!
//! What an answer means is decided apart from asking: [`Held`] is pure and knows no network. That a set is not replaced
//! by an empty one at once is Envoy's and linkerd's hard lesson (linkerd#1114): whoever has lost its data says that
//! nobody is there.

mod dns;
mod file;
mod held;
mod look;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use service_mesh::{DiscoveryConfig, Environment, Mesh, ServiceInstance, ServicePolicy, ServiceProxy};
use tokio::task::AbortHandle;

use self::dns::Dns;
use self::file::Listed;
use self::held::{Answer, Held, Step};
pub(crate) use self::look::Look;
use self::look::Looking;
use crate::journal::Journal;

/// Yields the sets of instances of one service.
pub(crate) trait Source: Send {
    /// Waits for the next set that is to be put in force. Dropping the future loses nothing but time.
    fn next(&mut self) -> Next<'_>;
}

/// The set that a [`Source`] yields next.
pub(crate) type Next<'a> = Pin<Box<dyn Future<Output = Vec<ServiceInstance>> + Send + 'a>>;

/// The sources of all services of a mesh. Dropped, it ends them; the instances stay as they are.
#[derive(Debug)]
pub(crate) struct Discovery {
    running: BTreeMap<String, Running>,
    environment: Environment,
    journal: Journal,
}

#[derive(Debug)]
struct Running {
    proxy: ServiceProxy,
    config: Option<DiscoveryConfig>,
    look: Arc<Looking>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Discovery {
    /// Nobody is looked for yet.
    pub(crate) fn new(environment: Environment, journal: Journal) -> Self {
        Self { running: BTreeMap::new(), environment, journal }
    }

    /// Looks for the instances of the services that the mesh has now, as its policy says. To be called at the start and
    /// after each reload; where nothing has changed, nothing is begun anew.
    ///
    /// Must run in a tokio runtime, which runs the sources.
    pub(crate) fn follow(&mut self, mesh: &Mesh) {
        let policy = mesh.policy();
        self.running.retain(|name, _| policy.services.contains_key(name));
        for (name, service) in &policy.services {
            let Some(proxy) = mesh.service(name) else { continue };
            let present = self.running.get(name);
            let same =
                present.is_some_and(|running| running.config == service.discovery && running.proxy.ptr_eq(&proxy));
            // A list of a file was put in force by the reload itself, unless a source was at work that may have answered
            // a moment later.
            let listed_all_along =
                service.discovery.is_none() && present.is_none_or(|running| running.config.is_none());
            if same || listed_all_along {
                continue;
            }
            self.running.remove(name);
            self.running.insert(name.clone(), self.begin(proxy, service));
        }
    }

    /// What is known of the looking, by service; of those that are looked for.
    pub(crate) fn looks(&self) -> BTreeMap<String, Look> {
        let searched = self.running.iter().filter(|(_, running)| running.config.is_some());
        searched.map(|(name, running)| (name.clone(), running.look.look())).collect()
    }

    fn begin(&self, proxy: ServiceProxy, service: &ServicePolicy) -> Running {
        let look = Arc::new(Looking::new(proxy.name(), &self.journal));
        let mut source: Box<dyn Source> = match &service.discovery {
            Some(config) => {
                let held = Held::new(config, !proxy.load_balancer().endpoints().is_empty());
                Box::new(Dns::new(config, held, self.environment.clone(), Arc::clone(&look)))
            }
            None => Box::new(Listed::new(service.instances.clone())),
        };
        let balancer = proxy.load_balancer().clone();
        let task = tokio::spawn(async move {
            loop {
                balancer.set_instances(source.next().await);
            }
        });
        Running { proxy, config: service.discovery.clone(), look, task: task.abort_handle() }
    }
}

#[cfg(test)]
mod tests;
