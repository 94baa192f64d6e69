//! Health checks: who is asked, how often, and what follows. What an answer means is decided by [`Judge`], which is pure;
//! [`probe`] asks. What is found goes through `LoadBalancer::mark_healthy`, and an instance that recovers rises by the
//! service's slow start.
//!
//! Each instance has a task of its own, so that one that hangs delays nobody. The interval has a jitter of a tenth, or
//! sidecars that were started together would ask together for ever (`spread-checks` of `HAProxy`, `interval_jitter` of
//! Envoy).

mod judge;
mod probe;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use service_mesh::{EndpointStatus, Environment, HealthCheckConfig, Mesh, ServiceInstance, ServiceProxy, Timestamp};
use tokio::task::AbortHandle;

use self::judge::Judge;
use self::probe::probe;
use crate::journal::{Journal, Level};

/// How often the list of instances is compared with those that are asked: discovery and the hand of an operator change it.
const RECONCILE: Duration = Duration::from_secs(1);

/// By how much of itself an interval is longer or shorter, at most.
const JITTER: f64 = 0.1;

/// The health checks of all services of a mesh. Dropped, it ends them; the instances stay as they were marked.
#[derive(Debug)]
pub(crate) struct Health {
    running: BTreeMap<String, Running>,
    environment: Environment,
    journal: Journal,
}

/// What was found when an instance was asked the last time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Whether the answer was good.
    pub(crate) good: bool,
    /// What it was, in words.
    pub(crate) said: String,
    /// When it came.
    pub(crate) at: Timestamp,
}

/// The checks of one service.
#[derive(Debug)]
struct Running {
    proxy: ServiceProxy,
    config: HealthCheckConfig,
    /// By id, of those that have been asked.
    checked: Arc<Mutex<BTreeMap<String, Checked>>>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Health {
    /// Nobody is asked yet.
    pub(crate) fn new(environment: Environment, journal: Journal) -> Self {
        Self { running: BTreeMap::new(), environment, journal }
    }

    /// Asks the instances of the services that the mesh has now, as its policy says. To be called at the start and after
    /// each reload; checks that have not changed go on as they were. Where they are switched off, whoever was unhealthy is
    /// healthy again, since nobody would ever find out.
    ///
    /// Must run in a tokio runtime, which runs the checks.
    pub(crate) fn follow(&mut self, mesh: &Mesh) {
        let policy = mesh.policy();
        for (name, running) in std::mem::take(&mut self.running) {
            let config = policy.services.get(&name).and_then(|service| service.health_check.as_ref());
            let proxy = mesh.service(&name).filter(|proxy| running.proxy.ptr_eq(proxy));
            match (config, proxy) {
                (Some(config), Some(_)) if *config == running.config => {
                    self.running.insert(name, running);
                }
                // Checked in another way: whoever was asked before needs as many answers as ever.
                (Some(config), Some(proxy)) => {
                    let checked = Arc::clone(&running.checked);
                    drop(running);
                    self.running.insert(name, self.begin(proxy, config, checked));
                }
                (None, Some(proxy)) => {
                    let bad = lock(&running.checked).keys().cloned().collect::<Vec<_>>();
                    drop(running);
                    for id in bad {
                        proxy.load_balancer().mark_healthy(&id, true);
                    }
                }
                (_, None) => {}
            }
        }
        for (name, service) in &policy.services {
            if let (Some(config), Some(proxy)) = (&service.health_check, mesh.service(name))
                && !self.running.contains_key(name)
            {
                self.running.insert(name.clone(), self.begin(proxy, config, Arc::default()));
            }
        }
    }

    /// What was found, by service and instance.
    pub(crate) fn checked(&self) -> BTreeMap<String, BTreeMap<String, Checked>> {
        self.running.iter().map(|(name, running)| (name.clone(), lock(&running.checked).clone())).collect()
    }

    fn begin(
        &self,
        proxy: ServiceProxy,
        config: &HealthCheckConfig,
        checked: Arc<Mutex<BTreeMap<String, Checked>>>,
    ) -> Running {
        let rounds = Rounds {
            proxy: proxy.clone(),
            config: config.clone(),
            checked: Arc::clone(&checked),
            environment: self.environment.clone(),
            journal: self.journal.clone(),
            asked: BTreeMap::new(),
        };
        let task = tokio::spawn(rounds.go());
        Running { proxy, config: config.clone(), checked, task: task.abort_handle() }
    }
}

/// The tasks that ask the instances of one service.
struct Rounds {
    proxy: ServiceProxy,
    config: HealthCheckConfig,
    checked: Arc<Mutex<BTreeMap<String, Checked>>>,
    environment: Environment,
    journal: Journal,
    /// By id, with what was registered: one that left and came back may be at another place, and has its first health.
    asked: BTreeMap<String, (Arc<ServiceInstance>, AbortHandle)>,
}

impl Rounds {
    async fn go(mut self) {
        loop {
            self.reconcile();
            tokio::time::sleep(RECONCILE).await;
        }
    }

