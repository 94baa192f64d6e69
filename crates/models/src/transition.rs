//! What is told of a circuit that changed its state.

use core::fmt;

use crate::CircuitState;

/// A change of state, with its reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// The state that was left.
    pub from: CircuitState,
    /// The state that was entered; the same as `from` where only the forcing changed.
    pub to: CircuitState,
    /// What brought it about.
    pub reason: TransitionReason,
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}: {}", self.from, self.to, self.reason)
    }
}

/// What brought a change of state about.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TransitionReason {
    /// A rule was reached in Closed, or a probe failed.
    Tripped(TripReason),
    /// Open has lasted its timeout, and somebody asked.
    TimeoutElapsed,
    /// Enough probes succeeded.
    Recovered,
    /// Somebody forced it open.
    ForcedOpen,
    /// Somebody forced it closed.
    ForcedClosed,
    /// Somebody reset it.
    Reset,
    /// Somebody assigned the state, as Python's `breaker.state = CircuitState.OPEN` does.
    Assigned,
}

impl TransitionReason {
    /// One word, for a metric's label.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Tripped(trip) => trip.as_str(),
            Self::TimeoutElapsed => "timeout_elapsed",
            Self::Recovered => "recovered",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
            Self::Reset => "reset",
            Self::Assigned => "assigned",
        }
    }
}

impl fmt::Display for TransitionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tripped(trip) => trip.fmt(f),
            Self::TimeoutElapsed => f.write_str("its timeout has passed"),
            Self::Recovered => f.write_str("enough probes succeeded"),
            Self::ForcedOpen => f.write_str("forced open"),
            Self::ForcedClosed => f.write_str("forced closed"),
            Self::Reset => f.write_str("reset"),
            Self::Assigned => f.write_str("its state was assigned"),
        }
    }
}

/// The rule that tripped a circuit, and the counts that reached it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum TripReason {
    /// So many failures in a row.
    ConsecutiveFailures {
        /// The row.
        failures: u32,
        /// The `failure_threshold` that it reached.
        threshold: u32,
    },
    /// Too large a share of failures in a window.
    FailureRatio {
        /// The window that was judged.
        window: WindowKind,
        /// Failures in it.
        failures: u64,
        /// Outcomes in it.
        calls: u64,
        /// The `failure_ratio` that was reached.
        ratio: f64,
    },
    /// Too large a share of slow calls in a window.
    SlowCallRatio {
        /// The window that was judged.
        window: WindowKind,
        /// Slow calls in it.
        slow: u64,
        /// Outcomes in it.
        calls: u64,
        /// The `slow_call_ratio` that was reached.
        ratio: f64,
    },
    /// A probe failed in `HalfOpen`.
    ProbeFailed,
}

impl TripReason {
    /// One word, for a metric's label.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::ConsecutiveFailures { .. } => "consecutive_failures",
            Self::FailureRatio { .. } => "failure_ratio",
            Self::SlowCallRatio { .. } => "slow_call_ratio",
            Self::ProbeFailed => "probe_failed",
        }
    }
}

impl fmt::Display for TripReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsecutiveFailures { failures, threshold } => {
                write!(f, "{failures} failures in a row reached failure_threshold {threshold}")
            }
            Self::FailureRatio { window, failures, calls, ratio } => {
                write!(f, "{failures} failures of {calls} calls in the {window} window reached failure_ratio {ratio}")
            }
            Self::SlowCallRatio { window, slow, calls, ratio } => {
                write!(f, "{slow} slow calls of {calls} in the {window} window reached slow_call_ratio {ratio}")
            }
            Self::ProbeFailed => f.write_str("a probe failed"),
        }
    }
}

/// Which of a breaker's windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WindowKind {
    /// The last N outcomes.
    Count,
    /// The outcomes of the last T.
    Time,
}

impl fmt::Display for WindowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Count => "count",
            Self::Time => "time",
        })
    }
}
