"""Our rows, with the bar that each has to stay under."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from codomyrmex.service_mesh import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    LoadBalancer,
    LoadBalancerStrategy,
    RetryPolicy,
    ServiceInstance,
    ServiceProxy,
    with_circuit_breaker,
    with_retry,
)
from peers import ASYNC_BREAKER, ASYNC_RETRY, BREAKER, CALL, PROXY, RETRY, WITH
from row import OURS, Row, Target, nothing, nothing_async, of_instance, tries_again, trips, two

Run = Callable[[Any], Any]


def rows(run: Run) -> Iterator[Row]:
    """All of ours; `run` runs a coroutine to its end."""
    yield from _decorated(run)
    yield from _objects()
    yield _proxy()
    for size in (3, 100, 1000):
        for strategy in LoadBalancerStrategy:
            if strategy.value in ("round_robin", "random", "weighted", "least_connections"):
                yield _pick(strategy, size)
    for size in (3, 100, 1000):
        for strategy in LoadBalancerStrategy:
            if strategy.value not in ("round_robin", "random", "weighted", "least_connections"):
                yield _pick(strategy, size)


def _decorated(run: Run) -> Iterator[Row]:
    target = Target(nothing)
    f = with_circuit_breaker("bench")(target.f)
    how = "`@with_circuit_breaker`"
    yield Row("sync", BREAKER, OURS, how, "f()", {"f": f}, _trips(target, f), bar_ns=25)

    target = Target(two)
    g = with_circuit_breaker("bench")(target.f)
    prove = _trips(target, lambda: g(1, b=2))
    shape = f"{BREAKER}, with a keyword"
    yield Row("sync", shape, OURS, how, "f(1, b=2)", {"f": g}, prove, bare="f(1, b=2)", bar_ns=25)

    target = Target(_method)
    holder = type("Holder", (), {"m": with_circuit_breaker("bench")(target.f)})()
    names = {"k": holder}
    yield Row(
        "sync", "a decorated method", OURS, how, "k.m()", names, _trips(target, holder.m), bare="k.m()", bar_ns=25
    )

    target = Target(nothing)
    h = with_retry(max_retries=3, initial_delay=0)(target.f)
    yield Row("sync", RETRY, OURS, "`@with_retry`", "f()", {"f": h}, _again(target, h), bar_ns=30)

    target = Target(nothing_async)
    af = with_circuit_breaker("bench")(target.f)
    prove = _trips(target, lambda: run(af()))
    yield Row("async", ASYNC_BREAKER, OURS, how, "await f()", {"f": af}, prove, bare="await f()", bar_ns=200)

    target = Target(nothing_async)
    ah = with_retry(max_retries=3, initial_delay=0)(target.f)
    prove = _again(target, lambda: run(ah()))
    yield Row("async", ASYNC_RETRY, OURS, "`@with_retry`", "await f()", {"f": ah}, prove, bare="await f()")


def _method(self: Any) -> None:
    pass


def _objects() -> Iterator[Row]:
    breaker, target = CircuitBreaker("bench", CircuitBreakerConfig()), Target(nothing)
    names = {"cb": breaker, "f": target.f}
    prove = _trips(target, lambda: breaker.execute(names["f"]))
    yield Row("sync", CALL, OURS, "`cb.execute(f)`", "cb.execute(f)", names, prove, bar_ns=65)

    guard, target = CircuitBreaker("bench"), Target(nothing)
    inside = {"cb": guard, "f": target.f}
    code = compile("with cb: f()", "<with>", "exec")
    prove = _trips(target, lambda: exec(code, inside))
    yield Row("sync", WITH, OURS, "`with cb:`", "with cb: f()", inside, prove, bar_ns=185)


def _proxy() -> Row:
    balancer, target = LoadBalancer(), Target(of_instance)
    for number in range(3):
        balancer.register(ServiceInstance(id=str(number), host="localhost", port=number))
    proxy = ServiceProxy("bench", balancer, retry_policy=RetryPolicy(initial_delay=0))
    names = {"proxy": proxy, "f": target.f}
    prove = _again(target, lambda: proxy.call(names["f"]))
    return Row("sync", PROXY, OURS, "`proxy.call(f)`, 3 instances", "proxy.call(f)", names, prove, bar_ns=150)


def _pick(strategy: LoadBalancerStrategy, size: int) -> Row:
    balancer = LoadBalancer(strategy)
    for number in range(size):
        balancer.register(ServiceInstance(id=str(number), host="localhost", port=number))
    statement = 'pick(key="customer 17")' if strategy.value == "consistent_hash" else "pick()"

    def prove() -> None:
        key = {"key": "customer 17"} if strategy.value == "consistent_hash" else {}
        picked = {balancer.get_instance(**key).id for _ in range(20 * size)}
        assert len(picked) == 1 if key else len(picked) > size * 0.9, len(picked)

    # Exact, so that it looks at everybody: a nanosecond each. The others are flat.
    bar = max(60, size) if strategy is LoadBalancerStrategy.LEAST_CONNECTIONS else 60
    shape = f"{strategy.name} of {size}"
    how = f"`get_instance({statement[5:-1]})`"
    return Row("picks", shape, OURS, how, statement, {"pick": balancer.get_instance}, prove, bar_ns=bar)


def _trips(target: Target, call: Callable[[], Any]) -> Callable[[], None]:
    return lambda: trips(target, call, CircuitOpenError)


def _again(target: Target, call: Callable[[], Any]) -> Callable[[], None]:
    return lambda: tries_again(target, call)
