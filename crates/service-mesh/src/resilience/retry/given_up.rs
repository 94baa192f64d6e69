//! Why there is another attempt, and why there is none.

use std::fmt;

use crate::resilience::outcome::Outcome;

/// Why a call was not tried again although its last attempt was no plain success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GivenUp {
    /// The answer is final: its classifier says so.
    NotRetryable,
    /// `max_retries` is reached.
    RetriesSpent,
    /// The answer asked for a longer wait than `retry_after_max`.
    RetryAfterTooLong,
    /// The next attempt would begin at the deadline or later.
    PastDeadline,
    /// The budget has no retry left.
    BudgetSpent,
}

impl GivenUp {
    /// One word: `not_retryable`, `retries_spent`, `retry_after_too_long`, `past_deadline`, `budget_spent`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotRetryable => "not_retryable",
            Self::RetriesSpent => "retries_spent",
            Self::RetryAfterTooLong => "retry_after_too_long",
            Self::PastDeadline => "past_deadline",
            Self::BudgetSpent => "budget_spent",
        }
    }
}

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRetryable => "not to be tried again",
            Self::RetriesSpent => "all retries are used up",
            Self::RetryAfterTooLong => "the wait that was asked for is longer than retry_after_max",
            Self::PastDeadline => "no time for a retry before the deadline",
            Self::BudgetSpent => "the retry budget is spent",
        })
    }
}

/// Why an attempt is not the last: what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RetryCause {
    /// It answered, and that was its outcome: a failure, or a neutral answer that asks to come back.
    Answered(Outcome),
    /// It outlasted its time limit, which is a failure of the instance.
    TimedOut,
}

impl RetryCause {
    pub(crate) const fn new(outcome: Outcome, timed_out: bool) -> Self {
        if timed_out { Self::TimedOut } else { Self::Answered(outcome) }
    }

    /// The word for it: `timed_out`, `failure`, `neutral`, `success`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered(outcome) => outcome.as_str(),
            Self::TimedOut => "timed_out",
        }
    }
}

/// As in "a timed out".
impl fmt::Display for RetryCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answered(Outcome::Failure) => "failed",
            Self::Answered(Outcome::Neutral) => "asked to come back",
            Self::Answered(Outcome::Success) => "answered",
            Self::TimedOut => "timed out",
        })
    }
}
