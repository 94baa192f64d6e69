//! A service proxy that keeps everything it ever saw: instances that left, calls, retries.
//!
//! Instances take turns (round robin), waits have no jitter, and both levels of circuits are the model circuits of
//! [`circuit_breaker`](super::circuit_breaker).
//!
//! What the rules leave open, and how it is decided here and in the code:
//!
//! - `max_ejected_ratio` is a share of the instances that can be picked, be their circuits Closed or not; one that
//!   cannot be picked is free to trip.
//! - After a pick that everyone refused, whose turn it is next is left open: the model takes what it sees.
//! - The budget may refuse a retry that the law allows where the oldest retry that matters left its 10 seconds less than
//!   a tenth of a second ago. The other way round is never right.

use std::time::Duration;

use service_mesh::{
    Answer, CallErrorKind, CircuitBreakerConfig, CircuitOpenError, EventKind, GivenUp, NoHealthyInstanceError, Outcome,
    RefusalReason, RetryCause,
};

use super::circuit_breaker::{Circuit, Permit, nanos};

pub(crate) const NAME: &str = "payments";
const SECOND: u64 = 1_000_000_000;

/// What a proxy is made of, in whole numbers.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) circuit: CircuitBreakerConfig,
    /// None: instances have no circuits.
    pub(crate) instance_circuit: Option<CircuitBreakerConfig>,
    pub(crate) max_retries: u32,
    pub(crate) initial_delay: u64,
    pub(crate) max_delay: u64,
    pub(crate) exponential_base: u32,
    pub(crate) retry_after_max: u64,
    pub(crate) call_timeout: Option<u64>,
    pub(crate) attempt_timeout: Option<u64>,
    pub(crate) max_ejected_percent: u32,
    /// Percent of a retry that a call earns, and retries that need no calls in 10 seconds.
    pub(crate) budget: Option<(u32, u32)>,
}

#[derive(Debug)]
pub(crate) struct Service {
    settings: Settings,
    pub(crate) circuit: Circuit,
    /// Everyone who was ever registered. An index names a registration for good.
    pub(crate) instances: Vec<Instance>,
    /// Those who are registered now, in order.
    pub(crate) registered: Vec<usize>,
    /// The place in `registered` behind the one who had the last turn; none where it was left open.
    turn: Option<usize>,
    /// When calls began and retries were granted, in order.
    ledger: Vec<(u64, Entry)>,
    /// What listeners should have heard, and of whom.
    pub(crate) told: Vec<(String, EventKind)>,
}

#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) id: &'static str,
    pub(crate) port: u16,
    pub(crate) healthy: bool,
    pub(crate) weight: u32,
    pub(crate) in_flight: u32,
    pub(crate) circuit: Option<Circuit>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Entry {
    Call,
    Retry,
}

/// A call between its attempts.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) deadline: Option<u64>,
    attempts: u32,
    retries: u32,
    tried: Vec<usize>,
}

#[derive(Debug)]
pub(crate) struct Attempt {
    call: Call,
    pub(crate) instance: usize,
    service_permit: Permit,
    instance_permit: Option<Permit>,
    pub(crate) limit: Option<u64>,
}

impl Attempt {
    pub(crate) fn number(&self) -> u32 {
        self.call.attempts
    }
}

#[derive(Debug)]
pub(crate) enum Verdict {
    Return,
    Refused(CallErrorKind, u32),
    Retry(Duration, Call),
}

/// What the law of the budget says of one more retry.
#[derive(Debug, PartialEq)]
enum Granted {
    Yes,
    No,
    /// The code may be stricter than the law.
    AsSeen,
}

