//! What a scenario needs and not every driver can do.

use serde::Deserialize;

/// What a scenario needs and not every driver can do. A scenario names its needs; reading it checks that the list is
/// exactly what its steps use, so that another language need not derive it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// Several calls at once: `hold`, `callers`. A sync driver does it with threads that are handed their turns.
    Overlap,
    /// Drop a call that is running: `drop`. Only where a call is a future, or a permit in the hand.
    Cancel,
    /// Unwind through the protected function.
    Panic,
    /// End an attempt whose time is up although it has not answered.
    StopAttempts,
    /// Raise the share of a new instance slowly.
    SlowStart,
}

impl Need {
    /// All needs.
    pub const ALL: [Self; 5] = [Self::Overlap, Self::Cancel, Self::Panic, Self::StopAttempts, Self::SlowStart];

    /// The word for this need, as in the files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Overlap => "overlap",
            Self::Cancel => "cancel",
            Self::Panic => "panic",
            Self::StopAttempts => "stop_attempts",
            Self::SlowStart => "slow_start",
        }
    }
}
