//! What a verdict does, where it does anything.

use service_mesh_models::{TransitionReason, TripReason};

use super::control::Control;
use super::ejection::Ejection;
use super::state::{COUNT_MAX, Phase, Word};
use super::table::{self, Input};
use super::trip::Sample;
use super::{CircuitBreaker, Rules, Ticket};
use crate::environment::Moment;
use crate::resilience::clock::Timestamp;
use crate::resilience::event::EventKind;
use crate::resilience::outcome::Outcome;
use crate::resilience::sync::Ordering;

impl CircuitBreaker {
    /// Everything but the success that changes nothing.
    pub(super) fn count(&self, ticket: Ticket, outcome: Outcome, untouched: bool, moment: &mut Moment<'_>) {
        if ticket.is_probe() {
            self.locked(|control| self.count_probe_locked(control, ticket.generation(), outcome, true, moment));
            return;
        }
        match outcome {
            Outcome::Success => self.count_success(ticket, untouched, moment),
            Outcome::Failure => self.count_failure(ticket, moment),
            Outcome::Neutral => {}
        }
    }

    fn count_success(&self, ticket: Ticket, mut untouched: bool, moment: &mut Moment<'_>) {
        while !untouched {
            let word = self.word();
            if word.key() != ticket.key {
                return self.count_late(Outcome::Success);
            }
            untouched = word.count() == 0 || self.exchange(word, word.with_count(0));
        }
        let sample = self.sample(ticket, false, moment);
        if let Some(windows) = self.0.windows.get()
            && !(sample.elapsed.is_none() && windows.is_settled(ticket.generation()))
            && let Some(reason) = windows.record(ticket.generation(), sample, moment)
        {
            self.judge(ticket, Some(reason), 0, moment);
        }
    }

    #[cold]
    fn count_failure(&self, ticket: Ticket, moment: &mut Moment<'_>) {
        let word = self.word();
        if word.key() != ticket.key {
            return self.count_late(Outcome::Failure);
        }
        self.note_failure(moment.coarse());
        let sample = self.sample(ticket, true, moment);
        let windows = if self.rules().has(Rules::WINDOWED) { self.0.windows.get() } else { None };
        let by_window = windows.and_then(|windows| windows.record(ticket.generation(), sample, moment));
        if by_window.is_some() || !self.lengthen_row(ticket) {
            self.judge(ticket, by_window, 1, moment);
        }
    }

    /// Counts one more failure in a row, unless that reaches the threshold or the state has changed.
    fn lengthen_row(&self, ticket: Ticket) -> bool {
        loop {
            let word = self.word();
            let row = longer(word.count(), 1);
            let judged = word.phase() == Phase::Closed && row >= self.rules().threshold();
            if word.key() != ticket.key || judged {
                return false;
            }
            if self.exchange(word, word.with_count(row)) {
                return true;
            }
        }
    }

    /// Counts `failures` more in the row and trips the circuit if a rule says so. Under the lock, so that one
    /// generation trips once and the trip is one step.
    #[cold]
    fn judge(&self, ticket: Ticket, by_window: Option<TripReason>, failures: u32, moment: &mut Moment<'_>) {
        self.locked(|control| {
            loop {
                let word = self.word();
                if word.key() != ticket.key {
                    // Another's verdict has ended this generation since the first look.
                    if failures > 0 {
                        self.count_late_locked(control, Outcome::Failure);
                    }
                    return;
                }
                let row = longer(word.count(), failures);
                let threshold = control.config.failure_threshold();
                let by_row = (control.config.consecutive() && failures > 0 && row >= threshold)
                    .then_some(TripReason::ConsecutiveFailures { failures: row, threshold });
                let reason = by_row.or(by_window).filter(|_| word.phase() == Phase::Closed);
                let leave = reason.and_then(|reason| Some((reason, self.leave_to_trip_locked(control, row)?)));
                let done = match leave {
                    Some((reason, ejection)) => self.trip_locked(control, word, row, reason, ejection, moment),
                    None => self.exchange(word, word.with_count(row)),
                };
                if done {
                    return;
                }
            }
        });
    }

    /// Leave to trip, unless too many instances of the service are ejected already. That is told when a row of failures
    /// first meets it.
    fn leave_to_trip_locked(&self, control: &mut Control, row: u32) -> Option<Ejection> {
        let ejection = Ejection::under(self.0.cap.as_ref().filter(|_| !control.episode_mut().out_of_rotation));
        if ejection.is_none() {
            let told_at = std::mem::replace(&mut control.episode_mut().capped_row, row);
            if told_at == 0 || row <= told_at {
                control.announce(&self.0.name, || EventKind::EjectionCapped);
            }
        }
        ejection
    }