impl Service {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            circuit: Circuit::new(settings.circuit.clone()),
            settings,
            instances: Vec::new(),
            registered: Vec::new(),
            turn: Some(0),
            ledger: Vec::new(),
            told: Vec::new(),
        }
    }

    // ----- the set -----

    pub(crate) fn register(&mut self, id: &'static str, port: u16, healthy: bool, weight: u32) {
        let place = self.place(id);
        if let Some(place) = place
            && let present = &mut self.instances[self.registered[place]]
            && present.port == port
        {
            (present.healthy, present.weight) = (healthy, weight);
            return;
        }
        let circuit = self.settings.instance_circuit.clone().map(Circuit::new);
        let index = self.instances.len();
        self.instances.push(Instance { id, port, healthy, weight, in_flight: 0, circuit });
        match place {
            Some(place) => self.registered[place] = index,
            None => self.registered.push(index),
        }
    }

    pub(crate) fn deregister(&mut self, id: &str) {
        let Some(place) = self.place(id) else { return };
        self.registered.remove(place);
        if let Some(turn) = &mut self.turn
            && place < *turn
        {
            *turn -= 1;
        }
    }

    pub(crate) fn mark_healthy(&mut self, id: &str, healthy: bool) {
        if let Some(place) = self.place(id) {
            self.instances[self.registered[place]].healthy = healthy;
        }
    }

    pub(crate) fn find(&self, id: &str) -> Option<usize> {
        self.place(id).map(|place| self.registered[place])
    }

    fn place(&self, id: &str) -> Option<usize> {
        self.registered.iter().position(|index| self.instances[*index].id == id)
    }

    pub(crate) fn is_pickable(&self, index: usize) -> bool {
        let instance = &self.instances[index];
        self.registered.contains(&index) && instance.healthy && instance.weight > 0
    }

    fn pickable(&self) -> Vec<usize> {
        self.registered.iter().copied().filter(|index| self.is_pickable(*index)).collect()
    }

    // ----- one call -----

    pub(crate) fn begin(&self, timeout: Option<u64>, now: u64) -> Call {
        let timeout = timeout.or(self.settings.call_timeout);
        Call { deadline: timeout.map(|timeout| now + timeout), attempts: 0, retries: 0, tried: Vec::new() }
    }

    /// `seen` is whom the code chose, for where the rules leave that open.
    pub(crate) fn admit(
        &mut self,
        mut call: Call,
        now: u64,
        seen: Option<&str>,
    ) -> Result<Attempt, (CallErrorKind, u32)> {
        if call.deadline.is_some_and(|deadline| deadline <= now) {
            return Err((CallErrorKind::DeadlineExceeded, call.attempts));
        }
        let service_permit = match self.circuit.acquire(now) {
            Ok(permit) => permit,
            Err((reason, retry_after)) => {
                self.circuit.told.push(EventKind::Refused { reason, retry_after });
                self.collect();
                return Err((self.service_refusal(now).expect("it has refused"), call.attempts));
            }
        };
        self.collect();
        let Some(instance) = self.choose(&call.tried, now, seen) else {
            self.circuit.settle(service_permit, Outcome::Neutral, now, true);
            self.turn = None;
            let kind = if self.pickable().is_empty() {
                CallErrorKind::NoHealthyInstance(NoHealthyInstanceError::new(NAME))
            } else {
                self.instances_refusal(now)
            };
            return Err((kind, call.attempts));
        };
        let chosen = &mut self.instances[instance];
        let instance_permit =
            chosen.circuit.as_mut().map(|circuit| circuit.acquire(now).expect("it would have been passed over"));
        chosen.in_flight += 1;
        self.turn = self.registered.iter().position(|index| *index == instance).map(|place| place + 1);
        self.collect();
        if call.attempts == 0 {
            self.ledger.push((now, Entry::Call));
        }
        call.attempts += 1;
        let own = self.settings.attempt_timeout.map(|timeout| now + timeout);
        let limit = [own, call.deadline].into_iter().flatten().min();
        Ok(Attempt { call, instance, service_permit, instance_permit, limit })
    }

    /// Whoever admits, those first whom the call has not tried, in order from whose turn it is.
    fn choose(&self, tried: &[usize], now: u64, seen: Option<&str>) -> Option<usize> {
        let turn = self.turn.unwrap_or(0);
        let order: Vec<usize> =
            self.registered.iter().cycle().skip(turn).take(self.registered.len()).copied().collect();
        let would = |index: &usize| self.is_pickable(*index) && self.would_admit(*index, now);
        let (again, fresh): (Vec<usize>, Vec<usize>) =
            order.into_iter().filter(would).partition(|index| tried.contains(index));
        let preferred = if fresh.is_empty() { again } else { fresh };
        let is_as_seen = |index: &&usize| self.turn.is_none() && Some(self.instances[**index].id) == seen;
        preferred.iter().find(is_as_seen).or_else(|| preferred.first()).copied()
    }

    fn would_admit(&self, index: usize, now: u64) -> bool {
        self.instances[index].circuit.as_ref().is_none_or(|circuit| circuit.refusal(now).is_none())
    }

    /// `seen` is whether the code granted a retry, for where the budget may be stricter than the law.
    pub(crate) fn settle(&mut self, attempt: Attempt, answer: Answer, now: u64, seen: bool) -> Verdict {
        let instance = self.instances[attempt.instance].id.to_owned();
        let is_overdue = attempt.limit.is_some_and(|limit| limit <= now);
        let mut call = self.conclude(attempt, answer.outcome(), now);
        if !answer.is_retryable() || call.retries >= self.settings.max_retries {
            return Verdict::Return;
        }
        let cause = if is_overdue { RetryCause::TimedOut } else { RetryCause::Answered(answer.outcome()) };
        let asked = answer.earliest_retry().map_or(0, nanos);
        let wait = self.delay(call.retries).max(asked);
        let is_too_late = call.deadline.is_some_and(|deadline| now + wait >= deadline);
        let too_long = (asked > self.settings.retry_after_max).then_some(GivenUp::RetryAfterTooLong);
        if let Some(reason) = too_long.or_else(|| is_too_late.then_some(GivenUp::PastDeadline)) {
            self.told.push((NAME.to_owned(), EventKind::GivenUp { attempts: call.attempts, instance, cause, reason }));
            return Verdict::Return;
        }
        if self.circuit.refuses_at(now + wait) {
            let kind = self.service_refusal(now).expect("who refuses later refuses now");
            return Verdict::Refused(kind, call.attempts);
        }
        let pickable = self.pickable();
        let refuses = |index: &usize| {
            self.instances[*index].circuit.as_ref().is_some_and(|circuit| circuit.refuses_at(now + wait))
        };
        if !pickable.is_empty() && pickable.iter().all(refuses) {
            return Verdict::Refused(self.instances_refusal(now), call.attempts);
        }
        let granted = match self.budget_grants(now) {
            Granted::Yes => true,
            Granted::No => false,
            Granted::AsSeen => seen,
        };
        if !granted {
            self.told.push((NAME.to_owned(), EventKind::BudgetExhausted));
            return Verdict::Return;
        }
        self.ledger.push((now, Entry::Retry));
        call.retries += 1;
        let after = Duration::from_nanos(wait);
        self.told.push((NAME.to_owned(), EventKind::Retry { attempts: call.attempts, instance, cause, after }));
        Verdict::Retry(after, call)
    }

    pub(crate) fn abandon(&mut self, attempt: Attempt, now: u64) {
        self.conclude(attempt, Outcome::Neutral, now);
    }

    /// Gives everything back, and tells both circuits what concerns them.
    fn conclude(&mut self, attempt: Attempt, outcome: Outcome, now: u64) -> Call {
        let Attempt { mut call, instance, service_permit, instance_permit, limit } = attempt;
        let is_overdue = limit.is_some_and(|limit| limit <= now);
        let outcome = if is_overdue { Outcome::Failure } else { outcome };
        call.tried.push(instance);
        self.instances[instance].in_flight -= 1;
        let goes_on = |index: &usize| !call.tried.contains(index) && self.would_admit(*index, now);
        let is_hidden = outcome == Outcome::Failure && self.pickable().iter().any(goes_on);
        let leave = self.may_eject(instance);
        if let (Some(circuit), Some(permit)) = (&mut self.instances[instance].circuit, instance_permit) {
            circuit.settle(permit, outcome, now, leave);
        }
        self.collect();
        let heard = if is_hidden { Outcome::Neutral } else { outcome };
        self.circuit.settle(service_permit, heard, now, true);
        self.collect();
        call
    }

    /// Whether one more trip keeps the share of those who can be picked. Whoever cannot be picked is in nobody's way.
    fn may_eject(&self, instance: usize) -> bool {
        let pickable = self.pickable();
        let is_ejected = |index: &&usize| self.instances[**index].circuit.as_ref().is_some_and(Circuit::is_ejected);
        let ejected = pickable.iter().filter(is_ejected).count() + 1;
        !self.is_pickable(instance) || ejected * 100 <= self.settings.max_ejected_percent as usize * pickable.len()
    }

    fn delay(&self, retries: u32) -> u64 {
        let mut delay = self.settings.initial_delay;
        for _ in 0..retries {
            delay = (delay * u64::from(self.settings.exponential_base)).min(self.settings.max_delay);
        }
        delay.min(self.settings.max_delay)
    }

    // ----- refusals -----

    /// What a caller is told if the service's circuit refuses now.
    fn service_refusal(&self, now: u64) -> Option<CallErrorKind> {
        let (reason, own) = self.circuit.refusal(now)?;
        let instances = self.instances_wait(now).and_then(|(_, wait)| wait);
        let retry_after = own.map(|own| instances.map_or(own, |wait| own.max(wait)));
        Some(CallErrorKind::CircuitOpen(CircuitOpenError::new(NAME, reason, retry_after)))
    }

    /// What a caller is told if all instances refuse.
    fn instances_refusal(&self, now: u64) -> CallErrorKind {
        let (reason, retry_after) = self.instances_wait(now).expect("every instance refuses");
        CallErrorKind::CircuitOpen(CircuitOpenError::new(NAME, reason, retry_after))
    }

    /// The shortest wait that is known, if all that can be picked refuse now.
    fn instances_wait(&self, now: u64) -> Option<(RefusalReason, Option<Duration>)> {
        let pickable = self.pickable();
        let refusals: Vec<_> = pickable
            .iter()
            .filter_map(|index| self.instances[*index].circuit.as_ref().and_then(|circuit| circuit.refusal(now)))
            .collect();
        if refusals.is_empty() || refusals.len() < pickable.len() {
            return None;
        }
        let shortest = refusals.iter().filter_map(|(_, wait)| *wait).min();
        let is_full = refusals.iter().any(|(reason, _)| *reason == RefusalReason::HalfOpenFull);
        Some(match shortest {
            Some(wait) => (RefusalReason::Open, Some(wait)),
            None if is_full => (RefusalReason::HalfOpenFull, None),
            None => (RefusalReason::Forced, None),
        })
    }

    // ----- the budget, by brute force -----

    fn budget_grants(&self, now: u64) -> Granted {
        let Some((percent, floor)) = self.settings.budget else { return Granted::Yes };
        let keeps_the_law = |window: u64| {
            let ledger = &self.ledger;
            let starts = (0..ledger.len()).filter(|start| ledger[*start].1 == Entry::Retry);
            // Every stretch that begins with a retry of the window and ends with the one that is asked for; and that
            // one alone.
            starts.filter(|start| now - ledger[*start].0 < window).chain([ledger.len()]).all(|start| {
                let retries = ledger[start..].iter().filter(|(_, entry)| *entry == Entry::Retry).count() + 1;
                let calls = ledger[start..].iter().filter(|(_, entry)| *entry == Entry::Call).count();
                retries * 100 <= percent as usize * calls + floor as usize * 100
            })
        };
        match (keeps_the_law(10 * SECOND), keeps_the_law(10 * SECOND + SECOND / 10)) {
            (false, _) => Granted::No,
            (true, true) => Granted::Yes,
            (true, false) => Granted::AsSeen,
        }
    }

    // ----- for the timeline -----

    /// The times at which something may happen.
    pub(crate) fn boundaries(&self, now: u64) -> Vec<u64> {
        let mut times = self.circuit.boundaries(now);
        for index in &self.registered {
            times.extend(self.instances[*index].circuit.iter().flat_map(|circuit| circuit.boundaries(now)));
        }
        let retries = self.ledger.iter().filter(|(_, entry)| *entry == Entry::Retry);
        times.extend(retries.rev().take(3).map(|(at, _)| at + 10_000_000_000));
        times
    }

    /// Passes on what the circuits told.
    pub(crate) fn collect(&mut self) {
        self.told.extend(self.circuit.told.drain(..).map(|kind| (NAME.to_owned(), kind)));
        for instance in &mut self.instances {
            let name = format!("{NAME}/{}", instance.id);
            let told = instance.circuit.iter_mut().flat_map(|circuit| circuit.told.drain(..));
            self.told.extend(told.map(|kind| (name.clone(), kind)));
        }
    }
}
