//! Slow start: the share of a new or recovered instance rises from little to full.
//!
//! An instance that just came up has cold caches and empty pools; its full share at once may bring it down again. The
//! idea is Envoy's and nginx's `slow_start`. Shares are compared with that of the one that has come furthest: in a set
//! where all are new, nobody is spared, for there is nobody else to carry the load.

use std::time::Duration;

use crate::environment::Environment;
use crate::resilience::chance::Chance;
use crate::resilience::clock::Timestamp;
use crate::resilience::sync::{AtomicBool, Ordering};

/// The share that an instance begins with: with none at all its caches would stay cold until the ramp has got somewhere.
/// Envoy's `min_weight_percent` has the same default.
const LEAST_SHARE: f64 = 0.1;

/// Who of a set is still rising. Exists only where somebody is, and turns itself off when all have risen.
#[derive(Debug)]
pub(super) struct Ramp {
    environment: Environment,
    duration: Duration,
    /// For each endpoint when it began to rise; `None` has risen.
    since: Box<[Option<Timestamp>]>,
    /// When the one that has come furthest began; `None` has risen.
    furthest: Option<Timestamp>,
    /// When all will have risen.
    end: Timestamp,
    /// Ordering: Relaxed. It only saves reading the clock; a pick that misses it finds all shares full.
    is_over: AtomicBool,
}

impl Ramp {
    /// The ramp of a set whose endpoints became pickable at these times, as seen `now`. `None` if nobody would be
    /// spared: all have risen, or all began at the same time.
    pub(super) fn new(
        since: impl IntoIterator<Item = Option<Timestamp>>,
        now: Timestamp,
        duration: Duration,
        environment: &Environment,
    ) -> Option<Self> {
        let risen = |began: &Timestamp| now.since(*began) < duration;
        let since: Box<[_]> = since.into_iter().map(|began| began.filter(risen)).collect();
        // `None`, which has risen, orders before any time.
        let furthest = since.iter().min().copied().flatten();
        let somebody_is_behind = since.iter().any(|began| *began != furthest);
        somebody_is_behind.then(|| Self {
            environment: environment.clone(),
            duration,
            end: since.iter().max().copied().flatten().map_or(now, |latest| latest.after(duration)),
            since,
            furthest,
            is_over: AtomicBool::new(false),
        })
    }

    /// Whether anybody still rises, as far as anybody has looked. Reads no clock.
    #[inline]
    pub(super) fn is_active(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    /// The present time, for the questions of one pick. Notes when all have risen.
    pub(super) fn now(&self) -> Timestamp {
        self.at(self.environment.now())
    }

    /// The same where the present time is known.
    pub(super) fn at(&self, now: Timestamp) -> Timestamp {
        if now >= self.end {
            self.is_over.store(true, Ordering::Relaxed);
        }
        now
    }

    /// Whether this pick should pass the endpoint over. Draws chance only for one that rises.
    pub(super) fn spares(&self, index: usize, now: Timestamp, chance: &Chance) -> bool {
        let share = self.share_of(index, now);
        share < 1.0 && chance.ratio() >= share
    }

    /// How much of its weight an endpoint has come to, beside the one that has come furthest. At most 1.
    pub(super) fn share_of(&self, index: usize, now: Timestamp) -> f64 {
        let Some(began) = self.since[index] else { return 1.0 };
        self.share(Some(began), now) / self.share(self.furthest, now)
    }

    /// Whether it is one of those who have come furthest, whom nobody spares.
    pub(super) fn leads(&self, index: usize) -> bool {
        self.since[index] == self.furthest
    }

    /// Between [`LEAST_SHARE`] and 1, in a straight line.
    fn share(&self, began: Option<Timestamp>, now: Timestamp) -> f64 {
        let Some(began) = began else { return 1.0 };
        let risen = now.since(began).as_secs_f64() / self.duration.as_secs_f64();
        (LEAST_SHARE + (1.0 - LEAST_SHARE) * risen).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ManualClock;

    const MINUTE: Duration = Duration::from_secs(60);

    fn seconds(seconds: u64) -> Timestamp {
        Timestamp::ORIGIN.after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_share_rises_from_a_tenth_to_all_in_a_straight_line() {
        let environment = Environment::manual(&ManualClock::new());
        let ramp = Ramp::new([None, Some(seconds(0))], seconds(0), MINUTE, &environment).unwrap();
        for (at, share) in [(0, 0.1), (30, 0.55), (60, 1.0), (90, 1.0)] {
            assert!((ramp.share(ramp.since[1], seconds(at)) - share).abs() < 1e-9);
        }
        let chance = Chance::seeded(0);
        let spared = (0..10_000).filter(|_| ramp.spares(1, seconds(30), &chance)).count();
        assert!((4_300..4_700).contains(&spared), "{spared}");
        assert!((0..100).all(|_| !ramp.spares(0, seconds(0), &chance)));
    }

    #[test]
    fn nobody_is_spared_where_all_began_together() {
        let environment = Environment::manual(&ManualClock::new());
        let ramp = |since: &[Option<Timestamp>], now| Ramp::new(since.iter().copied(), now, MINUTE, &environment);
        assert!(ramp(&[], seconds(0)).is_none());
        assert!(ramp(&[Some(seconds(0)), Some(seconds(0))], seconds(1)).is_none());
        assert!(ramp(&[None, Some(seconds(0))], seconds(60)).is_none());
        let staggered = ramp(&[Some(seconds(0)), Some(seconds(30))], seconds(30)).unwrap();
        let chance = Chance::seeded(0);
        assert!((0..100).all(|_| !staggered.spares(0, seconds(30), &chance)));
        assert!((0..100).any(|_| staggered.spares(1, seconds(30), &chance)));
    }

    #[test]
    fn when_all_have_risen_the_clock_is_left_alone() {
        let clock = ManualClock::new();
        let ramp = Ramp::new([None, Some(seconds(0))], seconds(0), MINUTE, &Environment::manual(&clock)).unwrap();
        clock.advance(Duration::from_secs(59));
        ramp.now();
        assert!(ramp.is_active());
        clock.advance(Duration::from_secs(1));
        ramp.now();
        assert!(!ramp.is_active());
    }
}
