//! A cap on how many of a service's instances their breakers may eject at once (`max_ejected_ratio`).

use std::sync::Arc;

use super::CircuitBreaker;
use super::state::Phase;
use crate::resilience::sync::{AtomicU32, Ordering};

/// What the breakers of one service share. Invariant: no trip makes `ejected` larger than `allowed`.
#[derive(Debug, Default)]
pub(crate) struct EjectionCap {
    /// Ordering: Relaxed; both words are counts that publish nothing else, and a limit that changes with the set of
    /// instances holds from the next trip on.
    ejected: AtomicU32,
    allowed: AtomicU32,
}

impl EjectionCap {
    /// The service now has so many instances to pick from, and this share of them may be ejected.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the ratio lies in 0..=1, so that the product lies in 0..=instances; it is found exactly below"
    )]
    pub(crate) fn resize(&self, ratio: f64, instances: usize) {
        let near = (ratio * instances as f64) as u32;
        // The largest number whose share does not pass the ratio; as with a rule's ratio, the quotient decides.
        let allowed = (near.saturating_sub(1)..=near + 1)
            .rev()
            .find(|count| f64::from(*count) / instances.max(1) as f64 <= ratio)
            .unwrap_or(0);
        self.allowed.store(allowed, Ordering::Relaxed);
    }
}

/// One instance is ejected for as long as this lives: until its breaker is Closed again, or its instance cannot be
/// picked anyway. A breaker that stands alone has no cap.
#[derive(Debug)]
pub(super) struct Ejection(Option<Arc<EjectionCap>>);

impl Ejection {
    /// Leave to eject one more instance, if the cap has any left.
    pub(super) fn under(cap: Option<&Arc<EjectionCap>>) -> Option<Self> {
        let Some(cap) = cap else { return Some(Self(None)) };
        let allowed = cap.allowed.load(Ordering::Relaxed);
        cap.ejected
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |ejected| (ejected < allowed).then_some(ejected + 1))
            .ok()
            .map(|_before| Self(Some(Arc::clone(cap))))
    }

    /// One more instance is ejected, whatever the cap: it came back with a circuit that has tripped.
    fn beyond(cap: &Arc<EjectionCap>) -> Self {
        cap.ejected.fetch_add(1, Ordering::Relaxed);
        Self(Some(Arc::clone(cap)))
    }
}

impl CircuitBreaker {
    /// Its instance can be picked from now on, or no longer. One that cannot be picked has no part in the share that
    /// may be ejected: it is not counted, however long calls of it or handles of its circuit last, and is free to trip.
    pub(crate) fn set_in_rotation(&self, in_rotation: bool) {
        let Some(cap) = &self.0.cap else { return };
        let mut control = self.0.control.lock();
        let phase = self.word().phase();
        let has_tripped = phase == Phase::Open || phase.probes();
        let episode = control.episode_mut();
        episode.out_of_rotation = !in_rotation;
        // What it had is given back first, so that nobody is counted twice.
        episode.ejection = None;
        episode.ejection = (in_rotation && has_tripped).then(|| Ejection::beyond(cap));
    }
}

impl Drop for Ejection {
    fn drop(&mut self) {
        if let Some(cap) = &self.0 {
            cap.ejected.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_never_passed_and_is_reached_at_equality() {
        for (ratio, instances, allowed) in
            [(1.0, 3, 3), (0.5, 3, 1), (0.5, 4, 2), (0.3, 10, 3), (0.7, 10, 7), (0.1, 9, 0)]
        {
            let cap = Arc::new(EjectionCap::default());
            cap.resize(ratio, instances);
            let held: Vec<_> = std::iter::from_fn(|| Ejection::under(Some(&cap))).collect();
            assert_eq!(held.len(), allowed, "{ratio} of {instances}");
            drop(held);
            assert_eq!(Ejection::under(Some(&cap)).is_some(), allowed > 0);
        }
    }
}
