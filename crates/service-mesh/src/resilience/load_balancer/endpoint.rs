//! An instance with its live counters.

use std::any::Any;
use std::sync::{Arc, Weak};

use service_mesh_models::ServiceInstance;

use super::attachment::{Attached, Attachment};
use super::latency::Latency;
use super::total::Total;
use crate::resilience::clock::Timestamp;
use crate::resilience::outcome::Outcome;
use crate::resilience::sync::{AtomicU32, Ordering};

/// Names one registration within its balancer. An id that is registered again with the same host and port keeps its
/// key; with another host or port, or after it was taken out, it gets a new one, so that nothing which is kept beside
/// an endpoint (a breaker, a pool) is ever taken for that of another machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EndpointKey(u64);

impl EndpointKey {
    pub(super) const fn new(number: u64) -> Self {
        Self(number)
    }
}

/// An instance with its live counters. Clones are the same endpoint; making one costs one count.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint(Arc<Registered>);

/// An endpoint, as long as somebody else keeps it.
#[derive(Clone, Debug)]
pub(super) struct WeakEndpoint(Weak<Registered>);

impl WeakEndpoint {
    pub(super) fn upgrade(&self) -> Option<Endpoint> {
        self.0.upgrade().map(Endpoint)
    }
}

#[derive(Debug)]
struct Registered {
    key: EndpointKey,
    instance: Arc<ServiceInstance>,
    live: Arc<Live>,
    attached: Attached,
}

impl Endpoint {
    /// `total` is the balancer's.
    pub(super) fn new(key: EndpointKey, instance: ServiceInstance, attached: Attached, total: &Total) -> Self {
        let live = Live {
            leased: AtomicU32::new(0),
            outside: AtomicU32::new(instance.connections),
            latency: Latency::default(),
            total: total.clone(),
        };
        Self(Arc::new(Registered { key, instance: Arc::new(instance), live: Arc::new(live), attached }))
    }

    /// The same endpoint with other words about it, and something else attached: its key and its counters stay.
    pub(super) fn with_instance(&self, instance: ServiceInstance, attached: Attached) -> Self {
        self.set_connections(instance.connections);
        let live = Arc::clone(&self.0.live);
        Self(Arc::new(Registered { key: self.0.key, instance: Arc::new(instance), live, attached }))
    }

    pub(super) fn attached(&self) -> &Attached {
        &self.0.attached
    }

    pub(super) fn downgrade(&self) -> WeakEndpoint {
        WeakEndpoint(Arc::downgrade(&self.0))
    }

    pub(super) fn attach(&self, attachment: Attachment) {
        self.0.attached.attach(attachment);
    }

    /// What was attached, if it is of this type.
    #[inline]
    pub(crate) fn attachment<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.attached.get()
    }

    pub(super) fn is_at_address_of(&self, instance: &ServiceInstance) -> bool {
        (&self.0.instance.host, self.0.instance.port) == (&instance.host, instance.port)
    }

    pub(crate) fn key(&self) -> EndpointKey {
        self.0.key
    }

    /// What was registered.
    #[inline]
    pub(crate) fn instance(&self) -> &Arc<ServiceInstance> {
        &self.0.instance
    }

    /// One more connection is in flight. Each call must be met by one of [`disconnect`](Self::disconnect); a
    /// [`Lease`](super::Lease) sees to both.
    #[inline]
    pub(crate) fn connect(&self) {
        let live = &*self.0.live;
        let before = live.leased.fetch_add(1, Ordering::Relaxed);
        if before & COUNTED != 0 {
            live.total.add(1);
        }
    }

    /// One connection has ended.
    #[inline]
    pub(crate) fn disconnect(&self) {
        let live = &*self.0.live;
        let before = live.leased.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before & !COUNTED > 0, "more connections ended than began");
        if before & COUNTED != 0 {
            live.total.take(1);
        }
    }

    /// Connections that were leased and not given back.
    pub(crate) fn in_flight(&self) -> u32 {
        self.0.live.leased()
    }

    /// Connections that somebody else counts for it.
    pub(super) fn connections(&self) -> u32 {
        self.0.live.outside.load(Ordering::Relaxed)
    }

    pub(super) fn set_connections(&self, connections: u32) {
        self.0.live.outside.store(connections, Ordering::Relaxed);
    }

    /// Takes in what came of an attempt here that was given to it at `began`, for strategies that ask how long that
    /// takes. To be told before [`disconnect`](Self::disconnect).
    pub(crate) fn observe(&self, began: Timestamp, outcome: Outcome, now: Timestamp) {
        self.0.live.latency.observe(began, outcome, now);
    }

    /// From now on its connections, those too that it has, are counted in the balancer's total; or no longer.
    ///
    /// The mark and the count are one word: whoever begins or ends a connection learns in the same step whether it is
    /// in the total, and whoever sets the mark learns how many are to be added or taken.
    pub(super) fn set_counted(&self, is_counted: bool) {
        let live = &*self.0.live;
        let before = if is_counted {
            live.leased.fetch_or(COUNTED, Ordering::Relaxed)
        } else {
            live.leased.fetch_and(!COUNTED, Ordering::Relaxed)
        };
        match (before & COUNTED != 0, is_counted) {
            (false, true) => live.total.add(before),
            (true, false) => live.total.take(before & !COUNTED),
            _ => {}
        }
    }

    pub(super) fn live(&self) -> &Arc<Live> {
        &self.0.live
    }
}

/// The counters of an endpoint. They outlive the snapshots that point at them, and lie on a cache line of their own:
/// neither a neighbour's calls nor the count of handles slows them. In its `Arc` that makes 128 bytes, of which only these
/// are written by calls: so it holds too where lines are 128 bytes, or are fetched in pairs.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Live {
    /// Invariant: without [`COUNTED`], the number of leases that exist.
    ///
    /// Ordering: Relaxed. A count that publishes nothing; a scan sees each endpoint's as of some moment.
    leased: AtomicU32,
    /// What the instance says of itself: `ServiceInstance::connections`, or what was set since.
    ///
    /// Ordering: Relaxed, for the same reason.
    outside: AtomicU32,
    latency: Latency,
    total: Total,
}

/// The bit of [`Live::leased`] that says that the connections are counted in the total; 2³¹ of them are out of reach.
const COUNTED: u32 = 1 << 31;

impl Live {
    /// Connections that were leased and not given back.
    #[inline]
    pub(super) fn leased(&self) -> u32 {
        self.leased.load(Ordering::Relaxed) & !COUNTED
    }

    /// How long calls have taken of late.
    #[inline]
    pub(super) fn latency(&self) -> &Latency {
        &self.latency
    }

    /// All connections of the endpoint, those that were leased and those that somebody else counts.
    ///
    /// Not for consistent hashing: the mark stays in, since it is set under that strategy only, and a scan of all need not
    /// take it off each. A pick from the set before may see it for the moment of the change.
    #[inline]
    pub(super) fn connections(&self) -> u64 {
        u64::from(self.leased.load(Ordering::Relaxed)) + u64::from(self.outside.load(Ordering::Relaxed))
    }
}
