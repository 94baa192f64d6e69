"""Plays scenarios of a load balancer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Protocol

from .expect import names, same, within
from .scenarios import Scenario, Step, step_by_step


class Driver(Protocol):
    def advance(self, seconds: float) -> None: ...
    def register(self, instance: dict[str, Any]) -> bool: ...
    def deregister(self, id: str) -> bool: ...
    def mark_healthy(self, id: str, healthy: bool) -> bool: ...
    def pick(self, exclude: list[str]) -> str | None: ...
    def lease(self, exclude: list[str]) -> str | None: ...
    def release(self, id: str) -> None: ...
    def leased(self, id: str) -> int: ...


def instance(written: str | dict[str, Any]) -> dict[str, Any]:
    """The fields of an instance: the host is its id and the port 80 unless given."""
    table = {"id": written} if isinstance(written, str) else written
    return {"host": table["id"], "port": 80, **table}


def play(scenario: Scenario, driver: Driver) -> None:
    for step in step_by_step(scenario):
        _act(step, driver)
        for id, expected in step.take("leased", {}).items():
            same(f"leased of {id}", expected, driver.leased(id))


def _act(step: Step, driver: Driver) -> None:
    exclude = step.take("exclude", "").split()
    if "picks" in step:
        expected = step.take("picks")
        names("picks", expected, [driver.pick(exclude) for _ in expected.split()])
    elif "leases" in step:
        expected = step.take("leases")
        names("leases", expected, [driver.lease(exclude) for _ in expected.split()])
    elif "pick_times" in step:
        _counts(step.take("counts"), (driver.pick(exclude) for _ in range(step.take("pick_times"))))
    elif "lease_times" in step:
        _counts(step.take("counts"), (driver.lease(exclude) for _ in range(step.take("lease_times"))))
    elif "release" in step:
        driver.release(step.take("release"))
    elif "advance_seconds" in step:
        driver.advance(step.take("advance_seconds"))
    else:
        known = _change(step, driver)
        if "known" in step:
            same("known", step.take("known"), known)


def _change(step: Step, driver: Driver) -> bool:
    if "register" in step:
        return driver.register(instance(step.take("register")))
    if "deregister" in step:
        return driver.deregister(step.take("deregister"))
    if "mark_healthy" in step:
        return driver.mark_healthy(step.take("mark_healthy"), True)
    if "mark_unhealthy" in step:
        return driver.mark_healthy(step.take("mark_unhealthy"), False)
    raise AssertionError(f"no action in {step.table}")


def _counts(expected: dict[str, Any], chosen: Iterable[str | None]) -> None:
    got = Counter(id or "-" for id in chosen)
    for id, bounds in expected.items():
        within(f"count of {id}", bounds, got.pop(id, 0))
    for id, count in got.items():
        within(f"count of {id}", 0, count)
