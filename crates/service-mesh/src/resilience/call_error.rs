//! What a driver returns when a call did not succeed: the caller's own error, or why there is none.
//!
//! The caller's error stays what it was: it is neither boxed nor turned into text. Beside it stand the kind of end that
//! the call came to and the number of attempts, as in walkdir's and jiff's errors: private inside, with questions.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use service_mesh_models::{CircuitOpenError, NoHealthyInstanceError};

use super::service_proxy::Refused;
use crate::driver::sleep::NoTimer;

/// A call that did not succeed: how it ended, the last failure of the caller's own function, and the attempts made.
///
/// # Texts and causes
/// Its text speaks of the call alone: `circuit payments is open`, `the call failed after 4 attempts`. The last failure
/// is its [`source`](Error::source), however the call ended. So a report that walks the causes prints each once.
///
/// ```
/// use service_mesh::{CallErrorKind, RetryConfig, RetryPolicy};
/// let policy = RetryPolicy::new(RetryConfig::builder().max_retries(0).build()?);
/// let error = policy.execute(|| "ten".parse::<u32>()).unwrap_err();
/// assert_eq!(error.kind(), &CallErrorKind::Failed);
/// assert_eq!(error.attempts(), 1);
/// assert_eq!(error.to_string(), "the call failed");
/// assert_eq!(error.into_last(), Some("ten".parse::<u32>().unwrap_err()));
/// # Ok::<(), service_mesh::ConfigError>(())
/// ```
///
/// # Back to one error type
/// [`into_error`](Self::into_error) gives the caller's own error where there is one, and says the rest in the same
/// type; `Box<dyn Error>` can do it without further ado.
///
/// ```
/// use std::error::Error;
/// use service_mesh::RetryPolicy;
/// fn port(text: &str) -> Result<u16, Box<dyn Error>> {
///     let policy = RetryPolicy::default();
///     policy.execute(|| Ok(text.parse::<u16>()?)).map_err(|error| error.into_error())
/// }
/// assert_eq!(port("80").unwrap(), 80);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallError<E> {
    /// Invariant: `Failed` only where `last` is some.
    kind: CallErrorKind,
    last: Option<E>,
    attempts: u32,
}

impl<E> CallError<E> {
    /// The function's own last error is the result.
    #[inline]
    pub(crate) fn failed(last: E, attempts: u32) -> Self {
        Self { kind: CallErrorKind::Failed, last: Some(last), attempts }
    }

    /// The call ended for a reason of ours, after `attempts` attempts of which the last failure is `last`.
    pub(crate) fn stopped(kind: CallErrorKind, last: Option<E>, attempts: u32) -> Self {
        debug_assert_ne!(kind, CallErrorKind::Failed, "a failed call has its error");
        Self { kind, last, attempts }
    }

    /// The call machine refused the call; the last failure, if there was one, stands beside it.
    pub(crate) fn refused(refused: Refused, last: Option<E>) -> Self {
        let attempts = refused.attempts();
        Self::stopped(refused.into_kind(), last, attempts)
    }

    /// How the call ended.
    pub fn kind(&self) -> &CallErrorKind {
        &self.kind
    }

    /// The last error that an attempt of this call returned, unchanged; none if no attempt returned one.
    pub fn last(&self) -> Option<&E> {
        self.last.as_ref()
    }

    /// Takes the last failure out.
    pub fn into_last(self) -> Option<E> {
        self.last
    }

    /// How many attempts were made: 0 if the call was refused before the first.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether it ended because nobody would take it: an open circuit, or no healthy instance.
    pub fn is_refusal(&self) -> bool {
        self.kind.is_refusal()
    }

    /// When a call may be admitted again, if it was refused and anybody can know.
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.kind {
            CallErrorKind::CircuitOpen(refusal) => refusal.retry_after(),
            _ => None,
        }
    }

    /// One error type for all: the last failure where that is the result, else what `E` makes of the kind.
    pub fn into_error(self) -> E
    where
        E: From<CallErrorKind>,
    {
        match (self.kind, self.last) {
            (CallErrorKind::Failed, Some(last)) => last,
            (kind, _) => kind.into(),
        }
    }
}

impl<E> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.kind, self.attempts) {
            (CallErrorKind::Failed | CallErrorKind::DeadlineExceeded, attempts @ 2..) => {
                write!(f, "{} after {attempts} attempts", self.kind)
            }
            (CallErrorKind::AttemptTimedOut, attempts @ 2..) => write!(f, "the last of {attempts} attempts timed out"),
            (kind, _) => kind.fmt(f),
        }
    }
}

