"""Events in the words of the scenarios."""

from __future__ import annotations

from codomyrmex.service_mesh import CircuitEvent, CircuitState


def words(event: CircuitEvent) -> str | None:
    """The words for what happened; none for what the scenarios do not speak of."""
    match event.kind:
        case "transition":
            return _transition(event)
        case "refused":
            return f"refused: {event.reason}"
        case "late_outcome":
            return f"late: {event.outcome}"
        case "probes_written_off":
            return f"probes_written_off: {event.details['probes']}"
        case "retry":
            return f"retry: {event.details['instance']} {event.details['cause']}"
        case "given_up":
            return f"given_up: {event.reason}"
        case "ejection_capped" | "budget_exhausted" as kind:
            return kind
    return None


def is_trip(event: CircuitEvent) -> bool:
    return event.to_state is CircuitState.OPEN and event.reason != "forced_open"


def _transition(event: CircuitEvent) -> str:
    assert event.from_state is not None and event.to_state is not None
    said = f"{event.from_state.value} -> {event.to_state.value}: {event.reason}"
    details = event.details
    match event.reason:
        case "consecutive_failures":
            return f"{said} {details['failures']}"
        case "failure_ratio":
            return f"{said} {details['failures']}/{details['calls']} in {_window(details['window'])}"
        case "slow_call_ratio":
            return f"{said} {details['slow']}/{details['calls']} in {_window(details['window'])}"
    return said


def _window(kind: str) -> str:
    return kind if kind.endswith("_window") else f"{kind}_window"
