//! What came of a replay.

use std::fmt;

use crate::Need;

/// What came of the replay of one file.
#[derive(Clone, Debug, Default)]
#[must_use = "a failure that nobody looks at is none"]
pub struct Report {
    /// The names of the scenarios that held.
    pub passed: Vec<String>,
    /// The names of those that need what the driver cannot do, with what it lacks.
    pub skipped: Vec<(String, Vec<Need>)>,
    /// Those that did not hold, each with the first step that showed it.
    pub failures: Vec<Failure>,
}

impl Report {
    /// The names of the scenarios that were skipped, in the order of the file.
    pub fn skipped_names(&self) -> Vec<&str> {
        self.skipped.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Panics with every failure, one a line, if there is any, or if `skipped` are not exactly the scenarios that were
    /// skipped: nothing is left out silently.
    ///
    /// # Panics
    /// As said.
    #[track_caller]
    pub fn expect(&self, skipped: &[&str]) {
        assert!(self.failures.is_empty(), "\n{self}");
        assert_eq!(self.skipped_names(), skipped, "other scenarios were skipped than the driver declares");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in &self.failures {
            writeln!(f, "{failure}")?;
        }
        let (passed, skipped, failed) = (self.passed.len(), self.skipped.len(), self.failures.len());
        write!(f, "{passed} passed, {skipped} skipped, {failed} failed")
    }
}

/// A scenario that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The file, as it was opened.
    pub file: String,
    /// The line of the step, counted from 1.
    pub line: usize,
    /// The claim.
    pub scenario: String,
    /// The step, counted from 1; 0 is what precedes the first.
    pub step: usize,
    /// The step as it is written.
    pub written: String,
    /// What was looked at: `state`, `events`, …
    pub what: String,
    /// What the scenario says.
    pub expected: String,
    /// What was seen.
    pub got: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, scenario, step, written, what, expected, got } = self;
        write!(f, "{file}:{line}: {scenario:?}, step {step}: {what}: expected {expected}, got {got}")?;
        if !written.is_empty() {
            write!(f, "\n    {written}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
