"""The retry policy as a Python object: what the scenarios of `conformance/` do not speak of."""

from __future__ import annotations

import asyncio
import copy
import email.message
import email.utils
import inspect
import pickle
import threading
import time
import urllib.error
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from codomyrmex.service_mesh import CircuitOpenError, ConfigError, RetryBudget, RetryPolicy, with_retry
from codomyrmex.service_mesh.retry import retry_after_of
from codomyrmex.service_mesh.testing import ManualClock


class Flaky:
    """Fails so many times, then gives back how often it was called."""

    def __init__(self, failures: int, error: type[BaseException] = ConnectionError) -> None:
        self.failures, self.error, self.calls = failures, error, 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error(f"failure {self.calls}")
        return self.calls


def test_fields_are_the_seeds_in_its_order_and_may_be_assigned() -> None:
    policy = RetryPolicy(1, 2.0, 3.0, 4.0, False)
    assert (policy.max_retries, policy.initial_delay, policy.max_delay) == (1, 2.0, 3.0)
    assert (policy.exponential_base, policy.jitter) == (4.0, False)
    assert (
        repr(policy)
        == "RetryPolicy(max_retries=1, initial_delay=2.0, max_delay=3.0, exponential_base=4.0, jitter=False)"
    )
    policy.max_retries, policy.initial_delay, policy.max_delay = 5, timedelta(seconds=1), 100
    policy.exponential_base, policy.jitter = 3, "none"
    assert [policy.get_delay(attempt) for attempt in range(6)] == [1.0, 3.0, 9.0, 27.0, 81.0, 100.0]
    assert RetryPolicy().jitter is True
    assert RetryPolicy(jitter="full").jitter == "full"


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("max_retries", -1, ValueError),
        ("max_retries", 1.5, TypeError),
        ("initial_delay", -0.1, ValueError),
        ("max_delay", float("inf"), ValueError),
        ("exponential_base", 0.5, ValueError),
        ("jitter", "some", ValueError),
        ("jitter", None, TypeError),
        ("on", "OSError", TypeError),
        ("failed_result", 503, TypeError),
    ],
)
def test_a_wrong_value_is_refused_and_changes_nothing(field: str, value: Any, error: type[Exception]) -> None:
    policy = RetryPolicy()
    before = repr(policy)
    with pytest.raises(error, match=field):
        setattr(policy, field, value)
    assert repr(policy) == before
    with pytest.raises(error, match=field):
        RetryPolicy(**{field: value})


def test_none_is_no_number_and_not_the_default_either() -> None:
    for kind, names in (
        (RetryBudget, ["ratio", "floor_per_second"]),
        (RetryPolicy, ["max_retries", "initial_delay", "max_delay", "exponential_base", "jitter", "retry_after_max"]),
        (RetryPolicy, ["on", "ignore"]),
    ):
        for name in names:
            with pytest.raises(TypeError, match=f"^{name} must be .*, not NoneType$"):
                kind(**{name: None})
    with pytest.raises(TypeError, match="^max_retries must be an int, not NoneType$"):
        with_retry(max_retries=None)


def test_a_mistyped_jitter_or_argument_is_told_with_the_word_that_was_meant() -> None:
    policy = RetryPolicy()
    wrong: dict[str, Any] = {"jitter": "ful"}
    for refused in (lambda: RetryPolicy(**wrong), lambda: setattr(policy, "jitter", "ful")):
        with pytest.raises(ConfigError) as raised:
            refused()
        words = "True, False, 'none', 'proportional', 'full', 'equal', 'decorrelated'"
        assert str(raised.value) == f"jitter is 'ful'; allowed: {words}; did you mean 'full'?"
        assert (raised.value.field, raised.value.value, raised.value.allowed) == ("jitter", "'ful'", words)
    wrong = {"max_retires": 1}
    with pytest.raises(TypeError) as refusal:
        RetryPolicy(**wrong)
    text = "RetryPolicy() got an unexpected keyword argument 'max_retires'; did you mean 'max_retries'?"
    assert str(refusal.value) == text


def test_a_second_init_is_all_or_nothing() -> None:
    policy = RetryPolicy(1, on=ValueError)
    with pytest.raises(TypeError, match="ignore"):
        policy.__init__(2, on=KeyError, ignore=5)  # type: ignore[misc, arg-type]
    assert (policy.max_retries, policy.on, policy.ignore) == (1, ValueError, ())
    policy.__init__(2)  # type: ignore[misc]
    assert (policy.max_retries, policy.on) == (2, Exception)


