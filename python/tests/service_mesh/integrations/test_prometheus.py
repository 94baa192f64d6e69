from __future__ import annotations

from collections.abc import Callable
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, generate_latest, start_http_server

from codomyrmex.service_mesh import CircuitBreaker, CircuitBreakerConfig, CircuitOpenError, RetryPolicy, ServiceProxy
from codomyrmex.service_mesh import ServiceInstance as Instance
from codomyrmex.service_mesh.integrations.prometheus import MeshCollector
from codomyrmex.service_mesh.testing import ManualClock

Read = Callable[..., float | None]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def payments() -> ServiceProxy:
    breaker = CircuitBreaker("payments", CircuitBreakerConfig(failure_threshold=2))
    proxy = ServiceProxy("payments", None, breaker, RetryPolicy(initial_delay=0), clock=ManualClock())
    proxy.load_balancer.register(Instance(id="a", host="10.0.0.1", port=80))
    proxy.load_balancer.register(Instance(id="b", host="10.0.0.2", port=80))
    return proxy


def fails_at_a(instance: Instance) -> str:
    if instance.id == "a":
        raise ConnectionError("refused")
    return "paid"


def one_hot(registry: CollectorRegistry, circuit: str) -> dict[str, float | None]:
    states = ("closed", "open", "half_open")
    read = registry.get_sample_value
    return {state: read("service_mesh_circuit_state", {"circuit": circuit, "state": state}) for state in states}


def test_calls_attempts_and_retries_are_counted_by_the_names_of_every_door(
    registry: CollectorRegistry, payments: ServiceProxy
) -> None:
    registry.register(MeshCollector(payments))
    for _ in range(4):
        payments.call(fails_at_a)
    read = registry.get_sample_value
    calls = {"service": "payments", "instance": "b", "outcome": "success"}
    assert read("service_mesh_calls_total", calls) == 4
    failed = {"service": "payments", "instance": "a", "outcome": "failure"}
    assert read("service_mesh_attempts_total", failed) == 2
    assert read("service_mesh_retries_total", {"service": "payments", "reason": "failure"}) == 2
    assert read("service_mesh_call_duration_seconds_count", {"service": "payments", "outcome": "success"}) == 4
    within = {"service": "payments", "outcome": "success", "le": "+Inf"}
    assert read("service_mesh_call_duration_seconds_bucket", within) == 4
    tripped = {"circuit": "payments/a", "from": "closed", "to": "open", "reason": "consecutive_failures"}
    assert read("service_mesh_circuit_transitions_total", tripped) == 1


def test_exactly_one_state_of_a_circuit_is_1(registry: CollectorRegistry, payments: ServiceProxy) -> None:
    registry.register(MeshCollector(payments))
    assert one_hot(registry, "payments/a") == {"closed": 1, "open": 0, "half_open": 0}
    for _ in range(4):
        payments.call(fails_at_a)
    assert one_hot(registry, "payments/a") == {"closed": 0, "open": 1, "half_open": 0}
    assert one_hot(registry, "payments/b") == {"closed": 1, "open": 0, "half_open": 0}
    assert one_hot(registry, "payments") == {"closed": 1, "open": 0, "half_open": 0}


def test_instances_are_told_by_health_and_with_their_connections(
    registry: CollectorRegistry, payments: ServiceProxy
) -> None:
    registry.register(MeshCollector(payments))
    a, b = payments.load_balancer
    payments.load_balancer.register(Instance(id="c", host="10.0.0.3", port=80, weight=0))
    b.healthy = False
    read = registry.get_sample_value
    health = {
        word: read("service_mesh_instances", {"service": "payments", "health": word})
        for word in ("healthy", "unhealthy", "draining")
    }
    assert health == {"healthy": 1, "unhealthy": 1, "draining": 1}
    with payments.load_balancer.lease() as leased:
        assert leased is a
        assert read("service_mesh_connections", {"service": "payments", "instance": "a"}) == 1
    assert read("service_mesh_connections", {"service": "payments", "instance": "a"}) == 0


def test_a_circuit_that_stands_alone_is_watched(registry: CollectorRegistry) -> None:
    breaker = CircuitBreaker("mail", CircuitBreakerConfig(failure_threshold=1))
    registry.register(MeshCollector(breaker))
    permit = breaker.acquire()
    breaker.record_failure()
    permit.success()
    with pytest.raises(CircuitOpenError):
        breaker.execute(print)
    read = registry.get_sample_value
    assert read("service_mesh_circuit_refused_total", {"circuit": "mail"}) == 1
    assert read("service_mesh_circuit_late_outcomes_total", {"circuit": "mail"}) == 1
    assert one_hot(registry, "mail") == {"closed": 0, "open": 1, "half_open": 0}


def test_what_is_watched_twice_is_counted_once(registry: CollectorRegistry, payments: ServiceProxy) -> None:
    collector = MeshCollector(payments, payments)
    collector.watch(payments)
    registry.register(collector)
    payments.call(lambda instance: "paid")
    calls = {"service": "payments", "instance": "a", "outcome": "success"}
    assert registry.get_sample_value("service_mesh_calls_total", calls) == 1


def test_it_goes_on_counting_when_a_part_is_assigned(registry: CollectorRegistry, payments: ServiceProxy) -> None:
    registry.register(MeshCollector(payments))
    payments.retry_policy = RetryPolicy(max_retries=0)
    payments.call(lambda instance: "paid")
    calls = {"service": "payments", "instance": "a", "outcome": "success"}
    assert registry.get_sample_value("service_mesh_calls_total", calls) == 1


def test_a_refused_call_has_no_instance(registry: CollectorRegistry, payments: ServiceProxy) -> None:
    registry.register(MeshCollector(payments))
    payments.circuit_breaker.force_open()
    with pytest.raises(CircuitOpenError):
        payments.call(fails_at_a)
    refused = {"service": "payments", "instance": "", "outcome": "circuit_open"}
    assert registry.get_sample_value("service_mesh_calls_total", refused) == 1


def test_async_calls_are_counted_too(registry: CollectorRegistry) -> None:
    clock = ManualClock()
    mail = ServiceProxy("mail", clock=clock)
    mail.load_balancer.register(Instance(id="a", host="10.0.0.1", port=80))
    registry.register(MeshCollector(mail, buckets=[1, 5]))

    async def send(instance: Instance) -> None:
        clock.advance(3)

    clock.run(mail.call_async(send))
    labels = {"service": "mail", "outcome": "success"}
    read = registry.get_sample_value
    ends = [read("service_mesh_call_duration_seconds_bucket", {**labels, "le": end}) for end in ("1.0", "5.0", "+Inf")]
    assert ends == [0, 1, 1]
    assert read("service_mesh_call_duration_seconds_sum", labels) == 3


def test_a_scrape_over_http_reads_it(registry: CollectorRegistry, payments: ServiceProxy) -> None:
    registry.register(MeshCollector(payments))
    payments.call(fails_at_a)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        with urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as scraped:
            text = scraped.read().decode()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert 'service_mesh_calls_total{instance="b",outcome="success",service="payments"} 1.0' in text
    assert text == generate_latest(registry).decode()


def test_two_collectors_of_the_same_names_are_refused(registry: CollectorRegistry, payments: ServiceProxy) -> None:
    registry.register(MeshCollector(payments))
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(MeshCollector(payments))


def test_buckets_that_do_not_grow_are_refused() -> None:
    with pytest.raises(ValueError, match="buckets must be numbers of seconds that grow"):
        MeshCollector(buckets=[2, 1])
