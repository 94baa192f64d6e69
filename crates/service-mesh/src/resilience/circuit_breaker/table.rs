//! The transition table: what each thing that happens makes of each phase. Nothing else decides that.

use super::state::Phase;

/// What can happen to a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// A rule was reached.
    RuleReached,
    /// Somebody asked, and the open time has passed.
    TimeoutElapsed,
    /// A probe came or went, and now all places are taken.
    PlacesTaken,
    /// A probe came or went, and now there are places left.
    PlacesLeft,
    /// A probe failed.
    ProbeFailed,
    /// The last success that was needed has come.
    EnoughSuccesses,
    /// Somebody asked, and all probes have hung too long.
    ProbesHung,
    /// By hand: refuse everything.
    ForceOpen,
    /// By hand: let everything pass.
    ForceClosed,
    /// By hand: start anew, on automatic.
    Reset,
    /// By hand: be Open, as after a trip.
    AssignOpen,
    /// By hand: be half-open, as when the open time has passed.
    AssignHalfOpen,
}

impl Input {
    /// Everything that can happen.
    #[cfg(test)]
    const ALL: [Self; 12] = [
        Self::RuleReached,
        Self::TimeoutElapsed,
        Self::PlacesTaken,
        Self::PlacesLeft,
        Self::ProbeFailed,
        Self::EnoughSuccesses,
        Self::ProbesHung,
        Self::ForceOpen,
        Self::ForceClosed,
        Self::Reset,
        Self::AssignOpen,
        Self::AssignHalfOpen,
    ];
}

/// The phase that follows, or none where the input means nothing.
pub(super) const fn next(phase: Phase, input: Input) -> Option<Phase> {
    use Phase::{Closed, ForcedClosed, ForcedOpen, HalfOpen, HalfOpenFull, Open};
    match (phase, input) {
        (Closed, Input::RuleReached) | (HalfOpen | HalfOpenFull, Input::ProbeFailed) | (_, Input::AssignOpen) => {
            Some(Open)
        }
        (_, Input::AssignHalfOpen)
        | (Open, Input::TimeoutElapsed)
        | (HalfOpenFull, Input::ProbesHung)
        | (HalfOpen | HalfOpenFull, Input::PlacesLeft) => Some(HalfOpen),
        (HalfOpen | HalfOpenFull, Input::PlacesTaken) => Some(HalfOpenFull),
        (HalfOpen | HalfOpenFull, Input::EnoughSuccesses) | (_, Input::Reset) => Some(Closed),
        (_, Input::ForceOpen) => Some(ForcedOpen),
        (_, Input::ForceClosed) => Some(ForcedClosed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    #[test]
    fn every_phase_and_every_input() {
        let mut table = format!("{:17}", "");
        for phase in Phase::ALL {
            write!(table, "{:14}", format!("{phase:?}")).unwrap();
        }
        for input in Input::ALL {
            write!(table, "\n{:17}", format!("{input:?}")).unwrap();
            for phase in Phase::ALL {
                let entry = next(phase, input).map_or_else(|| "·".to_owned(), |next| format!("{next:?}"));
                write!(table, "{entry:14}").unwrap();
            }
        }
        let table = table.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        insta::assert_snapshot!(table);
    }
}
