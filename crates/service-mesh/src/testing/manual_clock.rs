//! A clock that is moved by hand.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::driver::sleep::{AsyncSleep, NoTimer, Sleep, Sleeping};
use crate::resilience::clock::{Clock, Timestamp};

/// A clock that is moved by hand, and the timers that hang on it. Clones are the same clock.
///
/// - [`advance`](Self::advance) moves it and wakes whoever waits.
/// - A blocking wait, in the sync driver, moves it by itself and returns at once.
/// - An async wait is over when the clock has been moved there; [`block_on`](Self::block_on) does that whenever a
///   future has nothing else to do, so that no runtime and no patience is needed.
///
/// ```
/// use std::time::Duration;
/// use service_mesh::{Environment, RetryPolicy, testing::ManualClock};
/// let clock = ManualClock::new();
/// let policy = RetryPolicy::builder().environment(Environment::manual(&clock)).build();
/// let mut calls = 0;
/// let result: Result<u32, _> = clock.block_on(policy.execute_async(|| {
///     calls += 1;
///     async move { if calls < 3 { Err("not yet") } else { Ok(calls) } }
/// }));
/// assert_eq!(result.unwrap(), 3);
/// assert_eq!(clock.sleeps().len(), 2);
/// ```
#[derive(Clone, Default)]
pub struct ManualClock {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    now: Timestamp,
    /// Who waits for what, in the order of time; the number tells waits for the same time apart.
    timers: BTreeMap<(Timestamp, u64), Waker>,
    next_timer: u64,
    sleeps: Vec<Duration>,
}

impl ManualClock {
    /// A clock that stands at its origin.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock and wakes whoever waited for that.
    pub fn advance(&self, duration: Duration) {
        let now = self.lock().now.after(duration);
        self.advance_to(now);
    }

    /// Moves the clock to the earliest time that somebody waits for; false if nobody waits.
    pub fn advance_to_next_timer(&self) -> bool {
        let next = self.lock().timers.keys().next().map(|(at, _)| *at);
        if let Some(at) = next {
            self.advance_to(at);
        }
        next.is_some()
    }

    fn advance_to(&self, now: Timestamp) {
        let due = {
            let mut shared = self.lock();
            shared.now = shared.now.max(now);
            let later = shared.timers.split_off(&(now, u64::MAX));
            std::mem::replace(&mut shared.timers, later)
        };
        due.into_values().for_each(Waker::wake);
    }

    /// The waits of retries and the time limits of async attempts, in the order in which they were set: also a limit that
    /// was not reached.
    pub fn sleeps(&self) -> Vec<Duration> {
        self.lock().sleeps.clone()
    }

    /// Runs a future to its end. Whenever it has nothing to do but wait, the clock moves to the next timer.
    ///
    /// # Panics
    /// When the future waits and no timer of this clock is set: nothing here would ever wake it. It waits for another
    /// clock, for a channel, or for a runtime's timer; a future that needs tokio belongs in a `#[tokio::test]`, which
    /// calls [`advance_to_next_timer`](Self::advance_to_next_timer) beside it.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(woken.clone());
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(future);
        loop {
            // Ordering: SeqCst costs nothing here; a wake before the poll must be seen after it.
            while woken.0.swap(false, Ordering::SeqCst) {
                if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                    return output;
                }
            }
            assert!(
                self.advance_to_next_timer(),
                "the future waits for something that no timer of this clock ends: another clock, a channel, or a \
                 runtime's timer"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.lock().now
    }
}

impl Sleep for ManualClock {
    fn sleep(&self, duration: Duration) {
        self.lock().sleeps.push(duration);
        self.advance(duration);
    }
}

impl AsyncSleep for ManualClock {
    fn sleep(&self, duration: Duration) -> Result<Sleeping, NoTimer> {
        let mut shared = self.lock();
        shared.sleeps.push(duration);
        Ok(Box::pin(Timer { clock: self.clone(), at: shared.now.after(duration), entry: None }))
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualClock").field("now", &self.now()).finish_non_exhaustive()
    }
}

/// A wait until the clock has been moved to `at`. Dropped, it leaves no timer behind.
struct Timer {
    clock: ManualClock,
    at: Timestamp,
    entry: Option<u64>,
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.clone();
        let mut shared = clock.lock();
        if shared.now >= self.at {
            return Poll::Ready(());
        }
        let entry = *self.entry.get_or_insert_with(|| {
            shared.next_timer += 1;
            shared.next_timer
        });
        shared.timers.insert((self.at, entry), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(entry) = self.entry {
            self.clock.lock().timers.remove(&(self.at, entry));
        }
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_async_wait_ends_when_the_clock_is_moved_there() {
        let clock = ManualClock::new();
        let seconds = Duration::from_secs;
        let wait = |duration| AsyncSleep::sleep(&clock, duration).unwrap();
        clock.block_on(async {
            wait(seconds(5)).await;
            assert_eq!(clock.now(), Timestamp::ORIGIN.after(seconds(5)));
            drop(wait(seconds(60)));
            wait(seconds(1)).await;
        });
        assert_eq!(clock.now(), Timestamp::ORIGIN.after(seconds(6)));
        assert_eq!(clock.sleeps(), [seconds(5), seconds(60), seconds(1)]);
        assert!(!clock.advance_to_next_timer());
    }

    #[test]
    #[should_panic(expected = "no timer of this clock ends: another clock, a channel, or a runtime's timer")]
    fn a_future_that_nothing_can_wake_is_told_so() {
        ManualClock::new().block_on(std::future::pending::<()>());
    }
}
