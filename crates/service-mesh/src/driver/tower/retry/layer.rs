//! Lets services be tried again.

use tower_layer::Layer;

use super::super::replay::CloneRequest;
use super::service::RetryService;
use crate::resilience::outcome::EveryError;
use crate::resilience::retry::RetryPolicy;

/// Tries a service again, as a [`RetryPolicy`] says. All services that it is put around share its budget, if it has one.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use service_mesh::testing::ManualClock;
/// use service_mesh::tower::RetryLayer;
/// use service_mesh::{Environment, RetryPolicy};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// let clock = ManualClock::new();
/// let policy = RetryPolicy::builder().environment(Environment::manual(&clock)).build();
/// let calls = AtomicU32::new(0);
/// let service = ServiceBuilder::new().layer(RetryLayer::new(policy)).service(service_fn(async |order: u32| {
///     if calls.fetch_add(1, Ordering::Relaxed) < 2 { Err("busy") } else { Ok(order) }
/// }));
/// assert_eq!(clock.block_on(service.oneshot(7)), Ok(7));
/// assert_eq!(clock.sleeps().len(), 2);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is put around a service"]
pub struct RetryLayer<C = EveryError, R = CloneRequest> {
    policy: RetryPolicy,
    classify: C,
    replay: R,
}

impl RetryLayer {
    /// Every error is tried again but a refusal ([`EveryError`]), and requests are cloned for that ([`CloneRequest`]).
    pub fn new(policy: RetryPolicy) -> Self {
        Self { policy, classify: EveryError, replay: CloneRequest }
    }
}

impl<C, R> RetryLayer<C, R> {
    /// How results are understood: a [`Classify`](crate::Classify) of the inner service's response and error.
    ///
    /// Around a [`CircuitBreakerService`](crate::tower::CircuitBreakerService) let it be [`Nested`](crate::Nested), so that
    /// nobody waits for an open circuit.
    pub fn classify<D>(self, classify: D) -> RetryLayer<D, R> {
        RetryLayer { policy: self.policy, classify, replay: self.replay }
    }

    /// Which requests may be sent again, and how they are copied: a [`Replay`](crate::tower::Replay).
    pub fn replay<Q>(self, replay: Q) -> RetryLayer<C, Q> {
        RetryLayer { policy: self.policy, classify: self.classify, replay }
    }
}

impl<S, C: Clone, R: Clone> Layer<S> for RetryLayer<C, R> {
    type Service = RetryService<S, C, R>;

    fn layer(&self, inner: S) -> Self::Service {
        RetryService::new(inner, self.policy.clone(), self.classify.clone(), self.replay.clone())
    }
}
