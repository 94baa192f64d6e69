"""The parts of a proxy: its own, those that a user writes, and what is assigned to them."""

import asyncio
import gc
import weakref
from datetime import timedelta

import pytest

from codomyrmex.service_mesh.circuit_breaker import CircuitBreaker
from codomyrmex.service_mesh.load_balancer import LoadBalancer
from codomyrmex.service_mesh.models import (
    CircuitBreakerConfig,
    CircuitOpenError,
    CircuitState,
    ConfigError,
    NoHealthyInstanceError,
)
from codomyrmex.service_mesh.retry import RetryPolicy
from codomyrmex.service_mesh.service_proxy import ServiceProxy
from codomyrmex.service_mesh.testing import ManualClock

from .payments import down, fails_async, fails_at, instances, name_of, proxy


class OwnWay(LoadBalancer):
    def get_instance(self, key=None, exclude=()):
        return super().get_instance(exclude=["c", *exclude])


class SeedStyle(LoadBalancer):
    def get_instance(self):
        return super().get_instance()


class Discovery:
    """A balancer that is none of ours."""

    def __init__(self, names):
        self.found = instances(names)
        self.turn = -1

    def get_instance(self):
        self.turn += 1
        return self.found[self.turn % len(self.found)] if self.found else None


def test_parts_may_be_assigned_while_a_call_runs():
    payments = proxy()

    def assign(instance):
        payments.load_balancer = LoadBalancer(instances=instances("z"))
        payments.circuit_breaker = CircuitBreaker("other")
        gc.collect()
        return instance.id, instance.in_flight

    assert payments.call(assign) == ("a", 1)
    assert payments.call(name_of) == "z"


def test_it_makes_its_own_parts_and_never_takes_what_is_false_for_none():
    payments = ServiceProxy("payments")
    assert type(payments.load_balancer) is LoadBalancer and type(payments.retry_policy) is RetryPolicy
    assert payments.circuit_breaker.name == payments.service_name == "payments"

    class Empty(LoadBalancer):
        def __bool__(self):
            return False

    balancer = Empty()
    assert ServiceProxy("payments", balancer).load_balancer is balancer
    assert repr(payments) == "ServiceProxy('payments')"
    with pytest.raises(TypeError, match="load_balancer must have a method get_instance, and int has none"):
        ServiceProxy("payments", 5)


@pytest.mark.parametrize("argument", ["timeout", "attempt_timeout"])
def test_a_time_limit_that_is_refused_is_called_as_it_was_written(argument):
    for wrong in (0, timedelta(0), -1):
        with pytest.raises(ConfigError, match=f"^{argument} is (0|-1); allowed: ") as raised:
            ServiceProxy("payments", **{argument: wrong})
        assert raised.value.field == argument


def test_what_is_assigned_to_the_parts_takes_effect():
    payments = proxy(failures=5, retries=0)
    payments.retry_policy.max_retries = 2
    tried = []

    def call(instance):
        tried.append(instance.id)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        payments.call(call)
    assert len(tried) == 3
    payments.circuit_breaker.config.failure_threshold = 1
    with pytest.raises(ConnectionError):
        payments.call(down)
    assert payments.instance_circuit_breaker("a").state is CircuitState.OPEN


def test_parts_may_be_replaced():
    payments = proxy()
    balancer, breaker, policy = LoadBalancer(instances=instances("z")), CircuitBreaker("other"), RetryPolicy()
    payments.load_balancer, payments.circuit_breaker, payments.retry_policy = balancer, breaker, policy
    assert payments.load_balancer is balancer and payments.circuit_breaker is breaker
    assert payments.retry_policy is policy and payments.call(name_of) == "z"
    breaker.force_open()
    with pytest.raises(CircuitOpenError, match="Circuit other is open"):
        payments.call(name_of)
    payments.service_name = "orders"
    payments.load_balancer = LoadBalancer()
    breaker.reset()
    with pytest.raises(NoHealthyInstanceError, match="orders"):
        payments.call(name_of)


def test_a_balancer_that_picks_in_its_own_way_is_asked_for_each_attempt():
    payments = proxy(balancer=OwnWay(instances=instances()))
    assert [payments.call(name_of) for _ in range(4)] == ["a", "b", "a", "b"]
    assert payments.call(fails_at("a")) == "b"
    assert payments.call(lambda instance: instance.in_flight) == 1
    with pytest.raises(ConnectionError):
        payments.call(down)
    seed = proxy(balancer=SeedStyle(instances=instances()), failures=2)
    assert {seed.call(fails_at("a")) for _ in range(20)} == {"b", "c"}
    assert seed.instance_circuit_breaker("a").state is CircuitState.OPEN
    empty = proxy(balancer=SeedStyle())
    with pytest.raises(NoHealthyInstanceError):
        empty.call(name_of)


