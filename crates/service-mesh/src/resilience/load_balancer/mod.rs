//! A load balancer: picks an instance for each call.
//!
//! Whoever changes the set (registers, takes out, marks, weighs) builds a new immutable snapshot under a lock; whoever
//! picks loads the present snapshot and moves one counter. So a pick never waits, and instances come and go while
//! thousands of calls run. Copy-on-write sets behind an atomic pointer are the read-copy-update idea (`McKenney` and
//! Slingwine, 1998), here by way of `arc-swap`.
//!
//! What is promised, and which strategy to choose, stands at [`LoadBalancer`], where users read it.
//!
//! # Cost
//! A pick is an `arc-swap` load (two uncontended atomic exchanges) and what the strategy adds: one shared addition for
//! turns, one draw for chance, one cache line an instance for a scan. `get_instance` adds a count of the handle it
//! returns, a lease that of the connection. A change copies one pointer an instance (0.3 ms for 10,000) and works out the strategy's
//! data.
//!
//! # When not to use it
//! Not in front of a single address that balances by itself.

mod asked;
mod attachment;
mod builder;
mod connection;
mod consistent_hash;
mod cursor;
mod endpoint;
mod key;
mod latency;
mod lease;
mod least_connections;
mod lots;
mod p2c;
mod peak_ewma;
mod picked;
mod ramp;
mod random;
mod registration;
mod registry;
mod rendezvous;
mod round_robin;
mod smooth;
mod snapshot;
mod total;
mod two_choices;
mod weighted;

#[cfg(all(test, not(loom)))]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use service_mesh_models::{LoadBalancerStrategy, ServiceInstance};

use super::clock::Timestamp;
use super::sync::{AtomicU64, Mutex, MutexGuard, Ordering, Snapshot};
use crate::environment::Environment;
pub use attachment::Attachment;
pub use builder::LoadBalancerBuilder;
pub use connection::Connection;
pub(crate) use endpoint::{Endpoint, EndpointKey};
pub(crate) use key::KeyHash;
pub use lease::Lease;
pub use picked::Picked;
pub use registration::{Registration, WeakRegistration};
use registry::Registry;
pub(crate) use snapshot::{EndpointSet, Pick, UNTIMED};

