//! Scenarios of a circuit breaker, with and without windows.

use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;
use service_mesh_models::{CircuitBreakerConfig, CircuitState, RefusalReason};
use toml::Spanned;

use crate::expect::{Bounds, Checked, Mismatch, Span, mismatch, same, same_if_given, told};
use crate::file::{Config, belongs, one_action};
use crate::reply::ReplyKind;
use crate::{Need, Refusal, Report, Scenario, ScenarioFile};

/// A circuit breaker under test, on a clock of its own that stands still unless it is moved.
///
/// Its classifier makes of every [`ReplyKind`] what is said there, and a listener keeps its events.
pub trait Driver {
    /// Moves the clock.
    fn advance(&mut self, by: Duration);
    /// Makes one call from begin to end. The function, if it runs, notes the state of the breaker, moves the clock by
    /// `takes`, and answers with `reply`.
    fn call(&mut self, reply: ReplyKind, takes: Duration) -> Called;
    /// Begins a call whose function keeps running until it is [ended](Self::end) or [cancelled](Self::cancel).
    ///
    /// # Errors
    /// The refusal; the function does not run then.
    fn hold(&mut self, call: &str) -> Result<(), Refusal>;
    /// Lets the function of a held call answer, and tells what its caller got.
    fn end(&mut self, call: &str, reply: ReplyKind) -> CameBack;
    /// Drops a held call.
    fn cancel(&mut self, call: &str);
    /// Asks whether a call would be admitted.
    fn can_execute(&mut self) -> bool;
    /// Records by hand.
    fn record(&mut self, success: bool);
    /// Forces it open.
    fn force_open(&mut self);
    /// Forces it closed.
    fn force_closed(&mut self);
    /// Back to automatic, Closed, zero.
    fn reset(&mut self);
    /// Replaces the whole configuration.
    fn update_config(&mut self, config: &CircuitBreakerConfig);
    /// What its readers tell.
    fn reading(&mut self) -> Reading;
    /// What the listener heard since it was asked last, in the words of [`transition_words`](crate::transition_words),
    /// [`refusal_words`](crate::refusal_words), [`late_outcome_words`](crate::late_outcome_words) and
    /// [`probes_written_off_words`](crate::probes_written_off_words).
    fn take_events(&mut self) -> Vec<String>;
}

/// What is known of a call that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Called {
    /// The state that the function read while it ran; none if it did not run.
    pub state_during: Option<CircuitState>,
    /// What the caller got.
    pub came_back: CameBack,
}

/// What a caller got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CameBack {
    /// What the function answered; a panic if it went on unwinding.
    Replied(ReplyKind),
    /// A refusal.
    Refused(Refusal),
}

/// What the readers of a breaker tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// `state`.
    pub state: CircuitState,
    /// `failure_count`.
    pub failure_count: u64,
    /// `success_count`.
    pub success_count: u64,
    /// `half_open_calls`.
    pub half_open_calls: u64,
    /// `late_outcomes`.
    pub late_outcomes: u64,
}

/// What the driver starts with.
#[derive(Clone, Debug)]
pub struct Given<'a> {
    /// The configuration.
    pub config: &'a CircuitBreakerConfig,
    /// A listener besides the one that keeps the events, and before it.
    pub listener: Option<ListenerKind>,
}

/// A listener that misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenerKind {
    /// It panics at every event.
    Panics,
    /// It calls the breaker's `reset` when it hears of a trip.
    Resets,
}

