//! What `#[with_circuit_breaker]` and `#[with_retry]` expand to. Not for direct use: it changes whenever they do.
//!
//! It drives what the other drivers drive, for functions that have an error type of their own. Two things have no place
//! there: messages for a function whose type does not fit, and an async retry that awaits its attempts in place, so that
//! they may borrow `&mut self`, which no closure's future may.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use service_mesh_models::CircuitOpenError;

use super::sleep::Sleeping;
use crate::resilience::call_error::{CallError, CallErrorKind};
use crate::resilience::circuit_breaker::CircuitBreaker;
use crate::resilience::outcome::{Answer, Classify};
use crate::resilience::retry::{Retries, RetryPolicy};

/// What an attribute can be put on returns this: a `Result`, under whatever name.
#[diagnostic::on_unimplemented(
    message = "this function must return a `Result`, or nobody knows whether a call failed",
    label = "`{Self}` is not a `Result`",
    note = "`#[with_circuit_breaker]` and `#[with_retry]` go on functions that return a `Result`, under whatever name"
)]
pub trait Returned: Sized {
    /// What it holds when the call succeeded.
    type Value;
    /// What it holds when the call failed.
    type Error;

    #[doc(hidden)]
    fn as_result(&self) -> &Result<Self::Value, Self::Error>;
    #[doc(hidden)]
    fn into_result(self) -> Result<Self::Value, Self::Error>;
    #[doc(hidden)]
    fn from_result(result: Result<Self::Value, Self::Error>) -> Self;
}

impl<T, E> Returned for Result<T, E> {
    type Value = T;
    type Error = E;

    #[inline]
    fn as_result(&self) -> &Self {
        self
    }

    #[inline]
    fn into_result(self) -> Self {
        self
    }

    #[inline]
    fn from_result(result: Self) -> Self {
        result
    }
}

/// An error type that says how a refusal becomes it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot tell that the circuit is open: it needs `From<CircuitOpenError>`",
    label = "calls that the circuit refuses return this error type",
    note = "write `impl From<service_mesh::CircuitOpenError> for {Self}`, or return an error type that has it, such as \
            `Box<dyn std::error::Error>`"
)]
pub trait FromRefusal {
    #[doc(hidden)]
    fn from_refusal(refusal: CircuitOpenError) -> Self;
}

#[diagnostic::do_not_recommend]
impl<E: From<CircuitOpenError>> FromRefusal for E {
    #[inline]
    fn from_refusal(refusal: CircuitOpenError) -> Self {
        refusal.into()
    }
}

/// Tells the compiler what a block returns; the expansion has it in a branch that is never taken.
pub fn typed<R>() -> R {
    unreachable!("the branch is never taken")
}

/// The breaker of one use of the attribute, which `place` names: the function and its reader each ask for it once.
///
/// The function cannot ask its reader: whether that is `Self::name` or `name` a macro on the function does not see.
pub fn circuit_breaker(place: &'static str, make: impl FnOnce() -> CircuitBreaker) -> CircuitBreaker {
    static MADE: Mutex<BTreeMap<&'static str, CircuitBreaker>> = Mutex::new(BTreeMap::new());
    let known = || MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(breaker) = known().get(place) {
        return breaker.clone();
    }
    // Made without the lock, since a given configuration runs the user's code; who is slower takes the other's.
    let breaker = make();
    known().entry(place).or_insert(breaker).clone()
}

/// Whether the last attempt was refused by the breaker under a retry. Its error is the user's by then, and no classifier
/// could tell.
#[derive(Debug, Default)]
pub struct Refused(
    /// Ordering: Relaxed. One task alone reads and writes it; it is an atomic so that the task can change its thread.
    AtomicBool,
);

impl Refused {
    /// None yet.
    pub const fn new() -> Self {
        Self(AtomicBool::new(false))
    }
}

/// A classifier that is asked only where no breaker refused: a refusal is neutral and final, nobody sleeps on an open
/// circuit.
#[derive(Debug)]
pub struct UnlessRefused<'a, C> {
    refused: &'a Refused,
    classify: &'a C,
}

impl<'a, C> UnlessRefused<'a, C> {
    /// Asks `classify` where `refused` says nothing.
    pub const fn new(refused: &'a Refused, classify: &'a C) -> Self {
        Self { refused, classify }
    }
}

