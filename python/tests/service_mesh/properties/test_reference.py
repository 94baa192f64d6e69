"""The models are held against the scenarios, too: what says that the breaker is wrong must be right itself."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from ..conformance.circuit_breaker import Called, Refusal, play
from ..conformance.expect import Mismatch
from ..conformance.scenarios import Scenario, parameters, scenarios
from .reference import Circuit, Config, Permit
from .reference import Refusal as Refused

OUTCOMES = {
    "ok": "success",
    "error": "failure",
    "fatal": "failure",
    "ignored": "neutral",
    "accepted_error": "success",
    "bad_value": "failure",
    "try_later": "neutral",
    "refusal": "neutral",
    "panic": "failure",
}


def quarters(seconds: float) -> Fraction:
    return Fraction(str(seconds)) * 4


def config_of(table: dict[str, Any]) -> Config:
    fields: dict[str, Any] = {}
    for key, value in table.items():
        match key:
            case "timeout_seconds" | "timeout_max_seconds" | "probe_timeout_seconds":
                fields[key.removesuffix("_seconds")] = quarters(value)
            case "timeout_multiplier":
                fields["multiplier"] = Fraction(str(value))
            case "count_window" if value.keys() <= {"size", "minimum_calls", "failure_ratio"}:
                ratio = Fraction(str(value["failure_ratio"])) * 100
                fields["window"] = (value.get("size", 100), value.get("minimum_calls", 10), ratio)
            case "failure_threshold" | "success_threshold" | "half_open_max_calls" | "consecutive":
                fields[key] = value
            case _:
                pytest.skip(f"the model knows nothing of {key}")
    return Config(**fields)


class Model:
    def __init__(self, config: dict[str, Any]) -> None:
        self.now: Any = Fraction(0)
        self.circuit = Circuit(config_of(config))
        self.held: dict[str, Permit] = {}

    def refusal(self, refused: Refused) -> Refusal:
        retry_after = refused.retry_after
        return Refusal(refused.reason, None if retry_after is None else float(retry_after / 4))

    def advance(self, seconds: float) -> None:
        self.now += quarters(seconds)

    def call(self, reply: str, takes: float) -> Called:
        permit = self.circuit.acquire(self.now)
        if isinstance(permit, Refused):
            return Called(None, self.refusal(permit), None)
        state = self.circuit.state
        self.advance(takes)
        self.circuit.settle(permit, OUTCOMES[reply], self.now)
        return Called(reply, None, state)

    def hold(self, call: str) -> Refusal | None:
        permit = self.circuit.acquire(self.now)
        if isinstance(permit, Refused):
            return self.refusal(permit)
        self.held[call] = permit
        return None

    def end(self, call: str, reply: str) -> str:
        self.circuit.settle(self.held.pop(call), OUTCOMES[reply], self.now)
        return reply

    def cancel(self, call: str) -> None:
        self.circuit.settle(self.held.pop(call), "neutral", self.now)

    def can_execute(self) -> bool:
        return self.circuit.can_execute(self.now)

    def record(self, outcome: str) -> None:
        self.circuit.record(outcome, self.now)

    def force(self, state: str) -> None:
        getattr(self.circuit, f"force_{state}")()

    def reset(self) -> None:
        self.circuit.reset()

    def update_config(self, config: dict[str, Any]) -> None:
        self.circuit.update_config(config_of(config))

    def reading(self) -> dict[str, Any]:
        return self.circuit.reading()

    def take_events(self) -> list[str]:
        raise NotImplementedError


ALL = {"overlap", "cancel", "panic"}


@pytest.mark.parametrize("scenario", [*parameters("circuit_breaker.toml", ALL), *parameters("windows.toml", ALL)])
def test_the_model_keeps_the_scenario(scenario: Scenario) -> None:
    if "config_error" in scenario.table or "listener" in scenario.table:
        pytest.skip("the model checks and tells nothing")
    for step in scenario.steps:
        step.pop("events", None)
    model = Model(scenario.table.get("config", {}))
    model.take_events = list  # type: ignore[method-assign]
    play(scenario, model)


@pytest.mark.parametrize("fault", ["forgets a failure", "admits a probe too many", "counts late outcomes"])
def test_a_fault_of_the_model_is_found(fault: str) -> None:
    """The replayer is tested, too: what does not keep the rules does not pass."""
    found = 0
    for scenario in scenarios("circuit_breaker.toml"):
        if "config_error" in scenario.table or "listener" in scenario.table:
            continue
        for step in scenario.steps:
            step.pop("events", None)
        try:
            model = Model(scenario.table.get("config", {}))
        except pytest.skip.Exception:
            continue
        model.take_events = list  # type: ignore[method-assign]
        _break(model.circuit, fault)
        try:
            play(scenario, model)
        except (Mismatch, LookupError, AssertionError):
            found += 1
    assert found > 0


def _break(circuit: Circuit, fault: str) -> None:
    count, settle, refusal = circuit._count, circuit.settle, circuit.refusal
    forgotten = []

    def forgets(outcome: str, now: int) -> None:
        if outcome == "failure" and not forgotten:
            forgotten.append(outcome)
        else:
            count(outcome, now)

    def believes(permit: Permit, outcome: str, now: int) -> None:
        settle(Permit(circuit.generation, permit.is_probe), outcome, now)

    def admits(now: int) -> Any:
        refused = refusal(now)
        return None if refused and refused.reason == "half_open_full" else refused

    match fault:
        case "forgets a failure":
            circuit._count = forgets  # type: ignore[method-assign]
        case "admits a probe too many":
            circuit.refusal = admits  # type: ignore[method-assign]
        case _:
            circuit.settle = believes  # type: ignore[method-assign]
