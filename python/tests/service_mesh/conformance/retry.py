"""Plays scenarios of a bare retry policy, and of a budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .expect import mismatch, row, same, within
from .replies import Reply
from .scenarios import Scenario, step_by_step


@dataclass(frozen=True)
class Executed:
    """`calls` runs of the function, the waits between them, what came back and from which run."""

    calls: int
    sleeps: list[float]
    came_back: str
    from_call: int


class Driver(Protocol):
    def advance(self, seconds: float) -> None: ...
    def execute(self, replies: list[Reply]) -> Executed: ...
    def delay(self, attempt: int) -> float: ...


class BudgetDriver(Protocol):
    def advance(self, seconds: float) -> None: ...
    def call(self) -> None: ...
    def retry(self) -> bool: ...


def play(scenario: Scenario, driver: Driver) -> None:
    for step in step_by_step(scenario):
        if "execute" in step:
            replies = [Reply.written(written) for written in step.take("execute")]
            for _ in range(step.take("times", 1)):
                executed = driver.execute(replies)
                same("calls", step.take("calls"), executed.calls)
                row("sleeps_seconds", step.take("sleeps_seconds"), executed.sleeps)
                same("returns", step.take("returns"), executed.came_back)
                same("the run whose answer came back", executed.calls, executed.from_call)
        elif "delay_of" in step:
            attempt = step.take("delay_of")
            delays = {driver.delay(attempt) for _ in range(step.take("draws", 1))}
            for delay in delays:
                within("seconds", step.take("seconds"), delay)
            if "varies" in step and step.take("varies") != (len(delays) > 1):
                raise mismatch("varies", step.take("varies"), f"{len(delays)} different delays")
        else:
            driver.advance(step.take("advance_seconds"))


def play_budget(scenario: Scenario, driver: BudgetDriver) -> None:
    for step in step_by_step(scenario):
        if "advance_seconds" in step:
            driver.advance(step.take("advance_seconds"))
        for _ in range(step.take("calls", 0)):
            driver.call()
        granted = sum(driver.retry() for _ in range(step.take("retries", 0)))
        same("granted", step.take("granted", 0), granted)
