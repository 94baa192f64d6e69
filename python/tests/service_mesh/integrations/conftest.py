from __future__ import annotations

from collections.abc import Iterator

import pytest

from codomyrmex.service_mesh import RetryPolicy, ServiceProxy

from .backend import Backend, backends


@pytest.fixture
def servers() -> Iterator[list[Backend]]:
    with backends("a", "b", "c") as started:
        yield started


@pytest.fixture
def payments(servers: list[Backend]) -> ServiceProxy:
    """A proxy in front of the three, which does not wait before a retry."""
    proxy = ServiceProxy("payments", retry_policy=RetryPolicy(max_retries=3, initial_delay=0, jitter=False))
    for server in servers:
        proxy.load_balancer.register(server.instance)
    return proxy
