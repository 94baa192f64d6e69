//! A circuit breaker that remembers every outcome and recounts.
//!
//! What the rules leave open, and how it is decided here and in the code:
//!
//! - Where several rules are reached at once, the trip is told by the first of: the row, the count window, the time
//!   window; and within a window by failures before slow calls.
//! - Whatever is done by hand (force, reset) starts a new generation, also where the state has that name already.
//! - A call is slow only where a rule asked for slow calls when it began: else nobody knows when that was.
//! - The newest probe is the newest that was admitted.

use std::time::Duration;

use service_mesh::{
    CircuitBreakerConfig, CircuitState, EventKind, Outcome, RefusalReason, TimeWindow, Transition, TransitionReason,
    TripReason, WindowKind,
};

/// The whole circuit.
#[derive(Debug)]
pub(crate) struct Circuit {
    pub(crate) config: CircuitBreakerConfig,
    state: State,
    /// Raised by every change, so that an older permit is known.
    generation: u64,
    /// Trips since it was last Closed.
    trips: u32,
    /// How often hung probes were written off since it was last Closed.
    write_offs: u32,
    /// The outcomes of this generation that the count window has seen, whether they failed and whether they were slow.
    last_outcomes: Vec<(bool, bool)>,
    /// The outcomes of this generation that the time window has seen, and in which of its buckets.
    recent_outcomes: Vec<(u64, bool, bool)>,
    pub(crate) late_outcomes: u64,
    pub(crate) last_trip: Option<TripReason>,
    pub(crate) last_failure: Option<u64>,
    /// Whether a trip would pass somebody's cap, and the row at which that was last said.
    capped_row: Option<u32>,
    /// What listeners should have heard.
    pub(crate) told: Vec<EventKind>,
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    Closed { row: u32 },
    ForcedClosed { row: u32 },
    Open { row: u32, until: u64 },
    ForcedOpen,
    HalfOpen { row: u32, successes: u32, probes: u32, newest: u64 },
}

/// Leave to make one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Permit {
    generation: u64,
    pub(crate) is_probe: bool,
    began: Option<u64>,
}

/// Why there is none, and when to come back.
pub(crate) type Refusal = (RefusalReason, Option<Duration>);

/// Whether a trip is allowed, where somebody limits it.
pub(crate) type Leave = bool;

impl Circuit {
    pub(crate) fn new(config: CircuitBreakerConfig) -> Self {
        Self {
            config,
            state: State::Closed { row: 0 },
            generation: 0,
            trips: 0,
            write_offs: 0,
            last_outcomes: Vec::new(),
            recent_outcomes: Vec::new(),
            late_outcomes: 0,
            last_trip: None,
            last_failure: None,
            capped_row: None,
            told: Vec::new(),
        }
    }

    // ----- what can be read -----

    pub(crate) fn state(&self) -> CircuitState {
        match self.state {
            State::Closed { .. } | State::ForcedClosed { .. } => CircuitState::Closed,
            State::Open { .. } | State::ForcedOpen => CircuitState::Open,
            State::HalfOpen { .. } => CircuitState::HalfOpen,
        }
    }

    pub(crate) fn failure_count(&self) -> u32 {
        match self.state {
            State::Closed { row }
            | State::ForcedClosed { row }
            | State::Open { row, .. }
            | State::HalfOpen { row, .. } => row,
            State::ForcedOpen => 0,
        }
    }

    pub(crate) fn success_count(&self) -> u32 {
        if let State::HalfOpen { successes, .. } = self.state { successes } else { 0 }
    }

    pub(crate) fn half_open_calls(&self) -> u32 {
        if let State::HalfOpen { probes, .. } = self.state { probes } else { 0 }
    }

    pub(crate) fn retry_after(&self, now: u64) -> Option<Duration> {
        let State::Open { until, .. } = self.state else { return None };
        Some(Duration::from_nanos(until.saturating_sub(now)))
    }

    /// Whether it has tripped and is not Closed again, so that its instance counts as ejected.
    pub(crate) fn is_ejected(&self) -> bool {
        matches!(self.state, State::Open { .. } | State::HalfOpen { .. })
    }

