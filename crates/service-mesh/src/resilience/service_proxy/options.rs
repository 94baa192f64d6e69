//! What one call asks for beyond the proxy's settings.

use std::hash::Hash;
use std::time::Duration;

use super::explain::Explanation;
use crate::resilience::load_balancer::KeyHash;
use crate::resilience::outcome::EveryError;

/// What one call asks for beyond the proxy's settings.
///
/// ```
/// use std::time::Duration;
/// use service_mesh::{Answer, CallOptions};
/// let status = |result: &Result<u16, std::io::Error>| match result {
///     Ok(429) => Answer::neutral().retryable(true),
///     Ok(500..) | Err(_) => Answer::failure(),
///     Ok(_) => Answer::success(),
/// };
/// let options = CallOptions::new().timeout(Duration::from_millis(300)).classify(status);
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default)]
pub struct CallOptions<C = EveryError> {
    pub(crate) classify: C,
    pub(crate) timeout: Option<Duration>,
    pub(crate) explain: Option<Explanation>,
    pub(crate) key: Option<KeyHash>,
}

impl CallOptions {
    /// Every error is a failure, the proxy's time limits hold, and nobody asks for the story.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<C> CallOptions<C> {
    /// How results are understood. Default: [`EveryError`].
    pub fn classify<D>(self, classify: D) -> CallOptions<D> {
        CallOptions { classify, timeout: self.timeout, explain: self.explain, key: self.key }
    }

    /// How long the call may take, retries and waits included, in place of the proxy's `call_timeout`. Counted from its
    /// begin. 0 tries nothing: a caller that passes on what is left of its own time may have none.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Asks for the story of the call, which costs a few allocations an attempt. Default: nobody asks.
    pub fn explain(mut self, explanation: &Explanation) -> Self {
        self.explain = Some(explanation.clone());
        self
    }

    /// What the call is about: a customer, a file, a session. Under
    /// [`ConsistentHash`](crate::LoadBalancerStrategy::ConsistentHash) equal keys go to one instance, and a retry to the
    /// next in the key's own order: see [`LoadBalancer`](crate::LoadBalancer#by-key). Default: none; such a call goes to
    /// anybody. Only its hash is kept.
    pub fn key(mut self, key: impl Hash) -> Self {
        self.key = Some(KeyHash::of(&key));
        self
    }
}
