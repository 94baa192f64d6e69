"""A service that fails where it is told to, and a proxy before it."""

import asyncio

from codomyrmex.service_mesh.circuit_breaker import CircuitBreaker
from codomyrmex.service_mesh.load_balancer import LoadBalancer
from codomyrmex.service_mesh.models import (
    CircuitBreakerConfig,
    ServiceInstance,
)
from codomyrmex.service_mesh.retry import RetryPolicy
from codomyrmex.service_mesh.service_proxy import ServiceProxy


def instances(names="abc"):
    return [ServiceInstance(id=name, host=f"host-{name}", port=80) for name in names]


def proxy(names="abc", *, failures=5, retries=3, clock=None, balancer=None, breaker=None, policy=None, **options):
    return ServiceProxy(
        "payments",
        LoadBalancer(instances=instances(names)) if balancer is None else balancer,
        CircuitBreaker("payments", CircuitBreakerConfig(failure_threshold=failures)) if breaker is None else breaker,
        RetryPolicy(max_retries=retries, initial_delay=0, jitter=False) if policy is None else policy,
        clock=clock,
        **options,
    )


def name_of(instance):
    return instance.id


def down(instance):
    raise ConnectionError(instance.id)


def fails_at(*names):
    def call(instance):
        if instance.id in names:
            raise ConnectionError(instance.id)
        return instance.id

    return call


async def name_async(instance):
    await asyncio.sleep(0)
    return instance.id


def fails_async(*names):
    async def call(instance):
        await asyncio.sleep(0)
        return fails_at(*names)(instance)

    return call
