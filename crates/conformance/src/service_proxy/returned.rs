//! What a scenario expects to come back.

use serde::Deserialize;

/// What comes back, by its word alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Returned {
    Ok,
    Error,
    Fatal,
    Ignored,
    AcceptedError,
    BadValue,
    TryLater,
    Refusal,
    Panic,
    CircuitOpen,
    NoHealthyInstance,
    DeadlineExceeded,
    AttemptTimedOut,
}

impl Returned {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Fatal => "fatal",
            Self::Ignored => "ignored",
            Self::AcceptedError => "accepted_error",
            Self::BadValue => "bad_value",
            Self::TryLater => "try_later",
            Self::Refusal => "refusal",
            Self::Panic => "panic",
            Self::CircuitOpen => "circuit_open",
            Self::NoHealthyInstance => "no_healthy_instance",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::AttemptTimedOut => "attempt_timed_out",
        }
    }

    pub(super) const fn is_refusal(self) -> bool {
        matches!(self, Self::CircuitOpen | Self::NoHealthyInstance)
    }
}
