//! The packed state of a breaker: one word that a call in Closed reads and, if all goes well, never writes.
//!
//! ```text
//!  63   61 60                          24 23                 0
//! ┌───────┬──────────────────────────────┬────────────────────┐
//! │ phase │          generation          │       count        │
//! └───────┴──────────────────────────────┴────────────────────┘
//! ```
//!
//! - The *phase* is the state, told apart by whether it is forced and whether a half-open circuit has a place left.
//! - The *generation* changes with every change of state, so that an answer to an older one is known as such
//!   (the idea is gobreaker's). 37 bits wrap after 1.5 days at a million transitions a second.
//! - The *count* is the failures in a row in Closed, the row that tripped in Open, the probes in flight in `HalfOpen`.
//!
//! Invariants: the generation changes with every transition; in `HalfOpen` the count is at most
//! `half_open_max_calls`, and at that number the phase is `HalfOpenFull`.

use service_mesh_models::CircuitState;

const COUNT_BITS: u32 = 24;
const GENERATION_BITS: u32 = 37;
const PHASE_SHIFT: u32 = COUNT_BITS + GENERATION_BITS;

/// The largest count.
pub(super) const COUNT_MAX: u32 = (1 << COUNT_BITS) - 1;

/// A state, and what the hot path must know of it. The two that let calls pass come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Calls pass; failures are counted and judged.
    Closed = 0,
    /// Calls pass; failures are counted, never judged.
    ForcedClosed = 1,
    /// Calls are refused until the gate's time.
    Open = 2,
    /// Calls are refused.
    ForcedOpen = 3,
    /// A probe may be taken.
    HalfOpen = 4,
    /// All probes are taken; calls are refused until the gate's time, when the probes have hung too long.
    HalfOpenFull = 5,
}

impl Phase {
    /// Every phase.
    pub(super) const ALL: [Self; 6] =
        [Self::Closed, Self::ForcedClosed, Self::Open, Self::ForcedOpen, Self::HalfOpen, Self::HalfOpenFull];

    /// What a user is told.
    pub(super) const fn state(self) -> CircuitState {
        match self {
            Self::Closed | Self::ForcedClosed => CircuitState::Closed,
            Self::Open | Self::ForcedOpen => CircuitState::Open,
            Self::HalfOpen | Self::HalfOpenFull => CircuitState::HalfOpen,
        }
    }

    /// Whether calls pass without being counted in.
    #[inline]
    pub(super) const fn passes(self) -> bool {
        matches!(self, Self::Closed | Self::ForcedClosed)
    }

    /// Whether a call that passes is a probe.
    #[inline]
    pub(super) const fn probes(self) -> bool {
        matches!(self, Self::HalfOpen | Self::HalfOpenFull)
    }
}

/// Phase, generation and count in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(u64);

impl Word {
    /// Closed, nothing counted, the first generation.
    pub(super) const NEW: Self = Self(0);

    #[inline]
    pub(super) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline]
    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(super) const fn phase(self) -> Phase {
        Phase::ALL[(self.0 >> PHASE_SHIFT) as usize]
    }

    #[inline]
    pub(super) const fn generation(self) -> u64 {
        (self.0 >> COUNT_BITS) & ((1 << GENERATION_BITS) - 1)
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the count is the low 24 bits")]
    pub(super) const fn count(self) -> u32 {
        self.0 as u32 & COUNT_MAX
    }

    /// Everything but the count: two words of one key differ in their count only.
    #[inline]
    pub(super) const fn key(self) -> u64 {
        self.0 >> COUNT_BITS
    }

    /// The key that is the same as `bits` where that is one of a phase in which calls pass: those two phases come first.
    #[inline]
    pub(super) const fn passing_key(bits: u64) -> u64 {
        bits & ((1 << (GENERATION_BITS + 1)) - 1)
    }

    /// The word of this key whose count is 0.
    #[inline]
    pub(super) const fn of_key(key: u64) -> Self {
        Self(key << COUNT_BITS)
    }

    /// The same state with another count.
    #[inline]
    pub(super) fn with_count(self, count: u32) -> Self {
        debug_assert!(count <= COUNT_MAX, "a count must not reach into the generation");
        Self(self.0 & !u64::from(COUNT_MAX) | u64::from(count))
    }

    /// The same generation in another phase.
    pub(super) fn with_phase(self, phase: Phase) -> Self {
        let rest = self.0 & ((1 << PHASE_SHIFT) - 1);
        Self(rest | (phase as u64) << PHASE_SHIFT)
    }

    /// The next generation, in this phase, with this count.
    pub(super) fn entered(self, phase: Phase, count: u32) -> Self {
        let generation = (self.generation() + 1) & ((1 << GENERATION_BITS) - 1);
        Self((phase as u64) << PHASE_SHIFT | generation << COUNT_BITS).with_count(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_do_not_touch() {
        let mut word = Word::NEW;
        for (steps, phase) in (1..).zip(Phase::ALL) {
            word = word.entered(phase, COUNT_MAX);
            assert_eq!((word.phase(), word.generation(), word.count()), (phase, steps, COUNT_MAX));
            assert_eq!(Word::of_key(word.key()), word.with_count(0));
        }
        let other = word.with_phase(Phase::Open);
        assert_eq!((other.phase(), other.generation(), other.count()), (Phase::Open, 6, COUNT_MAX));
    }

    #[test]
    fn a_passing_key_is_one_whatever_it_is_made_of() {
        for phase in [Phase::Closed, Phase::ForcedClosed] {
            let key = Word::NEW.entered(phase, 0).key();
            assert_eq!(Word::passing_key(key), key);
        }
        assert!(Word::of_key(Word::passing_key(u64::MAX)).phase().passes());
    }

    #[test]
    fn the_generation_wraps_into_nothing_else() {
        let last = Word::from_bits(((1 << GENERATION_BITS) - 1) << COUNT_BITS);
        assert_eq!(last.entered(Phase::HalfOpen, 3).generation(), 0);
        assert_eq!(last.entered(Phase::HalfOpen, 3).phase(), Phase::HalfOpen);
    }
}
