//! Calls that are futures: each driver polls what a closure makes, waits with the [`AsyncSleep`](crate::AsyncSleep) of
//! its environment, and takes every decision from the part that it drives.
//!
//! The closures are `FnMut() -> Fut` and not `AsyncFnMut`: of the latter's futures the compiler cannot prove today that
//! they may be sent to another thread, and so no multi-threaded runtime could spawn such a call.

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::pin::pin;
use std::task::Poll;

use super::after_attempt::after_attempt;
use super::running::{Running, refused};
use super::sleep::NoTimer;
use crate::resilience::call_error::{CallError, CallErrorKind};
use crate::resilience::circuit_breaker::CircuitBreaker;
use crate::resilience::outcome::{Answer, Classify, EveryError};
use crate::resilience::retry::{Retries, RetryPolicy};
use crate::resilience::service_proxy::{Attempt, CallOptions, ServiceProxy, Target};

impl CircuitBreaker {
    /// Awaits the future of `f` if the circuit admits it. Every error is a failure, but for those that [`EveryError`]
    /// names.
    ///
    /// Dropping the future is neutral and gives a probe's place back. A panic in `f` or in its future is a failure and
    /// goes on unwinding. Needs no timer, and so no runtime.
    ///
    /// # Errors
    /// The error of `f`; or the refusal of the circuit, and then `f` was not run.
    ///
    /// ```
    /// # use service_mesh::{CircuitBreaker, testing::ManualClock};
    /// let breaker = CircuitBreaker::new("payments");
    /// let call = breaker.execute_async(async || Ok::<_, std::io::Error>("paid"));
    /// assert_eq!(ManualClock::new().block_on(call).unwrap(), "paid");
    /// ```
    pub async fn execute_async<T, E: 'static, Fut>(&self, f: impl FnOnce() -> Fut) -> Result<T, CallError<E>>
    where
        Fut: Future<Output = Result<T, E>>,
    {
        self.execute_async_with(&EveryError, f).await
    }

    /// [`execute_async`](Self::execute_async), where `classify` says what a result means.
    ///
    /// # Errors
    /// Those of [`execute_async`](Self::execute_async).
    pub async fn execute_async_with<T, E, Fut>(
        &self,
        classify: &impl Classify<T, E>,
        f: impl FnOnce() -> Fut,
    ) -> Result<T, CallError<E>>
    where
        Fut: Future<Output = Result<T, E>>,
    {
        let ticket = match self.admit(&mut self.moment()) {
            Ok(ticket) => ticket,
            Err(refusal) => return Err(refused(self, refusal)),
        };
        let mut running = Running::new(self, ticket);
        let mut future = pin!(running.run(f));
        let result = poll_fn(|context| running.run(|| future.as_mut().poll(context))).await;
        running.settle(classify.classify(&result).outcome());
        result.map_err(|error| CallError::failed(error, 1))
    }
}

impl RetryPolicy {
    /// Runs the futures that `f` makes until one succeeds, or until the policy gives up.
    ///
    /// Every error is tried again but a refusal, which is returned at once ([`EveryError`]). A success on the first
    /// attempt costs a compare: no clock, no lock, no allocation; each wait allocates its timer. Dropping the future
    /// cancels the attempt or the wait that is under way; a retry that was charged to a budget stays charged.
    ///
    /// It can be spawned if the futures can. These may borrow what `f` borrows, but nothing that `f` owns or changes:
    /// take that out, or clone it, before the `async move`, as below.
    ///
    /// # Errors
    /// The last error, unchanged, and how many attempts there were; the kind is
    /// [`Failed`](crate::CallErrorKind::Failed). Where a wait is due and there is no timer, it is
    /// [`NoTimer`](crate::CallErrorKind::NoTimer), and the last error is beside it.
    ///
    /// ```
    /// use service_mesh::{RetryConfig, RetryPolicy, testing::ManualClock};
    /// let at_once = RetryConfig::builder().initial_delay(std::time::Duration::ZERO).build()?;
    /// let policy = RetryPolicy::new(at_once);
    /// let mut answers = [Err("busy"), Ok(7)].into_iter();
    /// let call = policy.execute_async(|| {
    ///     let answer = answers.next().unwrap();
    ///     async move { answer }
    /// });
    /// assert_eq!(ManualClock::new().block_on(call), Ok(7));
    /// # Ok::<(), service_mesh::ConfigError>(())
    /// ```
    #[inline]
    pub async fn execute_async<T, E, F, Fut>(&self, f: F) -> Result<T, CallError<E>>
    where
        E: 'static,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.execute_async_with(&EveryError, f).await
    }

    /// [`execute_async`](Self::execute_async), where `classify` says which results are tried again and how soon.
    ///
    /// An `Ok` may be one of them: a response with status 503, say. When the policy gives up, the last one is returned
    /// as it is, as an `Ok`.
    ///
    /// # Errors
    /// Those of [`execute_async`](Self::execute_async).
    #[inline]
    pub async fn execute_async_with<T, E, C, F, Fut>(&self, classify: &C, mut f: F) -> Result<T, CallError<E>>
    where
        C: Classify<T, E>,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.begin();
        let mut retries = Retries::default();
        loop {
            // What the attempt returned ends with this block: it may be large, or bound to its thread, and the wait is
            // neither.
            let wait = {
                let result = f().await;
                let answer = classify.classify(&result);
                let Ok(retry) = self.schedule(retries, &answer) else {
                    return result.map_err(|last| CallError::failed(last, retries.attempts()));
                };
                match (!retry.wait.is_zero()).then(|| self.environment.async_sleep(retry.wait)).transpose() {
                    Ok(wait) => {
                        retries = retry.then;
                        wait
                    }
                    Err(no_timer) => {
                        let kind = CallErrorKind::NoTimer(no_timer);
                        return Err(CallError::stopped(kind, result.err(), retries.attempts()));
                    }
                }
            };
            if let Some(wait) = wait {
                wait.await;
            }
        }
    }
}

