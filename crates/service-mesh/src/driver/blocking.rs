//! Calls that block the thread: each driver runs a closure, waits with the [`Sleep`](crate::Sleep) of its environment,
//! and takes every decision from the part that it drives.

use super::running::{Running, refused};
use crate::resilience::call_error::CallError;
use crate::resilience::circuit_breaker::CircuitBreaker;
use crate::resilience::outcome::{Answer, Classify, EveryError};
use crate::resilience::retry::{Retries, RetryPolicy};
use crate::resilience::service_proxy::{Attempt, CallOptions, ServiceProxy, Verdict};

impl CircuitBreaker {
    /// Calls `f` if the circuit admits it. Every error is a failure, but for those that [`EveryError`] names.
    ///
    /// A panic in `f` is a failure and goes on unwinding.
    ///
    /// # Errors
    /// The error of `f`; or the refusal of the circuit, and then `f` was not run.
    #[inline]
    pub fn execute<T, E: 'static>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<T, CallError<E>> {
        self.execute_with(&EveryError, f)
    }

    /// [`execute`](Self::execute), where `classify` says what a result means.
    ///
    /// # Errors
    /// Those of [`execute`](Self::execute).
    #[inline]
    pub fn execute_with<T, E>(
        &self,
        classify: &impl Classify<T, E>,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, CallError<E>> {
        let ticket = match self.admit(&mut self.moment()) {
            Ok(ticket) => ticket,
            Err(refusal) => return Err(refused(self, refusal)),
        };
        let mut running = Running::new(self, ticket);
        let result = running.run(f);
        running.settle(classify.classify(&result).outcome());
        result.map_err(|error| CallError::failed(error, 1))
    }
}

impl RetryPolicy {
    /// Runs `f` until it succeeds, or until the policy gives up; between attempts it blocks the thread.
    ///
    /// Every error is tried again but a refusal, which is returned at once ([`EveryError`]). A success on the first
    /// attempt costs a compare: no clock, no lock, no allocation. A panic in `f` goes through.
    ///
    /// # Errors
    /// The last error of `f`, unchanged, and how many attempts there were; the kind is
    /// [`Failed`](crate::CallErrorKind::Failed). If the [budget](crate::RetryBudget) is spent, or a `Retry-After` is
    /// too long, that is the error of the attempt just made.
    ///
    /// ```
    /// use service_mesh::{RetryConfig, RetryPolicy};
    /// let at_once = RetryConfig::builder().initial_delay(std::time::Duration::ZERO).build()?;
    /// let mut answers = [Err("busy"), Ok(7)].into_iter();
    /// assert_eq!(RetryPolicy::new(at_once).execute(|| answers.next().unwrap()), Ok(7));
    /// # Ok::<(), service_mesh::ConfigError>(())
    /// ```
    #[inline]
    pub fn execute<T, E: 'static>(&self, f: impl FnMut() -> Result<T, E>) -> Result<T, CallError<E>> {
        self.execute_with(&EveryError, f)
    }

    /// [`execute`](Self::execute), where `classify` says which results are tried again and how soon.
    ///
    /// An `Ok` may be one of them: a response with status 503, say. When the policy gives up, the last one is returned
    /// as it is, as an `Ok`.
    ///
    /// # Errors
    /// Those of [`execute`](Self::execute).
    ///
    /// ```
    /// use std::time::Duration;
    /// use service_mesh::{Answer, Environment, RetryPolicy, testing::ManualClock};
    /// let throttled = |status: &Result<u16, &str>| match status {
    ///     Ok(429) => Answer::neutral().retryable(true).retry_after(Duration::from_secs(3)),
    ///     Ok(_) => Answer::success(),
    ///     Err(_) => Answer::failure(),
    /// };
    /// let clock = ManualClock::new();
    /// let policy = RetryPolicy::builder().environment(Environment::manual(&clock)).build();
    /// let mut statuses = [429, 200].into_iter();
    /// assert_eq!(policy.execute_with(&throttled, || Ok(statuses.next().unwrap())), Ok(200));
    /// // Never early; jitter adds up to a tenth.
    /// assert!((Duration::from_secs(3)..=Duration::from_millis(3300)).contains(&clock.sleeps()[0]));
    /// ```
    #[inline]
    pub fn execute_with<T, E>(
        &self,
        classify: &impl Classify<T, E>,
        mut f: impl FnMut() -> Result<T, E>,
    ) -> Result<T, CallError<E>> {
        self.begin();
        let result = f();
        let answer = classify.classify(&result);
        if answer.is_retryable() {
            return self.execute_again(classify, f, result, answer);
        }
        result.map_err(|last| CallError::failed(last, 1))
    }

    /// All attempts after the first. Apart and by value, so that a call that succeeds pays nothing for them.
    #[cold]
    fn execute_again<T, E>(
        &self,
        classify: &impl Classify<T, E>,
        mut f: impl FnMut() -> Result<T, E>,
        mut result: Result<T, E>,
        mut answer: Answer,
    ) -> Result<T, CallError<E>> {
        let mut retries = Retries::default();
        while let Ok(retry) = self.schedule(retries, &answer) {
            if !retry.wait.is_zero() {
                self.environment.sleep(retry.wait);
            }
            retries = retry.then;
            result = f();
            answer = classify.classify(&result);
        }
        result.map_err(|last| CallError::failed(last, retries.attempts()))
    }
}

