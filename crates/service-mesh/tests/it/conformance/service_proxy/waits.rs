//! Time for a proxy and its calls, and what they waited for.

use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use service_mesh::testing::ManualClock;
use service_mesh::{AsyncSleep, Clock, NoTimer, Sleep, Sleeping, Timestamp};
use service_mesh_conformance::Reply;

use super::Due;

/// The waits of the calls on one clock. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Waits {
    pub(super) clock: ManualClock,
    asked: Arc<Mutex<Vec<Duration>>>,
}

impl Waits {
    pub(super) fn new() -> Self {
        Self { clock: ManualClock::new(), asked: Arc::default() }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Somebody waits so long before a retry.
    pub(super) fn note(&self, wait: Duration) {
        self.asked.lock().unwrap().push(wait);
    }

    /// What was asked for last was the timer of a time limit, and no wait.
    pub(super) fn forget_last(&self) {
        self.asked.lock().unwrap().pop();
    }

    /// All waits since this was asked last; those of zero are none.
    pub(super) fn take(&self) -> Vec<Duration> {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.retain(|wait| !wait.is_zero());
        asked
    }

    /// A timer of the clock, by which it finds its way. To be kept until it is of no interest any more.
    pub(super) fn alarm(&self, after: Duration) -> Sleeping {
        let mut alarm = AsyncSleep::sleep(&self.clock, after).expect("a manual clock has timers");
        let set = alarm.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(set.is_ready(), after.is_zero());
        alarm
    }

    /// An answer that begins now.
    pub(super) fn due(&self, reply: Reply) -> Due {
        Due { at: self.now().after(reply.takes), reply, _alarm: self.alarm(reply.takes) }
    }
}

impl Sleep for Waits {
    fn sleep(&self, duration: Duration) {
        self.note(duration);
        Sleep::sleep(&self.clock, duration);
    }
}

impl AsyncSleep for Waits {
    fn sleep(&self, duration: Duration) -> Result<Sleeping, NoTimer> {
        self.note(duration);
        AsyncSleep::sleep(&self.clock, duration)
    }
}