/// Picks an instance for each call. Clones are handles of the same balancer.
///
/// ```
/// use service_mesh::{LoadBalancer, ServiceInstance};
///
/// let balancer = LoadBalancer::default();
/// for id in ["a", "b", "c"] {
///     balancer.register(ServiceInstance::new(id, "10.0.0.1", 8080));
/// }
/// let mut ids = std::iter::from_fn(|| balancer.get_instance()).map(|instance| instance.id.clone());
/// assert!(ids.by_ref().take(4).eq(["a", "b", "c", "a"]));
///
/// balancer.mark_healthy("b", false);
/// assert!(ids.take(3).eq(["c", "a", "c"]));
/// ```
///
/// # Which strategy when
/// | strategy | choose it where | a pick costs | it does not see |
/// |---|---|---|---|
/// | [`RoundRobin`](LoadBalancerStrategy::RoundRobin), the default | calls cost about the same, and so do instances | one shared addition | that an instance has become slow |
/// | [`Random`](LoadBalancerStrategy::Random) | many threads, or many balancers that must not march in step; even only on average | nothing shared | the same |
/// | [`Weighted`](LoadBalancerStrategy::Weighted) | instances differ in size, and the sizes are known | as round robin; a change up to 3 ms and ¼ MiB | that a size was guessed wrongly |
/// | [`LeastConnections`](LoadBalancerStrategy::LeastConnections), with [`acquire`](Self::acquire) | calls differ much in length, or instances slow down | a look at each instance | weights |
/// | [`P2c`](LoadBalancerStrategy::P2c), with `acquire` | the same for many instances, sizes that differ, or many clients | two draws, a look at two instances | an instance that is slow while it is idle |
/// | [`PeakEwma`](LoadBalancerStrategy::PeakEwma), with `acquire` and [`settle`](Lease::settle) | instances slow down or fail now and then, and calls are much alike | the same, and two readings of the clock; without a lease one of the coarse clock | which calls are long by nature: one of them makes its instance look slow |
/// | [`ConsistentHash`](LoadBalancerStrategy::ConsistentHash), with [`acquire_for`](Self::acquire_for) | instances keep something for a key: a cache, a session, a lock | a hash and one look into a table; a lease one shared addition; a change up to 5 ms and ¼ MiB | that a key is dear, as long as few calls with it overlap |
///
/// With a [`ServiceProxy`](crate::ServiceProxy) leases, outcomes and keys see to themselves. If in doubt: `P2c`.
///
/// # By key
/// [`ConsistentHash`](LoadBalancerStrategy::ConsistentHash) sends equal keys to one instance, and so does every other
/// balancer, in any process and on any platform, that knows instances of the same ids, weights and health. If one leaves
/// or falls ill, its keys move and no others; if one comes, it takes its share of keys and nothing else moves. An
/// instance whose connections in flight would pass 5/4 of its share of all (rounded up) passes the call on to the next
/// in the key's own order; so does one that is excluded or refuses. A call without a key goes to anybody, by weight. The
/// other strategies leave keys alone.
///
/// # Weights
/// They count in `Weighted`, `P2c`, `PeakEwma` and `ConsistentHash`. In `Weighted` they are exact up to a sum of
/// 65,536, after division by their greatest common divisor; above that, shares are rounded to 1 in 65,536, which is also
/// the least. `P2c` and `PeakEwma` share an idle set by weight on average, and a busy one until everybody's connections
/// are in proportion. In `ConsistentHash` the share of keys is as the weight give or take chance: 1 in 100 of it for ten
/// instances, 1 in 11 for a thousand.
///
/// A pick takes no lock and allocates nothing. A change (of instances, health, weights or strategy) takes a lock, copies
/// one pointer an instance and works out the strategy's data.
///
/// # What is promised
/// - A pick that begins after a change has returned sees it: nobody picks an instance that was taken out, marked or
///   drained before. A pick that runs meanwhile may still see the old set, but never a mixture.
/// - Between two changes, of any `k` picks of round robin each of `n` instances gets ⌊k / n⌋ or ⌈k / n⌉, whichever
///   threads pick, and however often each of them does. Picks that race a change may be given again after it.
/// - For one thread a change neither repeats nor passes over anybody: the next is the first, in order of registration,
///   behind the last that was picked. The same holds for equal weights; with others a change begins another cycle.
/// - Those excluded or refused do not leave their turns to one neighbour: the order goes on behind whoever was picked.
#[derive(Clone)]
pub struct LoadBalancer(Arc<Inner>);

struct Inner {
    set: Snapshot<EndpointSet>,
    /// That of `set`; stored after it, under the lock.
    ///
    /// Ordering: stored with Release; whoever loads it with Acquire and then loads `set` gets that set or a later one.
    version: AtomicU64,
    registry: Mutex<Registry>,
    environment: Environment,
}

/// What is known of a registered instance at one moment. See [`LoadBalancer::endpoints`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// What was registered.
    pub instance: Arc<ServiceInstance>,
    /// Its present health: as registered, or as it was marked since.
    pub healthy: bool,
    /// Its present weight: as registered, or as it was set since. 0 drains it.
    pub weight: u32,
    /// Connections that were leased and not given back. Those that the instance was registered with are not in it.
    pub in_flight: u32,
}

impl LoadBalancer {
    /// A balancer without instances.
    pub fn new(strategy: LoadBalancerStrategy) -> Self {
        Self::builder().strategy(strategy).build()
    }

    /// A balancer with a slow start, or with a clock and chance of its own.
    pub fn builder() -> LoadBalancerBuilder {
        LoadBalancerBuilder::default()
    }

    fn made(strategy: LoadBalancerStrategy, slow_start: Duration, environment: Environment) -> Self {
        let mut registry = Registry::new(strategy, slow_start);
        let set = EndpointSet::new(&registry.draft(None), &environment);
        Self(Arc::new(Inner {
            version: AtomicU64::new(set.version()),
            set: Snapshot::new(Arc::new(set)),
            registry: Mutex::new(registry),
            environment,
        }))
    }

    /// The next instance by the strategy; `None` if none is registered, healthy and of a weight above 0. Counts no
    /// connection: see [`acquire`](Self::acquire).
    ///
    /// Takes no lock and allocates nothing, whatever the number of instances.
    #[inline]
    pub fn get_instance(&self) -> Option<Arc<ServiceInstance>> {
        self.pick().map(|picked| Arc::clone(picked.instance()))
    }

