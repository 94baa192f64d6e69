"""What is written with the package, as type checkers must see it: `make python-lint` asks mypy and pyright.

It is never run. A line that must be refused says so: were it allowed, its `ignore` would be one too many.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from datetime import datetime, timedelta
from typing import Any, assert_type

from codomyrmex.service_mesh import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitEvent,
    CircuitOpenError,
    CircuitState,
    CountWindow,
    Lease,
    LoadBalancer,
    LoadBalancerStrategy,
    NoHealthyInstanceError,
    Permit,
    RetryBudget,
    RetryPolicy,
    ServiceInstance,
    with_circuit_breaker,
    with_retry,
)
from codomyrmex.service_mesh.decorated import GuardedFunction, ResilientFunction
from codomyrmex.service_mesh.service_proxy import ServiceProxy, Story
from codomyrmex.service_mesh.testing import ManualClock, set_testing


class Order:
    """What is paid for."""


class Receipt:
    """What is got for it."""

    total: int = 0


# ----- a decorated function keeps its parameters and its result -----


@with_circuit_breaker("payments", failure_threshold=3, timeout_seconds=timedelta(seconds=5))
def pay(order: Order, *, at: datetime | None = None) -> Receipt:
    """Pays."""
    return Receipt()


assert_type(pay(Order()), Receipt)
assert_type(pay(order=Order(), at=datetime.now().astimezone()), Receipt)
assert_type(pay.circuit_breaker, CircuitBreaker)
assert_type(pay.__wrapped__(Order()), Receipt)
assert_type(pay.__name__, str)
pay("order")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
pay(Order(), when=None)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
pay()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
pay.circuit  # type: ignore[attr-defined]  # pyright: ignore

as_callable: Callable[[Order], Receipt] = pay
refund: Callable[[Receipt], Receipt] = pay  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


@with_circuit_breaker
def bare(order: Order) -> Receipt:
    """Named after itself."""
    return Receipt()


annotated: GuardedFunction[[Order], Receipt] = bare
assert_type(bare(Order()), Receipt)


@with_circuit_breaker()
def empty(order: Order) -> Receipt:
    """Named after itself, too."""
    return Receipt()


assert_type(empty(Order()), Receipt)


@with_circuit_breaker(CircuitBreaker("shared"))
def shared(order: Order) -> Receipt:
    """Behind a breaker that exists."""
    return Receipt()


assert_type(shared(Order()), Receipt)


@CircuitBreaker("itself", CircuitBreakerConfig(failure_threshold=2))
def by_the_breaker(order: Order) -> Receipt:
    """A breaker decorates."""
    return Receipt()


assert_type(by_the_breaker(Order()), Receipt)
assert_type(by_the_breaker.circuit_breaker.state, CircuitState)

with_circuit_breaker("payments", failure_treshold=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
with_circuit_breaker("payments", failure_threshold="3")  # type: ignore[call-overload]  # pyright: ignore


# ----- coroutine functions, generators -----


@with_circuit_breaker("payments")
async def pay_async(order: Order) -> Receipt:
    """Pays."""
    return Receipt()


@with_circuit_breaker("lines")
def lines(count: int) -> Generator[str, int, None]:
    """Some lines."""
    yield from ["line"] * count


@with_circuit_breaker("lines")
async def lines_async(count: int) -> AsyncGenerator[str, None]:
    """Some lines."""
    for _ in range(count):
        yield "line"


async def use_them() -> None:
    """Awaits and iterates."""
    assert_type(await pay_async(Order()), Receipt)
    assert_type(pay_async.circuit_breaker, CircuitBreaker)
    pay_async("order")  # type: ignore[arg-type, unused-coroutine]  # pyright: ignore
    for line in lines(2):
        assert_type(line, str)
    async for line in lines_async(2):
        assert_type(line, str)
    task = asyncio.create_task(pay_async(Order()))
    assert_type(await task, Receipt)


# ----- methods -----


class Client:
    """Whoever calls."""

    @with_circuit_breaker("payments")
    def pay(self, order: Order, amount: int = 1) -> Receipt:
        """Pays."""
        return Receipt()

    @with_circuit_breaker("payments")
    async def pay_async(self, order: Order) -> Receipt:
        """Pays."""
        return Receipt()

    @classmethod
    @with_circuit_breaker("payments")
    def of(cls, order: Order) -> Client:
        """Makes one."""
        return cls()

    @with_circuit_breaker("payments")
    @classmethod
    def outside(cls, order: Order) -> Client:
        """Makes one."""
        return cls()

    @with_retry
    @with_circuit_breaker("payments")
    def both(self, order: Order) -> Receipt:
        """Tried again, behind a breaker."""
        return Receipt()

    @staticmethod
    @with_circuit_breaker("payments")
    def fee(order: Order) -> int:
        """Of an order."""
        return 1

    @with_circuit_breaker("payments")
    @staticmethod
    def fee_outside(order: Order) -> int:
        """Of an order."""
        return 1


client = Client()
assert_type(client.pay(Order(), amount=2), Receipt)
assert_type(client.pay.circuit_breaker, CircuitBreaker)
assert_type(Client.pay(client, Order()), Receipt)
assert_type(client.both(Order()), Receipt)
assert_type(client.both.retry_policy, RetryPolicy)
assert_type(client.of(Order()), Client)
assert_type(Client.of(Order()), Client)
assert_type(client.outside(Order()), Client)
assert_type(Client.fee(Order()), int)
assert_type(client.fee(Order()), int)
assert_type(client.fee_outside(Order()), int)
client.pay("order")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
client.pay(client, Order())  # type: ignore[arg-type]  # pyright: ignore


async def await_a_method() -> None:
    """Of an object."""
    assert_type(await client.pay_async(Order()), Receipt)


# ----- retry, and both -----


@with_retry(max_retries=3, initial_delay=0.2, jitter="full", on=OSError)
@with_circuit_breaker("payments")
def both(order: Order) -> Receipt:
    """Tried again, behind a breaker."""
    return Receipt()


@with_circuit_breaker("payments")
@with_retry
def both_otherwise(order: Order) -> Receipt:
    """A breaker around the retries."""
    return Receipt()


@with_retry(RetryPolicy(2, 0.1, 5, 2.0, False))
async def retried_async(order: Order) -> Receipt:
    """Tried again."""
    return Receipt()


stacked: ResilientFunction[[Order], Receipt] = both
assert_type(both(Order()), Receipt)
assert_type(both.retry_policy, RetryPolicy)
assert_type(both.circuit_breaker, CircuitBreaker)
assert_type(both_otherwise(Order()), Receipt)
assert_type(both_otherwise.retry_policy.max_retries, int)
assert_type(retried_async.retry_policy, RetryPolicy)
both("order")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
with_retry(max_retries="3")  # type: ignore[call-overload]  # pyright: ignore
with_retry(3, jitter="some")  # type: ignore[call-overload]  # pyright: ignore
with_retry(3, delay=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


async def try_again(policy: RetryPolicy, order: Order) -> Receipt:
    """By function, by block, and by await."""
    assert_type(policy.execute(pay, order), Receipt)
    assert_type(await policy.execute(pay_async, order), Receipt)
    assert_type(await retried_async(order), Receipt)
    policy.execute(pay, "order")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.max_delay = timedelta(seconds=3)
    policy.budget = RetryBudget(ratio=0.1)
    assert_type(policy.get_delay(0), float)
    assert_type(policy.initial_delay, float)
    for attempt in policy:
        with attempt:
            assert_type(attempt.number, int)
            break
    async for attempt in policy:
        async with attempt:
            break
    return pay(order)


# ----- the proxy -----


def charge(instance: ServiceInstance, order: Order, *, amount: int = 1) -> Receipt:
    """At an instance."""
    return Receipt()


async def charge_async(instance: ServiceInstance, order: Order) -> Receipt:
    """At an instance."""
    return Receipt()


async def through_a_proxy(order: Order) -> None:
    """The proxy gives the instance."""
    proxy = ServiceProxy("payments", LoadBalancer(), CircuitBreaker("payments"), RetryPolicy(), timeout=2.0)
    assert_type(proxy.call(charge, order, amount=2), Receipt)
    proxy.call(charge, "order")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    proxy.call(pay, order)  # type: ignore[arg-type, call-arg]  # pyright: ignore
    assert_type(await proxy.call(charge_async, order), Receipt)
    assert_type(await proxy.call_async(charge_async, order), Receipt)
    assert_type(proxy.load_balancer.get_instance(), ServiceInstance | None)
    assert_type(proxy.instance_circuit_breaker("1"), CircuitBreaker | None)
    explained = proxy.with_options(key="customer-42", timeout=timedelta(seconds=1), explain=True)
    assert_type(explained.call(charge, order), Receipt)
    assert_type(await explained.call_async(charge_async, order), Receipt)
    assert_type(explained.story, Story | None)
    decorated = proxy(charge)
    assert_type(decorated(order, amount=3), Receipt)
    decorated("order")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# ----- the breaker itself -----


def by_hand(breaker: CircuitBreaker, order: Order) -> Receipt | None:
    """All the ways to make a call under it."""
    assert_type(breaker.execute(lambda: 1), int)
    assert_type(breaker.execute(pay, order, at=None), Receipt)
    breaker.execute(pay, "order")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    coroutine: Coroutine[Any, Any, Receipt] = breaker.execute(pay_async, order)
    coroutine.close()
    with breaker as same:
        assert_type(same, CircuitBreaker)
    with breaker.acquire() as permit:
        assert_type(permit, Permit)
        permit.failure(ValueError())
    assert_type(breaker.last_failure_time, datetime | None)
    if breaker.can_execute():
        breaker.record_success()
        breaker.record_failure()
    breaker.state = CircuitState.OPEN
    breaker.state = "open"
    breaker.state = 1  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    breaker.failure_count = 3
    breaker.last_failure_time = None
    breaker.config.failure_threshold = 2
    breaker.config.timeout_seconds = timedelta(minutes=1)
    breaker.config = CircuitBreakerConfig(5, 2, 30.0, 3, count_window=CountWindow(size=10, failure_ratio=0.5))
    breaker.update_config(failure_threshold=2)
    breaker.update_config(failure_treshold=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    try:
        return breaker.execute(pay, order)
    except CircuitOpenError as refused:
        assert_type(refused.retry_after, float | None)
        assert_type(refused.state, CircuitState | None)
        return None


async def by_hand_async(breaker: CircuitBreaker) -> None:
    """The same, async."""
    async with breaker as same:
        assert_type(same, CircuitBreaker)
    async with breaker.acquire() as permit:
        assert_type(permit, Permit)
    assert_type(await breaker.execute(pay_async, Order()), Receipt)


CircuitBreakerConfig(
    on=(OSError, lambda error: "busy" in str(error)), ignore=KeyError, failed_result=lambda x: x is None
)
CircuitBreakerConfig(on="OSError")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

breaker = CircuitBreaker("payments", listeners=[print], clock=ManualClock())
CircuitBreaker("payments", failure_threshold=3, timeout_seconds=timedelta(seconds=5), listeners=[print])
CircuitBreaker("payments", failure_treshold=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
CircuitBreaker("payments", CircuitBreakerConfig(), failure_threshold=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
breaker.config.failure_threshold = 3
breaker.config.failure_treshold = 3  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


@breaker.subscribe
def tell(event: CircuitEvent) -> None:
    """A listener."""
    assert_type(event.to_state, CircuitState | None)


tell(CircuitEvent("payments", "refused"))


class Strict(CircuitBreaker):
    """A subclass with a method of its own."""

    def record_failure(self, error: BaseException | None = None) -> None:
        """Counts."""
        super().record_failure(error)


with Strict("strict") as strict:
    assert_type(strict, Strict)


# ----- the balancer -----


def balance(balancer: LoadBalancer) -> ServiceInstance | None:
    """Picks and leases."""
    balancer.register(ServiceInstance(id="1", host="api-1", port=8080, weight=3, metadata={"zone": "a"}))
    balancer.strategy = LoadBalancerStrategy.LEAST_CONNECTIONS
    balancer.strategy = "p2c"
    for instance in balancer:
        instance.healthy = False
        instance.connections += 1
        assert_type(instance.address, str)
    try:
        with balancer.lease(key=("user", 7), exclude=["1"]) as leased:
            assert_type(leased, ServiceInstance)
    except NoHealthyInstanceError as nobody:
        assert_type(nobody.service, str | None)
    assert_type(balancer.lease(), Lease)
    assert_type(len(balancer), int)
    balancer.get_instance(key=1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return balancer.get_instance()


# ----- tests -----


def with_a_clock(clock: ManualClock) -> None:
    """Time by hand."""
    clock.advance(timedelta(seconds=3))
    assert_type(clock.run(pay_async(Order())), Receipt)
    with set_testing(attempts=2):
        pass
