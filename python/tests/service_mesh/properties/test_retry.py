"""The retry policy and its budget against their models."""

from __future__ import annotations

import threading
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codomyrmex.service_mesh import RetryBudget, RetryPolicy
from codomyrmex.service_mesh.testing import ManualClock

from .reference import QUARTER, Budget, delay

pytestmark = pytest.mark.thread_unsafe(reason="hypothesis is not safe in several threads")

seconds = st.sampled_from([0.0, 0.125, 0.25, 0.5, 1.0, 3.0, 10.0, 86400.0])
bases = st.sampled_from([1.0, 1.5, 2.0, 10.0])
attempts = st.integers(0, 70) | st.sampled_from([1023, 1024, 2**31, 2**32 - 1])
ratios = st.sampled_from(["0", "0.1", "0.2", "0.3", "0.5", "1"])
floors = st.sampled_from(["0", "0.1", "0.5", "1"])


@given(attempts, seconds, bases, seconds)
@settings(deadline=None)
def test_a_delay_is_the_models(attempt: int, first: float, base: float, longest: float) -> None:
    policy = RetryPolicy(initial_delay=first, exponential_base=base, max_delay=longest, jitter=False)
    expected = delay(attempt, Fraction(first), Fraction(base), Fraction(longest))
    assert policy.get_delay(attempt) == pytest.approx(float(expected), abs=1e-9)


@given(attempts, seconds, bases, seconds, st.sampled_from([True, "full", "equal", "decorrelated"]))
@settings(deadline=None)
def test_jitter_stays_within_its_bounds(
    attempt: int, first: float, base: float, longest: float, jitter: bool | str
) -> None:
    policy = RetryPolicy(initial_delay=first, exponential_base=base, max_delay=longest, jitter=jitter)
    backoff = float(delay(attempt, Fraction(first), Fraction(base), Fraction(longest)))
    least = {True: backoff / 2, "full": 0, "equal": backoff / 2, "decorrelated": min(first, longest)}[jitter]
    greatest = {True: backoff * 1.5, "full": backoff, "equal": backoff, "decorrelated": longest}[jitter]
    for _ in range(5):
        assert least - 1e-9 <= policy.get_delay(attempt) <= min(greatest, longest) + 1e-9


@given(st.integers(0, 6), st.integers(0, 9), seconds)
@settings(deadline=None)
def test_an_execution_runs_as_often_as_it_must(retries: int, failures: int, first: float) -> None:
    clock = ManualClock()
    policy = RetryPolicy(max_retries=retries, initial_delay=first, jitter=False, clock=clock)
    runs = 0

    def flaky() -> int:
        nonlocal runs
        runs += 1
        if runs <= failures:
            raise ConnectionError(runs)
        return runs

    if failures <= retries:
        assert policy.execute(flaky) == failures + 1
    else:
        with pytest.raises(ConnectionError) as last:
            policy.execute(flaky)
        assert last.value.args == (runs,)
    assert runs == min(failures, retries) + 1
    expected = [float(delay(attempt, Fraction(first), Fraction(2), Fraction(10))) for attempt in range(runs - 1)]
    assert [wait for wait in clock.sleeps if wait] == pytest.approx([wait for wait in expected if wait])


happenings = st.lists(st.one_of(st.just("call"), st.just("retry"), st.integers(0, 44)), max_size=120)


@given(ratios, floors, happenings)
@settings(deadline=None)
def test_a_budget_keeps_its_law(ratio: str, floor: str, timeline: list[str | int]) -> None:
    clock, now = ManualClock(), 0
    budget = RetryBudget(ratio=float(ratio), floor_per_second=float(floor), clock=clock)
    law = Budget(Fraction(ratio), Fraction(floor))
    policy = RetryPolicy(max_retries=1, initial_delay=0, budget=budget, clock=clock)
    for happening in timeline:
        if isinstance(happening, int):
            clock.advance(happening * QUARTER)
            now += happening
        elif happening == "call":
            policy.execute(lambda: None)
            law.calls.append(now)
        else:
            runs = _failing(policy)
            law.calls.append(now)
            law.retries += [now] * (runs - 1)
        assert law.holds()


@given(ratios, floors, st.integers(1, 60))
@settings(deadline=None, max_examples=30)
def test_two_threads_keep_the_law_of_one_budget(ratio: str, floor: str, calls: int) -> None:
    clock = ManualClock()
    budget = RetryBudget(ratio=float(ratio), floor_per_second=float(floor), clock=clock)
    policy = RetryPolicy(max_retries=1, initial_delay=0, budget=budget, clock=clock)
    retries = [0, 0]

    def run(me: int) -> None:
        for _ in range(calls):
            retries[me] += _failing(policy) - 1

    threads = [threading.Thread(target=run, args=(me,)) for me in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Budget(Fraction(ratio), Fraction(floor), [0] * 2 * calls, [0] * sum(retries)).holds()


def _failing(policy: RetryPolicy) -> int:
    """How often a function runs that always fails."""
    runs = 0

    def fails() -> None:
        nonlocal runs
        runs += 1
        raise ConnectionError

    with pytest.raises(ConnectionError):
        policy.execute(fails)
    return runs