    /// Like [`get_instance`](Self::get_instance), among the instances whose ids are not in `exclude`: those that a call
    /// has tried, for instance. `None` if nobody else is left.
    ///
    /// Costs a comparison of each excluded id with each instance that is met.
    pub fn get_instance_except(&self, exclude: &[&str]) -> Option<Arc<ServiceInstance>> {
        self.pick_except(exclude).map(|picked| Arc::clone(picked.instance()))
    }

    /// Like [`get_instance`](Self::get_instance), for a call about `key`: the instance that equal keys have in common,
    /// under [`ConsistentHash`](LoadBalancerStrategy::ConsistentHash).
    ///
    /// Anything that can be hashed is a key: a name, a number, several of them together. The hash is this crate's own
    /// and the same everywhere, but for slices of integers on a big-endian machine; it is no secret, so that whoever
    /// chooses keys can choose instances.
    ///
    /// ```
    /// use service_mesh::{LoadBalancer, LoadBalancerStrategy, ServiceInstance};
    ///
    /// let balancer = LoadBalancer::new(LoadBalancerStrategy::ConsistentHash);
    /// balancer.set_instances(["a", "b", "c"].map(|id| ServiceInstance::new(id, "10.0.0.1", 8080)));
    /// let home = balancer.get_instance_for("customer-42").unwrap();
    /// let other = if home.id == "a" { "b" } else { "a" };
    /// balancer.deregister(other);
    /// assert_eq!(balancer.get_instance_for("customer-42").unwrap(), home);
    /// ```
    #[inline]
    pub fn get_instance_for(&self, key: &(impl Hash + ?Sized)) -> Option<Arc<ServiceInstance>> {
        self.pick_for(key).map(|picked| Arc::clone(picked.instance()))
    }

    /// The next instance, by reference: the fastest way to look at it, not to be held for long. See [`Picked`].
    #[inline]
    pub fn pick(&self) -> Option<Picked> {
        self.pick_by(None)
    }

    /// Like [`pick`](Self::pick), for a call about `key`: see [`get_instance_for`](Self::get_instance_for).
    #[inline]
    pub fn pick_for(&self, key: &(impl Hash + ?Sized)) -> Option<Picked> {
        self.pick_by(Some(KeyHash::of(key)))
    }

    /// Like [`pick`](Self::pick), among the instances whose ids are not in `exclude`.
    pub fn pick_except(&self, exclude: &[&str]) -> Option<Picked> {
        self.pick_by_except(None, exclude)
    }

    /// Like [`pick_for`](Self::pick_for), among the instances whose ids are not in `exclude`: with those that were
    /// tried, the next in the key's own order.
    pub fn pick_for_except(&self, key: &(impl Hash + ?Sized), exclude: &[&str]) -> Option<Picked> {
        self.pick_by_except(Some(KeyHash::of(key)), exclude)
    }

    fn pick_by_except(&self, key: Option<KeyHash>, exclude: &[&str]) -> Option<Picked> {
        let set = self.0.set.load();
        let pick = set.pick_except(key, exclude)?;
        Some(Picked::new(set, pick.index()))
    }

    #[inline]
    fn pick_by(&self, key: Option<KeyHash>) -> Option<Picked> {
        let set = self.0.set.load();
        let index = set.pick_unobserved(key)?;
        Some(Picked::new(set, index))
    }

    /// The next instance by the strategy, with one connection counted until the lease is dropped.
    #[inline]
    pub fn acquire(&self) -> Option<Lease> {
        self.acquire_by(None)
    }

    /// Like [`acquire`](Self::acquire), for a call about `key`: see [`get_instance_for`](Self::get_instance_for).
    #[inline]
    pub fn acquire_for(&self, key: &(impl Hash + ?Sized)) -> Option<Lease> {
        self.acquire_by(Some(KeyHash::of(key)))
    }

    #[inline]
    fn acquire_by(&self, key: Option<KeyHash>) -> Option<Lease> {
        let set = self.0.set.load();
        let pick = set.pick(key)?;
        Some(Lease::new(set, pick))
    }

    /// Like [`acquire`](Self::acquire), among the instances whose ids are not in `exclude`.
    pub fn acquire_except(&self, exclude: &[&str]) -> Option<Lease> {
        self.acquire_by_except(None, exclude)
    }

