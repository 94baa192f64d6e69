//! A service that is tried again.

use std::task::{Context, Poll};

use tower_service::Service;

use super::super::replay::Replay;
use super::future::RetryFuture;
use crate::resilience::call_error::CallError;
use crate::resilience::outcome::Classify;
use crate::resilience::retry::RetryPolicy;

/// A service that is tried again, as a [`RetryPolicy`] says; [`RetryLayer`](super::RetryLayer) makes it.
///
/// - `poll_ready` is that of the inner service, which makes the first attempt. Retries are made by a clone of it, which is
///   asked to be ready after the wait and not before: nothing is reserved by those who wait. Clones must therefore be
///   cheap, and of one mind with the original; put `tower::buffer` inside where they are not.
/// - If a service fails to become ready, it is dead, as tower has it: that error is returned and not tried again.
///
/// Each attempt makes a copy of its request for the next; each wait allocates its timer, and nothing else is allocated.
#[derive(Clone, Debug)]
pub struct RetryService<S, C, R> {
    inner: S,
    policy: RetryPolicy,
    classify: C,
    replay: R,
}

impl<S, C, R> RetryService<S, C, R> {
    pub(super) fn new(inner: S, policy: RetryPolicy, classify: C, replay: R) -> Self {
        Self { inner, policy, classify, replay }
    }

    /// Its policy.
    pub fn retry_policy(&self) -> &RetryPolicy {
        &self.policy
    }
}

impl<S, C, R, Request> Service<Request> for RetryService<S, C, R>
where
    S: Service<Request> + Clone,
    C: Classify<S::Response, S::Error> + Clone,
    R: Replay<Request> + Clone,
{
    type Response = S::Response;
    type Error = CallError<S::Error>;
    type Future = RetryFuture<S, Request, C, R>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context).map_err(|error| CallError::failed(error, 0))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.policy.begin();
        // The clone is for the retries. This one is ready, and a clone of it need not be.
        let again = self.inner.clone();
        let spare = self.replay.replay(&request);
        let first = self.inner.call(request);
        RetryFuture::new(first, again, spare, self.policy.clone(), self.classify.clone(), self.replay.clone())
    }
}