    /// What a call would be told now, if it would be refused.
    pub(crate) fn refusal(&self, now: u64) -> Option<Refusal> {
        match self.state {
            State::Closed { .. } | State::ForcedClosed { .. } => None,
            State::ForcedOpen => Some((RefusalReason::Forced, None)),
            State::Open { until, .. } if until <= now => None,
            State::Open { .. } => Some((RefusalReason::Open, self.retry_after(now))),
            State::HalfOpen { probes, .. } if probes < self.config.half_open_max_calls() => None,
            State::HalfOpen { newest, .. } if newest + self.probe_timeout() <= now => None,
            State::HalfOpen { .. } => Some((RefusalReason::HalfOpenFull, None)),
        }
    }

    /// Whether a call at a later time will be refused for certain.
    pub(crate) fn refuses_at(&self, later: u64) -> bool {
        match self.state {
            State::ForcedOpen => true,
            State::Open { until, .. } => until > later,
            _ => false,
        }
    }

    /// The times at which something may happen: interesting ones to come by.
    pub(crate) fn boundaries(&self, now: u64) -> Vec<u64> {
        let mut times = match self.state {
            State::Open { until, .. } => vec![until],
            State::HalfOpen { newest, .. } => vec![newest + self.probe_timeout()],
            _ => Vec::new(),
        };
        if let Some(window) = self.config.time_window() {
            let width = width(&window);
            times.push((now / width + 1) * width);
            times.push((now / width + u64::from(window.buckets())) * width);
        }
        let slow = [
            self.config.count_window().and_then(|window| window.slow_call()),
            self.config.time_window().and_then(|window| window.slow_call()),
        ];
        times.extend(slow.into_iter().flatten().map(|slow| now + nanos(slow)));
        times
    }

    // ----- what can be done -----

    pub(crate) fn acquire(&mut self, now: u64) -> Result<Permit, Refusal> {
        if let Some(refusal) = self.refusal(now) {
            return Err(refusal);
        }
        self.half_open_if_due(now);
        let max = self.config.half_open_max_calls();
        if let State::HalfOpen { probes, .. } = &mut self.state
            && *probes >= max
        {
            // All places are taken, and yet it is not refused: they have hung too long.
            let written_off = std::mem::take(probes);
            self.generation += 1;
            self.write_offs += 1;
            self.told.push(EventKind::ProbesWrittenOff { probes: written_off });
        }
        let is_probe = if let State::HalfOpen { probes, newest, .. } = &mut self.state {
            *probes += 1;
            *newest = now;
            true
        } else {
            false
        };
        Ok(Permit { generation: self.generation, is_probe, began: (is_probe || self.asks_for_slow()).then_some(now) })
    }

    pub(crate) fn can_execute(&mut self, now: u64) -> bool {
        self.half_open_if_due(now);
        self.refusal(now).is_none()
    }

    /// The verdict on a call; `leave` says whether a trip would be allowed.
    pub(crate) fn settle(&mut self, permit: Permit, outcome: Outcome, now: u64, leave: Leave) {
        if permit.generation != self.generation {
            self.late(outcome);
            return;
        }
        if let State::HalfOpen { probes, .. } = &mut self.state {
            *probes -= 1;
        }
        let took = permit.began.filter(|_| self.asks_for_slow()).map(|began| now - began);
        self.count(outcome, took, now, leave);
    }

    /// A verdict by hand.
    pub(crate) fn record(&mut self, outcome: Outcome, now: u64) {
        match self.state {
            State::Open { .. } | State::ForcedOpen => self.late(outcome),
            _ => self.count(outcome, None, now, true),
        }
    }

    pub(crate) fn force_open(&mut self) {
        let is_news = self.state != State::ForcedOpen;
        self.start_anew(State::ForcedOpen, is_news, TransitionReason::ForcedOpen);
    }

    pub(crate) fn force_closed(&mut self) {
        let is_news = !matches!(self.state, State::ForcedClosed { .. });
        self.start_anew(State::ForcedClosed { row: 0 }, is_news, TransitionReason::ForcedClosed);
    }