    /// Like [`acquire_for`](Self::acquire_for), among the instances whose ids are not in `exclude`: with those that were
    /// tried, the next in the key's own order.
    pub fn acquire_for_except(&self, key: &(impl Hash + ?Sized), exclude: &[&str]) -> Option<Lease> {
        self.acquire_by_except(Some(KeyHash::of(key)), exclude)
    }

    fn acquire_by_except(&self, key: Option<KeyHash>, exclude: &[&str]) -> Option<Lease> {
        let set = self.0.set.load();
        let pick = set.pick_except(key, exclude)?;
        Some(Lease::new(set, pick))
    }

    /// Like [`acquire`](Self::acquire), among the instances for which `admits` says true. It is asked in the strategy's
    /// order, of each instance at most once and of none after the first that it admits; it runs with no lock held.
    pub fn acquire_where(&self, mut admits: impl FnMut(&ServiceInstance) -> bool) -> Option<Lease> {
        let set = self.0.set.load();
        let pick = set.pick_where(None, |_, endpoint| admits(endpoint.instance()))?;
        Some(Lease::new(set, pick))
    }

    /// Adds an instance behind the others, or puts it in the place of the one with the same id, which is returned.
    ///
    /// With the same host and port, the connections in flight stay counted. Its health and weight are those of the new
    /// instance, whatever was marked before.
    pub fn register(&self, instance: ServiceInstance) -> Option<Arc<ServiceInstance>> {
        let replaced = self.change(|registry, now| registry.register(instance, None, now));
        replaced.map(|endpoint| Arc::clone(endpoint.instance()))
    }

    /// Like [`register`](Self::register), with something of the caller's own: a client, a pool. Whoever picks the
    /// instance gets it back with it, without a search: [`Picked::attachment`], [`Lease::attachment`],
    /// [`Attempt::attachment`](crate::Attempt::attachment).
    ///
    /// What was registered under the same id is returned. The attachment lives as long as its registration: registered anew, the instance has what it is given then, or nothing. For
    /// [`set_instances`](Self::set_instances) it stays with whoever stays at his host and port. It is dropped with no lock
    /// held, when nobody has a handle of the registration any more.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use service_mesh::{LoadBalancer, ServiceInstance};
    ///
    /// struct Client(&'static str);
    ///
    /// let balancer = LoadBalancer::default();
    /// let client = Arc::new(Client("a pool of connections to 10.0.0.1"));
    /// balancer.register_with(ServiceInstance::new("a", "10.0.0.1", 8080), client);
    /// let picked = balancer.pick().unwrap();
    /// assert_eq!(picked.attachment::<Client>().unwrap().0, "a pool of connections to 10.0.0.1");
    /// ```
    pub fn register_with(&self, instance: ServiceInstance, attachment: Attachment) -> Option<Registration> {
        let replaced = self.change(|registry, now| registry.register(instance, Some(attachment), now));
        replaced.map(Registration::new)
    }

    /// Takes an instance out and returns it; `None` if there is none with this id. Leases of it stay valid.
    pub fn deregister(&self, id: &str) -> Option<Arc<ServiceInstance>> {
        self.change(|registry, _| registry.deregister(id))
    }

    /// Makes these the registered instances, in one step: whoever is not listed is taken out. For discovery.
    ///
    /// Those that are registered already keep their place in the order, since a list may come shuffled; new ones stand
    /// behind them, as listed. With the same host and port they keep their connections in flight, and what
    /// [`mark_healthy`](Self::mark_healthy) and [`set_weight`](Self::set_weight) said of them unless the list has news of
    /// it: `healthy` or `weight` differs from what was registered before. Of several with the same id the last counts.
    /// A list that changes nothing costs no new snapshot.
    pub fn set_instances(&self, instances: impl IntoIterator<Item = ServiceInstance>) {
        // Collected before the lock is taken: an iterator may do anything.
        let instances = instances.into_iter().collect();
        self.change(|registry, now| registry.set_instances(instances, now));
    }

    /// Marks an instance healthy, or unhealthy, so that it is not picked. Whether there is one with this id.
    pub fn mark_healthy(&self, id: &str, healthy: bool) -> bool {
        self.change(|registry, now| registry.set_health(id, healthy, now))
    }

