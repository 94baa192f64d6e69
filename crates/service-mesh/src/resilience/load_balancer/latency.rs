//! How slowly an endpoint has answered of late.

use std::time::Duration;

use crate::resilience::clock::Timestamp;
use crate::resilience::outcome::Outcome;
use crate::resilience::sync::{AtomicU64, Ordering};

/// In this time an estimate that nothing renews falls to 1/e. Finagle's and linkerd's default.
const DECAY: Duration = Duration::from_secs(10);

/// The least that a failure weighs, in nanoseconds: who fails at once must not look fast.
const FAILURE_MIN: f32 = 1e9;

/// What a failure weighs, beside what was expected: so that who fails again and again is asked ever less often, and who
/// is slow by nature is not made to look fast by failing.
const FAILURE_FACTOR: f32 = 4.0;

/// Where that growth ends, in nanoseconds.
const FAILURE_MAX: f32 = 60e9;

/// How often an observation that others overtake is tried again. They observed at the same moment, so that little is
/// lost with it.
const RACES: u32 = 4;

/// A stamp counts units of 2²⁴ ns, 17 ms, so that 32 bits are enough for 2 years: time enough for a word that is
/// forgotten to a tenth every 23 seconds.
const UNIT_BITS: u32 = 24;

/// Stamps that lie so far back that they seem ahead by less than this, 18 minutes, do lie ahead: another thread read the
/// clock later and wrote first.
const AHEAD_MAX: u32 = 1 << 16;

/// The peak-sensitive moving average of an endpoint's latency: it jumps up to a slow answer at once, and comes down with
/// time. One word, without a lock.
///
/// It is written at most once a unit of time, but for peaks: an ordinary answer that comes in the same 17 ms as the last
/// one costs a load.
#[derive(Debug, Default)]
pub(super) struct Latency(
    /// See [`Estimate::word`]; 0 before the first answer.
    ///
    /// Ordering: Relaxed. The word is the whole estimate, and nothing else is read on its account.
    AtomicU64,
);

/// What the word says.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Estimate {
    /// At the time of the stamp; 0 before the first answer.
    nanos: f32,
    stamp: u32,
}

impl Latency {
    /// The estimate in nanoseconds, at least 1; `None` before the first answer.
    #[inline]
    pub(super) fn nanos(&self, now: Timestamp) -> Option<f64> {
        let word = self.0.load(Ordering::Relaxed);
        (word != 0).then(|| f64::from(Estimate::from_word(word).at(stamp(now)).max(1.0)))
    }

    /// Takes in how an attempt ended `now` that began then. One without an answer tells a lower bound.
    #[expect(clippy::cast_precision_loss, reason = "24 bits of a measured time")]
    pub(super) fn observe(&self, began: Timestamp, outcome: Outcome, now: Timestamp) {
        // At least 1: 0 is for the unknown.
        let took = (now.as_nanos().saturating_sub(began.as_nanos()) as f32).max(1.0);
        let mut word = self.0.load(Ordering::Relaxed);
        for _ in 0..RACES {
            let Some(next) = Estimate::from_word(word).after(took, outcome, stamp(now)) else { return };
            match self.0.compare_exchange_weak(word, next.word(), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(present) => word = present,
            }
        }
    }
}

impl Estimate {
    /// The estimate in the upper half, as a float, and the stamp in the lower.
    const fn word(self) -> u64 {
        (self.nanos.to_bits() as u64) << 32 | self.stamp as u64
    }

    #[expect(clippy::cast_possible_truncation, reason = "the halves of the word")]
    const fn from_word(word: u64) -> Self {
        Self { nanos: f32::from_bits((word >> 32) as u32), stamp: word as u32 }
    }

    /// What has become of it.
    fn at(self, stamp: u32) -> f32 {
        self.nanos * self.left(stamp)
    }

    /// How much of it is left, of 1.
    #[expect(clippy::cast_precision_loss, reason = "a part in 2²⁴ of a time of years")]
    fn left(self, stamp: u32) -> f32 {
        const UNITS: f32 = (1_u64 << UNIT_BITS) as f32 / (DECAY.as_nanos() as f32);
        let units = stamp.wrapping_sub(self.stamp);
        if units == 0 || units > u32::MAX - AHEAD_MAX { 1.0 } else { (-(units as f32) * UNITS).exp() }
    }

