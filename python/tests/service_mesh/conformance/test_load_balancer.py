"""The load balancer. It has no drivers: whoever calls asks it."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from codomyrmex.service_mesh import LoadBalancer, NoHealthyInstanceError, ServiceInstance
from codomyrmex.service_mesh.testing import ManualClock

from .load_balancer import instance, play
from .scenarios import Scenario, parameters


class World:
    def __init__(self, scenario: Scenario) -> None:
        table = scenario.table
        self.clock = ManualClock()
        self.balancer = LoadBalancer(
            table.get("strategy", "round_robin"), slow_start=table.get("slow_start_seconds"), clock=self.clock
        )
        self.leases: dict[str, deque[Any]] = {}
        for written in table.get("instances", []):
            self.register(instance(written))

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def register(self, instance: dict[str, Any]) -> bool:
        return self.balancer.register(ServiceInstance(**instance)) is not None

    def deregister(self, id: str) -> bool:
        return self.balancer.deregister(id) is not None

    def mark_healthy(self, id: str, healthy: bool) -> bool:
        return self.balancer.mark_healthy(id, healthy)

    def pick(self, exclude: list[str]) -> str | None:
        picked = self.balancer.get_instance(exclude=exclude)
        return None if picked is None else picked.id

    def lease(self, exclude: list[str]) -> str | None:
        try:
            lease = self.balancer.lease(exclude=exclude)
        except NoHealthyInstanceError:
            return None
        id = lease.__enter__().id
        self.leases.setdefault(id, deque()).append(lease)
        return id

    def release(self, id: str) -> None:
        self.leases[id].popleft().__exit__(None, None, None)

    def leased(self, id: str) -> int:
        return self.balancer.leased(id)


@pytest.mark.parametrize("scenario", parameters("load_balancer.toml", {"slow_start"}))
def test_the_scenario_holds(scenario: Scenario) -> None:
    scenario.only("strategy", "slow_start_seconds", "instances")
    play(scenario, World(scenario))