/// One scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CircuitBreakerScenario {
    name: String,
    rules: Vec<String>,
    #[serde(default)]
    needs: Vec<Need>,
    #[serde(default)]
    config: Config<CircuitBreakerConfig>,
    config_error: Option<String>,
    listener: Option<ListenerKind>,
    #[serde(default)]
    steps: Vec<Spanned<Step>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    call: Option<ReplyKind>,
    hold: Option<String>,
    end: Option<String>,
    drop: Option<String>,
    advance_seconds: Option<Span>,
    can_execute: Option<bool>,
    record: Option<Recorded>,
    force: Option<Forced>,
    #[serde(default)]
    reset: bool,
    update_config: Option<CircuitBreakerConfig>,

    with: Option<ReplyKind>,
    times: Option<u32>,
    takes_seconds: Option<Span>,

    refused: Option<RefusalReason>,
    retry_after_seconds: Option<Bounds>,
    state_during: Option<CircuitState>,
    state: Option<CircuitState>,
    failure_count: Option<u64>,
    success_count: Option<u64>,
    half_open_calls: Option<u64>,
    late_outcomes: Option<u64>,
    events: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Recorded {
    Success,
    Failure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Forced {
    Open,
    Closed,
}

impl Step {
    fn check(&self) -> Result<(), String> {
        let action = one_action(&[
            ("call", self.call.is_some()),
            ("hold", self.hold.is_some()),
            ("end", self.end.is_some()),
            ("drop", self.drop.is_some()),
            ("advance_seconds", self.advance_seconds.is_some()),
            ("can_execute", self.can_execute.is_some()),
            ("record", self.record.is_some()),
            ("force", self.force.is_some()),
            ("reset", self.reset),
            ("update_config", self.update_config.is_some()),
        ])?;
        belongs(
            action,
            &[
                ("with", self.with.is_some(), &["end"]),
                ("times", self.times.is_some(), &["call", "record"]),
                ("takes_seconds", self.takes_seconds.is_some(), &["call"]),
                ("refused", self.refused.is_some(), &["call", "hold"]),
                ("retry_after_seconds", self.retry_after_seconds.is_some(), &["call", "hold"]),
                ("state_during", self.state_during.is_some(), &["call"]),
            ],
        )?;
        if self.end.is_some() && self.with.is_none() {
            return Err("`end` wants `with`".to_owned());
        }
        if self.retry_after_seconds.is_some() && self.refused.is_none() {
            return Err("`retry_after_seconds` wants `refused`".to_owned());
        }
        Ok(())
    }

    fn uses(&self) -> impl Iterator<Item = Need> {
        let panics = [self.call, self.with].contains(&Some(ReplyKind::Panic));
        let used = [(Need::Overlap, self.hold.is_some()), (Need::Cancel, self.drop.is_some()), (Need::Panic, panics)];
        used.into_iter().filter_map(|(need, used)| used.then_some(need))
    }

    fn play(&self, driver: &mut impl Driver) -> Checked {
        self.act(driver)?;
        let reading = driver.reading();
        let events = driver.take_events();
        same_if_given("events", self.events.as_ref(), &events)?;
        same_if_given("state", self.state.as_ref(), &reading.state)?;
        same_if_given("failure_count", self.failure_count.as_ref(), &reading.failure_count)?;
        same_if_given("success_count", self.success_count.as_ref(), &reading.success_count)?;
        same_if_given("half_open_calls", self.half_open_calls.as_ref(), &reading.half_open_calls)?;
        same_if_given("late_outcomes", self.late_outcomes.as_ref(), &reading.late_outcomes)
    }

    fn act(&self, driver: &mut impl Driver) -> Checked {
        let times = self.times.unwrap_or(1);
        if let Some(reply) = self.call {
            let takes = self.takes_seconds.unwrap_or_default().0;
            return (0..times).try_for_each(|_| self.judge(reply, driver.call(reply, takes)));
        }
        if let Some(call) = &self.hold {
            return self.admission(driver.hold(call).err());
        }
        if let (Some(call), Some(with)) = (&self.end, self.with) {
            return same("the caller got", &CameBack::Replied(with), &driver.end(call, with));
        }
        if let Some(expected) = self.can_execute {
            return same("can_execute", &expected, &driver.can_execute());
        }
        if let Some(call) = &self.drop {
            driver.cancel(call);
        } else if let Some(by) = self.advance_seconds {
            driver.advance(by.0);
        } else if let Some(recorded) = self.record {
            (0..times).for_each(|_| driver.record(recorded == Recorded::Success));
        } else if let Some(forced) = self.force {
            match forced {
                Forced::Open => driver.force_open(),
                Forced::Closed => driver.force_closed(),
            }
        } else if let Some(config) = &self.update_config {
            driver.update_config(config);
        } else {
            driver.reset();
        }
        Ok(())
    }

    /// A call is over: it was refused as expected and nothing ran, or it ran and its caller got the function's answer.
    fn judge(&self, reply: ReplyKind, called: Called) -> Checked {
        let refusal = match called.came_back {
            CameBack::Refused(refusal) => Some(refusal),
            CameBack::Replied(got) => {
                same("the caller got", &reply, &got)?;
                None
            }
        };
        self.admission(refusal)?;
        same("the function ran", &refusal.is_none(), &called.state_during.is_some())?;
        match (self.state_during, called.state_during) {
            (Some(expected), Some(got)) => same("state_during", &expected, &got),
            _ => Ok(()),
        }
    }

    fn admission(&self, refusal: Option<Refusal>) -> Checked {
        match (self.refused, refusal) {
            (None, None) => Ok(()),
            (Some(reason), Some(refusal)) => {
                same("refused", &reason, &refusal.reason)?;
                told("retry_after_seconds", self.retry_after_seconds, refusal.retry_after)
            }
            (Some(reason), None) => Err(mismatch("the call", format_args!("refused: {reason}"), "admitted")),
            (None, Some(refusal)) => Err(mismatch("the call", "admitted", format_args!("refused: {}", refusal.reason))),
        }
    }
}

impl Scenario for CircuitBreakerScenario {
    const SUBJECT: &'static str = "circuit_breaker";

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
        self.steps.iter().flat_map(|step| step.get_ref().uses()).collect()
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

impl CircuitBreakerScenario {
    fn play<D: Driver>(&self, start: &mut impl FnMut(&Given<'_>) -> D) -> Result<(), (usize, Mismatch)> {
        let Some(config) = self.config.play(self.config_error.as_deref())? else {
            return Ok(());
        };
        let mut driver = start(&Given { config, listener: self.listener });
        for (index, step) in self.steps.iter().enumerate() {
            step.get_ref().play(&mut driver).map_err(|mismatch| (index + 1, mismatch))?;
        }
        Ok(())
    }
}

/// Replays a file: `start` makes a fresh driver for each scenario.
pub fn replay<D: Driver>(
    file: &ScenarioFile<CircuitBreakerScenario>,
    can: &[Need],
    mut start: impl FnMut(&Given<'_>) -> D,
) -> Report {
    file.run(can, |scenario| scenario.play(&mut start))
}
