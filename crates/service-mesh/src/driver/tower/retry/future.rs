//! A call that is tried again.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::super::replay::Replay;
use crate::driver::sleep::Sleeping;
use crate::resilience::call_error::{CallError, CallErrorKind};
use crate::resilience::outcome::Classify;
use crate::resilience::retry::{Retries, RetryPolicy};

pin_project! {
    /// A call of a [`RetryService`](super::RetryService).
    ///
    /// Dropping it cancels the attempt or the wait that is under way; a retry that was charged to a budget stays charged.
    #[must_use = "futures do nothing unless polled"]
    pub struct RetryFuture<S, Request, C, R>
    where
        S: Service<Request>,
    {
        #[pin]
        state: State<S::Future>,
        service: S,
        // For the next attempt; none if there cannot be one.
        request: Option<Request>,
        retries: Retries,
        policy: RetryPolicy,
        classify: C,
        replay: R,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Attempting {
            #[pin]
            future: F,
        },
        Waiting {
            wait: Sleeping,
        },
        Readying,
    }
}

impl<S: Service<Request>, Request, C, R> RetryFuture<S, Request, C, R> {
    pub(super) fn new(
        first: S::Future,
        service: S,
        request: Option<Request>,
        policy: RetryPolicy,
        classify: C,
        replay: R,
    ) -> Self {
        let state = State::Attempting { future: first };
        Self { state, service, request, retries: Retries::default(), policy, classify, replay }
    }
}

impl<S, Request, C, R> Future for RetryFuture<S, Request, C, R>
where
    S: Service<Request>,
    C: Classify<S::Response, S::Error>,
    R: Replay<Request>,
{
    type Output = Result<S::Response, CallError<S::Error>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProjection::Attempting { future } => {
                    let result = ready!(future.poll(context));
                    let answer = this.classify.classify(&result);
                    let answer = if this.request.is_some() { answer } else { answer.retryable(false) };
                    let attempts = this.retries.attempts();
                    let Ok(retry) = this.policy.schedule(*this.retries, &answer) else {
                        return Poll::Ready(result.map_err(|last| CallError::failed(last, attempts)));
                    };
                    *this.retries = retry.then;
                    if retry.wait.is_zero() {
                        this.state.set(State::Readying);
                        continue;
                    }
                    match this.policy.environment.async_sleep(retry.wait) {
                        Ok(wait) => this.state.set(State::Waiting { wait }),
                        Err(no_timer) => {
                            let kind = CallErrorKind::NoTimer(no_timer);
                            return Poll::Ready(Err(CallError::stopped(kind, result.err(), attempts)));
                        }
                    }
                }
                StateProjection::Waiting { wait } => {
                    ready!(wait.as_mut().poll(context));
                    this.state.set(State::Readying);
                }
                StateProjection::Readying => {
                    if let Err(error) = ready!(this.service.poll_ready(context)) {
                        // The attempt that this was for has not been made.
                        return Poll::Ready(Err(CallError::failed(error, this.retries.attempts() - 1)));
                    }
                    let request = this.request.take().expect("a retry is scheduled only where there is a request");
                    *this.request = this.replay.replay(&request);
                    let future = this.service.call(request);
                    this.state.set(State::Attempting { future });
                }
            }
        }
    }
}

impl<S: Service<Request>, Request, C, R> fmt::Debug for RetryFuture<S, Request, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Attempting { .. } => "attempting",
            State::Waiting { .. } => "waiting",
            State::Readying => "readying",
        };
        f.debug_struct("RetryFuture")
            .field("state", &state)
            .field("attempts", &self.retries.attempts())
            .finish_non_exhaustive()
    }
}
