//! One call of a service: deadline → retry with budget → the service's circuit → pick → the instance's circuit →
//! attempt timeout → the attempt.
//!
//! - Each attempt picks again, preferring instances that this call has not tried. An instance whose circuit refuses is
//!   passed over: that costs no attempt and no wait.
//! - There are two levels of circuits. The instance's judges every attempt. The service's hears of a failure only where
//!   failover could not hide it, so that one hanging instance cannot trip the service while others are well.
//! - A refusal says who refused and when to come back, and nobody sleeps when the next attempt is bound to be refused.
//!
//! Where the ideas come from: the two levels are Envoy's outlier detection and the seed's breaker, kept apart; failover
//! before retry is linkerd's; the budget is Finagle's. That one machine decides and several drivers act is quinn-proto's
//! shape.

mod builder;
mod call;
mod explain;
mod hold;
mod options;
mod roster;
mod target;
mod watch;

#[cfg(all(test, not(loom)))]
mod tests;

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Weak};

use service_mesh_models::{CircuitBreakerConfig, ServiceProxyConfig};

pub use builder::ServiceProxyBuilder;
pub use call::{Attempt, Call, Refused, Verdict};
pub use explain::{AttemptStory, Ending, Explanation, PassedOver, Story};
pub use options::CallOptions;
pub use target::Target;

use super::circuit_breaker::{CircuitBreaker, EjectionCap};
use super::event::{Announcer, Event, EventKind, Listener};
use super::load_balancer::{Endpoint, EndpointKey, EndpointSet, LoadBalancer};
use super::observer::Observer;
use super::retry::RetryPolicy;
use super::sync::{Loaded, Mutex, Snapshot, held};
use explain::{Audience, Telling};
use hold::Baggage;
use roster::{InstanceCircuits, Roster, Settings};
use watch::Watch;

/// Calls one service: balances, retries elsewhere, and stops where it is hopeless. Clones are handles of the same proxy.
///
/// ```
/// use service_mesh::{ServiceInstance, ServiceProxy};
///
/// let payments = ServiceProxy::new("payments");
/// payments.load_balancer().register(ServiceInstance::new("a", "10.0.0.1", 80));
/// payments.load_balancer().register(ServiceInstance::new("b", "10.0.0.2", 80));
///
/// // The first instance fails; the call goes on at the second.
/// let answer = payments.call(|attempt| match attempt.instance().id.as_str() {
///     "a" => Err("connection refused"),
///     _ => Ok(attempt.instance().address()),
/// });
/// assert_eq!(answer.unwrap(), "10.0.0.2:80");
/// ```
///
/// # One call
/// deadline → retry with budget → the service's circuit → pick, not yet tried first → the instance's circuit → attempt
/// timeout → the attempt.
///
/// - An instance whose circuit refuses is passed over: that costs no attempt and no wait.
/// - The instance's circuit judges every attempt. The service's hears of a failure only where no instance that the call
///   has not tried would admit the next attempt, so that one bad instance does not trip the service.
/// - When the next attempt is bound to be refused, the call ends at once; nobody sleeps on an open circuit.
/// - Whatever becomes of an attempt (answered, panicked, timed out, cancelled), everything is given back.
///
/// # Cost
/// A call that succeeds at its first attempt, with both circuits Closed and without windows, takes no lock and allocates
/// nothing. It reads the clock only where there is a time limit. A failure looks at the circuits of the instances that
/// were not tried; a retry takes the budget's lock. A change of the instances or of the settings is worked out by the
/// next call that meets it.
///
/// # When not to use it
/// Not for one address, where a [`CircuitBreaker`] and a [`RetryPolicy`] do, and not behind something that retries
/// already.
#[derive(Clone)]
pub struct ServiceProxy(Arc<Inner>);

struct Inner {
    name: Arc<str>,
    load_balancer: LoadBalancer,
    cap: Arc<EjectionCap>,
    roster: Snapshot<Roster>,
    control: Mutex<Control>,
}

/// What only changes need.
#[derive(Debug)]
struct Control {
    settings: Arc<Settings>,
    announcer: Option<Arc<Announcer>>,
    /// The circuit of each registered instance that was ever pickable.
    circuits: HashMap<EndpointKey, Member>,
    /// The set of the last roster.
    version: u64,
    /// For the rosters.
    proxy: WeakProxy,
}

/// The circuit of a registered instance.
#[derive(Debug)]
struct Member {
    circuit: CircuitBreaker,
    /// The last set that had this instance in it.
    seen: u64,
}

/// The proxy that a roster is of, for whoever has only the roster and must know what came after it.
#[derive(Clone)]
struct WeakProxy(Weak<Inner>);

