"""What decides, for Python. Import it from `codomyrmex.service_mesh`: what is not there as well is not for use."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from datetime import datetime
from types import TracebackType
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar, final, overload

from typing_extensions import Self, Unpack, disjoint_base

from .decorated import GuardedFunction
from .fields import CircuitBreakerFields
from .models import (
    CircuitBreakerConfig,
    CircuitEvent,
    CircuitState,
    LoadBalancerStrategy,
    Seconds,
    ServiceInstance,
)

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Listener = TypeVar("Listener", bound=Callable[[CircuitEvent], object])

Key: TypeAlias = str | bytes | int | tuple["Key", ...]

class HasId(Protocol):
    @property
    def id(self) -> str: ...

# ----- circuit breaker -----

@disjoint_base
class CircuitBreaker:
    """Stops calling what keeps failing, and finds out carefully when it works again.

    `execute`, the decorator `with_circuit_breaker`, `with breaker:` and `breaker.acquire()` are four ways to make a call
    under it, and may be mixed.
    """

    name: str
    failure_count: int
    success_count: int
    half_open_calls: int
    last_failure_time: datetime | None
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def __init__(
        self,
        name: str,
        config: CircuitBreakerConfig | None = None,
        *,
        listeners: Iterable[Callable[[CircuitEvent], object]] | None = None,
        clock: ManualClock | None = None,
    ) -> None: ...
    def execute(self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls `func` if the circuit admits it, and counts what comes of it. Of a coroutine function it is the awaited
        call that is protected, and asked for when it is awaited.
        """
    def can_execute(self) -> bool:
        """Whether a call would be admitted now, without taking a place. A circuit whose open time has passed becomes
        half-open by being asked.
        """
    def record_success(self) -> None:
        """Counts a success by hand, against the present state; in open it is late."""
    def record_failure(self, error: BaseException | None = None) -> None:
        """Counts a failure by hand, against the present state; in open it is late."""
    def acquire(self) -> Permit:
        """Leave to make one call, which is a context manager too.

        Raises `CircuitOpenError` where there is none.
        """
    @overload
    def __call__(self, func: classmethod[T, P, R], /) -> classmethod[T, P, R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, func: staticmethod[P, R], /
    ) -> staticmethod[P, R]: ...
    @overload
    def __call__(self, func: Callable[P, R], /) -> GuardedFunction[P, R]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None: ...
    def __aenter__(self) -> Awaitable[Self]: ...
    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Awaitable[None]: ...
    def force_open(self) -> None:
        """Refuses every call until `reset` or `force_closed`."""
    def force_closed(self) -> None:
        """Admits every call and never trips, but goes on counting, until `reset` or `force_open`."""
    def reset(self) -> None:
        """Back to automatic: closed, with nothing counted. Verdicts of calls that are under way are late."""
    def update_config(
        self, config: CircuitBreakerConfig | None = None, /, **fields: Unpack[CircuitBreakerFields]
    ) -> None:
        """Goes by another configuration, or by its own with some fields changed (a copy, so that no other breaker changes).
        State, counts and listeners stay.
        """
    @property
    def config(self) -> CircuitBreakerConfig: ...
    @config.setter
    def config(self, config: CircuitBreakerConfig | None, /) -> None: ...
    @property
    def state(self) -> CircuitState: ...
    @state.setter
    def state(self, state: CircuitState | str, /) -> None: ...
    @property
    def retry_after(self) -> float | None:
        """The seconds for which an open circuit will go on refusing; `None` in other states, and if it is forced."""
    @property
    def last_failure(self) -> BaseException | None:
        """The failure that a refusal has as its cause: the last one, for as long as the circuit is not closed. Its traceback
        keeps alive what the failed function held, and so it goes when the circuit recovers.
        """
    @property
    def late_outcomes(self) -> int:
        """Verdicts that came after the state that they belonged to had ended, and were not counted."""
    def subscribe(self, listener: Listener) -> Listener:
        """Calls `listener` with a `CircuitEvent` of all that happens from now on, in order, with no lock held; it may call
        the breaker back. What it raises is reported by `sys.unraisablehook` and harms nothing. Gives it back, so that this
        is a decorator too.
        """
    def unsubscribe(self, listener: Callable[[CircuitEvent], object]) -> bool:
        """Calls `listener` no more; false if it was none."""
    def _begin(self) -> int | Permit:
        """Asks for leave, for a call that Python drives: a number where that is enough, else a permit."""
    def _succeed(self, leave: int | Permit, result: object) -> None:
        """What `_begin` admitted came to this result."""
    def _fail(self, leave: int | Permit, error: BaseException) -> None:
        """What `_begin` admitted came to this error."""
    def _restore(self, snapshot: tuple[str, bool, tuple[int, int, int], float | None, float | None]) -> None: ...

@final
class Permit:
    """Leave to make one call through a circuit breaker: `breaker.acquire()`.

    The first verdict counts and later ones do nothing; without one, released or collected, it is neutral.
    """

    def success(self) -> None:
        """The call succeeded."""
    def failure(self, error: BaseException | None = None) -> None:
        """The call failed, with this error if there is one."""
    def release(self) -> None:
        """The call says nothing: whatever the permit held is given back."""
    @property
    def is_probe(self) -> bool:
        """Whether the circuit was half-open when it gave this permit."""
    @property
    def circuit_breaker(self) -> CircuitBreaker:
        """The breaker that gave it."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None: ...
    def __aenter__(self) -> Awaitable[Self]: ...
    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Awaitable[None]: ...

@disjoint_base
class CircuitBreakerRules:
    """The native base of `CircuitBreakerConfig`. Not for use by itself."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def _take(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Takes all fields at once, and gives back those that are read otherwise than they were written."""
    def _check(self, name: str, value: T) -> T:
        """Checks a field that is about to be assigned, tells those who go by it, and gives back what is to be read."""

