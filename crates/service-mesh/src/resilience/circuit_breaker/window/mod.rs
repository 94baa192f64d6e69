//! The latest outcomes, and the rules over them.
//!
//! A window belongs to one generation of the breaker: the first outcome of a newer one empties it, and an outcome of
//! an older one is turned away. So a transition need not touch the windows at all.

mod count;
mod time;

use service_mesh_models::{CircuitBreakerConfig, TripReason};

use super::trip::{Rule, Sample, Tally};
use crate::environment::Moment;
use crate::resilience::sync::{AtomicBool, AtomicU64, Mutex, Ordering};
use count::CountRing;
use time::TimeShards;

/// The windows of one breaker, made when its configuration first asks for one.
#[derive(Debug)]
pub(super) struct Windows {
    count: Mutex<Option<CountRing>>,
    /// Whether there is a count window, so that its lock is worth taking.
    ///
    /// Ordering: Relaxed; the ring itself is read under the lock.
    counts: AtomicBool,
    /// The generation in which the count window is full of quick successes, or `NEVER`: one more changes nothing.
    ///
    /// Ordering: Relaxed. It is written under the lock of `count`. Whoever reads it before another's failure has
    /// written it comes before that failure, and then his success really changed nothing.
    settled: AtomicU64,
    time: TimeShards,
}

/// No generation: they have 37 bits.
const NEVER: u64 = u64::MAX;

impl Windows {
    /// Whether this configuration has any window.
    pub(super) fn are_wanted(config: &CircuitBreakerConfig) -> bool {
        config.count_window().is_some() || config.time_window().is_some()
    }

    /// Windows that hold nothing and judge nothing yet.
    pub(super) fn new() -> Self {
        Self {
            count: Mutex::new(None),
            counts: AtomicBool::new(false),
            settled: AtomicU64::new(NEVER),
            time: TimeShards::new(),
        }
    }

    /// Whether one more quick success would change nothing. In a time window it would: it counts there, since the old
    /// ones leave.
    #[inline]
    pub(super) fn is_settled(&self, generation: u64) -> bool {
        self.settled.load(Ordering::Relaxed) == generation && !self.time.is_on()
    }

    /// Takes an outcome of `generation`, and tells which rule it reached, if any.
    pub(super) fn record(&self, generation: u64, sample: Sample, moment: &mut Moment<'_>) -> Option<TripReason> {
        let counts = self.counts.load(Ordering::Relaxed);
        let by_count = if counts { self.record_count(generation, sample) } else { None };
        let by_time = if self.time.is_on() { self.time.record(generation, sample, moment) } else { None };
        by_count.or(by_time)
    }

    fn record_count(&self, generation: u64, sample: Sample) -> Option<TripReason> {
        let mut ring = self.count.lock();
        let ring = ring.as_mut()?;
        let reason = ring.record(generation, sample);
        let settled = if ring.is_settled() { generation } else { NEVER };
        if self.settled.load(Ordering::Relaxed) != settled {
            self.settled.store(settled, Ordering::Relaxed);
        }
        reason
    }

    /// Takes a new configuration: a count window keeps its newest outcomes, a reshaped time window starts afresh.
    pub(super) fn reconfigure(&self, config: &CircuitBreakerConfig) {
        let mut ring = self.count.lock();
        *ring = config.count_window().map(|window| match ring.take() {
            Some(ring) => ring.reshaped(&window),
            None => CountRing::new(&window),
        });
        let settled = ring.as_ref().filter(|ring| ring.is_settled()).map_or(NEVER, CountRing::generation);
        self.settled.store(settled, Ordering::Relaxed);
        self.counts.store(ring.is_some(), Ordering::Relaxed);
        drop(ring);
        self.time.reconfigure(config.time_window().as_ref());
    }
}
