"""The circuits of the service and of its instances, and who says what a failure is."""

import dataclasses

import pytest

from codomyrmex.service_mesh.circuit_breaker import CircuitBreaker
from codomyrmex.service_mesh.models import (
    CircuitBreakerConfig,
    CircuitState,
)
from codomyrmex.service_mesh.retry import RetryPolicy
from codomyrmex.service_mesh.testing import ManualClock

from .payments import down, fails_at, name_of, proxy


@pytest.mark.parametrize("how", ["call", "call_async"])
def test_the_services_circuit_keeps_the_failure_until_it_has_recovered(how):
    clock = ManualClock()
    breaker = CircuitBreaker("payments", CircuitBreakerConfig(failure_threshold=1, success_threshold=1), clock=clock)
    payments = proxy("a", breaker=breaker, retries=0, clock=clock, instance_circuit_breaker=None)
    call = payments.call if how == "call" else lambda func: clock.run(payments.call_async(func))
    with pytest.raises(ConnectionError) as raised:
        call(down)
    assert payments.circuit_breaker.last_failure is raised.value
    clock.advance(30)
    assert call(name_of) == "a"
    assert payments.circuit_breaker.state is CircuitState.CLOSED
    assert payments.circuit_breaker.last_failure is None


def test_one_bad_instance_trips_its_own_circuit_and_nobody_elses():
    payments = proxy(failures=3)
    assert {payments.call(fails_at("a")) for _ in range(50)} == {"b", "c"}
    bad = payments.instance_circuit_breaker("a")
    assert bad.name == "payments/a" and bad.state is CircuitState.OPEN
    assert payments.instance_circuit_breaker(payments.load_balancer["b"]).state is CircuitState.CLOSED
    assert payments.circuit_breaker.state is CircuitState.CLOSED
    assert payments.instance_circuit_breaker("nobody") is None
    bad.reset()
    assert "a" in {payments.call(name_of) for _ in range(3)}


def test_instances_have_circuits_of_their_own_or_none():
    config = CircuitBreakerConfig(failure_threshold=1)
    payments = proxy(instance_circuit_breaker=config)
    payments.call(fails_at("a"))
    assert payments.instance_circuit_breaker("a").state is CircuitState.OPEN
    config.failure_threshold = 2
    payments.call(fails_at("b"))
    assert payments.instance_circuit_breaker("b").state is CircuitState.CLOSED
    assert proxy(instance_circuit_breaker=None).instance_circuit_breaker("a") is None
    with pytest.raises(TypeError, match="instance_circuit_breaker must be a CircuitBreakerConfig or None, not int"):
        proxy(instance_circuit_breaker=5)


def test_one_judge_says_for_both_circuits_what_a_failure_is():
    config = CircuitBreakerConfig(ignore=KeyError)
    with pytest.raises(ValueError, match="ignore must be that of the service's circuit breaker, which judges for both"):
        proxy(instance_circuit_breaker=config)
    breaker = CircuitBreaker("payments", config)
    payments = proxy(breaker=breaker, instance_circuit_breaker=dataclasses.replace(config, failure_threshold=1))
    payments.call(fails_at("a"))
    assert payments.instance_circuit_breaker("a").state is CircuitState.OPEN


def test_a_predicate_that_the_instances_cannot_have_is_refused_when_it_is_assigned_too():
    config = CircuitBreakerConfig()
    payments = proxy(instance_circuit_breaker=config)
    for field, predicate in (("on", KeyError), ("ignore", KeyError), ("failed_result", bool)):
        with pytest.raises(ValueError, match=f"{field} must be that of the service's circuit breaker"):
            setattr(config, field, predicate)
        setattr(payments.circuit_breaker.config, field, predicate)
        setattr(config, field, predicate)
        delattr(config, field)
    assert config == CircuitBreakerConfig()
    del payments
    config.ignore = ConnectionError


def test_predicates_of_breaker_and_policy_say_each_their_part():
    breaker = CircuitBreaker("payments", CircuitBreakerConfig(failure_threshold=1, ignore=KeyError))

    def missing(instance):
        raise KeyError(instance.id)

    payments = proxy(breaker=breaker)
    with pytest.raises(KeyError) as raised:
        payments.call(missing)
    assert not hasattr(raised.value, "__notes__") and breaker.state is CircuitState.CLOSED
    policy = RetryPolicy(max_retries=2, initial_delay=0)
    policy.on = KeyError
    payments = proxy(breaker=breaker, policy=policy)
    with pytest.raises(KeyError) as raised:
        payments.call(missing)
    assert (
        raised.value.__notes__ == ["the call of payments ended after 3 attempts"]
        and breaker.state is CircuitState.CLOSED
    )


def test_a_predicate_that_fails_is_told_beside_what_it_judged():
    policy = RetryPolicy()
    policy.on = lambda error: 1 / 0
    payments = proxy("a", policy=policy)
    with pytest.raises(ZeroDivisionError) as raised:
        payments.call(down)
    assert isinstance(raised.value.__context__, ConnectionError)
    assert next(iter(payments.load_balancer)).in_flight == 0
