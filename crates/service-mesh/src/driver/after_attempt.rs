//! What comes after an attempt of a call that is a future.

use std::borrow::Borrow;
use std::ops::ControlFlow;

use super::sleep::Sleeping;
use crate::resilience::call_error::{CallError, CallErrorKind};
use crate::resilience::outcome::Answer;
use crate::resilience::service_proxy::{Attempt, Call, ServiceProxy, Verdict};

/// A call that goes on.
pub(super) struct Next<P: Borrow<ServiceProxy>, E> {
    /// The wait before the next attempt, if it is any.
    pub(super) wait: Option<Sleeping>,
    pub(super) call: Call<P>,
    /// The last error of the function.
    pub(super) last: Option<E>,
}

/// What comes after an attempt: the call goes on, or ends with what is returned. There is no `result` if the attempt was
/// stopped at its time limit.
pub(super) fn after_attempt<P: Borrow<ServiceProxy>, T, E>(
    attempt: Attempt<P>,
    answer: Answer,
    result: Option<Result<T, E>>,
    last: Option<E>,
) -> ControlFlow<Result<T, CallError<E>>, Next<P, E>> {
    let number = attempt.number();
    let (after, call, last) = match result {
        None => match attempt.stop(answer) {
            Ok((after, call)) => (after, call, last),
            Err(refused) => return ControlFlow::Break(Err(CallError::refused(refused, last))),
        },
        Some(result) => match attempt.settle(answer) {
            Verdict::Return => return ControlFlow::Break(result.map_err(|error| CallError::failed(error, number))),
            Verdict::Refused(refused) => {
                return ControlFlow::Break(Err(CallError::refused(refused, result.err().or(last))));
            }
            Verdict::Retry { after, call } => (after, call, result.err().or(last)),
        },
    };
    match (!after.is_zero()).then(|| call.environment().async_sleep(after)).transpose() {
        Ok(wait) => ControlFlow::Continue(Next { wait, call, last }),
        Err(no_timer) => ControlFlow::Break(Err(CallError::stopped(CallErrorKind::NoTimer(no_timer), last, number))),
    }
}
