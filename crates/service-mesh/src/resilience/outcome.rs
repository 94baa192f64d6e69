//! What came of an attempt, and what it means.

use std::any::Any;
use std::error::Error;
use std::time::Duration;

use service_mesh_models::{CircuitOpenError, NoHealthyInstanceError};

use super::call_error::{CallError, CallErrorKind};

/// What an attempt says about the one that was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It answered as it should.
    Success,
    /// It did not.
    Failure,
    /// It says nothing: ignored, cancelled, or refused before it was sent.
    Neutral,
}

impl Outcome {
    /// The word for this outcome: `success`, `failure`, `neutral`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Neutral => "neutral",
        }
    }
}

/// What a result means: its outcome, whether it may be tried again, and when at the earliest.
///
/// ```
/// use std::time::Duration;
/// use service_mesh::{Answer, Outcome};
/// let too_many_requests = Answer::neutral().retryable(true).retry_after(Duration::from_secs(1));
/// assert_eq!(too_many_requests.outcome(), Outcome::Neutral);
/// let not_found = Answer::success();
/// assert!(!not_found.is_retryable());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an answer is for a verdict"]
pub struct Answer {
    outcome: Outcome,
    retryable: bool,
    retry_after: Option<Duration>,
}

impl Answer {
    /// It answered as it should, and the result is final.
    pub const fn success() -> Self {
        Self { outcome: Outcome::Success, retryable: false, retry_after: None }
    }

    /// It failed, and may be tried again.
    pub const fn failure() -> Self {
        Self { outcome: Outcome::Failure, retryable: true, retry_after: None }
    }

    /// It says nothing about the one that was called, and the result is final.
    pub const fn neutral() -> Self {
        Self { outcome: Outcome::Neutral, retryable: false, retry_after: None }
    }

    /// Whether the call may be tried again.
    pub const fn retryable(mut self, retryable: bool) -> Self {
        self.retryable = retryable;
        self
    }

    /// Not to be tried again before this time has passed.
    pub const fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// What it says about the one that was called.
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Whether it may be tried again.
    pub const fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// When it may be tried again, at the earliest.
    pub const fn earliest_retry(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// Says what a result means. A closure `Fn(&Result<T, E>) -> Answer` is one.
///
/// ```
/// use service_mesh::{Answer, CircuitBreaker};
/// let breaker = CircuitBreaker::new("users");
/// // A missing user is an answer, not a failure of the service.
/// let missing_is_fine = |result: &Result<u32, &str>| match result {
///     Err(error) if *error != "not found" => Answer::failure(),
///     _ => Answer::success(),
/// };
/// for _ in 0..9 {
///     let _ = breaker.execute_with(&missing_is_fine, || Err("not found"));
/// }
/// assert_eq!(breaker.failure_count(), 0);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what a result of this call means",
    label = "it is no `Classify` for these results",
    note = "a classifier is `EveryError`, `Nested`, a type of yours that implements `Classify`, or a closure that returns \
            an `Answer` and has its argument's type written out: `|result: &Result<u16, MyError>| …`"
)]
pub trait Classify<T, E> {
    /// What `result` means. A panic here goes on unwinding, and the call counts as nothing.
    fn classify(&self, result: &Result<T, E>) -> Answer;
}

#[diagnostic::do_not_recommend]
impl<T, E, F: Fn(&Result<T, E>) -> Answer> Classify<T, E> for F {
    fn classify(&self, result: &Result<T, E>) -> Answer {
        self(result)
    }
}

/// The default: every `Ok` is a success, and every `Err` is a failure that may be tried again.
///
/// But a refusal is neutral and final: the service was not asked, and nobody sleeps on an open circuit. A refusal is a
/// [`CircuitOpenError`], [`NoHealthyInstanceError`] or a [`CallErrorKind`] that holds one, itself or in a
/// `Box<dyn Error>`. Of the result of a nested
/// `execute`, a [`CallError`](crate::CallError), the type of the inner error is not known here: use [`Nested`] there.
#[derive(Clone, Copy, Debug, Default)]
pub struct EveryError;

impl<T, E: 'static> Classify<T, E> for EveryError {
    #[inline]
    fn classify(&self, result: &Result<T, E>) -> Answer {
        match result {
            Ok(_) => Answer::success(),
            Err(error) if is_refusal(error) => Answer::neutral(),
            Err(_) => Answer::failure(),
        }
    }
}