    /// Closed → Open. False if a count has changed since `word` was read.
    fn trip_locked(
        &self,
        control: &mut Control,
        word: Word,
        row: u32,
        reason: TripReason,
        ejection: Ejection,
        moment: &mut Moment<'_>,
    ) -> bool {
        let Some(phase) = table::next(word.phase(), Input::RuleReached) else { return false };
        let until = self.open_until_locked(control, 1, moment);
        self.0.gate.store(until.as_nanos(), Ordering::Release);
        if !self.exchange(word, word.entered(phase, row)) {
            return false;
        }
        let episode = control.episode_mut();
        episode.trips = 1;
        episode.trip = Some(reason);
        episode.ejection = Some(ejection);
        self.announce_transition(control, word.phase(), phase, TransitionReason::Tripped(reason));
        true
    }

    /// The verdict on a probe, or one by hand, which holds no place.
    fn count_probe_locked(
        &self,
        control: &mut Control,
        generation: u64,
        outcome: Outcome,
        holds_place: bool,
        moment: &mut Moment<'_>,
    ) {
        let word = self.word();
        if !word.phase().probes() || word.generation() != generation {
            return self.count_late_locked(control, outcome);
        }
        debug_assert!(!holds_place || word.count() > 0, "a probe of this generation holds a place");
        if holds_place {
            self.store_probes_locked(control, word, word.count() - 1);
        }
        match outcome {
            Outcome::Neutral => {}
            Outcome::Success => {
                let needed = control.config.success_threshold();
                let episode = control.episode_mut();
                episode.successes = longer(episode.successes, 1);
                if episode.successes >= needed {
                    self.enter_locked(control, Input::EnoughSuccesses, 0, || TransitionReason::Recovered);
                }
            }
            Outcome::Failure => {
                self.note_failure(moment.now());
                let episode = control.episode_mut();
                episode.trips = episode.trips.saturating_add(1);
                episode.trip = Some(TripReason::ProbeFailed);
                let (trips, row) = (episode.trips, episode.row);
                let until = self.open_until_locked(control, trips, moment);
                self.0.gate.store(until.as_nanos(), Ordering::Release);
                let reason = || TransitionReason::Tripped(TripReason::ProbeFailed);
                self.enter_locked(control, Input::ProbeFailed, row, reason);
            }
        }
    }

    fn open_until_locked(&self, control: &Control, trips: u32, moment: &mut Moment<'_>) -> Timestamp {
        moment.now().after(control.open_time(trips, &self.0.environment.chance()))
    }

    pub(super) fn record(&self, outcome: Outcome) {
        let mut moment = self.moment();
        let word = self.word();
        match word.phase() {
            Phase::Closed | Phase::ForcedClosed => {
                self.conclude(Ticket { key: word.key(), began: Ticket::UNTIMED }, outcome, &mut moment);
            }
            Phase::HalfOpen | Phase::HalfOpenFull => {
                self.locked(|control| {
                    self.count_probe_locked(control, word.generation(), outcome, false, &mut moment);
                });
            }
            Phase::Open | Phase::ForcedOpen => self.count_late(outcome),
        }
    }

    #[cold]
    fn count_late(&self, outcome: Outcome) {
        self.locked(|control| self.count_late_locked(control, outcome));
    }

    /// An answer to an older generation is told, never counted. One that says nothing is not even told.
    fn count_late_locked(&self, control: &mut Control, outcome: Outcome) {
        if outcome != Outcome::Neutral {
            control.episode_mut().late_outcomes += 1;
            control.announce(&self.0.name, || EventKind::LateOutcome(outcome));
        }
    }

    fn sample(&self, ticket: Ticket, failure: bool, moment: &mut Moment<'_>) -> Sample {
        let timed = ticket.began != Ticket::UNTIMED && self.rules().has(Rules::TIMED);
        Sample { failure, elapsed: timed.then(|| moment.now().since(ticket.began)) }
    }

    fn note_failure(&self, now: Timestamp) {
        self.0.last_failure.store(now.as_nanos().saturating_add(1), Ordering::Relaxed);
    }
}

/// A count and so many more, up to what the packed word can hold.
fn longer(count: u32, more: u32) -> u32 {
    count.saturating_add(more).min(COUNT_MAX)
}