def count_window_rules(fields: dict[str, Any]) -> dict[str, Any]:
    """Checks a count window, and gives back its fields as they are to be read."""

def time_window_rules(fields: dict[str, Any]) -> dict[str, Any]:
    """Checks a time window, and gives back its fields as they are to be read."""

def guard_with_circuit_breaker(func: Callable[P, R], breaker: CircuitBreaker) -> GuardedFunction[P, R]:
    """Puts a breaker before a sync function."""

# ----- load balancer -----

@disjoint_base
class InstanceState:
    """The native base of `ServiceInstance`. Not for use by itself."""

    weight: float
    healthy: bool
    connections: int
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    @property
    def in_flight(self) -> int:
        """Connections that balancers have leased and not got back, in all that hold this object."""

@disjoint_base
class LoadBalancer:
    """Picks an instance for each call. See `load_balancer.py`."""

    def __new__(cls, *_args: Any, **kwargs: Any) -> Self: ...
    def __init__(
        self,
        strategy: LoadBalancerStrategy | str | None = None,
        instances: Iterable[ServiceInstance | HasId] | None = None,
        *,
        slow_start: Seconds | None = None,
        clock: ManualClock | None = None,
    ) -> None: ...
    @property
    def strategy(self) -> LoadBalancerStrategy:
        """How it picks: a `LoadBalancerStrategy`; its value, a `str`, may be assigned too."""
    @strategy.setter
    def strategy(self, strategy: LoadBalancerStrategy | str, /) -> None: ...
    def register(self, instance: ServiceInstance | HasId, /) -> ServiceInstance | None:
        """Adds an instance behind the others, or puts it in the place of the one with the same id, which is returned.

        With the same host and port, connections in flight stay counted.
        """
    def deregister(self, instance_id: str) -> ServiceInstance | None:
        """Takes an instance out and returns it; `None` if there is none with this id."""
    def mark_healthy(self, instance_id: str, healthy: bool = True) -> bool:
        """Marks an instance, and the object itself, healthy or unhealthy. Whether there is one with this id."""
    def get_instance(
        self, key: Key | None = None, exclude: Iterable[HasId | str] | HasId | str | None = None
    ) -> ServiceInstance | None:
        """The next instance by the strategy, the very object that was registered; `None` if none is registered, healthy and
        of a weight above 0. Counts no connection: see `lease`.

        `key` is what the call is about, for `CONSISTENT_HASH`: a string, bytes, an integer, or a tuple of such. `exclude`
        are instances, or ids, that are not to be picked: those that were tried, for instance.
        """
    def lease(self, key: Key | None = None, exclude: Iterable[HasId | str] | HasId | str | None = None) -> Lease:
        """The next instance, with one connection counted until the block is left: `with balancer.lease() as instance:`.

        Raises `NoHealthyInstanceError` if there is none. `key` and `exclude` are those of `get_instance`.
        """
    def leased(self, instance_id: str) -> int:
        """How many connections to this instance are leased, without those that somebody else counts; 0 if there is none."""
    @property
    def _instances(self) -> MutableMapping[str, ServiceInstance]:
        """The instances by id, alive: what is put there is registered, what is deleted is taken out."""
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __iter__(self) -> Iterator[ServiceInstance]: ...
    def __contains__(self, instance: object) -> bool: ...
    def __getitem__(self, instance_id: str) -> ServiceInstance: ...
    def __setstate__(self, state: tuple[LoadBalancerStrategy, list[ServiceInstance], dict[str, Any]]) -> None: ...

@final
class Lease:
    """A connection of an instance, counted until the block is left, `release` is called, or this is collected.

    `with balancer.lease() as instance:` gives the instance. A block that is left by an exception is a failure for
    strategies that learn from it (`PEAK_EWMA`); one that was cancelled says nothing.
    """

    @property
    def instance(self) -> ServiceInstance:
        """The instance, the very object that was registered."""
    def release(self) -> None:
        """Gives the connection back and says nothing of the call. Once given back, this does nothing."""
    def __enter__(self) -> ServiceInstance: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
        /,
    ) -> None: ...

# ----- tests, and the module itself -----

@disjoint_base
class ManualClock:
    """The native half of `testing.ManualClock`: the time that the decisions see. Timers and waits are Python's."""

    def __new__(cls) -> Self: ...
    def nanoseconds(self) -> int:
        """Nanoseconds since the clock's origin."""
    def move_to(self, nanoseconds: int) -> None:
        """Moves it forward to that time, if it is not there already."""

def switch_testing(testing: bool, attempts: int | None) -> tuple[bool, int | None]:
    """Sets the switch, and gives back what it was before, to be set again."""

def claim_interpreter() -> None:
    """Called by the package when it is imported, and an error in any interpreter but the first.

    Each interpreter has a `builtins` of its own, as long as it lives: its address tells them apart.
    """
