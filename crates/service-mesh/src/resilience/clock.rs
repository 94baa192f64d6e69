//! Time as an argument. Whoever decides asks the clock that it was given, and only where time matters.
//!
//! The idea is governor's (`governor/src/clock.rs`) and quinn-proto's: with the clock in the caller's hand, a test
//! moves it instead of sleeping. See [`ManualClock`](crate::testing::ManualClock).

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

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
}

/// The system's monotonic clock, the default. Costs one `clock_gettime`, about 20 ns.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[inline]
    fn now(&self) -> Timestamp {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(*ORIGIN.get_or_init(|| now));
        Timestamp(elapsed.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(elapsed.subsec_nanos())))
    }
}