    /// Begins to ask who is new, and asks nobody who is gone. Of one that left and came back to the same place what
    /// was found stays.
    fn reconcile(&mut self) {
        let endpoints = self.proxy.load_balancer().endpoints();
        let find = |id: &str| endpoints.iter().find(|endpoint| endpoint.instance.id == id);
        self.asked.retain(|id, (asked, task)| {
            let present = find(id);
            let stays = present.is_some_and(|endpoint| Arc::ptr_eq(&endpoint.instance, asked));
            if !stays {
                task.abort();
            }
            if present.is_none_or(|endpoint| endpoint.instance.address() != asked.address()) {
                lock(&self.checked).remove(id);
            }
            stays
        });
        for endpoint in endpoints {
            let instance = Arc::clone(&endpoint.instance);
            if !self.asked.contains_key(&instance.id) {
                let task = tokio::spawn(self.ask(endpoint));
                self.asked.insert(instance.id.clone(), (instance, task.abort_handle()));
            }
        }
    }

    /// Asks one instance, for ever.
    fn ask(&self, endpoint: EndpointStatus) -> impl Future<Output = ()> + Send + use<> {
        let EndpointStatus { instance, healthy, .. } = endpoint;
        let (config, environment) = (self.config.clone(), self.environment.clone());
        let (journal, name) = (self.journal.clone(), format!("{}/{}", self.proxy.name(), instance.id));
        let (balancer, checked) = (self.proxy.load_balancer().clone(), Arc::clone(&self.checked));
        let is_known = lock(&checked).contains_key(&instance.id);
        let mut judge = Judge::new(config.rise(), config.fall(), healthy, is_known);
        async move {
            loop {
                let answer = probe(&config, &instance).await;
                let good = answer.is_ok();
                let said = answer.unwrap_or_else(|bad| bad);
                let changed = judge.hear(good);
                if let Some(healthy) = changed {
                    let (level, is) = if healthy { (Level::Info, "healthy") } else { (Level::Warn, "unhealthy") };
                    journal.change(level, format_args!("instance {name} is {is}: {said}"));
                }
                lock(&checked).insert(instance.id.clone(), Checked { good, said, at: environment.now() });
                if let Some(healthy) = changed {
                    balancer.mark_healthy(&instance.id, healthy);
                }
                let factor = 1.0 - JITTER + 2.0 * JITTER * environment.chance().ratio();
                let interval = config.interval().as_secs_f64() * factor;
                tokio::time::sleep(Duration::try_from_secs_f64(interval).unwrap_or(Duration::MAX)).await;
            }
        }
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        self.asked.values().for_each(|(_, task)| task.abort());
    }
}

fn lock(checked: &Mutex<BTreeMap<String, Checked>>) -> MutexGuard<'_, BTreeMap<String, Checked>> {
    checked.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
