"""Data classes, enumerations and errors. Nothing here decides anything.

What is told here of a field (its unit, range and default) holds in the policy file as well. Wherever seconds are taken, a
`datetime.timedelta` is as good as a number; what is read back is a number of seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, fields
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

from ._native import CircuitBreakerRules, InstanceState, count_window_rules, time_window_rules

__all__ = [
    "Answer",
    "AttemptTimedOutError",
    "CircuitBreakerConfig",
    "CircuitEvent",
    "CircuitOpenError",
    "CircuitState",
    "ConfigError",
    "CountWindow",
    "DeadlineExceededError",
    "LoadBalancerStrategy",
    "NoHealthyInstanceError",
    "ServiceInstance",
    "ServiceMeshError",
    "TimeWindow",
]


class CircuitState(Enum):
    """The state of a circuit breaker."""

    CLOSED = "closed"
    """Calls pass; failures are counted."""
    OPEN = "open"
    """Calls are refused until the timeout has passed."""
    HALF_OPEN = "half_open"
    """A few calls, the probes, pass to find out whether the service has recovered."""


class LoadBalancerStrategy(Enum):
    """How a load balancer picks among healthy instances."""

    ROUND_ROBIN = "round_robin"
    """One after the other, in the order of registration."""
    RANDOM = "random"
    """Any, each with the same chance."""
    WEIGHTED = "weighted"
    """In proportion to the weights, and smooth: heavy instances are spread out, not run in a row."""
    LEAST_CONNECTIONS = "least_connections"
    """The one with the fewest connections; ties are broken at random."""
    P2C = "p2c"
    """Of two that chance names, the one with fewer connections relative to its weight."""
    PEAK_EWMA = "peak_ewma"
    """Of two that chance names, the one whose recent peak latency, times its connections relative to its weight, is less."""
    CONSISTENT_HASH = "consistent_hash"
    """By the key of the call: one key, one instance, for as long as that one is there and not overloaded."""


@dataclass(frozen=True)
class CircuitEvent:
    """Something that happened to a circuit; `str(event)` says it in words."""

    name: str
    """The circuit."""
    kind: str
    """`"transition"`, `"refused"`, `"late_outcome"`, `"probes_written_off"`, `"ejection_capped"`; of a proxy also `"retry"`,
    `"given_up"` and `"budget_exhausted"`."""
    from_state: CircuitState | None = None
    """Of a transition."""
    to_state: CircuitState | None = None
    """Of a transition."""
    reason: str | None = None
    """Of a transition (`"consecutive_failures"`, `"timeout_elapsed"`, `"recovered"`, …) or of a refusal (`"open"`, …)."""
    retry_after: float | None = None
    """Of a refusal: the seconds until a call may be admitted, if anybody can know."""
    outcome: str | None = None
    """Of a late outcome: `"success"` or `"failure"`."""
    details: dict[str, Any] = field(default_factory=dict)
    """The counts: of the rule that tripped the circuit, or how many probes were written off."""
    text: str = field(default="", repr=False, compare=False)

    def __str__(self) -> str:
        return self.text


class ServiceMeshError(Exception):
    """What all errors of this package have in common."""


class CircuitOpenError(ServiceMeshError):
    """A circuit refused the call: the function was not run.

    `name` is the circuit, `state` its state, `reason` one of `"open"`, `"half_open_full"` and `"forced"`. `retry_after`
    is the seconds until a call may be admitted, or `None` where nobody can know. `last_failure` is the last failure that
    the circuit was told of, if it was told one, and the error's `__cause__` too. A pickled error leaves both behind, as
    every exception does with its cause.
    """

    name: str | None
    state: CircuitState | None
    reason: str | None
    retry_after: float | None
    last_failure: BaseException | None

    def __init__(
        self,
        message: str = "",
        *,
        name: str | None = None,
        state: CircuitState | None = None,
        reason: str | None = None,
        retry_after: float | None = None,
        last_failure: BaseException | None = None,
    ) -> None:
        super().__init__(*((message,) if message else ()))
        self.name = name
        self.state = state
        self.reason = reason
        self.retry_after = retry_after
        self.last_failure = self.__cause__ = last_failure

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, {**self.__dict__, "last_failure": None}


class NoHealthyInstanceError(ServiceMeshError):
    """Nobody is left whom the call could go to. `service` is the name of the service."""

    service: str | None

    def __init__(self, message: str = "", *, service: str | None = None) -> None:
        super().__init__(*((message,) if message else ()))
        self.service = service


class DeadlineExceededError(ServiceMeshError, TimeoutError):
    """The time for the whole call is up. `service` is the name of the service."""

    service: str | None

    def __init__(self, message: str = "", *, service: str | None = None) -> None:
        super().__init__(*((message,) if message else ()))
        self.service = service


class AttemptTimedOutError(ServiceMeshError, TimeoutError):
    """The last attempt took longer than one attempt may, and was cancelled. `service` is the name of the service."""

    service: str | None

    def __init__(self, message: str = "", *, service: str | None = None) -> None:
        super().__init__(*((message,) if message else ()))
        self.service = service


class ConfigError(ServiceMeshError, ValueError):
    """A field of a configuration is out of range: `field`, the `value` that it was given, and what is `allowed`."""

    field: str | None
    value: str | None
    allowed: str | None

    def __init__(
        self, message: str = "", *, field: str | None = None, value: str | None = None, allowed: str | None = None
    ) -> None:
        super().__init__(*((message,) if message else ()))
        self.field = field
        self.value = value
        self.allowed = allowed


Seconds = float | timedelta
"""A number of seconds, or a `timedelta`."""

Errors = type[BaseException] | Callable[[BaseException], bool] | tuple["Errors", ...]
"""Which errors are meant: a type, a predicate, or a tuple of such."""


@dataclass(frozen=True)
class Answer:
    """What came of one attempt means: to the circuits, and to a retry. `with_options(classify=...)` of a proxy takes it."""

    outcome: Literal["success", "failure", "neutral"]
    """What the circuits are told; neutral is nothing."""
    retryable: bool | None = None
    """Whether the call may be tried again. By default a failure may, and nothing else."""
    retry_after: Seconds | None = None
    """For how long the instance asks to be left alone: a retry is never earlier."""


@dataclass(frozen=True)
class CountWindow:
    """Judges the last `size` outcomes. It slides: the oldest leaves when a new one comes.

    At least one of the two ratios must be given; both lie above 0 and at most at 1, and are reached at equality.

    - `size`: how many outcomes it holds. 1 to 1,048,576.
    - `minimum_calls`: fewer outcomes than these are not judged; a full window is, in any case.
    - `failure_ratio`: the share of failures that trips the circuit.
    - `slow_call_ratio`: the share of slow calls that trips the circuit.
    - `slow_call_seconds`: a call that takes longer is slow. Needed by `slow_call_ratio`.
    """

    size: int = 100
    minimum_calls: int = 10
    failure_ratio: float | None = None
    slow_call_ratio: float | None = None
    slow_call_seconds: Seconds | None = None

    def __post_init__(self) -> None:
        self.__dict__.update(count_window_rules(self.__dict__))


@dataclass(frozen=True)
class TimeWindow:
    """Judges the outcomes of the last `duration_seconds`, which are kept in buckets: the oldest leaves as a whole.

    At least one of the two ratios must be given; both lie above 0 and at most at 1, and are reached at equality.

    - `duration_seconds`: how long an outcome is remembered. Above 0.
    - `buckets`: how many buckets it is kept in. 10 to 1,000.
    - `minimum_calls`: fewer outcomes than these are not judged.
    - `failure_ratio`: the share of failures that trips the circuit.
    - `slow_call_ratio`: the share of slow calls that trips the circuit.
    - `slow_call_seconds`: a call that takes longer is slow. Needed by `slow_call_ratio`.
    """

    duration_seconds: Seconds = 10.0
    buckets: int = 10
    minimum_calls: int = 10
    failure_ratio: float | None = None
    slow_call_ratio: float | None = None
    slow_call_seconds: Seconds | None = None

    def __post_init__(self) -> None:
        self.__dict__.update(time_window_rules(self.__dict__))


@dataclass
class CircuitBreakerConfig(CircuitBreakerRules):
    """When a circuit trips, how long it stays open, how it recovers, and what it takes for a failure.

    It is alive: a field that is assigned takes effect at once in every breaker that uses the object. A value out of
    range is a `ConfigError`, which is a `ValueError`, and changes nothing; a name that is no field's is an
    `AttributeError`, but in a subclass, which may have attributes of its own.

    - `failure_threshold`: failures in a row that trip the circuit; a success clears the row. 1 to 16,777,215.
    - `success_threshold`: successes of probes that reset a half-open circuit. 1 to 16,777,215; may be larger than
      `half_open_max_calls`.
    - `timeout_seconds`: how long the circuit stays open. 0 is legal: the next call is then a probe.
    - `half_open_max_calls`: probes that may be in flight at once in half-open. 1 to 16,777,215.
    - `consecutive`: whether failures in a row are judged at all. May be false where a window is set.
    - `timeout_multiplier`: what each further trip in a row multiplies the open time by. At least 1.
    - `timeout_jitter_ratio`: the share of the open time that chance may add, so that many clients do not probe at one
      instant. 0 to 1.
    - `timeout_max_seconds`: the longest open time, jitter included. Not below `timeout_seconds`; by default there is no
      limit.
    - `probe_timeout_seconds`: how old the newest probe must be before hung probes are written off, when all places are
      taken. By default the longer of `timeout_seconds` and 30 s; it doubles with every write-off until the circuit is
      closed.
    - `count_window`: a rule over the last N outcomes; none by default.
    - `time_window`: a rule over the outcomes of the last T; none by default.
    - `on`: which errors are failures. Others are successes: the service did answer. What is no `Exception`, such as
      `KeyboardInterrupt` and `asyncio.CancelledError`, is neutral whatever stands here.
    - `ignore`: which errors are neutral: they count as nothing. Refusals (`CircuitOpenError`, `NoHealthyInstanceError`)
      always are.
    - `failed_result`: says of a result whether it is a failure nevertheless.
    """

    failure_threshold: int = 5
    success_threshold: int = 2
    timeout_seconds: Seconds = 30.0
    half_open_max_calls: int = 3
    _: KW_ONLY
    consecutive: bool = True
    timeout_multiplier: float = 1.0
    timeout_jitter_ratio: float = 0.0
    timeout_max_seconds: Seconds | None = None
    probe_timeout_seconds: Seconds | None = None
    count_window: CountWindow | None = None
    time_window: TimeWindow | None = None
    on: Errors = Exception
    ignore: Errors = ()
    failed_result: Callable[[Any], bool] | None = None

    def __post_init__(self) -> None:
        self._complete()

    def _complete(self) -> None:
        self.__dict__.update(self._take({each.name: getattr(self, each.name) for each in fields(CircuitBreakerConfig)}))

    if not TYPE_CHECKING:  # or any name would do

        def __setattr__(self, name: str, value: Any) -> None:
            # A subclass may have attributes of its own.
            if type(self) is CircuitBreakerConfig and not hasattr(CircuitBreakerConfig, name):
                from .suggestion import did_you_mean  # of no concern to those who write what there is

                meant = did_you_mean(name, CircuitBreakerConfig.__dataclass_fields__)
                raise AttributeError(f"CircuitBreakerConfig has no field {name!r}{meant}")
            self._assign(name, value)

    def __delattr__(self, name: str) -> None:
        """A field goes back to its default, as that of any dataclass does; it is an assignment like others."""
        if name in CircuitBreakerConfig.__dataclass_fields__:
            self._assign(name, getattr(type(self), name))
        else:
            super().__delattr__(name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.__dict__.copy())


def _restored(kind: type[CircuitBreakerConfig], state: dict[str, Any]) -> CircuitBreakerConfig:
    config = kind.__new__(kind)
    config.__dict__.update(state)
    config._complete()
    return config


@dataclass
class ServiceInstance(InstanceState):
    """One instance of a service: where it listens, and what share of the calls it should get.

    It is alive: `weight`, `healthy` and `connections` that are assigned are seen at once by every balancer that the
    object is registered with. `in_flight` tells the connections that those have leased.

    - `id`: names the instance within its balancer; registering the same id again replaces it.
    - `host`: a host name or an IP address; an IPv6 address stands without brackets.
    - `port`: the port.
    - `weight`: its share of the calls, relative to the others; 0 drains it: no new calls. A fraction counts in
      thousandths.
    - `healthy`: whether it may be picked. What is assigned is read as true or false.
    - `connections`: connections that somebody else counts for it; least connections adds them to those that it leased.
    - `metadata`: whatever else is known of it.
    """

    id: str
    host: str
    port: int
    weight: float = 1
    healthy: bool = True
    connections: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """`host:port`, with an IPv6 host in brackets."""
        host = f"[{self.host}]" if ":" in self.host and not self.host.startswith("[") else self.host
        return f"{host}:{self.port}"

    def __reduce__(self) -> tuple[Any, ...]:
        live = {name: getattr(self, name) for name in _LIVE}
        return _registrable, (type(self), live), self.__dict__.copy()


_LIVE = ("weight", "healthy", "connections")

# The defaults stay with the fields; as attributes of the class they would hide the base's, which balancers go by.
for _name in _LIVE:
    delattr(ServiceInstance, _name)


def _registrable(kind: type[ServiceInstance], live: dict[str, Any]) -> ServiceInstance:
    instance = kind.__new__(kind)
    for name, value in live.items():
        setattr(instance, name, value)
    return instance