def test_an_error_comes_back_itself_and_is_noted_only_after_several_attempts(manual_clock: ManualClock) -> None:
    error = ConnectionError("down")

    def failing() -> None:
        raise error

    with pytest.raises(ConnectionError) as raised:
        RetryPolicy(max_retries=0).execute(failing)
    assert raised.value is error and not hasattr(error, "__notes__")
    with pytest.raises(ConnectionError) as raised:
        RetryPolicy(max_retries=2, clock=manual_clock).execute(failing)
    assert raised.value is error
    assert error.__notes__ == ["the call failed after 3 attempts"]
    assert error.__context__ is None


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_an_interruption_is_not_tried_again(interruption: type[BaseException]) -> None:
    flaky = Flaky(3, interruption)
    with pytest.raises(interruption):
        RetryPolicy(initial_delay=0, on=lambda error: True).execute(flaky)
    assert flaky.calls == 1


def test_nobody_waits_on_a_refusal(manual_clock: ManualClock) -> None:
    flaky = Flaky(3, CircuitOpenError)
    with pytest.raises(CircuitOpenError):
        RetryPolicy(clock=manual_clock).execute(flaky)
    assert (flaky.calls, manual_clock.sleeps) == (1, [])


def test_predicates_say_what_is_tried_again() -> None:
    policy = RetryPolicy(initial_delay=0, on=(OSError, lambda error: "busy" in str(error)), ignore=FileNotFoundError)
    assert policy.execute(Flaky(2)) == 3
    for error in (FileNotFoundError, ValueError):
        flaky = Flaky(1, error)
        with pytest.raises(error):
            policy.execute(flaky)
        assert flaky.calls == 1
    policy.ignore = ()
    assert policy.execute(Flaky(1, FileNotFoundError)) == 2


def test_a_predicate_that_raises_is_heard_and_ends_the_call() -> None:
    def broken(_: object) -> bool:
        raise RuntimeError("predicate")

    flaky = Flaky(3)
    with pytest.raises(RuntimeError, match="predicate") as raised:
        RetryPolicy(initial_delay=0, on=broken).execute(flaky)
    assert isinstance(raised.value.__context__, ConnectionError)
    assert flaky.calls == 1


def test_the_last_bad_result_is_a_result() -> None:
    policy = RetryPolicy(max_retries=2, initial_delay=0, failed_result=lambda calls: calls < 9)
    flaky = Flaky(0)
    assert policy.execute(flaky) == 3
    assert with_retry(policy)(Flaky(0))() == 3


def test_a_wait_is_time_sleep_looked_up_when_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    policy = RetryPolicy(jitter=False)
    monkeypatch.setattr(time, "sleep", waits.append)
    assert policy.execute(Flaky(2)) == 3
    assert with_retry(policy)(Flaky(1))() == 2
    assert waits == [0.1, 0.2, 0.1]


def test_an_async_wait_is_asyncio_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    flaky = Flaky(2)

    @with_retry(jitter=False)
    async def call() -> int:
        return flaky()

    assert asyncio.run(call()) == 3
    assert waits == [0.1, 0.2]


def test_under_trio_a_wait_is_trios() -> None:
    trio = pytest.importorskip("trio")
    clock = __import__("trio.testing").testing.MockClock(autojump_threshold=0)
    flaky = Flaky(2)

    @with_retry(jitter=False, initial_delay=100, max_delay=1000)
    async def call() -> int:
        return flaky()

    async def main() -> float:
        began = trio.current_time()
        assert await call() == 3
        return float(trio.current_time() - began)

    assert trio.run(main, clock=clock) == pytest.approx(300)


def test_others_run_while_a_thread_waits() -> None:
    waiting, ended = threading.Event(), threading.Event()

    class Waits(ManualClock):
        def sleep(self, seconds: Any) -> None:
            waiting.set()
            assert ended.wait(10)

    thread = threading.Thread(target=RetryPolicy(clock=Waits()).execute, args=(Flaky(1),))
    thread.start()
    assert waiting.wait(10)
    assert RetryPolicy().execute(Flaky(0)) == 1
    ended.set()
    thread.join()


def test_attempts_are_blocks_of_a_loop(manual_clock: ManualClock) -> None:
    policy, flaky, numbers = RetryPolicy(jitter=False, clock=manual_clock), Flaky(2), []
    result = None
    for attempt in policy:
        with attempt:
            numbers.append(attempt.number)
            result = flaky()
    assert (numbers, result, manual_clock.sleeps) == ([1, 2, 3], 3, [0.1, 0.2])
    with pytest.raises(ConnectionError) as raised:
        for attempt in RetryPolicy(max_retries=1, initial_delay=0):
            with attempt:
                Flaky(1)()
    assert raised.value.__notes__ == ["the call failed after 2 attempts"]


def test_a_loop_may_be_left_and_may_judge_a_result() -> None:
    policy = RetryPolicy(initial_delay=0, failed_result=lambda calls: calls < 3)
    flaky = Flaky(0)
    for attempt in policy:
        with attempt:
            attempt.judge(flaky())
    assert flaky.calls == 3

    def left() -> int:
        for attempt in policy:
            with attempt:
                return attempt.number
        raise AssertionError

    assert left() == 1
    assert sum(1 for _ in policy) == 1


