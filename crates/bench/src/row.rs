//! One operation that is measured.

use std::fmt;
use std::hint::black_box;

/// One operation that is measured: who does what, how often it likes, and what must be true afterwards.
pub struct Row {
    /// What is done: `breaker, Closed, success`. Rows with the same words are compared.
    pub what: &'static str,
    /// Who does it, with version.
    pub who: &'static str,
    /// What it may cost in ns, on one thread and on two that contend; for our own rows.
    pub bar: Option<(f64, Option<f64>)>,
    /// Whether two threads may do it at once.
    pub shared: bool,
    run: Box<dyn Fn(u64) + Send + Sync>,
    holds: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Row {
    /// A row whose operation is given the number of its run.
    ///
    /// The loop is compiled together with the operation, so that a run costs no call through a pointer.
    pub fn new(what: &'static str, who: &'static str, operation: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self::in_runs(what, who, move |times| (0..times).for_each(&operation))
    }

    /// A row that is given how often to do it, where a thread needs something of its own first.
    pub fn in_runs(what: &'static str, who: &'static str, run: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self { what, who, bar: None, shared: true, run: Box::new(run), holds: Box::new(|| true) }
    }

    /// What it may cost in ns, on one thread and on two.
    #[must_use]
    pub fn bar(mut self, alone: f64, contended: impl Into<Option<f64>>) -> Self {
        self.bar = Some((alone, contended.into()));
        self
    }

    /// Only one thread can do it at a time.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.shared = false;
        self
    }

    /// What must be true after all runs.
    #[must_use]
    pub fn holds(mut self, holds: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.holds = Box::new(holds);
        self
    }

    /// Does it so many times. Callgrind counts what is within this function, so there must be one.
    #[inline(never)]
    pub fn run(&self, times: u64) {
        (self.run)(times);
    }

    /// # Panics
    /// If what was measured is not what the row says.
    pub fn check(&self) {
        assert!(
            (self.holds)(),
            "{} of {}: the state afterwards is not the one that was to be measured",
            self.what,
            self.who
        );
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row").field("what", &self.what).field("who", &self.who).finish_non_exhaustive()
    }
}

/// The function that is protected: it succeeds, which the optimizer cannot know.
///
/// # Errors
/// Never, in fact.
#[inline(never)]
pub fn work(run: u64) -> Result<u64, u64> {
    if black_box(run) == u64::MAX { Err(run) } else { Ok(run) }
}

/// The same, but every fourth run fails.
///
/// # Errors
/// In the runs 3, 7, 11, …
#[inline(never)]
pub fn work_that_fails_one_in_four(run: u64) -> Result<u64, u64> {
    if black_box(run) % 4 == 3 { Err(run) } else { Ok(run) }
}
