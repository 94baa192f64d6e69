"""The circuit breaker: its permits, `execute` and the decorator, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import pytest

from codomyrmex.service_mesh import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    CountWindow,
    TimeWindow,
    with_circuit_breaker,
)
from codomyrmex.service_mesh.testing import ManualClock

from . import events
from .circuit_breaker import READINGS, Called, Refusal, play
from .replies import BREAKER_PREDICATES, NestedRefusal, Replied, Reply, Value
from .scenarios import Scenario, parameters
from .turns import Turns


def config_of(table: dict[str, Any]) -> CircuitBreakerConfig:
    """The words of the policy file are those of the dataclass."""
    fields: dict[str, Any] = dict(table)
    if "count_window" in fields:
        fields["count_window"] = CountWindow(**fields["count_window"])
    if "time_window" in fields:
        fields["time_window"] = TimeWindow(**fields["time_window"])
    return CircuitBreakerConfig(**fields, **BREAKER_PREDICATES)


def refusal(error: CircuitOpenError) -> Refusal:
    assert error.reason is not None
    return Refusal(error.reason, error.retry_after)


def reading(breaker: CircuitBreaker) -> dict[str, Any]:
    read = {key: getattr(breaker, key) for key in READINGS}
    read["state"] = breaker.state.value
    return read


class Runs:
    """What a call says when its function runs."""

    def __init__(self, state: str) -> None:
        self.state = state


class Permit:
    """A call by hand."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.permit = breaker.acquire()
        self.state = breaker.state.value

    def end(self, reply: str) -> str:
        if reply == "bad_value":  # a block has no result
            self.permit.failure()
            return reply
        try:
            with self.permit:
                return Reply(reply).answer().kind
        except (Replied, NestedRefusal) as error:
            return error.kind

    def cancel(self) -> None:
        del self.permit


class Thread:
    """`execute`, each call on a thread of its own."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        def run(turns: Turns) -> Any:
            try:
                return self.call(breaker, lambda: Reply(turns.ask(Runs(breaker.state.value))).answer())
            except (Replied, NestedRefusal, CircuitOpenError) as error:
                return error

        self.turns = Turns(run)
        said = self.turns.listen()
        if not isinstance(said, Runs):
            raise said
        self.state = said.state

    def call(self, breaker: CircuitBreaker, function: Any) -> Any:
        return breaker.execute(function)

    def end(self, reply: str) -> str:
        came: Value | Replied = self.turns.tell(reply)
        return came.kind

    def cancel(self) -> None:
        raise NotImplementedError


class DecoratedThread(Thread):
    """A decorated function."""

    def call(self, breaker: CircuitBreaker, function: Any) -> Any:
        return with_circuit_breaker(breaker)(function)()


class Mailbox:
    """Awaited, it waits until something is there."""

    def __init__(self) -> None:
        self.put: str | None = None

    def __await__(self) -> Generator[None, None, str]:
        while self.put is None:
            yield
        return self.put


class Coroutine:
    """`execute` of a coroutine function, each coroutine resumed by hand."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.mailbox = Mailbox()
        self.state: str | None = None

        async def function() -> Value:
            self.state = breaker.state.value
            return Reply(await self.mailbox).answer()

        self.coroutine = self.call(breaker, function)
        self.coroutine.send(None)

    def call(self, breaker: CircuitBreaker, function: Any) -> Any:
        return breaker.execute(function)

    def end(self, reply: str) -> str:
        self.mailbox.put = reply
        try:
            self.coroutine.send(None)
        except StopIteration as returned:
            return returned.value.kind
        except (Replied, NestedRefusal) as error:
            return error.kind
        raise AssertionError("the function has answered, and the call goes on")

    def cancel(self) -> None:
        with pytest.raises(asyncio.CancelledError):
            self.coroutine.throw(asyncio.CancelledError())


class DecoratedCoroutine(Coroutine):
    """A decorated coroutine function, which is closed where it is cancelled."""

    def call(self, breaker: CircuitBreaker, function: Any) -> Any:
        return with_circuit_breaker(breaker)(function)()

    def cancel(self) -> None:
        self.coroutine.close()


