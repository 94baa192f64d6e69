//! Events in the words of the scenarios.

use service_mesh::EventKind;
use service_mesh_conformance::{
    given_up_words, late_outcome_words, probes_written_off_words, refusal_words, retry_words, transition_words,
};

/// The words for what happened; none for what the scenarios do not speak of.
pub(super) fn words(kind: &EventKind) -> Option<String> {
    Some(match kind {
        EventKind::Transition(transition) => transition_words(transition),
        EventKind::Refused { reason, .. } => refusal_words(*reason),
        EventKind::LateOutcome(outcome) => late_outcome_words(outcome.as_str()),
        EventKind::ProbesWrittenOff { probes } => probes_written_off_words(*probes),
        EventKind::EjectionCapped => "ejection_capped".to_owned(),
        EventKind::Retry { instance, cause, .. } => retry_words(instance, cause.as_str()),
        EventKind::GivenUp { reason, .. } => given_up_words(reason.as_str()),
        EventKind::BudgetExhausted => "budget_exhausted".to_owned(),
        _ => return None,
    })
}
