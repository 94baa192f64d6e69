"""Calls that are awaited."""

import asyncio
import gc
import warnings

import pytest

from codomyrmex.service_mesh.circuit_breaker import CircuitBreaker
from codomyrmex.service_mesh.models import (
    AttemptTimedOutError,
    CircuitOpenError,
    CircuitState,
    DeadlineExceededError,
)
from codomyrmex.service_mesh.retry import RetryPolicy
from codomyrmex.service_mesh.testing import ManualClock

from .payments import fails_async, name_async, name_of, proxy


def test_an_awaited_call_is_protected_like_a_sync_one():
    payments = proxy(failures=3)

    async def main():
        assert await payments.call(name_async) == "a"
        assert await payments.call_async(name_async) == "b"
        assert await payments.call_async(name_of) == "c"
        for call in (payments.call, payments.call_async):
            assert {await call(fails_async("a")) for _ in range(9)} == {"b", "c"}
        assert payments.instance_circuit_breaker("a").state is CircuitState.OPEN
        with pytest.raises(ConnectionError) as raised:
            await payments.call_async(fails_async("a", "b", "c"))
        assert raised.value.__notes__[-1].startswith("the call of payments ended after ")

    asyncio.run(main())


def test_a_coroutine_function_is_refused_when_it_is_awaited():
    payments = proxy()
    payments.circuit_breaker.force_open()
    for call in (payments.call(name_async), payments.call_async(name_async)):
        with pytest.raises(CircuitOpenError):
            asyncio.run(call)


def test_a_call_that_is_never_awaited_gives_everything_back():
    payments = proxy("a")
    call = payments.call(name_async)
    assert next(iter(payments.load_balancer)).in_flight == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it was never awaited
        del call
        gc.collect()
    assert next(iter(payments.load_balancer)).in_flight == 0


def forced_open():
    breaker = CircuitBreaker("payments")
    breaker.force_open()
    return breaker


@pytest.mark.parametrize(
    "call",
    [
        lambda: proxy().call(name_async),
        lambda: proxy().call_async(name_async),
        lambda: proxy("").call(name_async),
        lambda: proxy().with_options(timeout=1).call_async(name_async),
        lambda: forced_open().execute(name_async),
    ],
)
def test_what_is_never_awaited_is_warned_of_by_the_name_of_the_users_function(call):
    with pytest.warns(RuntimeWarning, match="coroutine 'name_async' was never awaited"):
        call()


def test_an_attempt_that_takes_too_long_is_stopped_and_the_next_instance_asked():
    clock = ManualClock()
    payments = proxy(clock=clock, attempt_timeout=1, policy=RetryPolicy(max_retries=1, initial_delay=0, jitter=False))

    async def hangs(instance, *names):
        if instance.id in names:
            await asyncio.sleep(1000)
        return instance.id

    async def main():
        assert await payments.call(hangs, "a") == "b"
        assert payments.instance_circuit_breaker("a").failure_count == 1
        with pytest.raises(AttemptTimedOutError, match="An attempt at payments timed out") as raised:
            await payments.call_async(hangs, "a", "b", "c")
        assert raised.value.__notes__ == ["the call of payments ended after 2 attempts"]
        assert clock.now() == pytest.approx(3, abs=0.01)

        async def own_timeout(instance):
            raise TimeoutError("mine")

        with pytest.raises(TimeoutError, match="mine"):
            await payments.call(own_timeout)

    clock.run(main())


def test_the_deadline_stops_a_running_attempt():
    clock = ManualClock()
    payments = proxy(clock=clock, timeout=2)

    async def hangs(instance):
        await asyncio.sleep(1000)

    async def main():
        with pytest.raises(DeadlineExceededError):
            await payments.call(hangs)
        with pytest.raises(DeadlineExceededError):
            await payments.with_options(timeout=1).call_async(hangs)
        assert clock.now() == pytest.approx(3, abs=0.01)
        assert sum(one.in_flight for one in payments.load_balancer) == 0

    clock.run(main())


def test_a_cancelled_call_is_neutral_and_gives_everything_back():
    payments = proxy("a", failures=1)

    async def hangs(instance):
        await asyncio.sleep(1000)

    async def main():
        for begin in (payments.call, payments.call_async):
            task = asyncio.ensure_future(begin(hangs))
            await asyncio.sleep(0)
            assert next(iter(payments.load_balancer)).in_flight == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert next(iter(payments.load_balancer)).in_flight == 0
        assert payments.circuit_breaker.state is CircuitState.CLOSED
        assert payments.instance_circuit_breaker("a").state is CircuitState.CLOSED

    asyncio.run(main())


def test_a_task_that_is_cancelled_before_it_begins_warns_of_nothing():
    payments = proxy("a", failures=1)

    async def main():
        task = asyncio.ensure_future(payments.call(name_async))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    gc.collect()
    assert next(iter(payments.load_balancer)).in_flight == 0
    assert payments.instance_circuit_breaker("a").state is CircuitState.CLOSED


def test_waits_between_attempts_are_awaited():
    clock = ManualClock()
    payments = proxy("ab", clock=clock, policy=RetryPolicy(initial_delay=3, jitter=False))

    async def main():
        beside = asyncio.ensure_future(asyncio.sleep(1, "beside"))
        assert await payments.call(fails_async("a")) == "b"
        assert beside.result() == "beside"

    clock.run(main())
    assert clock.sleeps == [3.0]


def test_under_trio_it_waits_and_stops_by_trio():
    trio = pytest.importorskip("trio")
    payments = proxy("ab", attempt_timeout=0.01, policy=RetryPolicy(max_retries=1, initial_delay=0.001))

    async def call(instance):
        if instance.id == "a":
            await trio.sleep(1000)
        return instance.id

    assert trio.run(payments.call_async, call) == "b"
    assert payments.instance_circuit_breaker("a").failure_count == 1
