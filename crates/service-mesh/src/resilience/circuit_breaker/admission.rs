//! Who may pass when the circuit is not Closed.

use service_mesh_models::{RefusalReason, TransitionReason};

use super::control::Control;
use super::state::{Phase, Word};
use super::table::{self, Input};
use super::{CircuitBreaker, Refusal, Rules, Ticket};
use crate::environment::Moment;
use crate::resilience::clock::Timestamp;
use crate::resilience::event::EventKind;
use crate::resilience::sync::Ordering;

impl CircuitBreaker {
    #[cold]
    pub(super) fn admit_probe(&self, word: Word, moment: &mut Moment<'_>) -> Result<Ticket, Refusal> {
        let refused = match word.phase() {
            Phase::ForcedOpen => true,
            Phase::Open | Phase::HalfOpenFull => moment.now() < self.gate(),
            Phase::Closed | Phase::ForcedClosed | Phase::HalfOpen => false,
        };
        if refused {
            return Err(self.refusal(word.phase(), moment));
        }
        self.locked(|control| self.admit_probe_locked(control, moment))
    }

    /// Tells the listeners, if there are any, of a refusal that a caller meets.
    #[cold]
    pub(crate) fn announce_refusal(&self, refusal: Refusal) -> Refusal {
        if self.rules().has(Rules::HEARD) {
            self.locked(|control| {
                control.announce(&self.0.name, || EventKind::Refused {
                    reason: refusal.reason(),
                    retry_after: refusal.retry_after(),
                });
            });
        }
        refusal
    }

    fn admit_probe_locked(&self, control: &mut Control, moment: &mut Moment<'_>) -> Result<Ticket, Refusal> {
        self.half_open_locked(control, moment);
        let mut word = self.word();
        if word.phase() == Phase::HalfOpenFull && self.gate() <= moment.now() {
            word = self.write_off_probes_locked(control, word);
        }
        match word.phase() {
            Phase::HalfOpen => {
                let now = moment.now();
                control.episode_mut().newest_probe = now;
                self.store_probes_locked(control, word, word.count() + 1);
                Ok(Ticket { key: word.key(), began: now })
            }
            Phase::Closed | Phase::ForcedClosed => Ok(Ticket { key: word.key(), began: moment.now() }),
            phase => Err(self.refusal(phase, moment)),
        }
    }

    /// The change that is due when somebody asks after the open time has passed.
    pub(super) fn half_open_locked(&self, control: &mut Control, moment: &mut Moment<'_>) {
        let word = self.word();
        if word.phase() == Phase::Open && self.gate() <= moment.now() {
            let episode = control.episode_mut();
            episode.row = word.count();
            episode.successes = 0;
            self.enter_locked(control, Input::TimeoutElapsed, 0, || TransitionReason::TimeoutElapsed);
        }
    }

    /// All places are taken by probes that never came back: a new generation, whose places are free. What the others
    /// may still say is late.
    fn write_off_probes_locked(&self, control: &mut Control, word: Word) -> Word {
        let Some(phase) = table::next(word.phase(), Input::ProbesHung) else { return word };
        let fresh = word.entered(phase, 0);
        let episode = control.episode_mut();
        episode.write_offs = episode.write_offs.saturating_add(1);
        self.0.word.store(fresh.bits(), Ordering::Release);
        control.announce(&self.0.name, || EventKind::ProbesWrittenOff { probes: word.count() });
        fresh
    }

    /// So many probes are in flight. When all places are taken, the gate says when they will have hung too
    /// long.
    pub(super) fn store_probes_locked(&self, control: &Control, word: Word, probes: u32) {
        let full = probes >= control.config.half_open_max_calls();
        if full {
            let newest = control.episode().map_or(Timestamp::ORIGIN, |episode| episode.newest_probe);
            self.0.gate.store(newest.after(control.probe_timeout()).as_nanos(), Ordering::Release);
        }
        let input = if full { Input::PlacesTaken } else { Input::PlacesLeft };
        let Some(phase) = table::next(word.phase(), input) else { return };
        self.0.word.store(word.with_phase(phase).with_count(probes).bits(), Ordering::Release);
    }

    /// What a call is told in `phase`.
    pub(super) fn refusal(&self, phase: Phase, moment: &mut Moment<'_>) -> Refusal {
        match phase {
            Phase::ForcedOpen => Refusal::new(RefusalReason::Forced, None),
            Phase::HalfOpen | Phase::HalfOpenFull => Refusal::new(RefusalReason::HalfOpenFull, None),
            _ => Refusal::new(RefusalReason::Open, Some(self.gate().since(moment.now()))),
        }
    }
}
