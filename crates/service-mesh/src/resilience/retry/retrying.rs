//! One call under a policy, step by step: for a driver of another language or another shape than those of this crate.

use std::time::Duration;

use super::{Retries, RetryPolicy};
use crate::resilience::outcome::Answer;

/// One call under a [`RetryPolicy`]. It is told what came of each attempt and says how long to wait before the next, or
/// that there is none; it waits for nothing itself.
///
/// ```
/// use std::time::Duration;
/// use service_mesh::{Answer, Jitter, RetryConfig, RetryPolicy};
/// let policy = RetryPolicy::new(RetryConfig::builder().max_retries(1).jitter(Jitter::None).build()?);
/// let mut call = policy.retrying();
/// assert_eq!(call.wait_after(&Answer::failure(), None), Some(Duration::from_millis(100)));
/// assert_eq!(call.attempts(), 2);
/// assert_eq!(call.wait_after(&Answer::failure(), None), None);
/// # Ok::<(), service_mesh::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Retrying {
    policy: RetryPolicy,
    retries: Retries,
}

impl RetryPolicy {
    /// Begins a call: its first attempt is about to be made. A budget counts it.
    pub fn retrying(&self) -> Retrying {
        self.begin();
        Retrying { policy: self.clone(), retries: Retries::default() }
    }
}

impl Retrying {
    /// How long to wait before the next attempt, zero for not at all; none if `answer` is what the call came to. With
    /// `time_left` until a deadline, a call that could not begin its next attempt before it gives up now. A retry is
    /// charged to the budget here, and not given back.
    pub fn wait_after(&mut self, answer: &Answer, time_left: Option<Duration>) -> Option<Duration> {
        let retry = self.policy.plan(self.retries, answer, time_left).ok()?;
        self.policy.charge().ok()?;
        self.retries = retry.then;
        Some(retry.wait)
    }

    /// Attempts so far, with the one that is under way or about to begin.
    pub fn attempts(&self) -> u32 {
        self.retries.attempts()
    }
}