impl ServiceProxy {
    /// Calls the service: awaits the future of `f`, which is given a [`Target`] with the instance to call, until a
    /// result is final.
    ///
    /// An attempt that reaches its time limit is dropped there, and is a failure of its instance. Dropping the future of
    /// the call cancels it: everything is given back and nothing counted. A panic in `f` or in its future is a failure
    /// of the instance and goes on unwinding.
    ///
    /// Time limits and waits need a timer: see
    /// [`Environment::with_async_sleep`](crate::Environment::with_async_sleep). With the feature `tokio`, a tokio runtime
    /// that was built without `enable_time` panics in tokio itself.
    ///
    /// The futures may borrow what `f` borrows, but nothing that `f` owns or changes: no `async move` closure with
    /// captures.
    ///
    /// # Errors
    /// The last error of `f`, unchanged, and how many attempts there were; or why nobody could be asked; or that time
    /// was up; or that there is no timer.
    ///
    /// ```
    /// # use service_mesh::{ServiceInstance, ServiceProxy, testing::ManualClock};
    /// let payments = ServiceProxy::new("payments");
    /// payments.load_balancer().register(ServiceInstance::new("a", "10.0.0.1", 80));
    /// let call = payments.call_async(async |target| Ok::<_, std::io::Error>(target.address()));
    /// assert_eq!(ManualClock::new().block_on(call).unwrap(), "10.0.0.1:80");
    /// ```
    pub async fn call_async<T, E: 'static, Fut>(&self, f: impl FnMut(Target) -> Fut) -> Result<T, CallError<E>>
    where
        Fut: Future<Output = Result<T, E>>,
    {
        self.call_async_with(&CallOptions::new(), f).await
    }

    /// [`call_async`](Self::call_async), with options for this call.
    ///
    /// # Errors
    /// Those of [`call_async`](Self::call_async).
    pub async fn call_async_with<T, E, C: Classify<T, E>, Fut>(
        &self,
        options: &CallOptions<C>,
        mut f: impl FnMut(Target) -> Fut,
    ) -> Result<T, CallError<E>>
    where
        Fut: Future<Output = Result<T, E>>,
    {
        let mut call = self.begin_at_once(options);
        let mut last = None;
        loop {
            let mut attempt = match call.admit() {
                Ok(attempt) => attempt,
                Err(refused) => return Err(CallError::refused(refused, last)),
            };
            let number = attempt.number();
            let result = match within_limit(&mut attempt, &mut f).await {
                Ok(result) => result,
                Err(no_timer) => return Err(CallError::stopped(CallErrorKind::NoTimer(no_timer), last, number - 1)),
            };
            let answer = result.as_ref().map_or(Answer::failure(), |result| options.classify.classify(result));
            let next = match after_attempt(attempt, answer, result, last) {
                ControlFlow::Break(result) => return result,
                ControlFlow::Continue(next) => next,
            };
            if let Some(wait) = next.wait {
                wait.await;
            }
            (call, last) = (next.call, next.last);
        }
    }
}