#[diagnostic::do_not_recommend]
impl<T, E, C: Classify<T, E>> Classify<T, E> for UnlessRefused<'_, C> {
    fn classify(&self, result: &Result<T, E>) -> Answer {
        if self.refused.0.load(Ordering::Relaxed) { Answer::neutral() } else { self.classify.classify(result) }
    }
}

/// A call through a breaker.
///
/// # Errors
/// That of `f`, or what its type makes of the refusal.
#[inline]
pub fn guard<R, C>(breaker: &CircuitBreaker, classify: &C, refused: Option<&Refused>, f: impl FnOnce() -> R) -> R
where
    R: Returned,
    R::Error: FromRefusal,
    C: Classify<R::Value, R::Error>,
{
    own_error(breaker.execute_with(classify, || f().into_result()), refused)
}

/// An async call through a breaker. The future is not polled where the call is refused.
///
/// # Errors
/// That of the future, or what its type makes of the refusal.
pub async fn guard_async<R, C>(
    breaker: &CircuitBreaker,
    classify: &C,
    refused: Option<&Refused>,
    future: impl Future<Output = R>,
) -> R
where
    R: Returned,
    R::Error: FromRefusal,
    C: Classify<R::Value, R::Error>,
{
    own_error(breaker.execute_async_with(classify, || async { future.await.into_result() }).await, refused)
}

#[inline]
fn own_error<R: Returned>(result: Result<R::Value, CallError<R::Error>>, refused: Option<&Refused>) -> R
where
    R::Error: FromRefusal,
{
    R::from_result(result.map_err(|error| match error.kind() {
        CallErrorKind::CircuitOpen(refusal) => {
            if let Some(refused) = refused {
                refused.0.store(true, Ordering::Relaxed);
            }
            R::Error::from_refusal(refusal.clone())
        }
        _ => error.into_last().expect("a breaker ends a call by its refusal or by the function's own error"),
    }))
}

/// A call under a policy.
///
/// # Errors
/// The last one of `f`.
#[inline]
pub fn retry<R, C>(policy: &RetryPolicy, classify: &C, mut f: impl FnMut() -> R) -> R
where
    R: Returned,
    C: Classify<R::Value, R::Error>,
{
    let result = policy.execute_with(classify, || f().into_result());
    R::from_result(result.map_err(|error| error.into_last().expect("a retry ends by the function's own error")))
}

/// The attempts of one async call under a policy, which are awaited where they are written.
#[derive(Debug)]
pub struct Attempts<'a> {
    policy: &'a RetryPolicy,
    retries: Retries,
}

impl<'a> Attempts<'a> {
    /// A call begins.
    #[inline]
    pub fn of(policy: &'a RetryPolicy) -> Self {
        policy.begin();
        Self { policy, retries: Retries::default() }
    }

    /// The wait before the next attempt; none if `result` is final. It is final, too, where a wait is due and there is
    /// no timer: the function's error is all that can be returned.
    #[inline]
    pub fn again<R, C>(&mut self, classify: &C, result: &R) -> Option<Wait>
    where
        R: Returned,
        C: Classify<R::Value, R::Error>,
    {
        let retry = self.policy.schedule(self.retries, &classify.classify(result.as_result())).ok()?;
        self.retries = retry.then;
        let wait = (!retry.wait.is_zero()).then(|| self.policy.environment.async_sleep(retry.wait));
        wait.transpose().ok().map(Wait)
    }
}

/// The wait before an attempt, if there is one.
#[must_use = "a wait does nothing until it is awaited"]
pub struct Wait(Option<Sleeping>);

impl Wait {
    /// Waits.
    #[inline]
    pub async fn over(self) {
        if let Some(wait) = self.0 {
            wait.await;
        }
    }
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait").finish_non_exhaustive()
    }
}

/// What an attempt is given of an argument that the function owns. A bound of this name is a compile error that says
/// why.
#[inline]
pub fn cloned_for_each_attempt<T: Clone>(argument: &T) -> T {
    argument.clone()
}

/// Whether a policy that an attribute makes can wait in an async function.
pub const HAS_ASYNC_TIMER: bool = cfg!(feature = "tokio");
