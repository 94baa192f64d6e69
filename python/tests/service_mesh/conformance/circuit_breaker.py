"""Plays scenarios of a circuit breaker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from .expect import mismatch, same, told
from .scenarios import Scenario, Step, step_by_step


@dataclass(frozen=True)
class Refusal:
    reason: str
    retry_after: float | None


@dataclass(frozen=True)
class Called:
    """`reply` came back, or the refusal; `state_during` is what the function read, if it ran."""

    reply: str | None
    refusal: Refusal | None
    state_during: str | None


class Driver(Protocol):
    def advance(self, seconds: float) -> None: ...
    def call(self, reply: str, takes: float) -> Called: ...
    def hold(self, call: str) -> Refusal | None: ...
    def end(self, call: str, reply: str) -> str: ...
    def cancel(self, call: str) -> None: ...
    def can_execute(self) -> bool: ...
    def record(self, outcome: str) -> None: ...
    def force(self, state: str) -> None: ...
    def reset(self) -> None: ...
    def update_config(self, config: dict[str, Any]) -> None: ...
    def reading(self) -> dict[str, Any]: ...
    def take_events(self) -> list[str]: ...


READINGS = ("state", "failure_count", "success_count", "half_open_calls", "late_outcomes")


def play(scenario: Scenario, driver: Driver) -> None:
    for step in step_by_step(scenario):
        _act(step, driver)
        reading, events = driver.reading(), driver.take_events()
        if "events" in step:
            same("events", step.take("events"), events)
        for key in READINGS:
            if key in step:
                same(key, step.take(key), reading[key])


def _act(step: Step, driver: Driver) -> None:
    times = step.take("times", 1)
    if "call" in step:
        reply, takes = step.take("call"), step.take("takes_seconds", 0.0)
        for _ in range(times):
            _judge(step, reply, driver.call(reply, takes))
    elif "hold" in step:
        _admission(step, driver.hold(step.take("hold")))
    elif "end" in step:
        reply = step.take("with")
        same("the caller got", reply, driver.end(step.take("end"), reply))
    elif "drop" in step:
        driver.cancel(step.take("drop"))
    elif "advance_seconds" in step:
        driver.advance(step.take("advance_seconds"))
    elif "can_execute" in step:
        same("can_execute", step.take("can_execute"), driver.can_execute())
    elif "record" in step:
        outcome = step.take("record")
        for _ in range(times):
            driver.record(outcome)
    elif "force" in step:
        driver.force(step.take("force"))
    elif "update_config" in step:
        driver.update_config(step.take("update_config"))
    elif step.take("reset"):
        driver.reset()
    else:
        raise AssertionError(f"no action in {step.table}")


def _judge(step: Step, reply: str, called: Called) -> None:
    if called.refusal is None:
        same("the caller got", reply, called.reply)
    _admission(step, called.refusal)
    same("the function ran", called.refusal is None, called.state_during is not None)
    if expected := step.take("state_during"):
        same("state_during", expected, called.state_during)


def _admission(step: Step, refusal: Refusal | None) -> None:
    reason, retry_after = step.take("refused"), step.take("retry_after_seconds")
    if refusal is None:
        if reason is not None:
            raise mismatch("the call", f"refused: {reason}", "admitted")
    elif reason is None:
        raise mismatch("the call", "admitted", f"refused: {refusal.reason}")
    else:
        same("refused", reason, refusal.reason)
        told("retry_after_seconds", retry_after, refusal.retry_after)