impl WeakProxy {
    /// The roster of the present set, while the proxy lasts.
    fn fresh_roster(&self) -> Option<Loaded<Roster>> {
        self.0.upgrade().map(|inner| ServiceProxy(inner).fresh_roster())
    }
}

impl fmt::Debug for WeakProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakProxy").finish_non_exhaustive()
    }
}

impl ServiceProxy {
    /// A proxy with a round robin balancer of its own and every default.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self::builder(name).build()
    }

    /// A proxy of which more is to be said.
    pub fn builder(name: impl Into<Arc<str>>) -> ServiceProxyBuilder {
        ServiceProxyBuilder::new(name.into())
    }

    fn made(
        load_balancer: LoadBalancer,
        service: &CircuitBreaker,
        settings: Settings,
        announcer: Option<Arc<Announcer>>,
    ) -> Self {
        let (cap, settings) = (Arc::default(), Arc::new(settings));
        let name = Arc::clone(&settings.name);
        Self(Arc::new_cyclic(|proxy| {
            let proxy = WeakProxy(Weak::clone(proxy));
            let mut control = Control { settings, announcer, circuits: HashMap::new(), version: 0, proxy };
            let roster = Snapshot::new(Arc::new(control.roster(service, &load_balancer, &cap)));
            Inner { name, load_balancer, cap, roster, control: Mutex::new(control) }
        }))
    }

    /// Begins a call, and with it the time that it may take; [`call`](Self::call) and [`call_async`](Self::call_async) do
    /// the rest. Reads no clock unless there is a deadline or a story.
    #[inline]
    pub fn begin<C>(&self, options: &CallOptions<C>) -> Call<&Self> {
        self.begin_by(self, options).admitted_later()
    }

    /// The same for a driver that admits the call at once, so that the clock need not be read again.
    #[inline]
    pub(crate) fn begin_at_once<C>(&self, options: &CallOptions<C>) -> Call<&Self> {
        self.begin_by(self, options)
    }

    /// The same for those who cannot borrow the proxy, and whose calls are many at once on one thread; costs two reference
    /// counts more.
    pub fn begin_owned<C>(&self, options: &CallOptions<C>) -> Call<Self> {
        self.begin_with(self.clone(), held(self.roster()), options).admitted_later()
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "as for an attempt: a call is large")]
    fn begin_by<P: Borrow<Self>, C>(&self, proxy: P, options: &CallOptions<C>) -> Call<P> {
        self.begin_with(proxy, self.roster(), options)
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "as above")]
    fn begin_with<P: Borrow<Self>, C>(&self, proxy: P, roster: Loaded<Roster>, options: &CallOptions<C>) -> Call<P> {
        let attended = options.explain.is_some() || roster.attended;
        let baggage = if attended { self.attend(&roster, options) } else { None };
        Call::new(proxy, roster, options.timeout, options.key, baggage)
    }

    /// What a call carries from its begin, because somebody may want to know what becomes of it.
    #[cold]
    fn attend<C>(&self, roster: &Roster, options: &CallOptions<C>) -> Option<Box<Baggage>> {
        let telling = self.telling(roster, options);
        let Settings { observers, environment, .. } = &*roster.settings;
        let watch = (!observers.are_none()).then(|| {
            Watch::new(Arc::clone(&self.0.name), observers.clone(), environment.clone(), &mut roster.moment())
        });
        if telling.is_none() && watch.is_none() {
            return None;
        }
        // Filled where it lies: it is large, and would be copied twice on the way there.
        let mut baggage = Box::<Baggage>::default();
        (baggage.telling, baggage.watch) = (telling, watch);
        Some(baggage)
    }

    fn telling<C>(&self, roster: &Roster, options: &CallOptions<C>) -> Option<Telling> {
        let settings = &roster.settings;
        let audience = if let Some(explanation) = &options.explain {
            Audience::Asker(explanation.clone())
        } else if settings.config.explain_ratio() > 0.0
            && settings.environment.chance().ratio() < settings.config.explain_ratio()
        {
            Audience::Listeners(self.0.control.lock().announcer.clone()?)
        } else {
            return None;
        };
        Some(Telling::new(Arc::clone(&self.0.name), audience, &mut roster.moment()))
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The balancer; instances are registered there.
    pub fn load_balancer(&self) -> &LoadBalancer {
        &self.0.load_balancer
    }

    /// The service's circuit.
    pub fn circuit_breaker(&self) -> CircuitBreaker {
        self.roster().service.clone()
    }

    /// The circuit of an instance; none if there is no pickable instance of this id, or instances have no circuits.
    pub fn instance_circuit_breaker(&self, id: &str) -> Option<CircuitBreaker> {
        let roster = self.current_roster();
        let index = roster.set.endpoints().iter().position(|endpoint| endpoint.instance().id == id)?;
        roster.circuits.get(index).cloned()
    }

    /// Its time limits and caps.
    pub fn config(&self) -> ServiceProxyConfig {
        self.0.control.lock().settings.config.clone()
    }

    /// How it retries, and its budget.
    pub fn retry_policy(&self) -> RetryPolicy {
        self.0.control.lock().settings.retry.clone()
    }

    /// Takes new time limits and caps. A call that has begun keeps its deadline, and the rest until its next attempt.
    pub fn update_config(&self, config: ServiceProxyConfig) {
        self.change(|settings| settings.config = config);
    }

    /// Takes a new way to retry, with the budget that the policy has, if any; calls that have begun take it up when their
    /// attempt ends.
    pub fn update_retry_policy(&self, retry: RetryPolicy) {
        self.change(|settings| settings.retry = retry);
    }

    /// Takes a new configuration for the service's circuit, and for those of its instances unless they were given one
    /// of their own. All keep their state.
    pub fn update_circuit_breaker(&self, config: impl Into<Arc<CircuitBreakerConfig>>) {
        let config = config.into();
        self.circuit_breaker().update_config(Arc::clone(&config));
        let control = self.0.control.lock();
        if matches!(control.settings.instance_circuits, InstanceCircuits::Inherited) {
            control.circuits().for_each(|circuit| circuit.update_config(Arc::clone(&config)));
        }
    }

    /// Takes a configuration of their own for the circuits of the instances. All keep their state.
    pub fn update_instance_circuit_breaker(&self, config: impl Into<Arc<CircuitBreakerConfig>>) {
        let config = config.into();
        self.change(|settings| settings.instance_circuits = InstanceCircuits::Given(Arc::clone(&config)));
        self.update_instance_circuits(&config);
    }

    /// The circuits of the instances take the configuration of the service's again, now and whenever it changes. All
    /// keep their state.
    pub fn inherit_instance_circuit_breaker(&self) {
        self.change(|settings| settings.instance_circuits = InstanceCircuits::Inherited);
        self.update_instance_circuits(&self.circuit_breaker().config());
    }

    /// Instances have no circuits of their own any more. What those had counted is forgotten; instances that get
    /// circuits again begin Closed.
    pub fn remove_instance_circuit_breakers(&self) {
        self.change(|settings| settings.instance_circuits = InstanceCircuits::Off);
    }

    fn update_instance_circuits(&self, config: &Arc<CircuitBreakerConfig>) {
        self.0.control.lock().circuits().for_each(|circuit| circuit.update_config(Arc::clone(config)));
    }

    /// Adds a listener for everything that happens here, to the service's circuit and to those of the instances, from now
    /// on.
    pub fn subscribe(&self, listener: impl Listener + 'static) {
        let mut control = self.0.control.lock();
        let announcer = Arc::clone(control.announcer.get_or_insert_default());
        announcer.subscribe(Arc::new(listener));
        self.roster().service.attach(&announcer);
        control.circuits().for_each(|circuit| circuit.attach(&announcer));
    }

    /// Adds an observer of every attempt and every call that begins from now on.
    ///
    /// A call that is watched reads the clock when it begins, and when an attempt begins and ends; and it allocates once.
    /// What the observer itself does comes on top. One that nobody watches pays nothing for it.
    pub fn observe(&self, observer: impl Observer + 'static) {
        self.change(|settings| settings.observers.add(Arc::new(observer)));
    }

    /// Whether both are handles of one proxy.
    pub fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The service's circuit, and those of every registered instance that was ever pickable, in no order. Those of
    /// instances are named `SERVICE/INSTANCE`. Takes the locks that changes of instances take, and allocates: for pages
    /// and metrics.
    pub fn circuits(&self) -> Vec<CircuitBreaker> {
        let service = self.current_roster().service.clone();
        let control = self.0.control.lock();
        // One that was not pickable may have gone without a change of the set.
        let registered = self.0.load_balancer.registered_keys();
        let instances = control.circuits.iter().filter(|(key, _)| registered.contains(key));
        [service].into_iter().chain(instances.map(|(_, member)| member.circuit.clone())).collect()
    }

    // ----- for the call machine -----

    #[inline]
    fn roster(&self) -> Loaded<Roster> {
        self.0.roster.load()
    }

    /// The roster of the balancer's present set, where one of a moment ago will not do.
    #[inline]
    fn fresh_roster(&self) -> Loaded<Roster> {
        let mut roster = self.roster();
        self.refresh(&mut roster);
        roster
    }

    /// Sees to it that the roster is of the balancer's present set.
    #[inline]
    fn refresh(&self, roster: &mut Loaded<Roster>) {
        if roster.set.version() != self.0.load_balancer.version() {
            *roster = self.current_roster();
        }
    }

    /// The roster of the balancer's present set.
    #[cold]
    fn current_roster(&self) -> Loaded<Roster> {
        let mut control = self.0.control.lock();
        let roster = self.roster();
        // Somebody else may have been here first.
        if roster.set.version() != self.0.load_balancer.version() {
            let replaced = self.publish_locked(&mut control, &roster.service);
            drop(control);
            drop(replaced);
        }
        self.roster()
    }

    fn change(&self, change: impl FnOnce(&mut Settings)) {
        let mut control = self.0.control.lock();
        change(Arc::make_mut(&mut control.settings));
        let replaced = self.publish_locked(&mut control, &self.roster().service);
        drop(control);
        drop(replaced);
    }

    /// Returns the roster before. With it may go what users have attached to instances: to be dropped without the lock.
    #[must_use = "it is dropped without the lock"]
    fn publish_locked(&self, control: &mut Control, service: &CircuitBreaker) -> Arc<Roster> {
        self.0.roster.swap(Arc::new(control.roster(service, &self.0.load_balancer, &self.0.cap)))
    }

    /// Tells the listeners, if there are any, what becomes of a call.
    #[cold]
    fn announce(&self, kind: impl FnOnce() -> EventKind) {
        let announcer = self.0.control.lock().announcer.clone();
        if let Some(announcer) = announcer {
            announcer.announce(Event { name: Arc::clone(&self.0.name), kind: kind() });
            announcer.deliver();
        }
    }
}

