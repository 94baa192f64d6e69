//! Puts a circuit breaker around services.

use tower_layer::Layer;

use super::service::CircuitBreakerService;
use crate::resilience::circuit_breaker::CircuitBreaker;
use crate::resilience::outcome::EveryError;

/// Puts a [`CircuitBreaker`] around a service. All services that it is put around share the circuit.
///
/// ```
/// use service_mesh::testing::ManualClock;
/// use service_mesh::tower::CircuitBreakerLayer;
/// use service_mesh::{CallErrorKind, CircuitBreaker};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// let breaker = CircuitBreaker::new("payments");
/// let service = ServiceBuilder::new()
///     .layer(CircuitBreakerLayer::new(breaker.clone()))
///     .service(service_fn(async |order: u32| Ok::<_, std::io::Error>(order)));
/// let clock = ManualClock::new();
/// assert_eq!(clock.block_on(service.clone().oneshot(7)).unwrap(), 7);
///
/// breaker.force_open();
/// let refused = clock.block_on(service.oneshot(8)).unwrap_err();
/// assert!(matches!(refused.kind(), CallErrorKind::CircuitOpen(_)));
/// ```
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is put around a service"]
pub struct CircuitBreakerLayer<C = EveryError> {
    breaker: CircuitBreaker,
    classify: C,
}

impl CircuitBreakerLayer {
    /// Every error of the service is a failure, but for those that [`EveryError`] names.
    pub fn new(breaker: CircuitBreaker) -> Self {
        Self { breaker, classify: EveryError }
    }
}

impl<C> CircuitBreakerLayer<C> {
    /// How results are understood: a [`Classify`](crate::Classify) of the inner service's response and error.
    pub fn classify<D>(self, classify: D) -> CircuitBreakerLayer<D> {
        CircuitBreakerLayer { breaker: self.breaker, classify }
    }
}

impl<S, C: Clone> Layer<S> for CircuitBreakerLayer<C> {
    type Service = CircuitBreakerService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        CircuitBreakerService::new(inner, self.breaker.clone(), self.classify.clone())
    }
}
