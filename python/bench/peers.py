"""The peers, each with its own defaults but for a threshold of five and no wait between retries."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import aiobreaker
import backoff
import circuitbreaker
import interlock
import purgatory
import purgatory.domain.model
import pybreaker
import pyresilience
import stamina
import tenacity

import naive
from row import NAIVE, Broken, Row, Target, nothing, nothing_async, of_instance, tries_again, trips, two

logging.disable(logging.CRITICAL)  # what a peer logs when it is proved alive says nothing here

Run = Callable[[Any], Any]


def name(distribution: str) -> str:
    return f"{distribution} {version(distribution)}"


PYBREAKER, CIRCUITBREAKER = name("pybreaker"), name("circuitbreaker")
PURGATORY, AIOBREAKER, INTERLOCK = name("purgatory"), name("aiobreaker"), name("interlock-cb")
PYRESILIENCE, TENACITY, STAMINA, BACKOFF = name("pyresilience"), name("tenacity"), name("stamina"), name("backoff")

BREAKER, CALL, WITH, RETRY = "a decorated function", "a call through the object", "`with`", "a decorated retry"
ASYNC_BREAKER, ASYNC_RETRY = "a decorated `async def`", "a retried `async def`"
PROXY = "balance, both breakers, retry and lease"

# What each raises when it refuses.
Refused = (
    naive.CircuitOpenError,
    pybreaker.CircuitBreakerError,
    circuitbreaker.CircuitBreakerError,
    purgatory.domain.model.OpenedState,
    aiobreaker.CircuitBreakerError,
    interlock.CircuitOpenError,
    pyresilience.CircuitOpenError,
)

Decorate = Callable[[Any], Any]


def pybreaker_() -> Any:
    return pybreaker.CircuitBreaker(fail_max=5, reset_timeout=30)


def circuit() -> Decorate:
    return circuitbreaker.circuit(failure_threshold=5, recovery_timeout=30)


def aiobreaker_() -> Any:
    return aiobreaker.CircuitBreaker(fail_max=5, timeout_duration=datetime.timedelta(seconds=30))


def interlock_() -> Any:
    return interlock.CircuitBreaker(name="bench", config=interlock.Config(wait_duration_in_open=30))


def pyresilience_breaker() -> Decorate:
    config = pyresilience.CircuitBreakerConfig(failure_threshold=5, recovery_timeout=30)
    return pyresilience.resilient(circuit_breaker=config)


def pyresilience_retry() -> Decorate:
    return pyresilience.resilient(retry=pyresilience.RetryConfig(max_attempts=4, delay=0, jitter=False))


def pyresilience_both() -> Decorate:
    return pyresilience.resilient(
        retry=pyresilience.RetryConfig(max_attempts=4, delay=0, jitter=False),
        circuit_breaker=pyresilience.CircuitBreakerConfig(failure_threshold=5, recovery_timeout=30),
    )


def stamina_() -> Decorate:
    return stamina.retry(on=Exception, attempts=4, wait_initial=0, wait_jitter=0)


def backoff_() -> Decorate:
    return backoff.on_exception(backoff.constant, Exception, max_tries=4, interval=0, jitter=None)


def tenacity_() -> Decorate:
    return tenacity.retry(stop=tenacity.stop_after_attempt(4), reraise=True)


def breakers() -> Iterator[tuple[str, str, Decorate, Decorate]]:
    """Who, how, a decorator of its own breaker for a function, and one for an async function."""
    yield PYBREAKER, "`@breaker`", pybreaker_(), lambda f: None
    yield CIRCUITBREAKER, "`@circuit()`", circuit(), circuit()
    yield (
        PURGATORY,
        '`@factory("…")`',
        purgatory.SyncCircuitBreakerFactory(5)("b"),
        purgatory.AsyncCircuitBreakerFactory(5)("b"),
    )
    yield AIOBREAKER, "`@breaker`", aiobreaker_(), aiobreaker_()
    yield INTERLOCK, "`@breaker`", interlock_(), interlock_()
    yield PYRESILIENCE, "`@resilient(circuit_breaker=…)`", pyresilience_breaker(), pyresilience_breaker()


def retries() -> Iterator[tuple[str, str, Callable[[], Decorate]]]:
    yield TENACITY, "`@retry(stop=stop_after_attempt(4))`", tenacity_
    yield STAMINA, "`@retry(on=Exception)`", stamina_
    yield BACKOFF, "`@on_exception(constant, …)`", backoff_
    yield PYRESILIENCE, "`@resilient(retry=…)`", pyresilience_retry


def rows(run: Run) -> Iterator[Row]:
    """All rows of the peers and of the naive way; `run` runs a coroutine to its end."""
    yield from _naive()
    for who, how, decorate, decorate_async in breakers():
        target = Target(nothing)
        f = decorate(target.f)
        yield Row("sync", BREAKER, who, how, "f()", {"f": f}, _trips(target, f))
        target = Target(nothing_async)
        if af := decorate_async(target.f):
            prove = _trips(target, lambda af=af: run(af()))
            yield Row("async", ASYNC_BREAKER, who, how, "await f()", {"f": af}, prove, bare="await f()")
    # With a keyword argument: the dearest shape for whoever hands `*args, **kwargs` on.
    for who, how, decorate, _ in breakers():
        target = Target(two)
        f = decorate(target.f)
        prove = _trips(target, lambda f=f: f(1, b=2))
        yield Row("sync", f"{BREAKER}, with a keyword", who, how, "f(1, b=2)", {"f": f}, prove, bare="f(1, b=2)")
    yield from _objects()
    for who, how, decorator in retries():
        target = Target(nothing)
        f = decorator()(target.f)
        yield Row("sync", RETRY, who, how, "f()", {"f": f}, _again(target, f))
        target = Target(nothing_async)
        af = decorator()(target.f)
        prove = _again(target, lambda af=af: run(af()))
        yield Row("async", ASYNC_RETRY, who, how, "await f()", {"f": af}, prove, bare="await f()")
    target = Target(nothing)
    f = pyresilience_both()(target.f)
    yield Row(
        "sync",
        PROXY,
        PYRESILIENCE,
        "`@resilient(retry=…, circuit_breaker=…)`: retry and one breaker",
        "f()",
        {"f": f},
        _again(target, f),
    )


def _objects() -> Iterator[Row]:
    for who, how, statement, names, target in [
        (PYBREAKER, "`breaker.call(f)`", "breaker.call(f)", {"breaker": pybreaker_()}, Target(nothing)),
        (AIOBREAKER, "`breaker.call(f)`", "breaker.call(f)", {"breaker": aiobreaker_()}, Target(nothing)),
        (INTERLOCK, "`breaker.call(f)`", "breaker.call(f)", {"breaker": interlock_()}, Target(nothing)),
    ]:
        names["f"] = target.f
        prove = _trips(target, lambda names=names: names["breaker"].call(names["f"]))
        yield Row("sync", CALL, who, how, statement, names, prove)
    for shape, statement in [(CALL, "breaker.call(f)"), (WITH, "with breaker: f()")]:
        breaker, target = circuitbreaker.CircuitBreaker(5, 30), Target(nothing)
        names = {"breaker": breaker, "f": target.f}
        how = f"`{statement.removesuffix(' f()')}`: it counts, and refuses nobody"
        yield Row("sync", shape, CIRCUITBREAKER, how, statement, names, _opens(target, breaker))
    for who, how, opened, names, target in [
        (PYBREAKER, "`with breaker.calling():`", "breaker.calling()", {"breaker": pybreaker_()}, Target(nothing)),
        (
            PURGATORY,
            '`with factory.get_breaker("…"):`',
            'breaker.get_breaker("b")',
            {"breaker": purgatory.SyncCircuitBreakerFactory(5)},
            Target(nothing),
        ),
        (INTERLOCK, "`with breaker:`", "breaker", {"breaker": interlock_()}, Target(nothing)),
    ]:
        names["f"] = target.f
        yield Row("sync", WITH, who, how, f"with {opened}: f()", names, _trips(target, _with(opened, names)))


def _opens(target: Target, breaker: Any) -> Callable[[], None]:
    def prove() -> None:
        target.fails()
        for _ in range(5):
            try:
                breaker.call(target.f)
            except Broken:
                pass
        assert breaker.opened

    return prove


def _with(opened: str, names: dict[str, Any]) -> Callable[[], None]:
    code = compile(f"with {opened}: f()", "<with>", "exec")
    return lambda: exec(code, names)


def _naive() -> Iterator[Row]:
    def row(
        shape: str, how: str, statement: str, names: dict[str, Any], prove: Callable[[], None], bare: str = "f()"
    ) -> Row:
        return Row("sync", shape, NAIVE, how, statement, names, prove, bare=bare)

    target = Target(nothing)
    f = naive.with_circuit_breaker("b")(target.f)
    yield row(BREAKER, "`@with_circuit_breaker`", "f()", {"f": f}, _trips(target, f))
    target = Target(two)
    g = naive.with_circuit_breaker("b")(target.f)
    yield row(
        f"{BREAKER}, with a keyword",
        "`@with_circuit_breaker`",
        "f(1, b=2)",
        {"f": g},
        _trips(target, lambda: g(1, b=2)),
        "f(1, b=2)",
    )
    target = Target(nothing)
    breaker, called = naive.CircuitBreaker("b"), target.f
    names = {"breaker": breaker, "f": called}
    yield row(
        CALL, "`breaker.execute(f)`", "breaker.execute(f)", names, _trips(target, lambda: breaker.execute(called))
    )
    target = Target(nothing)
    h = naive.with_retry(first=0)(target.f)
    yield row(RETRY, "`@with_retry`", "f()", {"f": h}, _again(target, h))
    target = Target(of_instance)
    balancer, instance_call = naive.LoadBalancer(), target.f
    for number in range(3):
        balancer.register(naive.ServiceInstance(str(number), "localhost", number))
    proxy = naive.ServiceProxy("b", balancer, naive.CircuitBreaker("b"), naive.RetryPolicy(first=0))
    names = {"proxy": proxy, "f": instance_call}
    prove = _again(target, lambda: proxy.call(instance_call))
    yield row(PROXY, "`proxy.call(f)`: one breaker, one instance for all attempts", "proxy.call(f)", names, prove)
    for size in (3, 100, 1000):
        for strategy in ("round_robin", "random", "weighted", "least_connections"):
            yield _naive_pick(strategy, size)


def _naive_pick(strategy: str, size: int) -> Row:
    balancer = naive.LoadBalancer(strategy)
    for number in range(size):
        balancer.register(naive.ServiceInstance(str(number), "localhost", number))

    def prove() -> None:
        picked = {balancer.get_instance().id for _ in range(20 * size)}  # type: ignore[union-attr]
        # Without anybody who counts connections, the least loaded is always the first.
        assert len(picked) == 1 if strategy == "least_connections" else len(picked) > size * 0.9, len(picked)

    return Row(
        "picks",
        f"{strategy.upper()} of {size}",
        NAIVE,
        "`get_instance()`",
        "pick()",
        {"pick": balancer.get_instance},
        prove,
    )


def _trips(target: Target, call: Callable[[], Any]) -> Callable[[], None]:
    return lambda: trips(target, call, Refused)


def _again(target: Target, call: Callable[[], Any]) -> Callable[[], None]:
    return lambda: tries_again(target, call)