impl ServiceProxy {
    /// Calls the service: runs `f` with an [`Attempt`], which says which instance to call, until a result is final.
    ///
    /// Between attempts it blocks the thread. A running attempt cannot be stopped by this driver: time limits are
    /// checked between attempts, and one that outlasted its limit is a failure of its instance, whatever it returned. A
    /// panic in `f` is a failure of the instance too, and goes on unwinding.
    ///
    /// # Errors
    /// The last error of `f`, unchanged, and how many attempts there were; or why nobody could be asked.
    #[inline]
    pub fn call<T, E: 'static>(&self, f: impl FnMut(&Attempt<&Self>) -> Result<T, E>) -> Result<T, CallError<E>> {
        self.call_with(&CallOptions::new(), f)
    }

    /// [`call`](Self::call), with options for this call.
    ///
    /// # Errors
    /// Those of [`call`](Self::call).
    #[inline]
    pub fn call_with<T, E, C: Classify<T, E>>(
        &self,
        options: &CallOptions<C>,
        mut f: impl FnMut(&Attempt<&Self>) -> Result<T, E>,
    ) -> Result<T, CallError<E>> {
        let mut call = self.begin_at_once(options);
        let mut last = None;
        loop {
            let mut attempt = match call.admit() {
                Ok(attempt) => attempt,
                Err(refused) => return Err(CallError::refused(refused, last)),
            };
            let number = attempt.number();
            let result = attempt.run(&mut f);
            match attempt.settle(options.classify.classify(&result)) {
                Verdict::Return => return result.map_err(|error| CallError::failed(error, number)),
                Verdict::Refused(refused) => return Err(CallError::refused(refused, result.err().or(last))),
                Verdict::Retry { after, call: next } => {
                    last = result.err().or(last);
                    if !after.is_zero() {
                        next.environment().sleep(after);
                    }
                    call = next;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::resilience::retry::RetryBudget;
    use crate::testing::ManualClock;
    use crate::{CallErrorKind, CircuitOpenError, Environment};
    use service_mesh_models::{Jitter, RefusalReason, RetryBudgetConfig, RetryConfig};

    fn policy(clock: &ManualClock, max_retries: u32) -> RetryPolicy {
        let config = RetryConfig::builder().max_retries(max_retries).jitter(Jitter::None).build().unwrap();
        RetryPolicy::builder().config(config).environment(Environment::manual(clock)).build()
    }

    #[test]
    fn two_failures_and_a_success_are_three_calls_and_two_waits() {
        let clock = ManualClock::new();
        let mut calls = 0;
        let result = policy(&clock, 3).execute(|| {
            calls += 1;
            if calls < 3 { Err("not yet") } else { Ok(calls) }
        });
        assert_eq!(result, Ok(3));
        assert_eq!(clock.sleeps(), [100, 200].map(Duration::from_millis));
    }

    #[test]
    fn the_last_error_comes_back_unchanged_with_the_attempts_beside_it() {
        let clock = ManualClock::new();
        let mut calls = 0;
        let error = policy(&clock, 3).execute(|| {
            calls += 1;
            // Neither `Clone` nor an `Error`: nothing is asked of the caller's type.
            Err::<(), _>(Box::new(calls))
        });
        let error = error.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (&CallErrorKind::Failed, 4));
        assert_eq!(error.into_last(), Some(Box::new(4)));
    }

    #[test]
    fn no_retries_are_one_attempt() {
        let clock = ManualClock::new();
        let error = policy(&clock, 0).execute(|| Err::<(), _>("down")).unwrap_err();
        assert_eq!((error.attempts(), error.last()), (1, Some(&"down")));
        assert!(clock.sleeps().is_empty());
    }

    #[test]
    fn nobody_sleeps_on_an_open_circuit() {
        let clock = ManualClock::new();
        let refusal = || CircuitOpenError::new("payments", RefusalReason::Open, Some(Duration::from_secs(1)));
        let error = policy(&clock, 3).execute(|| Err::<(), _>(refusal())).unwrap_err();
        assert_eq!((error.attempts(), error.last()), (1, Some(&refusal())));
        assert!(clock.sleeps().is_empty());
    }

    #[test]
    fn an_ok_that_is_tried_again_in_vain_is_still_an_ok() {
        let clock = ManualClock::new();
        let unavailable = |_: &Result<u16, &str>| Answer::failure();
        assert_eq!(policy(&clock, 2).execute_with(&unavailable, || Ok(503)), Ok(503));
        assert_eq!(clock.sleeps().len(), 2);
    }

    #[test]
    fn a_retry_after_beyond_its_limit_gives_up_at_once() {
        let clock = ManualClock::new();
        let throttled = |_: &Result<(), &str>| Answer::failure().retry_after(Duration::from_secs(61));
        let error = policy(&clock, 3).execute_with(&throttled, || Err("slow down")).unwrap_err();
        assert_eq!((error.attempts(), error.last()), (1, Some(&"slow down")));
        assert!(clock.sleeps().is_empty());
    }

    #[test]
    fn a_spent_budget_gives_the_real_error() {
        let clock = ManualClock::new();
        let environment = Environment::manual(&clock);
        let config = RetryBudgetConfig::builder().ratio(0.0).floor_per_second(0.5).build().unwrap();
        let budget = RetryBudget::with_environment(config, environment.clone());
        let policy = RetryPolicy::builder().budget(budget).environment(environment).build();
        let attempts = || policy.execute(|| Err::<(), _>("down")).unwrap_err().attempts();
        assert_eq!([attempts(), attempts(), attempts()], [4, 3, 1]);
    }

    #[test]
    fn an_instant_retry_does_not_sleep() {
        let clock = ManualClock::new();
        let config = RetryConfig::builder().initial_delay(Duration::ZERO).build().unwrap();
        let policy = RetryPolicy::builder().config(config).environment(Environment::manual(&clock)).build();
        assert_eq!(policy.execute(|| Err::<(), _>("down")).unwrap_err().attempts(), 4);
        assert!(clock.sleeps().is_empty());
    }
}
