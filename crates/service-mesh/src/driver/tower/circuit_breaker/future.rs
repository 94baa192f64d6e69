//! A call through a circuit breaker.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use crate::driver::running::{Running, refused};
use crate::resilience::call_error::CallError;
use crate::resilience::circuit_breaker::{CircuitBreaker, Refusal};
use crate::resilience::outcome::Classify;

pin_project! {
    /// A call of a [`CircuitBreakerService`](super::CircuitBreakerService).
    ///
    /// Dropping it is neutral and gives a probe's place back. A panic in the inner future is a failure and goes on
    /// unwinding; it counts when the future is dropped.
    #[must_use = "futures do nothing unless polled"]
    pub struct CircuitBreakerFuture<F, C> {
        #[pin]
        state: State<F, C>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, C> {
        // The inner future comes first: it is dropped before its place is given back.
        Running {
            #[pin]
            future: F,
            running: Option<Running<CircuitBreaker>>,
            classify: C,
        },
        Refused {
            breaker: CircuitBreaker,
            refusal: Refusal,
        },
    }
}

impl<F, C> CircuitBreakerFuture<F, C> {
    pub(super) fn running(future: F, running: Running<CircuitBreaker>, classify: C) -> Self {
        Self { state: State::Running { future, running: Some(running), classify } }
    }

    pub(super) fn refused(breaker: CircuitBreaker, refusal: Refusal) -> Self {
        Self { state: State::Refused { breaker, refusal } }
    }
}

impl<F, C, T, E> Future for CircuitBreakerFuture<F, C>
where
    F: Future<Output = Result<T, E>>,
    C: Classify<T, E>,
{
    type Output = Result<T, CallError<E>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Running { future, running, classify } => {
                let held = running.as_mut().expect("a future is not polled after it was ready");
                let result = ready!(held.run(|| future.poll(context)));
                let outcome = classify.classify(&result).outcome();
                if let Some(running) = running.take() {
                    running.settle(outcome);
                }
                Poll::Ready(result.map_err(|error| CallError::failed(error, 1)))
            }
            StateProjection::Refused { breaker, refusal } => Poll::Ready(Err(refused(breaker, *refusal))),
        }
    }
}

impl<F, C> fmt::Debug for CircuitBreakerFuture<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (circuit, refusal) = match &self.state {
            State::Running { running, .. } => (running.as_ref().map(Running::circuit_breaker), None),
            State::Refused { breaker, refusal } => (Some(breaker), Some(refusal)),
        };
        f.debug_struct("CircuitBreakerFuture")
            .field("circuit", &circuit.map(CircuitBreaker::name))
            .field("refusal", &refusal)
            .finish_non_exhaustive()
    }
}