class Circuit:
    """The driver; `running` is how a call is made."""

    def __init__(self, running: type[Any], scenario: Scenario) -> None:
        self.running = running
        self.clock = ManualClock()
        self.breaker = CircuitBreaker("b", config_of(scenario.table.get("config", {})), clock=self.clock)
        self.heard: list[Any] = []
        self.held: dict[str, Any] = {}
        match scenario.table.get("listener"):
            case "panics":
                self.breaker.subscribe(_panics)
            case "resets":
                self.breaker.subscribe(self.resets)
        self.breaker.subscribe(self.heard.append)

    def resets(self, event: Any) -> None:
        if events.is_trip(event):
            self.breaker.reset()

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def call(self, reply: str, takes: float) -> Called:
        try:
            running = self.running(self.breaker)
        except CircuitOpenError as error:
            return Called(None, refusal(error), None)
        self.clock.advance(takes)
        return Called(running.end(reply), None, running.state)

    def hold(self, call: str) -> Refusal | None:
        try:
            self.held[call] = self.running(self.breaker)
        except CircuitOpenError as error:
            return refusal(error)
        return None

    def end(self, call: str, reply: str) -> str:
        return self.held.pop(call).end(reply)

    def cancel(self, call: str) -> None:
        self.held.pop(call).cancel()

    def can_execute(self) -> bool:
        return self.breaker.can_execute()

    def record(self, outcome: str) -> None:
        getattr(self.breaker, f"record_{outcome}")()

    def force(self, state: str) -> None:
        getattr(self.breaker, f"force_{state}")()

    def reset(self) -> None:
        self.breaker.reset()

    def update_config(self, config: dict[str, Any]) -> None:
        self.breaker.update_config(config_of(config))

    def reading(self) -> dict[str, Any]:
        return reading(self.breaker)

    def take_events(self) -> list[str]:
        heard, self.heard[:] = self.heard.copy(), []
        return [words for event in heard if (words := events.words(event)) is not None]


def _panics(event: object) -> None:
    raise RuntimeError("a listener")


CAN = {
    # What unwinds through a function in Python and is no `Exception` is an interruption, and neutral: nobody panics.
    Permit: {"overlap", "cancel"},
    # A function that runs on a thread cannot be dropped.
    Thread: {"overlap"},
    DecoratedThread: {"overlap"},
    Coroutine: {"overlap", "cancel"},
    DecoratedCoroutine: {"overlap", "cancel"},
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("running", "scenario"),
    [
        pytest.param(running, *parameter.values, id=f"{running.__name__}: {parameter.id}", marks=parameter.marks)
        for running, can in CAN.items()
        for file in ("circuit_breaker.toml", "windows.toml")
        for parameter in parameters(file, can)
    ],
)
def test_the_scenario_holds(running: type[Any], scenario: Scenario) -> None:
    scenario.only("config", "config_error", "listener")
    if field := scenario.table.get("config_error"):
        # A keyword that nobody knows is a TypeError, as everywhere in Python.
        with pytest.raises((ValueError, TypeError), match=field):
            config_of(scenario.table["config"])
        return
    play(scenario, Circuit(running, scenario))


def test_nothing_is_skipped_but_what_is_declared() -> None:
    files = ("circuit_breaker.toml", "windows.toml")
    panics = [
        "a panic is a failure and goes on unwinding",
        "a probe that panics trips it again and leaves no place taken",
    ]
    cancelled = [
        "a cancelled probe gives its place back and counts nothing",
        "a cancelled call neither counts nor clears the row",
        "a probe that was written off takes no place with it when it goes",
        "what ends late without a verdict is not counted as late",
    ]
    for running, can in CAN.items():
        skipped = {parameter.id for file in files for parameter in parameters(file, can) if parameter.marks}
        assert skipped == {*panics, *([] if "cancel" in can else cancelled)}, running
