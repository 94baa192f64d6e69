//! A service behind a circuit breaker.

use std::task::{Context, Poll};

use tower_service::Service;

use super::future::CircuitBreakerFuture;
use crate::driver::running::Running;
use crate::resilience::call_error::CallError;
use crate::resilience::circuit_breaker::CircuitBreaker;
use crate::resilience::outcome::Classify;

/// A service behind a [`CircuitBreaker`]; [`CircuitBreakerLayer`](super::CircuitBreakerLayer) makes it.
///
/// - `poll_ready` is that of the inner service. If it fails, the service is dead, as tower has it; the circuit hears
///   nothing of that, since no call was made, and the error tells of 0 attempts.
/// - `call` asks the circuit. If that refuses, the inner service is not called, and what it reserved in `poll_ready` stays
///   for the next call of this clone, as after any `poll_ready` without a call.
/// - A response counts when the inner future is ready; a body that streams after that is not watched.
///
/// A call costs one reference count more than [`CircuitBreaker::execute_async`] and allocates nothing.
#[derive(Clone, Debug)]
pub struct CircuitBreakerService<S, C> {
    inner: S,
    breaker: CircuitBreaker,
    classify: C,
}

impl<S, C> CircuitBreakerService<S, C> {
    pub(super) fn new(inner: S, breaker: CircuitBreaker, classify: C) -> Self {
        Self { inner, breaker, classify }
    }

    /// Its circuit.
    pub fn circuit_breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }
}

impl<S, C, Request> Service<Request> for CircuitBreakerService<S, C>
where
    S: Service<Request>,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = CallError<S::Error>;
    type Future = CircuitBreakerFuture<S::Future, C>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context).map_err(|error| CallError::failed(error, 0))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let breaker = self.breaker.clone();
        let admitted = breaker.admit(&mut breaker.moment());
        match admitted {
            Ok(ticket) => {
                let mut running = Running::new(breaker, ticket);
                let future = running.run(|| self.inner.call(request));
                CircuitBreakerFuture::running(future, running, self.classify.clone())
            }
            Err(refusal) => CircuitBreakerFuture::refused(breaker, refusal),
        }
    }
}