impl Control {
    /// The circuits of all registered instances that were ever pickable.
    fn circuits(&self) -> impl Iterator<Item = &CircuitBreaker> {
        self.circuits.values().map(|member| &member.circuit)
    }

    /// A roster of the balancer's present set. Instances that are still registered keep their circuits.
    fn roster(&mut self, service: &CircuitBreaker, load_balancer: &LoadBalancer, cap: &Arc<EjectionCap>) -> Roster {
        let set = load_balancer.endpoint_set();
        cap.resize(self.settings.config.max_ejected_ratio(), set.endpoints().len());
        let config = match &self.settings.instance_circuits {
            InstanceCircuits::Inherited => Some(service.config()),
            InstanceCircuits::Given(config) => Some(Arc::clone(config)),
            InstanceCircuits::Off => None,
        };
        // Where instances have no circuits, none is kept.
        let kept = config.as_ref().map_or_else(HashSet::new, |_| load_balancer.registered_keys());
        let circuits = config.map_or_else(Box::default, |config| self.circuits_of(&config, &set, cap));
        self.take_out(set.version(), &kept);
        let attended = self.settings.config.explain_ratio() > 0.0 || !self.settings.observers.are_none();
        let (settings, proxy) = (Arc::clone(&self.settings), self.proxy.clone());
        Roster { settings, service: service.clone(), set, circuits, attended, proxy }
    }

