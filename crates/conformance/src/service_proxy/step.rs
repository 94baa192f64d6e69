//! One step: its action, what must be seen after it, and whether the two fit together.

use std::collections::BTreeMap;

use serde::Deserialize;
use service_mesh_models::{CircuitState, RefusalReason};

use super::SERVICE;
use super::driver::{Answer, CameBack, Driver, Progress};
use super::held::{Held, everything_was_given_back};
use super::returned::Returned;
use crate::Need;
use crate::circuit_breaker::Forced;
use crate::expect::{Bounds, Checked, Names, Span, mismatch, names, row, same, same_if_given, told, within};
use crate::file::{belongs, one_action};
use crate::load_balancer::Instance;
use crate::reply::{Reply, ReplyKind};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    #[serde(default)]
    call: bool,
    callers: Option<u32>,
    hold: Option<String>,
    answer: Option<String>,
    drop: Option<String>,
    advance_seconds: Option<Span>,
    set: Option<BTreeMap<String, Answer>>,
    register: Option<Instance>,
    deregister: Option<String>,
    mark_healthy: Option<String>,
    mark_unhealthy: Option<String>,
    force: Option<Forced>,
    #[serde(default)]
    reset: bool,

    timeout_seconds: Option<Span>,
    with: Option<Reply>,
    stalled_seconds: Option<Span>,
    times: Option<u32>,

    tries: Option<Names>,
    attempts_at: Option<BTreeMap<String, Bounds>>,
    returns: Option<Returned>,
    refused: Option<RefusalReason>,
    retry_after_seconds: Option<Bounds>,
    cause: Option<ReplyKind>,
    sleeps_seconds: Option<Vec<Bounds>>,
    took_seconds: Option<Bounds>,
    outcomes: Option<Names>,
    given_up: Option<String>,
    ended: Option<BTreeMap<String, Returned>>,

    state: Option<CircuitState>,
    failure_count: Option<u64>,
    success_count: Option<u64>,
    half_open_calls: Option<u64>,
    late_outcomes: Option<u64>,
    instance_states: Option<BTreeMap<String, CircuitState>>,
    instance_failure_counts: Option<BTreeMap<String, u64>>,
    instance_half_open_calls: Option<BTreeMap<String, u64>>,
    leased: Option<BTreeMap<String, u64>>,
    events: Option<Vec<String>>,
    retries: Option<Vec<String>>,
}

impl Step {
    pub(super) fn check(&self) -> Result<(), String> {
        let action = one_action(&[
            ("call", self.call),
            ("callers", self.callers.is_some()),
            ("hold", self.hold.is_some()),
            ("answer", self.answer.is_some()),
            ("drop", self.drop.is_some()),
            ("advance_seconds", self.advance_seconds.is_some()),
            ("set", self.set.is_some()),
            ("register", self.register.is_some()),
            ("deregister", self.deregister.is_some()),
            ("mark_healthy", self.mark_healthy.is_some()),
            ("mark_unhealthy", self.mark_unhealthy.is_some()),
            ("force", self.force.is_some()),
            ("reset", self.reset),
        ])?;
        let calling = &["call", "callers", "hold", "answer"][..];
        belongs(
            action,
            &[
                ("timeout_seconds", self.timeout_seconds.is_some(), &["call"]),
                ("with", self.with.is_some(), &["answer"]),
                ("stalled_seconds", self.stalled_seconds.is_some(), &["drop"]),
                ("times", self.times.is_some(), &["call"]),
                ("tries", self.tries.is_some(), &["call", "hold", "answer"]),
                ("attempts_at", self.attempts_at.is_some(), &["call", "callers"]),
                ("returns", self.returns.is_some(), calling),
                ("took_seconds", self.took_seconds.is_some(), &["call", "callers"]),
                ("outcomes", self.outcomes.is_some(), &["call", "answer"]),
                ("given_up", self.given_up.is_some(), &["call", "answer"]),
                ("ended", self.ended.is_some(), &["advance_seconds"]),
            ],
        )?;
        let refused = self.returns == Some(Returned::CircuitOpen);
        for (key, there) in
            [("refused", self.refused.is_some()), ("retry_after_seconds", self.retry_after_seconds.is_some())]
        {
            if there && !refused {
                return Err(format!("`{key}` wants `returns = \"circuit_open\"`"));
            }
        }
        if self.cause.is_some() && !self.returns.is_some_and(Returned::is_refusal) {
            return Err("`cause` wants `returns` to be a refusal".to_owned());
        }
        if self.outcomes.is_some() && self.returns.is_none() {
            return Err("`outcomes` wants `returns`".to_owned());
        }
        if self.given_up.is_some() && self.outcomes.is_none() {
            return Err("`given_up` wants `outcomes`".to_owned());
        }
        match action {
            "call" if self.tries.is_none() && self.attempts_at.is_none() => {
                Err("`call` wants `tries` or `attempts_at`".to_owned())
            }
            "call" if self.returns.is_none() => Err("`call` wants `returns`".to_owned()),
            "callers" if self.returns.is_none() => Err("`callers` wants `returns`".to_owned()),
            "answer" if self.with.is_none() => Err("`answer` wants `with`".to_owned()),
            _ => Ok(()),
        }
    }