/// Runs one attempt to its end or to its time limit, where there is none.
async fn within_limit<Fut: Future>(
    attempt: &mut Attempt<&ServiceProxy>,
    f: &mut impl FnMut(Target) -> Fut,
) -> Result<Option<Fut::Output>, NoTimer> {
    let mut limit = match attempt.time_left() {
        Some(left) => Some(attempt.environment().async_sleep(left)?),
        None => None,
    };
    let target = attempt.target();
    let mut future = pin!(attempt.run(|_| f(target)));
    Ok(poll_fn(|context| {
        if let Poll::Ready(output) = attempt.run(|_| future.as_mut().poll(context)) {
            return Poll::Ready(Some(output));
        }
        match &mut limit {
            Some(limit) => limit.as_mut().poll(context).map(|()| None),
            None => Poll::Pending,
        }
    })
    .await)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::ready;
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::Environment;
    use crate::resilience::outcome::Answer;
    use crate::testing::ManualClock;
    use service_mesh_models::{Jitter, RetryConfig};

    fn policy(clock: &ManualClock) -> RetryPolicy {
        let config = RetryConfig::builder().jitter(Jitter::None).build().unwrap();
        RetryPolicy::builder().config(config).environment(Environment::manual(clock)).build()
    }

    #[test]
    fn two_failures_and_a_success_are_three_calls_and_two_waits() {
        let clock = ManualClock::new();
        let calls = Cell::new(0);
        let result = clock.block_on(policy(&clock).execute_async(async || {
            calls.update(|calls| calls + 1);
            if calls.get() < 3 { Err("not yet") } else { Ok(calls.get()) }
        }));
        assert_eq!(result, Ok(3));
        assert_eq!(clock.sleeps(), [100, 200].map(Duration::from_millis));
    }

    #[test]
    fn the_last_error_comes_back_unchanged_with_the_attempts_beside_it() {
        let clock = ManualClock::new();
        let mut calls = 0;
        let call = policy(&clock);
        let error = clock.block_on(call.execute_async(|| {
            calls += 1;
            ready(Err::<(), _>(Box::new(calls)))
        }));
        let error = error.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (&CallErrorKind::Failed, 4));
        assert_eq!(error.into_last(), Some(Box::new(4)));
    }

    #[test]
    fn a_final_answer_is_returned_at_once() {
        let clock = ManualClock::new();
        let not_found = |_: &Result<(), &str>| Answer::success();
        let error = clock.block_on(policy(&clock).execute_async_with(&not_found, || ready(Err("not found"))));
        assert_eq!(error, Err(CallError::failed("not found", 1)));
        assert!(clock.sleeps().is_empty());
    }

    #[test]
    fn without_a_timer_it_says_so_and_keeps_the_last_failure() {
        let policy = RetryPolicy::default();
        let error = ManualClock::new().block_on(policy.execute_async(|| ready(Err::<(), _>("down")))).unwrap_err();
        assert!(matches!(error.kind(), CallErrorKind::NoTimer(_)), "{error:?}");
        assert_eq!((error.last(), error.attempts()), (Some(&"down"), 1));
    }

    #[test]
    fn without_a_timer_it_still_succeeds_where_nobody_waits() {
        let config = RetryConfig::builder().initial_delay(Duration::ZERO).build().unwrap();
        let policy = RetryPolicy::new(config);
        let mut calls = 0;
        let result = ManualClock::new().block_on(policy.execute_async(|| {
            calls += 1;
            ready(if calls < 4 { Err("not yet") } else { Ok(calls) })
        }));
        assert_eq!(result, Ok(4));
    }

    #[test]
    fn a_dropped_call_leaves_no_timer_behind() {
        let clock = ManualClock::new();
        let policy = policy(&clock);
        let mut call = Box::pin(policy.execute_async(|| ready(Err::<(), _>("down"))));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(call.as_mut().poll(&mut context).is_pending());
        drop(call);
        assert!(!clock.advance_to_next_timer());
    }

    #[test]
    fn a_call_can_be_spawned_and_waits_without_its_error() {
        fn spawn<T: Send + 'static>(_: T) {}
        let (policy, url) = (RetryPolicy::default(), String::from("/"));
        // An error that must stay on its thread: it is gone before the wait begins.
        spawn(async move {
            let attempt = async || {
                ready(()).await;
                if url.is_empty() { Err(Rc::new("down")) } else { Ok(()) }
            };
            policy.execute_async(attempt).await.is_ok()
        });
    }
}
