//! A call through a proxy.

use std::fmt;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::super::replay::Replay;
use crate::driver::after_attempt::after_attempt;
use crate::driver::sleep::Sleeping;
use crate::resilience::call_error::{CallError, CallErrorKind};
use crate::resilience::outcome::{Answer, Classify};
use crate::resilience::service_proxy::{Attempt, Call, ServiceProxy, Target};

pin_project! {
    /// A call of a [`ServiceProxyService`](super::ServiceProxyService).
    ///
    /// Dropping it cancels the call: everything is given back and nothing counted, unless the attempt had outlived its
    /// time limit already. A panic in the inner service or its future is a failure of the instance and goes on unwinding;
    /// it counts when the future is dropped.
    #[must_use = "futures do nothing unless polled"]
    pub struct ServiceProxyFuture<S, Request, C, R>
    where
        S: Service<(Target, Request)>,
    {
        // It comes before the attempt: what the inner service does is dropped before the place is given back.
        #[pin]
        state: State<S, S::Future>,
        attempt: Option<Attempt<ServiceProxy>>,
        limit: Option<Sleeping>,
        // Between attempts only.
        call: Option<Call<ServiceProxy>>,
        service: S,
        // For the next attempt; none if there cannot be one.
        request: Option<Request>,
        last: Option<S::Error>,
        classify: C,
        replay: R,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, F> {
        Between,
        Readying {
            service: S,
        },
        Attempting {
            #[pin]
            future: F,
        },
        Waiting {
            wait: Sleeping,
        },
    }
}

impl<S: Service<(Target, Request)>, Request, C, R> ServiceProxyFuture<S, Request, C, R> {
    pub(super) fn new(call: Call<ServiceProxy>, service: S, request: Request, classify: C, replay: R) -> Self {
        Self {
            state: State::Between,
            attempt: None,
            limit: None,
            call: Some(call),
            service,
            request: Some(request),
            last: None,
            classify,
            replay,
        }
    }
}

impl<S, Request, C, R> Future for ServiceProxyFuture<S, Request, C, R>
where
    S: Service<(Target, Request)> + Clone,
    C: Classify<S::Response, S::Error>,
    R: Replay<Request>,
{
    type Output = Result<S::Response, CallError<S::Error>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            let result = match this.state.as_mut().project() {
                StateProjection::Between => {
                    self.as_mut().begin_attempt()?;
                    continue;
                }
                StateProjection::Waiting { wait } => {
                    ready!(wait.as_mut().poll(context));
                    this.state.set(State::Between);
                    continue;
                }
                StateProjection::Readying { service } => {
                    let attempt = held(this.attempt);
                    match attempt.run(|_| service.poll_ready(context)) {
                        Poll::Ready(Ok(())) => {
                            let request =
                                this.request.take().expect("an attempt is made only where there is a request");
                            *this.request = this.replay.replay(&request);
                            let target = attempt.target();
                            let future = attempt.run(|_| service.call((target, request)));
                            this.state.set(State::Attempting { future });
                            continue;
                        }
                        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                        Poll::Pending => Poll::Pending,
                    }
                }
                StateProjection::Attempting { future } => held(this.attempt).run(|_| future.poll(context)),
            };
            let result = match (result, &mut *this.limit) {
                (Poll::Ready(result), _) => Some(result),
                (Poll::Pending, Some(limit)) => {
                    ready!(limit.as_mut().poll(context));
                    None
                }
                (Poll::Pending, None) => return Poll::Pending,
            };
            if let Some(result) = self.as_mut().end_attempt(result) {
                return Poll::Ready(result);
            }
        }
    }
}

/// The attempt that is under way.
fn held(attempt: &mut Option<Attempt<ServiceProxy>>) -> &mut Attempt<ServiceProxy> {
    attempt.as_mut().expect("there is an attempt while the inner service is busy with it")
}

impl<S, Request, C, R> ServiceProxyFuture<S, Request, C, R>
where
    S: Service<(Target, Request)> + Clone,
    C: Classify<S::Response, S::Error>,
{
    /// Admits the next attempt, and sets its limit.
    fn begin_attempt(self: Pin<&mut Self>) -> Result<(), CallError<S::Error>> {
        let mut this = self.project();
        let call = this.call.take().expect("a future is not polled after it was ready");
        let attempt = call.admit().map_err(|refused| CallError::refused(refused, this.last.take()))?;
        let limit = attempt.time_left().map(|left| attempt.environment().async_sleep(left)).transpose();
        *this.limit = limit.map_err(|no_timer| {
            let kind = CallErrorKind::NoTimer(no_timer);
            CallError::stopped(kind, this.last.take(), attempt.number() - 1)
        })?;
        *this.attempt = Some(attempt);
        this.state.set(State::Readying { service: this.service.clone() });
        Ok(())
    }

    /// Settles the attempt: `result` is none if it reached its limit. Returns what the call returns, if it is over.
    fn end_attempt(
        self: Pin<&mut Self>,
        result: Option<Result<S::Response, S::Error>>,
    ) -> Option<Result<S::Response, CallError<S::Error>>> {
        let mut this = self.project();
        this.state.set(State::Between);
        *this.limit = None;
        let attempt = this.attempt.take().expect("what has ended was begun");
        let answer = result.as_ref().map_or(Answer::failure(), |result| this.classify.classify(result));
        let answer = if this.request.is_some() { answer } else { answer.retryable(false) };
        match after_attempt(attempt, answer, result, this.last.take()) {
            ControlFlow::Break(result) => Some(result),
            ControlFlow::Continue(next) => {
                if let Some(wait) = next.wait {
                    this.state.set(State::Waiting { wait });
                }
                (*this.call, *this.last) = (Some(next.call), next.last);
                None
            }
        }
    }
}

impl<S: Service<(Target, Request)>, Request, C, R> fmt::Debug for ServiceProxyFuture<S, Request, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Between => "between attempts",
            State::Readying { .. } => "readying",
            State::Attempting { .. } => "attempting",
            State::Waiting { .. } => "waiting",
        };
        f.debug_struct("ServiceProxyFuture")
            .field("state", &state)
            .field("attempt", &self.attempt.as_ref().map(Attempt::number))
            .finish_non_exhaustive()
    }
}
