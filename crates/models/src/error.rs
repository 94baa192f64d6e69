//! What is told when a call is refused or a configuration is wrong.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use crate::CircuitState;

/// Why a circuit breaker refused a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum RefusalReason {
    /// It has tripped, and its timeout has not passed.
    Open,
    /// It is half-open, and every probe that it may have in flight is.
    HalfOpenFull,
    /// It was forced open by hand.
    Forced,
}

impl RefusalReason {
    /// The word for this reason: `open`, `half_open_full`, `forced`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::HalfOpenFull => "half_open_full",
            Self::Forced => "forced",
        }
    }

    /// The state of a circuit that refuses for this reason.
    pub const fn state(self) -> CircuitState {
        match self {
            Self::Open | Self::Forced => CircuitState::Open,
            Self::HalfOpenFull => CircuitState::HalfOpen,
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A call that a circuit breaker refused: the function was not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircuitOpenError {
    name: Arc<str>,
    reason: RefusalReason,
    retry_after: Option<Duration>,
}

impl CircuitOpenError {
    /// A refusal by the circuit `name`.
    pub fn new(name: impl Into<Arc<str>>, reason: RefusalReason, retry_after: Option<Duration>) -> Self {
        Self { name: name.into(), reason, retry_after }
    }

    /// The circuit that refused; an instance's circuit is named `SERVICE/INSTANCE`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The state that it was in: Open, or `HalfOpen` with all its probes taken.
    pub fn state(&self) -> CircuitState {
        self.reason.state()
    }

    /// Why it refused.
    pub fn reason(&self) -> RefusalReason {
        self.reason
    }

    /// How long until a call may be admitted; none where nobody can know (half-open, or forced).
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for CircuitOpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.state() {
            CircuitState::HalfOpen => write!(f, "circuit {} is half open and its probes are taken", self.name),
            _ => write!(f, "circuit {} is open", self.name),
        }
    }
}

impl core::error::Error for CircuitOpenError {}

/// A call that found nobody to go to: no instance is registered, healthy and of a weight above 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoHealthyInstanceError {
    name: Arc<str>,
}

impl NoHealthyInstanceError {
    /// A call to the service `name` that found nobody.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into() }
    }

    /// The service.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for NoHealthyInstanceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no healthy instances for {}", self.name)
    }
}

impl core::error::Error for NoHealthyInstanceError {}

/// A field of a configuration that is out of range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    field: &'static str,
    value: String,
    allowed: String,
    beside: &'static [&'static str],
}

impl ConfigError {
    /// A field, the value that it was given, and what is allowed.
    pub fn new(field: &'static str, value: impl fmt::Display, allowed: impl Into<String>) -> Self {
        Self { field, value: value.to_string(), allowed: allowed.into(), beside: &[] }
    }

    /// The same, judged beside these fields: another value of one of them could make it right.
    #[must_use]
    pub fn judged_beside(mut self, fields: &'static [&'static str]) -> Self {
        self.beside = fields;
        self
    }

    /// The field, as it is named in the policy file.
    pub fn field(&self) -> &str {
        self.field
    }

    /// The value that it was given.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What would be allowed.
    pub fn allowed(&self) -> &str {
        &self.allowed
    }

    /// The other fields that it was judged by, as they are named in the policy file. None where no value of them could
    /// make it right.
    pub fn beside(&self) -> &[&'static str] {
        self.beside
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}; allowed: {}", self.field, self.value, self.allowed)
    }
}

impl core::error::Error for ConfigError {}