    pub(super) fn uses(&self) -> impl Iterator<Item = Need> {
        let replies = self.set.iter().flat_map(BTreeMap::values).copied().chain(self.with.map(Answer::Reply));
        let panics = replies.into_iter().any(panics);
        let timed_out = [Some(Returned::AttemptTimedOut), Some(Returned::DeadlineExceeded)].contains(&self.returns);
        // A call that was given no time at all is refused by every driver; to end an attempt is another matter.
        let stops = timed_out && self.tries.as_ref().is_none_or(|tries| !tries.0.is_empty());
        let used = [
            (Need::Overlap, self.hold.is_some() || self.callers.is_some()),
            (Need::Cancel, self.drop.is_some()),
            (Need::Panic, panics),
            (Need::StopAttempts, stops),
        ];
        used.into_iter().filter_map(|(need, used)| used.then_some(need))
    }

    /// Whether it wants to see the story of a call.
    pub(super) fn wants_story(&self) -> bool {
        self.outcomes.is_some()
    }

    pub(super) fn play(&self, held: &mut Held, driver: &mut impl Driver) -> Checked {
        let from = driver.now();
        self.act(held, driver)?;
        let took = driver.now().saturating_sub(from);
        if let Some(bounds) = self.took_seconds {
            within("took_seconds", bounds, took.as_secs_f64())?;
        }
        let sleeps = driver.take_sleeps();
        if let Some(expected) = &self.sleeps_seconds {
            row("sleeps_seconds", expected, &sleeps)?;
        }
        self.readings(held, driver)
    }

    fn act(&self, held: &mut Held, driver: &mut impl Driver) -> Checked {
        if self.call {
            let timeout = self.timeout_seconds.map(|timeout| timeout.0);
            return self.all((0..self.times.unwrap_or(1)).map(|_| driver.call(timeout)));
        }
        if let Some(callers) = self.callers {
            return self.all(driver.callers(callers));
        }
        if let Some(call) = &self.hold {
            driver.hold(call);
            held.running.insert(call.clone(), 0);
            return self.go_on(call, held, driver);
        }
        if let (Some(call), Some(reply)) = (&self.answer, self.with) {
            driver.answer(call, reply);
            return self.go_on(call, held, driver);
        }
        if let Some(call) = &self.drop {
            driver.cancel(call, self.stalled_seconds.unwrap_or_default().0);
            held.running.remove(call);
        } else if let Some(by) = self.advance_seconds {
            driver.advance(by.0);
            return self.ended(held, driver);
        } else if let Some(answers) = &self.set {
            for (id, answer) in answers {
                driver.set_answer(id, *answer);
            }
        } else {
            self.change(held, driver);
        }
        Ok(())
    }

    fn change(&self, held: &mut Held, driver: &mut impl Driver) {
        if let Some(Instance(instance)) = &self.register {
            driver.register(instance);
            held.ids.insert(instance.id.clone());
        } else if let Some(id) = &self.deregister {
            driver.deregister(id);
            held.ids.remove(id);
        } else if let Some(id) = &self.mark_healthy {
            driver.mark_healthy(id, true);
        } else if let Some(id) = &self.mark_unhealthy {
            driver.mark_healthy(id, false);
        } else {
            match self.force {
                Some(Forced::Open) => driver.force_open(),
                Some(Forced::Closed) => driver.force_closed(),
                None => driver.reset(),
            }
        }
    }

    /// A held call has moved: by which attempts, and whether that was its end.
    fn go_on(&self, call: &str, held: &mut Held, driver: &mut impl Driver) -> Checked {
        let progress = driver.progress(call);
        let seen = held.running.get(call).copied().unwrap_or(0);
        self.tried(&progress.tried[seen..])?;
        match &progress.ended {
            Some(_) => held.running.remove(call),
            None => held.running.insert(call.to_owned(), progress.tried.len()),
        };
        self.judge(&progress)
    }

    fn tried(&self, tried: &[String]) -> Checked {
        let tried: Vec<_> = tried.iter().cloned().map(Some).collect();
        self.tries.as_ref().map_or(Ok(()), |expected| names("tries", expected, &tried))
    }

