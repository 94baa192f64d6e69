"""What is measured, by its names: the sums that are kept in Rust, and states that are read when somebody looks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .._native import CircuitBreaker, LoadBalancer, Measures, ServiceProxy
from ..models import CircuitState

__all__ = ["BUCKETS", "COUNTERS", "DURATIONS", "Counter", "Gauge", "Sample", "Watched", "Watcher"]

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The upper ends of the buckets of a duration, in seconds."""

Watched = ServiceProxy | CircuitBreaker
"""A proxy with all its circuits, or a circuit that stands alone."""


@dataclass(frozen=True)
class Counter:
    """A number that only grows."""

    name: str
    """Without `_total`."""
    help: str
    sums: str
    """What the sums call it."""
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Sample:
    """One value of a gauge."""

    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True)
class Gauge:
    """A state, as it is now."""

    name: str
    help: str
    labels: tuple[str, ...]
    samples: tuple[Sample, ...]


COUNTERS = (
    Counter(
        "service_mesh_calls",
        "Calls that have ended, by the instance of their last attempt.",
        "calls",
        ("service", "instance", "outcome"),
    ),
    Counter("service_mesh_attempts", "Attempts that have ended.", "attempts", ("service", "instance", "outcome")),
    Counter("service_mesh_retries", "Attempts that were tried again, by why.", "retries", ("service", "reason")),
    Counter(
        "service_mesh_retry_budget_exhausted",
        "Retries that were not made, since the budget was spent.",
        "budget_exhausted",
        ("service",),
    ),
    Counter(
        "service_mesh_circuit_transitions",
        "Changes of a circuit's state.",
        "transitions",
        ("circuit", "from", "to", "reason"),
    ),
    Counter("service_mesh_circuit_refused", "Calls that a circuit refused.", "refused", ("circuit",)),
    Counter(
        "service_mesh_circuit_late_outcomes",
        "Outcomes that came too late for a circuit to count.",
        "late_outcomes",
        ("circuit",),
    ),
)

DURATIONS = Counter(
    "service_mesh_call_duration_seconds",
    "How long calls took, with all attempts and waits.",
    "durations",
    ("service", "outcome"),
)

_HEALTH = ("healthy", "unhealthy", "draining")


class Watcher:
    """Counts what happens to those that it watches."""

    def __init__(self, watched: Iterable[Watched] = (), buckets: Sequence[float] = BUCKETS) -> None:
        self._measures = Measures(list(buckets))
        self._proxies: list[ServiceProxy] = []
        self._circuits: list[CircuitBreaker] = []
        for each in watched:
            self.watch(each)

    def watch(self, watched: Watched) -> None:
        """Counts what happens there from now on. Watched twice it is counted once."""
        if isinstance(watched, ServiceProxy):
            if not any(each is watched for each in self._proxies):
                self._measures.watch_proxy(watched)
                self._proxies.append(watched)
        elif not any(each is watched for each in self._circuits):
            self._measures.watch_circuit(watched)
            self._circuits.append(watched)

    def sums(self) -> dict[str, Any]:
        """The sums so far: for each counter a dict from the values of its labels."""
        return self._measures.read()

    def gauges(self) -> Iterator[Gauge]:
        """The states, as they are now."""
        states, connections, instances = [], [], []
        for circuit in self._circuits:
            states += _one_hot(circuit)
        for proxy in self._proxies:
            states += _one_hot(proxy.circuit_breaker)
            health: dict[str, int] = dict.fromkeys(_HEALTH, 0)
            balancer = proxy.load_balancer
            # One of the user's own may not tell whom it knows.
            for instance in balancer if isinstance(balancer, LoadBalancer) else ():
                its_own = proxy.instance_circuit_breaker(instance.id)
                states += _one_hot(its_own) if its_own is not None else []
                connections.append(Sample((proxy.service_name, instance.id), balancer.leased(instance.id)))
                health[_health(instance)] += 1
            instances += [Sample((proxy.service_name, word), count) for word, count in health.items()]
        yield Gauge(
            "service_mesh_circuit_state",
            "1 for the state that the circuit is in, 0 for the others.",
            ("circuit", "state"),
            tuple(states),
        )
        yield Gauge(
            "service_mesh_connections",
            "Attempts in flight at an instance.",
            ("service", "instance"),
            tuple(connections),
        )
        yield Gauge(
            "service_mesh_instances", "Registered instances, by health.", ("service", "health"), tuple(instances)
        )


def _one_hot(circuit: CircuitBreaker) -> list[Sample]:
    # Read once: between two looks it may change, and would be in two states or none.
    now = circuit.state
    return [Sample((circuit.name, state.value), float(state is now)) for state in CircuitState]


def _health(instance: Any) -> str:
    if not instance.healthy:
        return "unhealthy"
    return "healthy" if getattr(instance, "weight", 1) else "draining"
