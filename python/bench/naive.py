"""The naive baseline: what the module described by the seed does for a call, in plain Python, written anew.

Locks around every question and every answer, the wall clock, a list of the healthy instances for every pick, and a
retry loop around one instance. Its faults are those of `tests/test_seed_faults.py`; here it only stands for the cost of
the obvious way.
"""

from __future__ import annotations

import functools
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


class CircuitOpenError(Exception):
    pass


class NoHealthyInstanceError(Exception):
    pass


@dataclass
class ServiceInstance:
    id: str
    host: str
    port: int
    weight: int = 1
    healthy: bool = True
    connections: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)


class CircuitBreaker:
    def __init__(self, name: str, failures: int = 5, successes: int = 2, seconds: float = 30.0, probes: int = 3):
        self.name = name
        self.failures, self.successes, self.seconds, self.probes = failures, successes, seconds, probes
        self.state = "closed"
        self.failed = self.succeeded = self.probing = 0
        self.failed_at: datetime | None = None
        self.lock = threading.Lock()

    def admits(self) -> bool:
        with self.lock:
            if self.state == "closed":
                return True
            if self.state == "open":
                if self.failed_at is None or (datetime.now() - self.failed_at).total_seconds() < self.seconds:
                    return False
                self.state, self.probing = "half_open", 0
                return True
            return self.probing < self.probes

    def success(self) -> None:
        with self.lock:
            if self.state == "closed":
                self.failed = 0
                return
            self.succeeded += 1
            if self.succeeded >= self.successes:
                self.state, self.failed, self.succeeded = "closed", 0, 0

    def failure(self) -> None:
        with self.lock:
            self.failed += 1
            self.failed_at = datetime.now()
            if self.state == "half_open" or self.failed >= self.failures:
                self.state, self.succeeded = "open", 0

    def execute(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not self.admits():
            raise CircuitOpenError(f"Circuit {self.name} is open")
        if self.state == "half_open":
            with self.lock:
                self.probing += 1
        try:
            result = function(*args, **kwargs)
        except Exception:
            self.failure()
            raise
        self.success()
        return result


class LoadBalancer:
    def __init__(self, strategy: str = "round_robin"):
        self.strategy = strategy
        self.instances: dict[str, ServiceInstance] = {}
        self.turn = 0
        self.lock = threading.Lock()

    def register(self, instance: ServiceInstance) -> None:
        with self.lock:
            self.instances[instance.id] = instance

    def get_instance(self) -> ServiceInstance | None:
        with self.lock:
            healthy = [instance for instance in self.instances.values() if instance.healthy]
            if not healthy:
                return None
            if self.strategy == "round_robin":
                self.turn = (self.turn + 1) % len(healthy)
                return healthy[self.turn]
            if self.strategy == "random":
                return random.choice(healthy)
            if self.strategy == "weighted":
                at = random.uniform(0, sum(instance.weight for instance in healthy))
                for instance in healthy:
                    at -= instance.weight
                    if at <= 0:
                        return instance
                return healthy[-1]
            return min(healthy, key=lambda instance: instance.connections)


class RetryPolicy:
    def __init__(
        self, retries: int = 3, first: float = 0.1, longest: float = 10.0, base: float = 2.0, jitter: bool = True
    ):
        self.retries, self.first, self.longest, self.base, self.jitter = retries, first, longest, base, jitter

    def get_delay(self, attempt: int) -> float:
        delay = min(self.first * self.base**attempt, self.longest)
        return delay * random.uniform(0.5, 1.5) if self.jitter else delay

    def execute(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        last: Exception | None = None
        for attempt in range(self.retries + 1):
            try:
                return function(*args, **kwargs)
            except Exception as error:
                last = error
                if attempt < self.retries:
                    time.sleep(self.get_delay(attempt))
        assert last is not None
        raise last


class ServiceProxy:
    def __init__(self, name: str, balancer: LoadBalancer, breaker: CircuitBreaker, policy: RetryPolicy):
        self.name, self.balancer, self.breaker, self.policy = name, balancer, breaker, policy

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        instance = self.balancer.get_instance()
        if instance is None:
            raise NoHealthyInstanceError(f"No healthy instances for {self.name}")

        def protected() -> Any:
            return self.breaker.execute(function, instance, *args, **kwargs)

        return self.policy.execute(protected)


def with_circuit_breaker(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    breaker = CircuitBreaker(name)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def protected(*args: Any, **kwargs: Any) -> Any:
            return breaker.execute(function, *args, **kwargs)

        return protected

    return decorate


def with_retry(**settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    policy = RetryPolicy(**settings)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def protected(*args: Any, **kwargs: Any) -> Any:
            return policy.execute(function, *args, **kwargs)

        return protected

    return decorate