impl<E: Error + 'static> Error for CallError<E> {
    /// The last failure, however the call ended.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.last.as_ref().map(|last| last as _)
    }
}

/// How a call that did not succeed ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallErrorKind {
    /// The function's own last error is the result: [`CallError::last`] has it.
    Failed,
    /// A circuit breaker refused.
    CircuitOpen(CircuitOpenError),
    /// There was nobody to go to.
    NoHealthyInstance(NoHealthyInstanceError),
    /// The time for the whole call was up before an attempt could begin or, in the async driver, while one ran. Where it
    /// is merely too short for the next wait, the kind is that of the attempt just made.
    DeadlineExceeded,
    /// The last attempt took longer than one attempt may, and was dropped: in the async driver only.
    AttemptTimedOut,
    /// An async call had to wait and had no timer.
    NoTimer(NoTimer),
}

impl CallErrorKind {
    /// Whether nobody would take the call: an open circuit, or no healthy instance.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::CircuitOpen(_) | Self::NoHealthyInstance(_))
    }

    /// One word, for a metric's label: `failed`, `circuit_open`, `no_healthy_instance`, `deadline_exceeded`,
    /// `attempt_timed_out`, `no_timer`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::CircuitOpen(_) => "circuit_open",
            Self::NoHealthyInstance(_) => "no_healthy_instance",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::AttemptTimedOut => "attempt_timed_out",
            Self::NoTimer(_) => "no_timer",
        }
    }
}

impl fmt::Display for CallErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed => f.write_str("the call failed"),
            Self::CircuitOpen(refusal) => refusal.fmt(f),
            Self::NoHealthyInstance(refusal) => refusal.fmt(f),
            Self::DeadlineExceeded => f.write_str("deadline exceeded"),
            Self::AttemptTimedOut => f.write_str("the attempt timed out"),
            Self::NoTimer(error) => error.fmt(f),
        }
    }
}

/// It has no source: where the kind holds an error, the text is that error's.
impl Error for CallErrorKind {}

#[cfg(test)]
mod tests {
    use super::*;
    use service_mesh_models::RefusalReason;

    fn circuit_open() -> CallErrorKind {
        let wait = Duration::from_secs(20);
        CallErrorKind::CircuitOpen(CircuitOpenError::new("payments", RefusalReason::Open, Some(wait)))
    }

    fn report(error: &dyn Error) -> String {
        match error.source() {
            Some(cause) => format!("{error}: {}", report(cause)),
            None => error.to_string(),
        }
    }

    #[test]
    fn a_report_prints_nothing_twice() {
        let last = || "ten".parse::<u32>().unwrap_err();
        let cause = "invalid digit found in string";
        assert_eq!(report(&CallError::failed(last(), 1)), format!("the call failed: {cause}"));
        assert_eq!(report(&CallError::failed(last(), 4)), format!("the call failed after 4 attempts: {cause}"));
        let told = |kind, attempts| report(&CallError::stopped(kind, Some(last()), attempts));
        assert_eq!(told(circuit_open(), 3), format!("circuit payments is open: {cause}"));
        assert_eq!(told(CallErrorKind::DeadlineExceeded, 2), format!("deadline exceeded after 2 attempts: {cause}"));
        assert_eq!(told(CallErrorKind::AttemptTimedOut, 2), format!("the last of 2 attempts timed out: {cause}"));
    }

    #[test]
    fn a_refusal_says_so_and_when_to_come_back() {
        let refused = CallError::<std::num::ParseIntError>::stopped(circuit_open(), None, 0);
        assert!(refused.is_refusal());
        assert_eq!(refused.retry_after(), Some(Duration::from_secs(20)));
        assert!(refused.source().is_none());
        let failed = CallError::failed("down", 1);
        assert!(!failed.is_refusal());
        assert_eq!((failed.retry_after(), failed.last()), (None, Some(&"down")));
    }

    #[test]
    fn one_error_type_tells_all() {
        let own = CallError::<Box<dyn Error>>::failed("down".into(), 4).into_error();
        assert_eq!(own.to_string(), "down");
        let refused = CallError::<Box<dyn Error>>::stopped(circuit_open(), Some("down".into()), 3).into_error();
        assert_eq!(refused.downcast_ref(), Some(&circuit_open()));
    }
}
