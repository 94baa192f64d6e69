//! The words for events. Every driver tells its events in these, so that they compare.

use service_mesh_models::{RefusalReason, Transition, TransitionReason, TripReason, WindowKind};

/// A change of state: `closed -> open: consecutive_failures 5`, `closed -> open: failure_ratio 3/10 in count_window`,
/// `open -> half_open: timeout_elapsed`.
pub fn transition_words(transition: &Transition) -> String {
    let Transition { from, to, reason } = transition;
    let word = reason.as_str();
    let TransitionReason::Tripped(trip) = reason else {
        return format!("{from} -> {to}: {word}");
    };
    match trip {
        TripReason::ConsecutiveFailures { failures, .. } => format!("{from} -> {to}: {word} {failures}"),
        TripReason::FailureRatio { window, failures, calls, .. } => {
            format!("{from} -> {to}: {word} {failures}/{calls} in {}", window_word(*window))
        }
        TripReason::SlowCallRatio { window, slow, calls, .. } => {
            format!("{from} -> {to}: {word} {slow}/{calls} in {}", window_word(*window))
        }
        _ => format!("{from} -> {to}: {word}"),
    }
}

fn window_word(window: WindowKind) -> &'static str {
    match window {
        WindowKind::Count => "count_window",
        WindowKind::Time => "time_window",
    }
}

/// A refused call: `refused: open`. When to come back is told by the refusal itself.
pub fn refusal_words(reason: RefusalReason) -> String {
    format!("refused: {reason}")
}

/// A late verdict, `outcome` being `success` or `failure`: `late: failure`.
pub fn late_outcome_words(outcome: &str) -> String {
    format!("late: {outcome}")
}

/// Hung probes: `probes_written_off: 2`.
pub fn probes_written_off_words(probes: u32) -> String {
    format!("probes_written_off: {probes}")
}

/// A retry, after what came of the attempt before: `retry: a timed_out`.
pub fn retry_words(instance: &str, cause: &str) -> String {
    format!("retry: {instance} {cause}")
}

/// No retry, for lack of time: `given_up: past_deadline`.
pub fn given_up_words(reason: &str) -> String {
    format!("given_up: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use service_mesh_models::CircuitState::{Closed, HalfOpen, Open};

    #[test]
    fn a_trip_tells_its_counts() {
        let words = |from, to, reason| transition_words(&Transition { from, to, reason });
        let trip = TransitionReason::Tripped;
        assert_eq!(
            words(Closed, Open, trip(TripReason::ConsecutiveFailures { failures: 5, threshold: 3 })),
            "closed -> open: consecutive_failures 5"
        );
        assert_eq!(
            words(
                Closed,
                Open,
                trip(TripReason::SlowCallRatio { window: WindowKind::Time, slow: 2, calls: 4, ratio: 0.5 })
            ),
            "closed -> open: slow_call_ratio 2/4 in time_window"
        );
        assert_eq!(words(HalfOpen, Open, trip(TripReason::ProbeFailed)), "half_open -> open: probe_failed");
        assert_eq!(words(HalfOpen, Closed, TransitionReason::Recovered), "half_open -> closed: recovered");
    }
}
