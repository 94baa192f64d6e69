"""Python's collector may run at any time: also while one of our objects is being made."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest

from codomyrmex.service_mesh import CircuitBreaker, LoadBalancer, Mesh, RetryPolicy, ServiceProxy

pytestmark = pytest.mark.thread_unsafe(reason="the collector's thresholds are one for all threads")


@pytest.fixture
def collects_all_the_time() -> Iterator[None]:
    thresholds = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    yield
    gc.set_threshold(*thresholds)


class Subclass(CircuitBreaker):
    pass


@pytest.mark.usefixtures("collects_all_the_time")
@pytest.mark.parametrize(
    "make",
    [
        lambda: CircuitBreaker("payments"),
        lambda: Subclass("payments"),
        LoadBalancer,
        RetryPolicy,
        lambda: ServiceProxy("payments"),
        lambda: Mesh.from_str("[services.payments]")["payments"],
    ],
)
def test_an_object_may_be_made_while_the_collector_runs(make: Callable[[], object]) -> None:
    made = [make() for _ in range(50)]
    assert len(made) == 50