    pub(crate) fn reset(&mut self) {
        let is_news = !matches!(self.state, State::Closed { .. });
        self.start_anew(State::Closed { row: 0 }, is_news, TransitionReason::Reset);
    }

    pub(crate) fn update_config(&mut self, config: CircuitBreakerConfig) {
        let shape =
            |config: &CircuitBreakerConfig| config.time_window().map(|window| (width(&window), window.buckets()));
        if shape(&self.config) != shape(&config) {
            self.recent_outcomes.clear();
        }
        match config.count_window() {
            Some(window) => keep_last(&mut self.last_outcomes, window.size()),
            None => self.last_outcomes.clear(),
        }
        self.config = config;
    }

    // ----- the rules -----

    fn half_open_if_due(&mut self, now: u64) {
        if let State::Open { row, until } = self.state
            && until <= now
        {
            let half_open = State::HalfOpen { row, successes: 0, probes: 0, newest: 0 };
            self.enter(half_open, TransitionReason::TimeoutElapsed);
        }
    }

    fn count(&mut self, outcome: Outcome, took: Option<u64>, now: u64, leave: Leave) {
        let failed = match outcome {
            Outcome::Neutral => return,
            Outcome::Success => false,
            Outcome::Failure => true,
        };
        if failed {
            self.last_failure = Some(now);
        }
        match &mut self.state {
            State::Closed { row } | State::ForcedClosed { row } => {
                *row = if failed { *row + 1 } else { 0 };
                let reason = self.reached(failed, took, now);
                if let (State::Closed { row }, Some(reason)) = (&self.state, reason) {
                    let row = *row;
                    if leave {
                        self.trips = 0;
                        self.trip(row, reason, now);
                    } else {
                        // Told when a row of failures first meets the cap.
                        if self.capped_row.is_none_or(|told| told == 0 || row <= told) {
                            self.told.push(EventKind::EjectionCapped);
                        }
                        self.capped_row = Some(row);
                    }
                }
            }
            State::HalfOpen { row, .. } if failed => {
                let row = *row;
                self.trip(row, TripReason::ProbeFailed, now);
            }
            State::HalfOpen { successes, .. } => {
                *successes += 1;
                if *successes >= self.config.success_threshold() {
                    self.start_anew(State::Closed { row: 0 }, true, TransitionReason::Recovered);
                }
            }
            State::Open { .. } | State::ForcedOpen => unreachable!("nothing of these generations is counted"),
        }
    }

    /// The rule that this outcome reaches, if it reaches any.
    fn reached(&mut self, failed: bool, took: Option<u64>, now: u64) -> Option<TripReason> {
        let config = self.config.clone();
        let is_slow = |limit: Option<Duration>| took.zip(limit).is_some_and(|(took, limit)| took > nanos(limit));
        let failures = self.failure_count();
        let by_row = (config.consecutive() && failed && failures >= config.failure_threshold())
            .then(|| TripReason::ConsecutiveFailures { failures, threshold: config.failure_threshold() });
        let by_count = config.count_window().and_then(|window| {
            let slow = is_slow(window.slow_call());
            self.last_outcomes.push((failed, slow));
            keep_last(&mut self.last_outcomes, window.size());
            Judged {
                window: WindowKind::Count,
                outcomes: self.last_outcomes.clone(),
                // A full window is judged in any case.
                minimum: window.minimum_calls().min(window.size()),
                failure_ratio: window.failure_ratio(),
                slow_ratio: window.slow_call_ratio(),
            }
            .by(failed || slow)
        });
        let by_time = config.time_window().and_then(|window| {
            let slow = is_slow(window.slow_call());
            let bucket = now / width(&window);
            self.recent_outcomes.push((bucket, failed, slow));
            let inside = |at: u64| at + u64::from(window.buckets()) > bucket;
            let outcomes = self.recent_outcomes.iter().filter(|(at, ..)| inside(*at));
            Judged {
                window: WindowKind::Time,
                outcomes: outcomes.map(|(_, failed, slow)| (*failed, *slow)).collect(),
                minimum: window.minimum_calls(),
                failure_ratio: window.failure_ratio(),
                slow_ratio: window.slow_call_ratio(),
            }
            .by(failed || slow)
        });
        by_row.or(by_count).or(by_time)
    }