    /// Gives an instance another weight; 0 drains it. Whether there is one with this id.
    pub fn set_weight(&self, id: &str, weight: u32) -> bool {
        self.change(|registry, now| registry.set_weight(id, weight, now))
    }

    /// Says how many connections somebody else counts for an instance: least connections adds them to those that it
    /// leased. Whether there is one with this id. Makes no new snapshot; who says it often should ask for the
    /// [`registration`](Self::registration) once.
    pub fn set_connections(&self, id: &str, connections: u32) -> bool {
        self.registration(id).map(|registration| registration.set_connections(connections)).is_some()
    }

    /// What is registered under this id. Takes the lock of changes, and looks at one instance after the other.
    pub fn registration(&self, id: &str) -> Option<Registration> {
        self.0.registry.lock().endpoint(id).cloned().map(Registration::new)
    }

    /// Everything that is registered, in order of registration. Takes the lock of changes, and allocates.
    pub fn registrations(&self) -> Vec<Registration> {
        self.0.registry.lock().endpoints().cloned().map(Registration::new).collect()
    }

    /// How it picks.
    pub fn strategy(&self) -> LoadBalancerStrategy {
        self.0.registry.lock().strategy()
    }

    /// Picks by another strategy from now on, from its beginning. Connections, health and weights stay.
    pub fn set_strategy(&self, strategy: LoadBalancerStrategy) {
        self.change(|registry, _| registry.set_strategy(strategy));
    }

    /// For how long the share of a new or recovered instance rises; zero for not at all.
    pub fn slow_start(&self) -> Duration {
        self.0.registry.lock().slow_start()
    }

    /// Changes that time, also for those that rise at present. Those that became pickable while it was zero have risen.
    pub fn set_slow_start(&self, slow_start: Duration) {
        let now = self.0.environment.now();
        self.publish(self.0.registry.lock(), Some(now), |registry, _| registry.set_slow_start(slow_start));
    }

    /// Every registered instance, in order of registration, those too that are not picked. Takes the lock of changes
    /// and allocates: for pages and metrics.
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        self.0.registry.lock().statuses()
    }

    /// Changes with every change of what can be picked, and of how. One load.
    #[inline]
    pub(crate) fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    /// The present set.
    pub(crate) fn endpoint_set(&self) -> Arc<EndpointSet> {
        Arc::clone(&self.0.set.load())
    }

    /// The keys of every registered instance, those too that are not picked.
    pub(crate) fn registered_keys(&self) -> HashSet<EndpointKey> {
        self.0.registry.lock().keys()
    }

    /// Changes what is registered and, if that made a difference, publishes the set that follows.
    fn change<R>(&self, change: impl FnOnce(&mut Registry, Option<Timestamp>) -> R) -> R {
        let mut registry = self.0.registry.lock();
        let mut now = None;
        // The clock is read only where time matters, and not under the lock: it is somebody else's code.
        if !registry.slow_start().is_zero() {
            drop(registry);
            now = Some(self.0.environment.now());
            registry = self.0.registry.lock();
        }
        self.publish(registry, now, change)
    }

    fn publish<R>(
        &self,
        mut registry: MutexGuard<'_, Registry>,
        now: Option<Timestamp>,
        change: impl FnOnce(&mut Registry, Option<Timestamp>) -> R,
    ) -> R {
        let inner = &*self.0;
        registry.catch_up(&inner.set.load());
        let result = change(&mut registry, now);
        let (mut replaced, retired) = (None, registry.take_retired());
        if registry.take_changed() {
            let set = Arc::new(EndpointSet::new(&registry.draft(now), &inner.environment));
            let version = set.version();
            replaced = Some(inner.set.swap(set));
            inner.version.store(version, Ordering::Release);
        }
        // With these may go what users have attached, whose `Drop` may ask this balancer: not under the lock.
        drop(registry);
        drop((replaced, retired));
        result
    }
}

impl Default for LoadBalancer {
    /// Round robin.
    fn default() -> Self {
        Self::new(LoadBalancerStrategy::default())
    }
}

impl fmt::Debug for LoadBalancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registry = self.0.registry.lock();
        f.debug_struct("LoadBalancer")
            .field("strategy", &registry.strategy())
            .field("endpoints", &registry.statuses())
            .finish_non_exhaustive()
    }
}
