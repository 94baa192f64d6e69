//! A part of the script, and what came of it.

use std::fmt;

use crate::NAMES;

/// A part of the script, and what came of it for those who called.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    pub(crate) title: &'static str,
    /// By server.
    pub(crate) answered: [u64; NAMES.len()],
    pub(crate) retried: u64,
    pub(crate) failed: u64,
}

impl Phase {
    pub(crate) fn new(title: &'static str) -> Self {
        Self { title, answered: [0; NAMES.len()], retried: 0, failed: 0 }
    }

    pub(crate) fn sum<'a>(title: &'static str, phases: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::new(title);
        for phase in phases {
            for (sum, answered) in sum.answered.iter_mut().zip(phase.answered) {
                *sum += answered;
            }
            sum.retried += phase.retried;
            sum.failed += phase.failed;
        }
        sum
    }

    /// How many callers were answered, by whomever.
    pub(crate) fn all_answered(&self) -> u64 {
        self.answered.iter().sum()
    }
}

/// A row of the table.
impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {:24}", self.title)?;
        self.answered.iter().try_for_each(|answered| write!(f, "{answered:>8}"))?;
        write!(f, "{:>10}{:>10}", self.retried, self.failed)
    }
}
