"""The retry policy and its budget: `execute` and the decorator, sync and async."""

from __future__ import annotations

from typing import Any

import pytest

from codomyrmex.service_mesh import RetryBudget, RetryPolicy, with_retry
from codomyrmex.service_mesh.testing import ManualClock

from .replies import RETRY_PREDICATES, NestedRefusal, Replied, Reply, Value
from .retry import Executed, play, play_budget
from .scenarios import Scenario, parameters

# The dataclass has the seed's names; the policy file says the unit.
SEED_NAMES = {
    "initial_delay_seconds": "initial_delay",
    "max_delay_seconds": "max_delay",
    "retry_after_max_seconds": "retry_after_max",
}


def settings(table: dict[str, Any]) -> dict[str, Any]:
    return {SEED_NAMES.get(key, key): value for key, value in table.items()}


class Bare:
    """The driver: `execute`."""

    def __init__(self, scenario: Scenario) -> None:
        self.clock = ManualClock()
        budget = scenario.table.get("budget")
        self.policy = RetryPolicy(
            **settings(scenario.table.get("config", {})),
            **RETRY_PREDICATES,
            budget=None if budget is None else RetryBudget(**budget, clock=self.clock),
            clock=self.clock,
        )

    def run(self, function: Any) -> Any:
        return self.policy.execute(function)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def delay(self, attempt: int) -> float:
        return self.policy.get_delay(attempt)

    def execute(self, replies: list[Reply]) -> Executed:
        slept, runs = len(self.clock.sleeps), 0

        def function() -> Value:
            nonlocal runs
            reply = replies[min(runs, len(replies) - 1)]
            runs += 1
            self.clock.advance(reply.takes)
            return reply.answer(runs)

        came: Value | Replied | NestedRefusal
        try:
            came = self.run(function)
        except (Replied, NestedRefusal) as error:
            came = error
            noted = bool(getattr(error, "__notes__", ()))
            assert noted == (runs > 1), f"{runs} attempts, and the notes are {getattr(error, '__notes__', ())}"
        sleeps = [sleep for sleep in self.clock.sleeps[slept:] if sleep]
        return Executed(runs, sleeps, came.kind, came.run)


class Decorated(Bare):
    def run(self, function: Any) -> Any:
        return with_retry(self.policy)(function)()


class Async(Bare):
    def run(self, function: Any) -> Any:
        async def asynchronous() -> Any:
            return function()

        return self.clock.run(self.call(asynchronous))

    def call(self, asynchronous: Any) -> Any:
        return self.policy.execute(asynchronous)


class AsyncDecorated(Async):
    def call(self, asynchronous: Any) -> Any:
        return with_retry(self.policy)(asynchronous)()


class Blocks(Bare):
    """`for attempt in policy:`"""

    def run(self, function: Any) -> Any:
        result = None
        for attempt in self.policy:
            with attempt:
                result = attempt.judge(function())
        return result


class AsyncBlocks(Bare):
    """`async for attempt in policy:`"""

    def run(self, function: Any) -> Any:
        async def call() -> Any:
            result = None
            async for attempt in self.policy:
                async with attempt:
                    result = attempt.judge(function())
            return result

        return self.clock.run(call())


@pytest.mark.parametrize("driver", [Bare, Decorated, Blocks, Async, AsyncDecorated, AsyncBlocks])
@pytest.mark.parametrize("scenario", parameters("retry.toml", set()))
def test_the_scenario_holds(driver: type[Bare], scenario: Scenario) -> None:
    scenario.only("config", "config_error", "budget")
    if field := scenario.table.get("config_error"):
        with pytest.raises(ValueError, match=field.removesuffix("_seconds")):
            driver(scenario)
        return
    play(scenario, driver(scenario))


class Budget:
    """A budget, asked by policies of one retry each."""

    def __init__(self, scenario: Scenario) -> None:
        self.clock = ManualClock()
        self.budget = RetryBudget(**scenario.table.get("config", {}), clock=self.clock)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def call(self) -> None:
        self.budget.deposit()

    def retry(self) -> bool:
        return self.budget.withdraw()


@pytest.mark.parametrize("scenario", parameters("budget.toml", set()))
def test_the_scenario_of_a_budget_holds(scenario: Scenario) -> None:
    scenario.only("config", "config_error")
    if field := scenario.table.get("config_error"):
        with pytest.raises(ValueError, match=field):
            Budget(scenario)
        return
    play_budget(scenario, Budget(scenario))


def test_nothing_is_skipped_but_what_panics() -> None:
    skipped = [parameter.id for parameter in parameters("retry.toml", set()) if parameter.marks]
    assert skipped == ["a panic goes on unwinding and is not tried again"]
