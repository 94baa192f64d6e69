//! Scenarios of a retry budget.

use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;
use service_mesh_models::RetryBudgetConfig;
use toml::Spanned;

use crate::expect::{Checked, Mismatch, Span, same};
use crate::file::{Config, belongs, one_action};
use crate::{Need, Report, Scenario, ScenarioFile};

/// A retry budget under test, on a clock of its own that stands still unless it is moved.
pub trait Driver {
    /// Moves the clock.
    fn advance(&mut self, by: Duration);
    /// A call begins.
    fn call(&mut self);
    /// A retry is asked for; whether it is granted.
    fn retry(&mut self) -> bool;
}

/// One scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetScenario {
    name: String,
    rules: Vec<String>,
    #[serde(default)]
    config: Config<RetryBudgetConfig>,
    config_error: Option<String>,
    #[serde(default)]
    steps: Vec<Spanned<Step>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    calls: Option<u32>,
    retries: Option<u32>,
    advance_seconds: Option<Span>,

    granted: Option<usize>,
}

impl Step {
    fn check(&self) -> Result<(), String> {
        let action = one_action(&[
            ("calls", self.calls.is_some()),
            ("retries", self.retries.is_some()),
            ("advance_seconds", self.advance_seconds.is_some()),
        ])?;
        belongs(action, &[("granted", self.granted.is_some(), &["retries"])])?;
        if action == "retries" && self.granted.is_none() {
            return Err("`retries` wants `granted`".to_owned());
        }
        Ok(())
    }

    fn play(&self, driver: &mut impl Driver) -> Checked {
        if let Some(by) = self.advance_seconds {
            driver.advance(by.0);
        }
        (0..self.calls.unwrap_or(0)).for_each(|_| driver.call());
        let granted = (0..self.retries.unwrap_or(0)).filter(|_| driver.retry()).count();
        same("granted", &self.granted.unwrap_or(0), &granted)
    }
}

impl Scenario for BudgetScenario {
    const SUBJECT: &'static str = "budget";

    fn name(&self) -> &str {
        &self.name
    }

    fn rules(&self) -> &[String] {
        &self.rules
    }

    fn needs(&self) -> &[Need] {
        &[]
    }

    fn uses(&self) -> Vec<Need> {
        Vec::new()
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

impl BudgetScenario {
    fn play<D: Driver>(&self, start: &mut impl FnMut(&RetryBudgetConfig) -> D) -> Result<(), (usize, Mismatch)> {
        let Some(config) = self.config.play(self.config_error.as_deref())? else {
            return Ok(());
        };
        let mut driver = start(config);
        for (index, step) in self.steps.iter().enumerate() {
            step.get_ref().play(&mut driver).map_err(|mismatch| (index + 1, mismatch))?;
        }
        Ok(())
    }
}

/// Replays a file: `start` makes a fresh driver for each scenario.
pub fn replay<D: Driver>(
    file: &ScenarioFile<BudgetScenario>,
    mut start: impl FnMut(&RetryBudgetConfig) -> D,
) -> Report {
    file.run(&Need::ALL, |scenario| scenario.play(&mut start))
}
