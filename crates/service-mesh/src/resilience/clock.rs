//! Time as an argument. Whoever decides asks the clock that it was given, and only where time matters.
//!
//! The idea is governor's (`governor/src/clock.rs`) and quinn-proto's: with the clock in the caller's hand, a test
//! moves it instead of sleeping. See [`ManualClock`](crate::testing::ManualClock).

use std::fmt;
use std::time::Duration;

/// A point in time, in nanoseconds since the origin of the clock that told it. Points of two clocks do not compare.
///
/// Arithmetic saturates: 584 years after the origin time stands still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The origin of the clock.
    pub const ORIGIN: Self = Self(0);

    /// So many nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The point that lies `duration` later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(saturating_nanos(duration)))
    }

    /// How much time has passed since `earlier`; zero if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A duration in nanoseconds, cut to what a [`Timestamp`] can tell.
pub(crate) fn saturating_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Tells the time. It must never go backwards.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The present time.
    fn now(&self) -> Timestamp;

    /// The present time or a little before it, for where some milliseconds play no part: to tell when something
    /// happened, or to find the bucket of a window that is far wider. It does not go backwards either, and is never later
    /// than a [`now`](Self::now) that is asked after it.
    ///
    /// Default: `now`, which is right for every clock; one whose reading is dear may have something cheaper.
    fn coarse(&self) -> Timestamp {
        self.now()
    }
}

/// The system's monotonic clock, the default. A reading costs one `clock_gettime`, about 20 ns.
///
/// On Linux its [`coarse`](Clock::coarse) time is that of the kernel's last timer tick, 1 to 10 ms old, for about 4 ns.
/// Why it does not count the processor's cycles itself stands in `docs/decisions/0010-clock.md`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[cfg(target_os = "linux")]
mod system {
    use rustix::time::{ClockId, Timespec, clock_gettime};

    use super::{Clock, SystemClock, Timestamp};

    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    impl Clock for SystemClock {
        #[inline]
        fn now(&self) -> Timestamp {
            timestamp(clock_gettime(ClockId::Monotonic))
        }

        #[inline]
        fn coarse(&self) -> Timestamp {
            timestamp(clock_gettime(ClockId::MonotonicCoarse))
        }
    }

    /// Since the machine was started, which is what both clocks count from: their times compare.
    #[inline]
    #[expect(clippy::cast_sign_loss, reason = "no machine was started in the future")]
    const fn timestamp(time: Timespec) -> Timestamp {
        Timestamp((time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::sync::OnceLock;
    use std::time::Instant;

    use super::{Clock, SystemClock, Timestamp, saturating_nanos};

    impl Clock for SystemClock {
        #[inline]
        fn now(&self) -> Timestamp {
            static ORIGIN: OnceLock<Instant> = OnceLock::new();
            #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
            let now = Instant::now();
            Timestamp(saturating_nanos(now.saturating_duration_since(*ORIGIN.get_or_init(|| now))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarse_time_of_the_system_is_never_ahead_of_its_time_and_neither_goes_back() {
        let (mut coarse, mut now) = (SystemClock.coarse(), SystemClock.now());
        for _ in 0..100_000 {
            let (next_coarse, next_now) = (SystemClock.coarse(), SystemClock.now());
            assert!(coarse <= next_coarse && now <= next_now && next_coarse <= next_now);
            (coarse, now) = (next_coarse, next_now);
        }
    }
}
