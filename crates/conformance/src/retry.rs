//! Scenarios of a bare retry policy.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;
use service_mesh_models::{RetryBudgetConfig, RetryConfig};
use toml::Spanned;

use crate::expect::{Bounds, Checked, Mismatch, Span, mismatch, row, same, same_if_given, within};
use crate::file::{Config, belongs, one_action};
use crate::reply::{Reply, ReplyKind};
use crate::{Need, Report, Scenario, ScenarioFile};

/// A retry policy under test, on a clock of its own that moves where a function takes time or the policy waits.
///
/// Its classifier makes of every [`ReplyKind`] what is said there.
pub trait Driver {
    /// Moves the clock.
    fn advance(&mut self, by: Duration);
    /// Executes a function under the policy. The n-th run of the function moves the clock by what `replies[n]` takes
    /// and answers with it; the last of `replies` stands for all further runs.
    fn execute(&mut self, replies: &[Reply]) -> Executed;
    /// `get_delay(attempt)`.
    fn delay(&mut self, attempt: u32) -> Duration;
}

/// What is known of an execution that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Executed {
    /// How often the function ran.
    pub calls: u32,
    /// The waits between the runs, in order; waits of zero are left out.
    pub sleeps: Vec<Duration>,
    /// What the caller got: an answer of the function.
    pub came_back: ReplyKind,
    /// Which run of the function gave that very answer, counted from 1: each of them should give a value of its own.
    pub from_call: u32,
    /// The number of attempts, where it is told beside the result.
    pub attempts: Option<u32>,
}

/// What the driver starts with.
#[derive(Clone, Debug)]
pub struct Given<'a> {
    /// The configuration.
    pub config: &'a RetryConfig,
    /// A budget, if the policy has one.
    pub budget: Option<&'a RetryBudgetConfig>,
}

/// One scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryScenario {
    name: String,
    rules: Vec<String>,
    #[serde(default)]
    needs: Vec<Need>,
    #[serde(default)]
    config: Config<RetryConfig>,
    config_error: Option<String>,
    budget: Option<RetryBudgetConfig>,
    #[serde(default)]
    steps: Vec<Spanned<Step>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    execute: Option<Vec<Reply>>,
    delay_of: Option<u32>,
    advance_seconds: Option<Span>,

    times: Option<u32>,
    draws: Option<u32>,

    calls: Option<u32>,
    sleeps_seconds: Option<Vec<Bounds>>,
    returns: Option<ReplyKind>,
    seconds: Option<Bounds>,
    varies: Option<bool>,
}

impl Step {
    fn check(&self) -> Result<(), String> {
        let action = one_action(&[
            ("execute", self.execute.is_some()),
            ("delay_of", self.delay_of.is_some()),
            ("advance_seconds", self.advance_seconds.is_some()),
        ])?;
        belongs(
            action,
            &[
                ("times", self.times.is_some(), &["execute"]),
                ("calls", self.calls.is_some(), &["execute"]),
                ("sleeps_seconds", self.sleeps_seconds.is_some(), &["execute"]),
                ("returns", self.returns.is_some(), &["execute"]),
                ("draws", self.draws.is_some(), &["delay_of"]),
                ("seconds", self.seconds.is_some(), &["delay_of"]),
                ("varies", self.varies.is_some(), &["delay_of"]),
            ],
        )?;
        let all = |keys: [bool; 3]| keys.iter().all(|there| *there);
        match action {
            "execute" if self.execute.as_ref().is_some_and(Vec::is_empty) => Err("`execute` wants a reply".to_owned()),
            "execute" if !all([self.calls.is_some(), self.sleeps_seconds.is_some(), self.returns.is_some()]) => {
                Err("`execute` wants `calls`, `sleeps_seconds` and `returns`".to_owned())
            }
            "delay_of" if self.seconds.is_none() => Err("`delay_of` wants `seconds`".to_owned()),
            _ => Ok(()),
        }
    }

    fn panics(&self) -> bool {
        self.execute.iter().flatten().any(|reply| reply.kind == ReplyKind::Panic)
    }

    fn play(&self, driver: &mut impl Driver) -> Checked {
        if let Some(replies) = &self.execute {
            return (0..self.times.unwrap_or(1)).try_for_each(|_| self.judge(&driver.execute(replies)));
        }
        if let Some(attempt) = self.delay_of {
            return self.delays(attempt, driver);
        }
        driver.advance(self.advance_seconds.unwrap_or_default().0);
        Ok(())
    }

    fn judge(&self, executed: &Executed) -> Checked {
        same_if_given("calls", self.calls.as_ref(), &executed.calls)?;
        row("sleeps_seconds", self.sleeps_seconds.as_deref().unwrap_or_default(), &executed.sleeps)?;
        same_if_given("returns", self.returns.as_ref(), &executed.came_back)?;
        // Whatever comes back is the answer of the last run, itself.
        same("the run whose answer came back", &executed.calls, &executed.from_call)?;
        executed.attempts.map_or(Ok(()), |attempts| same("attempts told", &executed.calls, &attempts))
    }

    fn delays(&self, attempt: u32, driver: &mut impl Driver) -> Checked {
        let mut seen = BTreeSet::new();
        for _ in 0..self.draws.unwrap_or(1) {
            let delay = driver.delay(attempt);
            if let Some(bounds) = self.seconds {
                within("seconds", bounds, delay.as_secs_f64())?;
            }
            seen.insert(delay);
        }
        match self.varies {
            Some(varies) if varies != (seen.len() > 1) => {
                Err(mismatch("varies", varies, format_args!("{} different delays", seen.len())))
            }
            _ => Ok(()),
        }
    }
}

impl Scenario for RetryScenario {
    const SUBJECT: &'static str = "retry";

    fn name(&self) -> &str {
        &self.name
    }

    fn rules(&self) -> &[String] {
        &self.rules
    }

    fn needs(&self) -> &[Need] {
        &self.needs
    }

    fn uses(&self) -> Vec<Need> {
        self.steps.iter().filter(|step| step.get_ref().panics()).map(|_| Need::Panic).collect()
    }

    fn steps(&self) -> Vec<Range<usize>> {
        self.steps.iter().map(Spanned::span).collect()
    }

    fn check(&self) -> Result<(), (usize, String)> {
        self.config.check(self.config_error.as_deref(), self.steps.len())?;
        let check = |(index, step): (usize, &Spanned<Step>)| step.get_ref().check().map_err(|fault| (index + 1, fault));
        self.steps.iter().enumerate().try_for_each(check)
    }
}

impl RetryScenario {
    fn play<D: Driver>(&self, start: &mut impl FnMut(&Given<'_>) -> D) -> Result<(), (usize, Mismatch)> {
        let Some(config) = self.config.play(self.config_error.as_deref())? else {
            return Ok(());
        };
        let mut driver = start(&Given { config, budget: self.budget.as_ref() });
        for (index, step) in self.steps.iter().enumerate() {
            step.get_ref().play(&mut driver).map_err(|mismatch| (index + 1, mismatch))?;
        }
        Ok(())
    }
}

/// Replays a file: `start` makes a fresh driver for each scenario.
pub fn replay<D: Driver>(
    file: &ScenarioFile<RetryScenario>,
    can: &[Need],
    mut start: impl FnMut(&Given<'_>) -> D,
) -> Report {
    file.run(can, |scenario| scenario.play(&mut start))
}