    /// The circuit of each endpoint of this set, in its order.
    fn circuits_of(
        &mut self,
        config: &Arc<CircuitBreakerConfig>,
        set: &EndpointSet,
        cap: &Arc<EjectionCap>,
    ) -> Box<[CircuitBreaker]> {
        let (settings, announcer, version) = (&self.settings, &self.announcer, self.version);
        let circuits = &mut self.circuits;
        let make = |id: &str| {
            CircuitBreaker::builder(format!("{}/{id}", settings.name))
                .config(Arc::clone(config))
                .environment(settings.environment.clone())
                .of_service(announcer.clone(), Some(Arc::clone(cap)))
                .build()
        };
        let circuit = |endpoint: &Endpoint| {
            let fresh = || Member { circuit: make(&endpoint.instance().id), seen: version };
            let member = circuits.entry(endpoint.key()).or_insert_with(fresh);
            if std::mem::replace(&mut member.seen, set.version()) != version {
                member.circuit.set_in_rotation(true);
            }
            member.circuit.clone()
        };
        set.endpoints().iter().map(circuit).collect()
    }

    /// Takes the circuits of those who left the set out of rotation, and forgets whoever is not registered any more.
    fn take_out(&mut self, version: u64, registered: &HashSet<EndpointKey>) {
        let before = std::mem::replace(&mut self.version, version);
        self.circuits.retain(|key, member| {
            let is_registered = registered.contains(key);
            let has_left = member.seen == before && before != version;
            if has_left || !is_registered {
                member.circuit.set_in_rotation(false);
            }
            is_registered
        });
    }
}

impl fmt::Debug for ServiceProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roster = self.roster();
        f.debug_struct("ServiceProxy")
            .field("name", &self.name())
            .field("circuit_breaker", &roster.service)
            .field("circuits", &roster.circuits)
            .finish_non_exhaustive()
    }
}