    /// The estimate after one more attempt that took so many nanoseconds; `None` if it says nothing new.
    fn after(self, took: f32, outcome: Outcome, stamp: u32) -> Option<Self> {
        let left = self.left(stamp);
        let expected = self.nanos * left;
        let took = match outcome {
            Outcome::Success | Outcome::Neutral => took,
            Outcome::Failure => took.max(FAILURE_MIN).max((FAILURE_FACTOR * expected).min(FAILURE_MAX)),
        };
        if took > expected {
            return Some(Self { nanos: took, stamp });
        }
        let says_nothing = outcome == Outcome::Neutral || left >= 1.0;
        (!says_nothing).then_some(Self { nanos: expected + took * (1.0 - left), stamp })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "stamps wrap around")]
const fn stamp(now: Timestamp) -> u32 {
    (now.as_nanos() >> UNIT_BITS) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Timestamp {
        // The clock has run for a while.
        Timestamp::ORIGIN.after(Duration::from_secs_f64(100.0 + seconds))
    }

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// An attempt that took so long ends.
    fn observe(latency: &Latency, took: Duration, outcome: Outcome, at: f64) {
        let now = seconds(at);
        latency.observe(Timestamp::ORIGIN.after(now.since(Timestamp::ORIGIN).saturating_sub(took)), outcome, now);
    }

    /// In milliseconds, rounded.
    fn estimate(latency: &Latency, at: f64) -> u128 {
        (Duration::from_secs_f64(latency.nanos(seconds(at)).unwrap() / 1e9) + Duration::from_micros(500)).as_millis()
    }

    #[test]
    fn it_jumps_up_at_once_and_comes_down_with_time() {
        let latency = Latency::default();
        assert_eq!(latency.nanos(seconds(0.0)), None);
        observe(&latency, millis(10), Outcome::Success, 0.0);
        assert_eq!(estimate(&latency, 0.0), 10);
        observe(&latency, millis(1000), Outcome::Success, 0.0);
        assert_eq!(estimate(&latency, 0.0), 1000);
        // One fast answer does not make good for it, but many over a time do.
        observe(&latency, millis(10), Outcome::Success, 1.0);
        assert!((900..915).contains(&estimate(&latency, 1.0)));
        for second in 2..=60 {
            observe(&latency, millis(10), Outcome::Success, second.into());
        }
        assert!((10..20).contains(&estimate(&latency, 60.0)));
    }

    #[test]
    fn it_falls_to_one_part_in_e_in_ten_idle_seconds() {
        let latency = Latency::default();
        observe(&latency, millis(1000), Outcome::Success, 5.0);
        assert!(estimate(&latency, 15.0).abs_diff(368) <= 2);
        assert!(estimate(&latency, 25.0).abs_diff(135) <= 2);
        assert_eq!(estimate(&latency, 1e6), 0);
    }

    #[test]
    fn a_fast_failure_looks_slow_and_the_next_one_slower_up_to_a_limit() {
        let latency = Latency::default();
        let fail = || {
            observe(&latency, millis(1), Outcome::Failure, 0.0);
            estimate(&latency, 0.0)
        };
        assert_eq!([fail(), fail(), fail(), fail(), fail()], [1_000, 4_000, 16_000, 60_000, 60_000]);
        observe(&latency, millis(90_000), Outcome::Failure, 0.0);
        assert_eq!(estimate(&latency, 0.0), 90_000, "how long it took is never less than it was");
    }

    #[test]
    fn one_who_gave_up_tells_a_lower_bound() {
        let latency = Latency::default();
        observe(&latency, millis(50), Outcome::Neutral, 0.0);
        assert_eq!(estimate(&latency, 0.0), 50);
        observe(&latency, millis(10), Outcome::Neutral, 1.0);
        assert_eq!(estimate(&latency, 1.0), 45, "as if nothing had been said");
        observe(&latency, millis(70), Outcome::Neutral, 1.0);
        assert_eq!(estimate(&latency, 1.0), 70);
    }

    #[test]
    fn clocks_read_out_of_order_do_no_harm() {
        let latency = Latency::default();
        observe(&latency, millis(50), Outcome::Success, 10.0);
        assert_eq!(estimate(&latency, 9.0), 50);
        observe(&latency, millis(20), Outcome::Success, 9.0);
        assert_eq!(estimate(&latency, 10.0), 50);
    }

    #[test]
    fn an_ordinary_answer_at_the_same_moment_writes_nothing() {
        let latency = Latency::default();
        observe(&latency, millis(50), Outcome::Success, 10.0);
        let word = latency.0.load(Ordering::Relaxed);
        observe(&latency, millis(49), Outcome::Success, 10.001);
        assert_eq!(latency.0.load(Ordering::Relaxed), word);
    }
}