def test_attempts_are_blocks_of_an_async_loop(manual_clock: ManualClock) -> None:
    async def main() -> None:
        flaky = Flaky(2)
        async for attempt in RetryPolicy(jitter=False, clock=manual_clock):
            with attempt:
                flaky()
        async for attempt in RetryPolicy(jitter=False, clock=manual_clock):
            async with attempt:
                assert attempt.number == 1

    manual_clock.run(main())
    assert manual_clock.sleeps == [0.1, 0.2]


def test_a_function_that_gives_back_a_coroutine_is_tried_again() -> None:
    flaky = Flaky(2)

    async def call() -> int:
        return flaky()

    policy = RetryPolicy(initial_delay=0)
    assert asyncio.run(policy.execute(lambda: call())) == 3
    flaky.calls = 0
    assert asyncio.run(policy(lambda: call())()) == 3
    assert inspect.iscoroutinefunction(policy(call))


def test_an_overridden_get_delay_is_asked() -> None:
    class Constant(RetryPolicy):
        def get_delay(self, attempt: int) -> float:
            return 7.0 + attempt

    clock = ManualClock()
    assert Constant(clock=clock).execute(Flaky(2)) == 3
    assert clock.sleeps == [7.0, 8.0]


def test_an_overridden_execute_is_called_by_the_decorator() -> None:
    class Loud(RetryPolicy):
        def execute(self, func: Any, /, *args: Any, **kwargs: Any) -> Any:
            return f"{super().execute(func, *args, **kwargs)}!"

    assert Loud(initial_delay=0)(Flaky(1))() == "2!"


def test_a_budget_bounds_and_is_shared(manual_clock: ManualClock) -> None:
    budget = RetryBudget(ratio=0, floor_per_second=0.5, clock=manual_clock)
    policies = [RetryPolicy(initial_delay=0, budget=budget) for _ in range(2)]
    calls = []
    for policy in (*policies, policies[0]):
        flaky = Flaky(9)
        with pytest.raises(ConnectionError):
            policy.execute(flaky)
        calls.append(flaky.calls)
    assert calls == [4, 3, 1]
    assert budget.balance == 0
    budget.floor_per_second = 1
    assert (budget.balance, budget.ratio, policies[0].budget) == (5, 0.0, budget)
    policies[0].budget = None
    assert policies[0].execute(Flaky(3)) == 4
    with pytest.raises(ValueError, match="ratio"):
        budget.ratio = -1


def test_a_policy_copies_and_pickles() -> None:
    policy = RetryPolicy(7, jitter="equal", on=OSError, budget=RetryBudget(0.5))
    for twin in (copy.copy(policy), copy.deepcopy(policy), pickle.loads(pickle.dumps(policy))):
        assert (twin.max_retries, twin.jitter, twin.on, twin.budget.ratio) == (7, "equal", OSError, 0.5)
        twin.max_retries = 1
        assert policy.max_retries == 7


# ----- Retry-After -----


def raised(**attributes: Any) -> Exception:
    error = ConnectionError()
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


class Response:
    def __init__(self, headers: Any) -> None:
        self.headers = headers


def http_date(seconds: float) -> str:
    return email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (raised(), None),
        (raised(retry_after=3), 3.0),
        (raised(retry_after=timedelta(minutes=1)), 60.0),
        (raised(retry_after="soon"), None),
        (raised(retry_after=-1), None),
        (raised(response=Response({"Retry-After": "7"})), 7.0),
        (raised(response=Response({"retry-after": " 7 "})), 7.0),
        (raised(headers={"Retry-After": "8"}), 8.0),
        (raised(response=Response({"Retry-After": "nonsense"})), None),
        (raised(response=Response(None)), None),
        (raised(response=None), None),
        (raised(response=Response({"Retry-After": http_date(-60)})), None),
        (Response({"Retry-After": "9"}), 9.0),
        (object(), None),
    ],
)
def test_a_wait_that_is_asked_for_is_read(answer: Any, seconds: float | None) -> None:
    assert retry_after_of(answer) == seconds


def test_a_date_is_a_wait_until_then() -> None:
    wait = retry_after_of(raised(response=Response({"Retry-After": http_date(100)})))
    assert wait is not None and 90 < wait <= 100


def test_the_error_of_urllib_is_read() -> None:
    headers = email.message.Message()
    headers["retry-after"] = "11"
    error = urllib.error.HTTPError("http://localhost", 503, "busy", headers, None)
    assert retry_after_of(error) == 11.0
    error.close()


def test_a_call_waits_as_long_as_it_is_asked_to_and_no_longer_than_allowed(manual_clock: ManualClock) -> None:
    def busy(seconds: float) -> None:
        raise raised(retry_after=seconds)

    policy = RetryPolicy(max_retries=1, jitter=False, clock=manual_clock)
    with pytest.raises(ConnectionError):
        policy.execute(busy, 20)
    with pytest.raises(ConnectionError) as error:
        policy.execute(busy, 61)
    assert manual_clock.sleeps == [20.0]
    assert not hasattr(error.value, "__notes__")
