"""The clock that is moved by hand."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest

from codomyrmex.service_mesh import LoadBalancer, RetryPolicy, ServiceInstance, ServiceProxy
from codomyrmex.service_mesh.testing import ManualClock, set_testing

one_switch = pytest.mark.thread_unsafe(reason="it is one switch for the process")


def test_a_clock_stands_still_until_it_is_moved(manual_clock: ManualClock) -> None:
    assert manual_clock.now() == 0
    manual_clock.advance(1.5)
    manual_clock.advance(timedelta(seconds=0.5))
    assert manual_clock.now() == 2
    assert repr(manual_clock) == "<ManualClock at 2 s>"


def test_a_sync_wait_moves_the_clock(manual_clock: ManualClock) -> None:
    manual_clock.sleep(3600)
    assert (manual_clock.now(), manual_clock.sleeps) == (3600, [3600])


def test_an_async_wait_ends_when_the_clock_is_moved_there(manual_clock: ManualClock) -> None:
    async def main() -> None:
        wait = asyncio.create_task(manual_clock.sleep_async(5))
        await asyncio.sleep(0)
        manual_clock.advance(4.999)
        await asyncio.sleep(0)
        assert not wait.done()
        manual_clock.advance(0.001)
        await wait

    asyncio.run(main())
    assert manual_clock.now() == 5


def test_an_async_wait_can_be_ended_by_another_thread(manual_clock: ManualClock) -> None:
    async def main() -> None:
        wait = asyncio.create_task(manual_clock.sleep_async(5))
        await asyncio.sleep(0)
        mover = threading.Thread(target=manual_clock.advance_to_next_timer)
        mover.start()
        await wait
        mover.join()

    asyncio.run(main())


def test_a_cancelled_wait_leaves_no_timer_behind(manual_clock: ManualClock) -> None:
    async def main() -> None:
        wait = asyncio.create_task(manual_clock.sleep_async(5))
        await asyncio.sleep(0)
        wait.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait

    asyncio.run(main())
    assert not manual_clock.advance_to_next_timer()


def test_waits_end_in_the_order_of_time(manual_clock: ManualClock) -> None:
    order = []

    async def wait(seconds: float) -> None:
        await manual_clock.sleep_async(seconds)
        order.append((seconds, manual_clock.now()))

    async def main() -> None:
        await asyncio.gather(wait(3), wait(1), wait(2))

    manual_clock.run(main())
    assert order == [(1, 1), (2, 2), (3, 3)]


def test_run_gives_the_loop_the_time_of_the_clock(manual_clock: ManualClock) -> None:
    async def main() -> str:
        await asyncio.sleep(3600)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await manual_clock.sleep_async(86400)
        return "done"

    assert manual_clock.run(main()) == "done"
    assert manual_clock.now() == pytest.approx(3600.1)


def test_a_wait_under_trio_ends_when_the_clock_is_moved_there(manual_clock: ManualClock) -> None:
    trio = pytest.importorskip("trio")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(manual_clock.sleep_async, 5)
            await trio.testing.wait_all_tasks_blocked()
            assert manual_clock.advance_to_next_timer()

    trio.run(main)
    assert manual_clock.now() == 5


@pytest.mark.parametrize("attempts", [0, -1])
def test_a_call_makes_one_attempt_at_least(attempts: int) -> None:
    with pytest.raises(ValueError, match="attempts"):
        set_testing(attempts=attempts)


class Failing:
    """Counts its calls, and fails."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *_: object) -> None:
        self.calls += 1
        raise ConnectionError

    async def asynchronous(self, *_: object) -> None:
        self()


def slow_policy(retries: int = 3) -> RetryPolicy:
    return RetryPolicy(max_retries=retries, initial_delay=86400, max_delay=86400)


def proxy() -> ServiceProxy:
    instance = ServiceInstance(id="a", host="a", port=80)
    return ServiceProxy(
        "s", LoadBalancer(instances=[instance]), retry_policy=slow_policy(), instance_circuit_breaker=None
    )


def executes(failing: Failing) -> None:
    slow_policy().execute(failing)


def executes_async(failing: Failing) -> None:
    asyncio.run(slow_policy().execute(failing.asynchronous))


def iterates(failing: Failing) -> None:
    for attempt in slow_policy():
        with attempt:
            failing()


def calls(failing: Failing) -> None:
    proxy().call(failing)


def calls_async(failing: Failing) -> None:
    asyncio.run(proxy().call(failing.asynchronous))


WAYS = [executes, executes_async, iterates, calls, calls_async]


@one_switch
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("attempts", "expected"), [(1, 1), (2, 2), (9, 4), (None, 4)])
def test_nobody_waits_and_attempts_are_capped(way: object, attempts: int | None, expected: int) -> None:
    failing = Failing()
    with set_testing(attempts=attempts), pytest.raises(ConnectionError):
        way(failing)  # type: ignore[operator]
    assert failing.calls == expected


@one_switch
def test_what_was_set_before_holds_again_when_the_block_ends(manual_clock: ManualClock) -> None:
    policy = RetryPolicy(max_retries=1, initial_delay=5, jitter=False, clock=manual_clock)
    with set_testing(attempts=1):
        with set_testing(attempts=None):
            with set_testing(False), pytest.raises(ConnectionError):
                policy.execute(Failing())
            assert manual_clock.sleeps == [5]
        failing = Failing()
        with pytest.raises(ConnectionError):
            policy.execute(failing)
        assert failing.calls == 1
    assert manual_clock.sleeps == [5]


@one_switch
def test_the_fixture_keeps_everybody_from_waiting(no_waiting: None) -> None:
    failing = Failing()
    with pytest.raises(ConnectionError):
        executes(failing)
    assert failing.calls == 4
