"""The breaker against its model, on random timelines."""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codomyrmex.service_mesh import CircuitBreaker, CircuitBreakerConfig, CircuitOpenError, CircuitState, CountWindow
from codomyrmex.service_mesh.testing import ManualClock

from .reference import QUARTER, Circuit, Config, Permit, Refusal

# Hypothesis keeps its examples in one place for all threads.
pytestmark = pytest.mark.thread_unsafe(reason="hypothesis is not safe in several threads")

quarters = st.integers(0, 40)
windows = st.tuples(st.integers(1, 6), st.integers(1, 6), st.sampled_from([10, 25, 30, 33, 50, 60, 67, 100]))


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Small numbers, so that everything is reached often."""
    window = draw(st.none() | windows)
    timeout = draw(quarters)
    return Config(
        failure_threshold=draw(st.integers(1, 4)),
        success_threshold=draw(st.integers(1, 4)),
        timeout=timeout,
        half_open_max_calls=draw(st.integers(1, 3)),
        consecutive=window is None or draw(st.booleans()),
        multiplier=draw(st.integers(1, 3)),
        timeout_max=draw(st.none() | st.integers(timeout, timeout + 100)),
        probe_timeout=draw(st.none() | quarters),
        window=window,
    )


outcomes = st.sampled_from(["failure"] * 4 + ["success"] * 4 + ["neutral"])
steps = st.one_of(
    st.tuples(st.just("call"), outcomes),
    st.tuples(st.just("call"), outcomes),
    st.tuples(st.just("acquire"), st.none()),
    st.tuples(st.just("settle"), st.tuples(st.integers(0, 5), outcomes)),
    st.tuples(st.just("advance"), st.integers(0, 45)),
    st.tuples(st.just("advance to the next boundary"), st.integers(-1, 1)),
    st.tuples(st.just("record"), st.sampled_from(["success", "failure"])),
    st.tuples(st.just("can_execute"), st.none()),
    st.tuples(st.sampled_from(["force_open", "force_closed", "reset"]), st.none()),
    st.tuples(st.just("update_config"), configs()),
)


class Neutral(Exception):
    """Ignored by every configuration here."""


def config_of(config: Config) -> CircuitBreakerConfig:
    window = None
    if config.window:
        size, minimum, percent = config.window
        window = CountWindow(size=size, minimum_calls=minimum, failure_ratio=percent / 100)

    def seconds(quarters: int | None) -> float | None:
        return None if quarters is None else quarters * QUARTER

    return CircuitBreakerConfig(
        failure_threshold=config.failure_threshold,
        success_threshold=config.success_threshold,
        timeout_seconds=config.timeout * QUARTER,
        half_open_max_calls=config.half_open_max_calls,
        consecutive=config.consecutive,
        timeout_multiplier=float(config.multiplier),
        timeout_max_seconds=seconds(config.timeout_max),
        probe_timeout_seconds=seconds(config.probe_timeout),
        count_window=window,
        ignore=(Neutral,),
    )


def answer(outcome: str) -> None:
    if outcome == "failure":
        raise ConnectionError
    if outcome == "neutral":
        raise Neutral


class Pair:
    """The breaker and its model, which live through the same."""

    def __init__(self, config: Config) -> None:
        self.clock = ManualClock()
        self.now = 0
        self.breaker = CircuitBreaker("b", config_of(config), clock=self.clock)
        self.model = Circuit(config)
        self.held: list[tuple[Any, Permit]] = []

    def step(self, action: str, argument: Any) -> None:
        match action:
            case "call":
                self.call(argument)
            case "acquire":
                self.acquire()
            case "settle" if self.held:
                which, outcome = argument
                permit, expected = self.held.pop(which % len(self.held))
                if outcome == "neutral":
                    permit.release()
                else:
                    getattr(permit, outcome)()
                self.model.settle(expected, outcome, self.now)
            case "advance":
                self.advance_to(self.now + argument)
            case "advance to the next boundary":
                self.advance_to(max([self.now, *(time + argument for time in self.model.boundaries())]))
            case "record":
                getattr(self.breaker, f"record_{argument}")()
                self.model.record(argument, self.now)
            case "can_execute":
                assert self.breaker.can_execute() == self.model.can_execute(self.now)
            case "update_config":
                self.breaker.update_config(config_of(argument))
                self.model.update_config(argument)
            case "force_open" | "force_closed" | "reset":
                getattr(self.breaker, action)()
                getattr(self.model, action)()

    def advance_to(self, time: int) -> None:
        self.clock.advance((time - self.now) * QUARTER)
        self.now = time

    def call(self, outcome: str) -> None:
        expected = self.model.acquire(self.now)
        try:
            self.breaker.execute(answer, outcome)
            came = "success"
        except ConnectionError:
            came = "failure"
        except Neutral:
            came = "neutral"
        except CircuitOpenError as error:
            self.refused(expected, error)
            return
        assert came == outcome
        assert isinstance(expected, Permit), f"admitted instead of {expected}"
        self.model.settle(expected, outcome, self.now)

    def acquire(self) -> None:
        expected = self.model.acquire(self.now)
        try:
            permit = self.breaker.acquire()
        except CircuitOpenError as error:
            self.refused(expected, error)
            return
        assert isinstance(expected, Permit), f"admitted instead of {expected}"
        self.held.append((permit, expected))

    def refused(self, expected: Permit | Refusal, error: CircuitOpenError) -> None:
        assert isinstance(expected, Refusal), f"refused: {error.reason}"
        retry_after = None if expected.retry_after is None else expected.retry_after * QUARTER
        assert (error.reason, error.retry_after) == (expected.reason, retry_after)

    def check(self) -> None:
        expected = self.model.reading()
        reading = {key: getattr(self.breaker, key) for key in expected}
        reading["state"] = self.breaker.state.value
        assert reading == expected


@given(configs(), st.lists(steps, max_size=60))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_it_does_what_its_model_does(config: Config, timeline: list[tuple[str, Any]]) -> None:
    pair = Pair(config)
    for action, argument in timeline:
        pair.step(action, argument)
        pair.check()


@given(configs(), st.lists(st.lists(steps, max_size=25), min_size=2, max_size=2))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_two_threads_that_take_turns_see_one_breaker(config: Config, timelines: list[list[tuple[str, Any]]]) -> None:
    """Each step runs in the thread whose turn it is: what one did, the other sees."""
    pair = Pair(config)
    failures: list[BaseException] = []
    turn, finished = threading.Condition(), [False, False]
    whose = 0

    def run(me: int) -> None:
        nonlocal whose
        other = 1 - me
        try:
            for action, argument in timelines[me]:
                with turn:
                    turn.wait_for(lambda: whose == me or finished[other])  # noqa: B023  # it is to see who is next
                    if failures:
                        return
                    pair.step(action, argument)
                    pair.check()
                    whose = other
                    turn.notify_all()
        except BaseException as error:
            failures.append(error)
        finally:
            with turn:
                finished[me], whose = True, other
                turn.notify_all()

    threads = [threading.Thread(target=run, args=(me,)) for me in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


racing = st.lists(outcomes, min_size=1, max_size=40)


@given(configs(), st.lists(racing, min_size=2, max_size=2))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_two_threads_that_race_keep_its_laws(config: Config, calls: list[list[str]]) -> None:
    """Whatever the order: everybody gets a true answer, no more probes run than may, and all places come back."""
    config = dataclasses.replace(config, timeout=0, timeout_max=None, probe_timeout=1000)
    breaker = CircuitBreaker("b", config_of(config), clock=ManualClock())
    came: Counter[str] = Counter()
    counting = threading.Lock()
    failures: list[BaseException] = []
    start = threading.Barrier(2)

    def call(outcome: str) -> str:
        def function() -> None:
            if breaker.state is CircuitState.HALF_OPEN:
                assert breaker.half_open_calls <= config.half_open_max_calls
            answer(outcome)

        try:
            breaker.execute(function)
        except ConnectionError:
            return "failure"
        except Neutral:
            return "neutral"
        except CircuitOpenError as error:
            assert error.reason in ("open", "half_open_full")
            return "refused"
        return "success"

    def run(outcomes: list[str]) -> None:
        try:
            start.wait()
            for outcome in outcomes:
                got = call(outcome)
                assert got in (outcome, "refused")
                with counting:
                    came[got] += 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(outcomes,)) for outcomes in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    assert sum(came.values()) == sum(map(len, calls))
    assert breaker.half_open_calls == 0