    fn trip(&mut self, row: u32, reason: TripReason, now: u64) {
        self.trips += 1;
        self.last_trip = Some(reason);
        let until = now + self.open_time();
        self.enter(State::Open { row, until }, TransitionReason::Tripped(reason));
    }

    /// The open time after the latest of so many trips; without jitter and for whole multipliers.
    fn open_time(&self) -> u64 {
        let mut time = nanos(self.config.timeout());
        for _ in 1..self.trips {
            time = times(self.config.timeout_multiplier(), time);
        }
        self.config.timeout_max().map_or(time, |max| time.min(nanos(max)))
    }

    fn probe_timeout(&self) -> u64 {
        let default = self.config.timeout().max(Duration::from_secs(30));
        let mut time = nanos(self.config.probe_timeout().unwrap_or(default));
        for _ in 0..self.write_offs {
            time = time.saturating_mul(2);
        }
        time
    }

    fn asks_for_slow(&self) -> bool {
        self.config.count_window().is_some_and(|window| window.slow_call().is_some())
            || self.config.time_window().is_some_and(|window| window.slow_call().is_some())
    }

    /// A state in which nothing has happened yet.
    fn start_anew(&mut self, state: State, is_news: bool, reason: TransitionReason) {
        (self.trips, self.write_offs, self.capped_row) = (0, 0, None);
        let told = self.told.len();
        self.enter(state, reason);
        if !is_news {
            self.told.truncate(told);
        }
    }

    fn enter(&mut self, state: State, reason: TransitionReason) {
        let from = self.state();
        self.state = state;
        self.generation += 1;
        self.last_outcomes.clear();
        self.recent_outcomes.clear();
        self.told.push(EventKind::Transition(Transition { from, to: self.state(), reason }));
    }

    fn late(&mut self, outcome: Outcome) {
        if outcome != Outcome::Neutral {
            self.late_outcomes += 1;
            self.told.push(EventKind::LateOutcome(outcome));
        }
    }
}

/// What a window holds, and how it is judged.
struct Judged {
    window: WindowKind,
    outcomes: Vec<(bool, bool)>,
    minimum: u32,
    failure_ratio: Option<f64>,
    slow_ratio: Option<f64>,
}

impl Judged {
    /// By a failure or slow call, or else by the outcome that reaches the minimum.
    fn by(&self, is_bad: bool) -> Option<TripReason> {
        let window = self.window;
        let calls = self.outcomes.len() as u64;
        let failures = self.outcomes.iter().filter(|(failed, _)| *failed).count() as u64;
        let slow = self.outcomes.iter().filter(|(_, slow)| *slow).count() as u64;
        let minimum = u64::from(self.minimum);
        let is_due = if is_bad { calls >= minimum } else { calls == minimum };
        if !is_due {
            return None;
        }
        let failure_ratio = self.failure_ratio.filter(|ratio| reaches(failures, calls, *ratio));
        let slow_ratio = self.slow_ratio.filter(|ratio| reaches(slow, calls, *ratio));
        failure_ratio
            .map(|ratio| TripReason::FailureRatio { window, failures, calls, ratio })
            .or_else(|| slow_ratio.map(|ratio| TripReason::SlowCallRatio { window, slow, calls, ratio }))
    }
}

/// Whether `part` of `calls` reach a ratio that has two decimals, in whole numbers.
fn reaches(part: u64, calls: u64, ratio: f64) -> bool {
    let percent: u64 = format!("{:.0}", ratio * 100.0).parse().expect("a ratio has two decimals here");
    part * 100 >= percent * calls
}

/// A whole multiplier times a time.
fn times(multiplier: f64, time: u64) -> u64 {
    let multiplier: u64 = format!("{multiplier:.0}").parse().expect("a multiplier is whole here");
    time.saturating_mul(multiplier)
}

fn keep_last<T>(outcomes: &mut Vec<T>, size: u32) {
    let surplus = outcomes.len().saturating_sub(size as usize);
    outcomes.drain(..surplus);
}

fn width(window: &TimeWindow) -> u64 {
    nanos(window.duration() / window.buckets())
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("times are short here")
}