/// Whether an error of any type says that the call was refused. Where the type is known to be another, which the
/// compiler knows, nothing is left of this.
#[inline]
fn is_refusal(error: &dyn Any) -> bool {
    if let Some(boxed) = error.downcast_ref::<Box<dyn Error + Send + Sync>>() {
        return is_boxed_refusal(&**boxed);
    }
    if let Some(boxed) = error.downcast_ref::<Box<dyn Error>>() {
        return is_boxed_refusal(&**boxed);
    }
    error.is::<CircuitOpenError>()
        || error.is::<NoHealthyInstanceError>()
        || error.downcast_ref().is_some_and(CallErrorKind::is_refusal)
}

fn is_boxed_refusal(error: &(dyn Error + 'static)) -> bool {
    error.is::<CircuitOpenError>()
        || error.is::<NoHealthyInstanceError>()
        || error.downcast_ref().is_some_and(CallErrorKind::is_refusal)
}

/// Judges the result of a nested `execute` or `call`: a refusal by what is inside is neutral and final, and every other
/// [`CallError`] is a failure that may be tried again.
///
/// ```
/// use service_mesh::{Nested, RetryConfig, RetryPolicy};
/// let often = RetryPolicy::new(RetryConfig::builder().max_retries(2).initial_delay(std::time::Duration::ZERO).build()?);
/// let mut calls = 0;
/// let error = often
///     .execute_with(&Nested, || {
///         often.execute(|| {
///             calls += 1;
///             Err::<(), _>("down")
///         })
///     })
///     .unwrap_err();
/// assert_eq!(calls, 9);
/// assert_eq!(error.into_last().and_then(|inner| inner.into_last()), Some("down"));
/// # Ok::<(), service_mesh::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Nested;

impl<T, E> Classify<T, CallError<E>> for Nested {
    #[inline]
    fn classify(&self, result: &Result<T, CallError<E>>) -> Answer {
        match result {
            Ok(_) => Answer::success(),
            Err(error) if error.is_refusal() => Answer::neutral(),
            Err(_) => Answer::failure(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use service_mesh_models::RefusalReason;

    fn outcome<E: 'static>(error: E) -> Outcome {
        EveryError.classify(&Err::<(), E>(error)).outcome()
    }

    #[test]
    fn a_refusal_is_neutral_however_it_is_packed() {
        let refusal = || CircuitOpenError::new("inner", RefusalReason::Open, None);
        assert_eq!(outcome(refusal()), Outcome::Neutral);
        assert_eq!(outcome(NoHealthyInstanceError::new("inner")), Outcome::Neutral);
        assert_eq!(outcome::<Box<dyn Error>>(refusal().into()), Outcome::Neutral);
        assert_eq!(outcome::<Box<dyn Error + Send + Sync>>(refusal().into()), Outcome::Neutral);
        assert_eq!(outcome(CallErrorKind::CircuitOpen(refusal())), Outcome::Neutral);
        assert_eq!(outcome::<Box<dyn Error>>(CallErrorKind::CircuitOpen(refusal()).into()), Outcome::Neutral);
        assert_eq!(outcome(CallErrorKind::DeadlineExceeded), Outcome::Failure);
        assert_eq!(outcome("timed out"), Outcome::Failure);
        assert_eq!(outcome::<Box<dyn Error>>("timed out".into()), Outcome::Failure);
    }
    #[test]
    fn a_nested_refusal_is_neutral_and_final_and_all_else_is_a_failure() {
        let refusal = CircuitOpenError::new("inner", RefusalReason::Open, None);
        let refused = CallError::stopped(CallErrorKind::CircuitOpen(refusal), Some("down"), 1);
        assert_eq!(Nested.classify(&Err::<(), _>(refused)), Answer::neutral());
        assert_eq!(Nested.classify(&Err::<(), _>(CallError::failed("down", 4))), Answer::failure());
        let late = CallError::stopped(CallErrorKind::DeadlineExceeded, Some("down"), 4);
        assert_eq!(Nested.classify(&Err::<(), _>(late)), Answer::failure());
        assert_eq!(Nested.classify(&Ok::<_, CallError<&str>>(7)), Answer::success());
    }
}