def test_a_balancer_that_is_none_of_ours_is_used_too():
    discovery = Discovery("ab")
    payments = proxy(balancer=discovery, failures=2)
    assert payments.load_balancer is discovery
    assert payments.call(lambda instance: instance) is discovery.found[0]
    assert {payments.call(fails_at("a")) for _ in range(9)} == {"b"}
    assert payments.instance_circuit_breaker("a").state is CircuitState.OPEN
    discovery.found = []
    with pytest.raises(NoHealthyInstanceError):
        payments.call(name_of)
    discovery.get_instance = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        payments.call(name_of)


def test_a_breaker_that_overrides_a_step_is_asked():
    class Counting(CircuitBreaker):
        failed = 0

        def record_failure(self, *args):
            Counting.failed += 1
            super().record_failure(*args)

    payments = proxy("ab", breaker=Counting("payments", CircuitBreakerConfig(failure_threshold=3)), retries=1)
    assert payments.call(fails_at("a")) == "b" and Counting.failed == 1
    for _ in range(3):
        with pytest.raises((ConnectionError, CircuitOpenError)):
            payments.call(down)
    assert payments.circuit_breaker.state is CircuitState.OPEN
    with pytest.raises(CircuitOpenError):
        payments.call(name_of)

    class Foreign:
        def execute(self, func, *args, **kwargs):
            return "wrapped " + func(*args, **kwargs)

    assert proxy(breaker=Foreign()).call(name_of) == "wrapped a"


def test_a_policy_that_overrides_its_delay_or_its_execute_is_asked():
    clock = ManualClock()

    class Steady(RetryPolicy):
        def get_delay(self, attempt):
            return 7.0 + attempt

    assert proxy(policy=Steady(), clock=clock).call(fails_at("a", "b")) == "c"
    assert clock.sleeps == [7.0, 8.0]

    class Twice(RetryPolicy):
        def execute(self, func, /, *args, **kwargs):
            try:
                return func(*args, **kwargs)
            except ConnectionError:
                return func(*args, **kwargs)

    assert proxy(policy=Twice()).call(fails_at("a")) == "b"
    with pytest.raises(ConnectionError):
        proxy(policy=Twice()).call(down)


def test_options_hold_for_the_attempts_of_a_policy_that_overrides_execute():
    class Twice(RetryPolicy):
        def execute(self, func, /, *args, **kwargs):
            return [func(*args, **kwargs) for _ in range(2)]

    balancer = LoadBalancer("consistent_hash", instances())
    payments = proxy(balancer=balancer, policy=Twice())
    options = payments.with_options(key="customer-42", explain=True)
    instance = balancer.get_instance("customer-42").id
    assert options.call(name_of) == [instance, instance]
    assert [attempt.instance for attempt in options.story.attempts] == [instance]


def test_own_parts_are_asked_by_awaited_calls_too():
    async def main():
        assert await proxy(balancer=OwnWay(instances=instances())).call(fails_async("a")) == "b"
        assert await proxy(balancer=Discovery("ab")).call_async(fails_async("a")) == "b"

        class Twice(RetryPolicy):
            async def execute(self, func, /, *args, **kwargs):
                try:
                    return await func(*args, **kwargs)
                except ConnectionError:
                    return await func(*args, **kwargs)

        assert await proxy(policy=Twice()).call_async(fails_async("a")) == "b"

    asyncio.run(main())


def test_a_subclass_may_take_other_arguments():
    class Payments(ServiceProxy):
        def __init__(self, names):
            super().__init__("payments", LoadBalancer(instances=instances(names)))

        def call(self, func, /, *args, **kwargs):
            return "by " + super().call(func, *args, **kwargs)

    payments = Payments("a")
    payments.extra = 5
    assert payments.call(name_of) == "by a" and payments.extra == 5
    with pytest.raises(RuntimeError, match="ServiceProxy.__init__ was not called"):
        ServiceProxy.__new__(ServiceProxy).call(name_of)


def test_cycles_through_a_proxy_are_collected():
    payments = proxy(listeners=[lambda event: payments])
    payments.load_balancer["a"].metadata["proxy"] = payments
    payments.call(name_of)
    gone = weakref.ref(payments)
    del payments
    gc.collect()
    assert gone() is None
