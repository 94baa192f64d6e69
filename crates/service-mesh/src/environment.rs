//! What the world outside gives to a decision and its driver: time, chance, and ways to wait.

use std::sync::Arc;

use crate::driver::sleep::{AsyncSleep, NoTimer, Sleep, Sleeping, ThreadSleep};
use crate::resilience::chance::Chance;
use crate::resilience::clock::{Clock, SystemClock, Timestamp};
use crate::testing::ManualClock;
use std::time::Duration;

/// Time, chance, and ways to wait. Everything that is built in one environment shares them; cloning it is cheap.
///
/// The default is the system's: its monotonic clock, a random generator for each thread, `thread::sleep`, and tokio's
/// timer where the feature `tokio` is on. It costs no allocation and no virtual call; one of which anything was given
/// costs a virtual call for each look at its clock. What is not given stays the system's.
///
/// Parts that work together need the same environment: times of two clocks do not compare.
///
/// ```
/// use std::time::Duration;
/// use service_mesh::{CircuitBreaker, Environment, testing::ManualClock};
/// let clock = ManualClock::new();
/// let breaker = CircuitBreaker::builder("payments").environment(Environment::manual(&clock)).build();
/// # let _ = breaker;
/// clock.advance(Duration::from_secs(30));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `None` is the system's, which costs no allocation and no virtual call.
    given: Option<Arc<Given>>,
}

#[derive(Clone, Debug)]
struct Given {
    clock: Arc<dyn Clock>,
    chance: Chance,
    sleep: Arc<dyn Sleep>,
    async_sleep: Option<Arc<dyn AsyncSleep>>,
}

impl Environment {
    /// The system's clock, chance and timers.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that is moved by hand, waits that move it, and chance that repeats itself (seed 0).
    pub fn manual(clock: &ManualClock) -> Self {
        Self::system()
            .with_clock(clock.clone())
            .with_chance(Chance::seeded(0))
            .with_sleep(clock.clone())
            .with_async_sleep(clock.clone())
    }

    /// With this clock.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock + 'static) -> Self {
        self.change(|given| given.clock = Arc::new(clock))
    }

    /// With this source of chance.
    #[must_use]
    pub fn with_chance(self, chance: Chance) -> Self {
        self.change(|given| given.chance = chance)
    }

    /// With this way to wait in the sync driver.
    #[must_use]
    pub fn with_sleep(self, sleep: impl Sleep + 'static) -> Self {
        self.change(|given| given.sleep = Arc::new(sleep))
    }

    /// With this way to wait in the async driver: any runtime's timer.
    #[must_use]
    pub fn with_async_sleep(self, sleep: impl AsyncSleep + 'static) -> Self {
        self.change(|given| given.async_sleep = Some(Arc::new(sleep)))
    }

    fn change(self, change: impl FnOnce(&mut Given)) -> Self {
        let mut given = self.given.unwrap_or_else(|| {
            Arc::new(Given {
                clock: Arc::new(SystemClock),
                chance: Chance::system(),
                sleep: Arc::new(ThreadSleep),
                async_sleep: None,
            })
        });
        change(Arc::make_mut(&mut given));
        Self { given: Some(given) }
    }

    /// The present time.
    #[inline]
    pub fn now(&self) -> Timestamp {
        match &self.given {
            None => SystemClock.now(),
            Some(given) => given.clock.now(),
        }
    }

    /// The present time or some milliseconds before it: see [`Clock::coarse`].
    #[inline]
    pub fn coarse(&self) -> Timestamp {
        match &self.given {
            None => SystemClock.coarse(),
            Some(given) => given.clock.coarse(),
        }
    }

    /// The source of chance.
    #[inline]
    pub fn chance(&self) -> Chance {
        match &self.given {
            None => Chance::system(),
            Some(given) => given.chance.clone(),
        }
    }

    /// Waits in the sync driver.
    pub(crate) fn sleep(&self, duration: Duration) {
        match &self.given {
            None => ThreadSleep.sleep(duration),
            Some(given) => given.sleep.sleep(duration),
        }
    }

    /// A wait for the async driver to poll.
    pub(crate) fn async_sleep(&self, duration: Duration) -> Result<Sleeping, NoTimer> {
        match self.given.as_ref().and_then(|given| given.async_sleep.as_ref()) {
            Some(sleep) => sleep.sleep(duration),
            #[cfg(feature = "tokio")]
            None => crate::driver::sleep::TokioSleep.sleep(duration),
            #[cfg(not(feature = "tokio"))]
            None => Err(NoTimer::new("no timer was given and the feature `tokio` is off")),
        }
    }
}

/// A clock that is asked at most once: everything that is decided at one moment is told the same time, and where time
/// plays no part nobody reads it.
#[derive(Clone, Debug)]
pub(crate) struct Moment<'a> {
    environment: &'a Environment,
    now: Option<Timestamp>,
}

impl<'a> Moment<'a> {
    #[inline]
    pub(crate) const fn new(environment: &'a Environment) -> Self {
        Self::at(environment, None)
    }

    /// A moment whose time may be known already.
    #[inline]
    pub(crate) const fn at(environment: &'a Environment, now: Option<Timestamp>) -> Self {
        Self { environment, now }
    }

    /// The time if it is known, and else about the time.
    #[inline]
    pub(crate) fn coarse(&self) -> Timestamp {
        self.now.unwrap_or_else(|| self.environment.coarse())
    }

    /// The time, if somebody has asked for it.
    #[inline]
    pub(crate) const fn known(&self) -> Option<Timestamp> {
        self.now
    }

    #[inline]
    pub(crate) fn now(&mut self) -> Timestamp {
        match self.now {
            Some(now) => now,
            None => *self.now.insert(self.environment.now()),
        }
    }
}
