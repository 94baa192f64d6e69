//! What only transitions and half-open verdicts need: behind the breaker's mutex, and little of it before the first
//! trip.

use std::sync::Arc;
use std::time::Duration;

use service_mesh_models::{CircuitBreakerConfig, TripReason};

use super::ejection::Ejection;
use crate::resilience::chance::Chance;
use crate::resilience::clock::Timestamp;
use crate::resilience::event::{Announcer, Event, EventKind};

/// The default of `probe_timeout`, unless `timeout` is longer.
const PROBE_TIMEOUT_LEAST: Duration = Duration::from_secs(30);

/// What the mutex guards.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) config: Arc<CircuitBreakerConfig>,
    pub(super) announcer: Option<Arc<Announcer>>,
    episode: Option<Box<Episode>>,
}

/// What is known of a circuit that has not always been Closed.
#[derive(Debug, Default)]
pub(super) struct Episode {
    /// The rule that tripped it last.
    pub(super) trip: Option<TripReason>,
    /// The row of failures when it tripped.
    pub(super) row: u32,
    /// Trips since it was last Closed.
    pub(super) trips: u32,
    /// Successes of probes since it became half-open.
    pub(super) successes: u32,
    /// When the newest probe was admitted.
    pub(super) newest_probe: Timestamp,
    /// How often hung probes were written off since it was last Closed.
    pub(super) write_offs: u32,
    /// Its instance counts as ejected for as long as this stands.
    pub(super) ejection: Option<Ejection>,
    /// Whether its instance cannot be picked; never so for a circuit that stands alone.
    pub(super) out_of_rotation: bool,
    /// The row at which it last should have tripped and was told not to; 0 for never.
    pub(super) capped_row: u32,
    /// How much earlier than its clock's origin the last failure was, if that was assigned.
    pub(super) before_origin: Duration,
    /// Verdicts that came too late to count.
    pub(super) late_outcomes: u64,
}

impl Control {
    pub(super) fn new(config: Arc<CircuitBreakerConfig>, announcer: Option<Arc<Announcer>>) -> Self {
        Self { config, announcer, episode: None }
    }

    /// What is known of its troubles, if it had any.
    pub(super) fn episode(&self) -> Option<&Episode> {
        self.episode.as_deref()
    }

    /// What is known of its troubles, from now on.
    pub(super) fn episode_mut(&mut self) -> &mut Episode {
        self.episode.get_or_insert_default()
    }

    /// Puts an event in the queue; the lock that is held orders it.
    pub(super) fn announce(&self, name: &Arc<str>, kind: impl FnOnce() -> EventKind) {
        if let Some(announcer) = &self.announcer {
            announcer.announce(Event { name: Arc::clone(name), kind: kind() });
        }
    }

    /// How long the circuit stays open after the latest of so many trips in a row.
    pub(super) fn open_time(&self, trips: u32, chance: &Chance) -> Duration {
        let config = &self.config;
        let growth = config.timeout_multiplier().powf(f64::from(trips.saturating_sub(1)));
        let jitter = config.timeout_jitter_ratio();
        let factor = if jitter > 0.0 { growth * (1.0 + jitter * chance.ratio()) } else { growth };
        // The plain case stays exact: no detour through floating point, and none for 0 times infinity.
        let time = if factor > 1.0 && !config.timeout().is_zero() {
            Duration::try_from_secs_f64(config.timeout().as_secs_f64() * factor).unwrap_or(Duration::MAX)
        } else {
            config.timeout()
        };
        config.timeout_max().map_or(time, |max| time.min(max))
    }

    /// How old the newest probe must be before all of them are written off.
    pub(super) fn probe_timeout(&self) -> Duration {
        let config = &self.config;
        let timeout = config.probe_timeout().unwrap_or_else(|| config.timeout().max(PROBE_TIMEOUT_LEAST));
        let write_offs = self.episode().map_or(0, |episode| episode.write_offs);
        timeout.saturating_mul(1_u32.checked_shl(write_offs).unwrap_or(u32::MAX))
    }
}