    /// A call ended as expected, or is still running as expected.
    fn judge(&self, progress: &Progress) -> Checked {
        let ended = match (self.returns, &progress.ended) {
            (None, None) => return Ok(()),
            (None, Some(ended)) => return Err(mismatch("returns", "nothing yet", ended.came_back.word())),
            (Some(expected), None) => return Err(mismatch("returns", expected.word(), "nothing yet")),
            (Some(expected), Some(ended)) => {
                same("returns", &expected.word(), &ended.came_back.word())?;
                if expected.is_refusal() {
                    same("cause", &self.cause, &ended.cause)?;
                }
                ended
            }
        };
        if let Some(attempts) = ended.attempts {
            same("attempts told", &progress.tried.len(), &(attempts as usize))?;
        }
        if let (Some(expected), Some(told)) = (&self.outcomes, &ended.story) {
            let outcomes: Vec<_> = told.outcomes.iter().cloned().map(Some).collect();
            names("outcomes", expected, &outcomes)?;
            same("given_up", &self.given_up, &told.given_up)?;
        }
        if let CameBack::CircuitOpen { name, refusal } = &ended.came_back {
            same("the refusing circuit", &SERVICE, &name.as_str())?;
            same_if_given("refused", self.refused.as_ref(), &refusal.reason)?;
            told("retry_after_seconds", self.retry_after_seconds, refusal.retry_after)?;
        }
        Ok(())
    }

    /// Every call ended as expected, and together they tried each instance as often as expected.
    fn all(&self, calls: impl IntoIterator<Item = Progress>) -> Checked {
        let mut attempts: BTreeMap<String, u32> = BTreeMap::new();
        for progress in calls {
            self.tried(&progress.tried)?;
            self.judge(&progress)?;
            for id in progress.tried {
                *attempts.entry(id).or_default() += 1;
            }
        }
        for (id, bounds) in self.attempts_at.iter().flatten() {
            within(&format!("attempts at {id}"), *bounds, attempts.get(id).copied().unwrap_or(0).into())?;
        }
        Ok(())
    }

    /// Of the held calls exactly those are over, and in the way, that were expected after time has passed.
    fn ended(&self, held: &mut Held, driver: &mut impl Driver) -> Checked {
        let mut got = BTreeMap::new();
        for (call, seen) in &mut held.running {
            let progress = driver.progress(call);
            *seen = progress.tried.len();
            if let Some(ended) = progress.ended {
                got.insert(call.clone(), ended.came_back.word());
            }
        }
        held.running.retain(|call, _| !got.contains_key(call));
        let expected: BTreeMap<String, &str> =
            self.ended.iter().flatten().map(|(call, returned)| (call.clone(), returned.word())).collect();
        same("ended", &expected, &got)
    }

    fn readings(&self, held: &Held, driver: &mut impl Driver) -> Checked {
        let service = driver.service();
        same_if_given("state", self.state.as_ref(), &service.state)?;
        same_if_given("failure_count", self.failure_count.as_ref(), &service.failure_count)?;
        same_if_given("success_count", self.success_count.as_ref(), &service.success_count)?;
        same_if_given("half_open_calls", self.half_open_calls.as_ref(), &service.half_open_calls)?;
        same_if_given("late_outcomes", self.late_outcomes.as_ref(), &service.late_outcomes)?;
        for (id, expected) in self.instance_states.iter().flatten() {
            same(&format!("state of {id}"), &Some(*expected), &driver.instance(id).map(|reading| reading.state))?;
        }
        for (id, expected) in self.instance_failure_counts.iter().flatten() {
            let got = driver.instance(id).map(|reading| reading.failure_count);
            same(&format!("failure_count of {id}"), &Some(*expected), &got)?;
        }
        for (id, expected) in self.instance_half_open_calls.iter().flatten() {
            let got = driver.instance(id).map(|reading| reading.half_open_calls);
            same(&format!("half_open_calls of {id}"), &Some(*expected), &got)?;
        }
        for (id, expected) in self.leased.iter().flatten() {
            same(&format!("leased of {id}"), expected, &driver.leased(id))?;
        }
        let (retries, events): (Vec<_>, Vec<_>) =
            driver.take_events().into_iter().partition(|event| retry_of(event).is_some());
        if let Some(expected) = &self.retries {
            let causes: Vec<_> = retries.iter().filter_map(|event| retry_of(event)).collect();
            same("retries", &expected.iter().map(String::as_str).collect(), &causes)?;
        }
        if let Some(expected) = &self.events {
            same("events", &by_name(expected), &by_name(&events))?;
        }
        if held.running.is_empty() { everything_was_given_back(held, driver) } else { Ok(()) }
    }
}

/// What came of the attempt that is followed by a retry, if the event is one.
fn retry_of(event: &str) -> Option<&str> {
    event.split_once(": ")?.1.strip_prefix("retry: ")
}

/// Events of one circuit come in order; among several, no order is promised.
fn by_name(events: &[String]) -> Vec<String> {
    let mut events = events.to_vec();
    events.sort_by(|a, b| a.split(':').next().cmp(&b.split(':').next()));
    events
}

pub(super) fn panics(answer: Answer) -> bool {
    matches!(answer, Answer::Reply(Reply { kind: ReplyKind::Panic, .. }))
}
