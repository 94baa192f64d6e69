"""How the package is meant to be used, for type checkers: it is read by them and never run."""

from collections.abc import Iterator
from datetime import timedelta
from typing import assert_type

from codomyrmex.service_mesh import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitEvent,
    CircuitState,
    RetryPolicy,
    with_circuit_breaker,
    with_retry,
)


@with_circuit_breaker("api", failure_threshold=3)
def fetch(a: int, *, b: str = "x") -> bytes:
    return (b * a).encode()


@with_retry(max_retries=2)
@with_circuit_breaker
async def fetch_async(a: int) -> bytes:
    return bytes(a)


@with_retry
def rows() -> Iterator[int]:
    yield 1


class Service:
    @with_circuit_breaker("method")
    def method(self, x: int) -> str:
        return str(x)

    @with_retry
    async def coroutine(self, x: int) -> str:
        return str(x)


def functions() -> None:
    assert_type(fetch(1, b="y"), bytes)
    assert_type(fetch.circuit_breaker, CircuitBreaker)
    assert_type(fetch_async.retry_policy, RetryPolicy)
    assert_type(rows(), Iterator[int])
    assert_type(Service().method(1), str)
    assert_type(Service().method.circuit_breaker.state, CircuitState)
    fetch("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Service().method("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def coroutines(breaker: CircuitBreaker) -> None:
    assert_type(await fetch_async(1), bytes)
    assert_type(await Service().coroutine(1), str)
    assert_type(await breaker.execute(fetch_async, 1), bytes)
    async with breaker as same:
        assert_type(same, CircuitBreaker)
    async for attempt in RetryPolicy():
        with attempt:
            assert_type(attempt.number, int)


def breakers() -> None:
    config = CircuitBreakerConfig(3, timeout_seconds=timedelta(minutes=1), on=(OSError, lambda error: bool(error.args)))
    breaker = CircuitBreaker("b", config, listeners=[lambda event: print(event.kind)])

    @breaker.subscribe
    def hears(event: CircuitEvent) -> None:
        print(event)

    hears(CircuitEvent("b", "transition"))
    assert_type(breaker.execute(fetch, 1, b="y"), bytes)
    assert_type(breaker(fetch)(1), bytes)
    with breaker.acquire() as permit:
        permit.success()
    breaker.state = CircuitState.OPEN
    breaker.execute(fetch, "one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def policies() -> None:
    policy = RetryPolicy(3, timedelta(seconds=1), jitter="full", on=OSError)
    policy.max_delay = timedelta(seconds=10)
    assert_type(policy.max_delay, float)
    assert_type(policy.execute(fetch, 1), bytes)
