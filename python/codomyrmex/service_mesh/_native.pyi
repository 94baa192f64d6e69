"""What decides, for Python. Import it from `codomyrmex.service_mesh`: what is not there as well is not for use."""

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, MutableMapping
from datetime import datetime
from os import PathLike
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeAlias, TypeVar, final, overload

from typing_extensions import Unpack, disjoint_base

from .decorated import GuardedFunction, ProxiedFunction, ResilientFunction, RetriedFunction
from .fields import CircuitBreakerFields, Jitter
from .mesh import PolicyChanges
from .models import (
    Answer,
    CircuitBreakerConfig,
    CircuitEvent,
    CircuitState,
    Errors,
    LoadBalancerStrategy,
    Seconds,
    ServiceInstance,
)
from .retry import Attempts
from .service_proxy import ServiceProxyOptions, Story
from .testing import ManualClock as _Clock

__all__ = [
    "Asked",
    "Call",
    "CircuitBreaker",
    "CircuitBreakerRules",
    "InstanceState",
    "Lease",
    "LoadBalancer",
    "ManualClock",
    "Measures",
    "Mesh",
    "Permit",
    "RetryBudget",
    "RetryCall",
    "RetryPolicy",
    "ServiceProxy",
    "Unbegun",
    "__version__",
    "claim_interpreter",
    "count_window_rules",
    "guard_with_circuit_breaker",
    "guard_with_retry_policy",
    "halves_of_a_call",
    "switch_testing",
    "time_window_rules",
]

__version__: str
"""The version of the package."""

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")
_Listener = TypeVar("_Listener", bound=Callable[[CircuitEvent], object])

_Key: TypeAlias = str | bytes | int | tuple[_Key, ...]

class _HasId(Protocol):
    @property
    def id(self) -> str: ...

# ----- circuit breaker -----

@disjoint_base
class CircuitBreaker:
    """Stops calling what keeps failing, and finds out carefully when it works again.

    ```python
    breaker = CircuitBreaker("payments", failure_threshold=3, timeout_seconds=10)
    breaker.execute(print, "paid")
    ```

    `execute`, the decorator `with_circuit_breaker`, `with breaker:` and `breaker.acquire()` are four ways to make a call
    under it, and may be mixed. A call that is refused is a `CircuitOpenError`, and was not made.

    - `config`: a `CircuitBreakerConfig`, which says what its fields mean, with their units, ranges and defaults. They may
      be given one by one in its place, as above.
    - `listeners`: are called with a `CircuitEvent` of all that happens.
    - `clock`: a `testing.ManualClock`, for tests.

    A value out of range is a `ConfigError`, which is a `ValueError`.
    """

    name: str
    """The name, which refusals and events carry."""
    failure_count: int
    """Failures in a row; while open, those that tripped the circuit."""
    success_count: int
    """Successes of probes since the circuit became half-open."""
    half_open_calls: int
    """Probes in flight."""
    last_failure_time: datetime | None
    """When a failure was last counted: local time without a time zone, or `None`."""
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    @overload
    def __init__(
        self,
        name: str,
        config: CircuitBreakerConfig | None = None,
        *,
        listeners: Iterable[Callable[[CircuitEvent], object]] | None = None,
        clock: _Clock | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: str,
        config: None = None,
        *,
        listeners: Iterable[Callable[[CircuitEvent], object]] | None = None,
        clock: _Clock | None = None,
        **fields: Unpack[CircuitBreakerFields],
    ) -> None: ...
    def execute(self, func: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
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
    def __call__(self, func: classmethod[_T, _P, _R], /) -> classmethod[_T, _P, _R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, func: staticmethod[_P, _R], /
    ) -> staticmethod[_P, _R]: ...
    @overload
    def __call__(self, func: RetriedFunction[_P, _R], /) -> ResilientFunction[_P, _R]: ...
    @overload
    def __call__(self, func: Callable[_P, _R], /) -> GuardedFunction[_P, _R]: ...
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
    def config(self) -> CircuitBreakerConfig:
        """Its configuration, which is alive: a field that is assigned there, or another configuration here, holds at once."""
    @config.setter
    def config(self, config: CircuitBreakerConfig | None, /) -> None: ...
    @property
    def state(self) -> CircuitState:
        """The present state. It is still `OPEN` when the open time has passed, until somebody asks to be admitted. What is
        assigned, a member or its value, holds as if it had come about by itself.
        """
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
    def subscribe(self, listener: _Listener) -> _Listener:
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
    def _assign(self, name: str, value: object) -> None:
        """Assigns an attribute. A field is checked first, and those who go by it are told before the attribute is set; from one
        to the other no Python code runs, so that of two assignments that race the later one is what holds and what is read.
        """

def count_window_rules(fields: dict[str, Any]) -> dict[str, Any]:
    """Checks a count window, and gives back its fields as they are to be read."""

def time_window_rules(fields: dict[str, Any]) -> dict[str, Any]:
    """Checks a time window, and gives back its fields as they are to be read."""

def guard_with_circuit_breaker(func: Callable[_P, _R], breaker: CircuitBreaker) -> GuardedFunction[_P, _R]:
    """Puts a breaker before a sync function."""

def halves_of_a_call(
    breaker: CircuitBreaker,
) -> tuple[Callable[[], int | Permit], Callable[[int | Permit, _T], _T]]:
    """`breaker._begin`, and `breaker._succeed` that gives the result back, for a closure that calls them for every call: a
    method of `PyO3`'s costs 15 ns more each.
    """

# ----- retry -----

@disjoint_base
class RetryPolicy:
    """Tries a failed call again, after a wait that grows.

    ```python
    policy = RetryPolicy(max_retries=2, initial_delay=0.05, jitter="full", on=OSError)
    policy.execute(print, "sent")
    ```

    `execute`, the decorator `with_retry`, and `for attempt in policy:` are three ways to make a call under it. Its fields may
    be assigned, and hold for the calls that begin after that. Delays are seconds, or a `timedelta`. What a call comes to is
    its last error as it is, with a note of the attempts if there were several.

    - `max_retries`: attempts after the first, at least 0. Default 3, which makes at most four attempts.
    - `initial_delay`: the wait before the first retry. Default 0.1.
    - `max_delay`: the longest wait, jitter included. Default 10.
    - `exponential_base`: what each further wait is multiplied by. At least 1, default 2.
    - `jitter`: the chance in a wait. `True`, the default, or `"proportional"` is a factor of 0.5 to 1.5, `False` or `"none"`
      is none; or `"full"`, `"equal"`, `"decorrelated"`.
    - `retry_after_max`: the longest `Retry-After` that is waited for. Default 60.
    - `on`, `ignore`: which errors are tried again, and which of them are not. By default every `Exception` is.
    - `failed_result`: says of a result whether the call is to be tried again. By default none is.
    - `budget`: a `RetryBudget` that its retries are charged to. By default there is none.
    - `clock`: a `testing.ManualClock`, for tests.

    A value out of range is a `ConfigError`, which is a `ValueError`.
    """

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def __init__(
        self,
        max_retries: int = 3,
        initial_delay: Seconds = 0.1,
        max_delay: Seconds = 10.0,
        exponential_base: float = 2.0,
        jitter: Jitter = True,
        *,
        retry_after_max: Seconds = 60.0,
        on: Errors = ...,
        ignore: Errors = (),
        failed_result: Callable[[Any], bool] | None = None,
        budget: RetryBudget | None = None,
        clock: _Clock | None = None,
    ) -> None: ...
    max_retries: int
    """How often a call is tried again: 3 is at most four attempts. Default 3."""
    exponential_base: float
    """What each further wait is multiplied by. At least 1, default 2."""
    jitter: Jitter
    """`True` for a factor of 0.5 to 1.5, `False` for none, or `"full"`, `"equal"`, `"decorrelated"`."""
    on: Errors
    """Which errors are tried again: a type, a predicate, or a tuple of them."""
    ignore: Errors
    """Which errors are not tried again, though they are among `on`."""
    failed_result: Callable[[Any], bool] | None
    """Says of a result whether the call is to be tried again; a result that is the last is returned nevertheless."""
    budget: RetryBudget | None
    """What its retries are charged to, or `None`."""
    @property
    def initial_delay(self) -> float:
        """The wait before the first retry, in seconds. Default 0.1."""
    @initial_delay.setter
    def initial_delay(self, value: Seconds, /) -> None: ...
    @property
    def max_delay(self) -> float:
        """The longest wait, jitter included, in seconds. Default 10."""
    @max_delay.setter
    def max_delay(self, value: Seconds, /) -> None: ...
    @property
    def retry_after_max(self) -> float:
        """The longest `Retry-After` that is waited for, in seconds; a call that is asked to wait longer gives up at once."""
    @retry_after_max.setter
    def retry_after_max(self, value: Seconds, /) -> None: ...
    def get_delay(self, attempt: int) -> float:
        """The wait in seconds before retry `attempt`, counted from 0: `initial_delay * exponential_base ** attempt`, at most
        `max_delay`, then jitter, and again at most `max_delay`.
        """
    def execute(self, func: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Calls `func` until it succeeds, or until the policy gives up; then its last error comes back as it is, with a note of
        the attempts if there were several. Of a coroutine function it is the awaited call that is tried again.
        """
    @overload
    def __call__(self, func: classmethod[_T, _P, _R], /) -> classmethod[_T, _P, _R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, func: staticmethod[_P, _R], /
    ) -> staticmethod[_P, _R]: ...
    @overload
    def __call__(self, func: GuardedFunction[_P, _R], /) -> ResilientFunction[_P, _R]: ...
    @overload
    def __call__(self, func: Callable[_P, _R], /) -> RetriedFunction[_P, _R]: ...
    def __iter__(self) -> Attempts: ...
    def __aiter__(self) -> Attempts: ...
    def _begin(self) -> RetryCall | None:
        """A call begins that Python drives; `None` where nobody counts it, and any result is what it comes to."""
    def _call(self) -> RetryCall:
        """The same call, after its first attempt has failed."""
    def _sleep(self, seconds: float) -> None:
        """Waits in the thread."""
    @property
    def _clock(self) -> _Clock | None:
        """The clock that it was given, whose waits are made instead of the system's."""

@disjoint_base
class RetryBudget:
    """Bounds the retries of all who share it: in any 10 seconds at most `ratio` times the calls, and `floor_per_second` times
    10. A retry that it does not grant is not made, and the call comes to the error that it has.
    """

    def __new__(cls, ratio: float = 0.2, floor_per_second: float = 10.0, *, clock: _Clock | None = None) -> Self: ...
    ratio: float
    """Retries that one call earns. 0 to 10, default 0.2."""
    floor_per_second: float
    """Retries per second that are granted whatever the calls. At least 0, default 10."""
    def deposit(self) -> None:
        """A call begins: it earns `ratio` of a retry."""
    def withdraw(self) -> bool:
        """Takes a retry out, if there is one; it cannot be given back. Where it is false there must be no retry."""
    @property
    def balance(self) -> int:
        """How many retries could be taken out now."""

@final
class Unbegun:
    """Holds a coroutine, and closes it if nobody takes it: a task that is cancelled before it begins has forgotten nothing, and
    is to be warned of nothing.

    The collector is not shown the coroutine, on purpose. Of a cycle that it breaks up it calls the finalizers in any order,
    and the coroutine's own would complain before this one has closed it. What a coroutine holds that has not begun are its
    arguments; only if those lead back to the one that was going to await it are they kept for ever.
    """

    def __new__(cls, coroutine: Coroutine[Any, Any, Any]) -> Self: ...
    def take(self) -> Any:
        """The coroutine, which the caller is going to await now."""

@final
class RetryCall:
    """One call that Python drives: it is told what came of each attempt, and says how long to wait before the next."""

    def after_error(self, error: BaseException) -> float | None:
        """The seconds to wait after this error; `None` if it is the last, which then has a note of the attempts."""
    def after_result(self, result: object) -> float | None:
        """The seconds to wait after this result; `None` if it is what the call comes to."""
    @property
    def attempts(self) -> int:
        """Attempts so far, with the one that is under way."""

def guard_with_retry_policy(func: Callable[_P, _R], policy: RetryPolicy) -> RetriedFunction[_P, _R]:
    """Puts a retry policy before a sync function."""

# ----- load balancer -----

@disjoint_base
class InstanceState:
    """The native base of `ServiceInstance`. Not for use by itself."""

    weight: float
    """Its share of the calls, relative to the others; 0 drains it. A fraction counts in thousandths."""
    healthy: bool
    """Whether it may be picked."""
    connections: int
    """Connections that somebody else counts for it."""
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    @property
    def in_flight(self) -> int:
        """Connections that balancers have leased and not got back, in all that hold this object."""

@disjoint_base
class LoadBalancer:
    """Picks an instance for each call: who is next among the instances of a service.

    ```python
    balancer = LoadBalancer(LoadBalancerStrategy.LEAST_CONNECTIONS)
    balancer.register(ServiceInstance(id="1", host="api-1", port=8080))
    with balancer.lease() as instance:
        print(f"Routing to: {instance.address}")
    ```

    `lease` counts a connection until the block is left, and raises `NoHealthyInstanceError` if nobody can be picked;
    `get_instance` counts none, and gives `None` then.

    - `strategy`: a `LoadBalancerStrategy` or its value, such as `"p2c"`. Default `ROUND_ROBIN`; a word that is no strategy is
      a `ConfigError`, which is a `ValueError`.
    - `instances`: are registered, in this order.
    - `slow_start`: for how many seconds, or what `timedelta`, the share of a new or recovered instance rises to what its
      weight says, where weights count. By default it has its full share at once.
    - `clock`: a `testing.ManualClock`, for tests.

    Objects that are no `ServiceInstance` may be registered too, if they have an `id`; and subclasses may hide `weight`,
    `healthy` or `connections` behind attributes of their own. Both are read by attribute before each pick, which costs 0.1 µs
    an object.
    """

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def __init__(
        self,
        strategy: LoadBalancerStrategy | str | None = None,
        instances: Iterable[ServiceInstance | _HasId] | None = None,
        *,
        slow_start: Seconds | None = None,
        clock: _Clock | None = None,
    ) -> None: ...
    @property
    def strategy(self) -> LoadBalancerStrategy:
        """How it picks: a `LoadBalancerStrategy`; its value, a `str`, may be assigned too."""
    @strategy.setter
    def strategy(self, strategy: LoadBalancerStrategy | str, /) -> None: ...
    def register(self, instance: ServiceInstance | _HasId, /) -> ServiceInstance | None:
        """Adds an instance behind the others, or puts it in the place of the one with the same id, which is returned.

        With the same host and port, connections in flight stay counted.
        """
    def deregister(self, instance_id: str) -> ServiceInstance | None:
        """Takes an instance out and returns it; `None` if there is none with this id."""
    def mark_healthy(self, instance_id: str, healthy: bool = True) -> bool:
        """Marks an instance, and the object itself, healthy or unhealthy. Whether there is one with this id."""
    def get_instance(
        self, key: _Key | None = None, exclude: Iterable[_HasId | str] | _HasId | str | None = None
    ) -> ServiceInstance | None:
        """The next instance by the strategy, the very object that was registered; `None` if none is registered, healthy and
        of a weight above 0. Counts no connection: see `lease`.

        `key` is what the call is about, for `CONSISTENT_HASH`: a string, bytes, an integer, or a tuple of such. `exclude`
        are instances, or ids, that are not to be picked: those that were tried, for instance.
        """
    def lease(self, key: _Key | None = None, exclude: Iterable[_HasId | str] | _HasId | str | None = None) -> Lease:
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
    def __contains__(self, instance: object, /) -> bool: ...
    def __getitem__(self, instance_id: str, /) -> ServiceInstance: ...
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

# ----- service proxy -----

@disjoint_base
class ServiceProxy:
    """Calls a service with everything that a call needs: balance, circuits, time limits, and a retry elsewhere.

    ```python
    payments = ServiceProxy("payments", timeout=2, attempt_timeout=0.5)
    payments.load_balancer.register(ServiceInstance(id="1", host="api-1", port=8080))

    def charge(instance, amount):
        return requests.post(f"http://{instance.address}/charge", json={"amount": amount}, timeout=0.5).json()

    payments.call(charge, 100)
    ```

    `call` runs the function with the instance that is next, and again with another one if it fails. The instance's circuit
    judges every attempt; the service's hears of a failure only where no other instance could make good for it. `await
    payments.call(f)` and `await payments.call_async(f)` do the same for coroutine functions; waits are those of asyncio, or of
    trio where it runs.

    - `load_balancer`, `circuit_breaker`, `retry_policy`: its parts. By default `LoadBalancer()`,
      `CircuitBreaker(service_name)` and `RetryPolicy()`.
    - `instance_circuit_breaker`: the `CircuitBreakerConfig` of each instance's circuit; `None` for no such circuits. By
      default that of the service's.
    - `timeout`: how long a call may take, with its retries and waits; `attempt_timeout`: how long one attempt may. In seconds,
      or a `timedelta`, above 0. By default there is no limit.
    - `budget`: the `RetryBudget` that retries are charged to; `None` for none. By default one of its own.
    - `max_ejected_ratio`: the share of the instances that their circuits may take out at once. Above 0, at most 1, the default.
    - `explain_ratio`: the share of the calls whose story is logged. 0, the default, to 1.
    - `listeners`: are called with a `CircuitEvent` of all that happens.
    - `clock`: a `testing.ManualClock`, for tests.

    A value out of range is a `ConfigError`, which is a `ValueError`. What a caller gets who gets no result: the function's own
    last error, with a note of the attempts; `NoHealthyInstanceError`; `CircuitOpenError`, at once and without a wait, with
    `retry_after` and the last failure of the call as its `__cause__`; `DeadlineExceededError` and `AttemptTimedOutError`. A
    running sync attempt cannot be stopped: its time limits are looked at between attempts, and one that outlasted its own is a
    failure of its instance.
    """

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def __init__(
        self,
        service_name: str,
        load_balancer: LoadBalancer | None = None,
        circuit_breaker: CircuitBreaker | None = None,
        retry_policy: RetryPolicy | None = None,
        *,
        instance_circuit_breaker: CircuitBreakerConfig | None = ...,
        timeout: Seconds | None = None,
        attempt_timeout: Seconds | None = None,
        budget: RetryBudget | None = ...,
        max_ejected_ratio: float | None = None,
        explain_ratio: float | None = None,
        listeners: Iterable[Callable[[CircuitEvent], object]] | None = None,
        clock: _Clock | None = None,
    ) -> None: ...
    service_name: str
    """The service's name."""
    load_balancer: LoadBalancer
    """The balancer; instances are registered there."""
    circuit_breaker: CircuitBreaker
    """The service's circuit breaker."""
    retry_policy: RetryPolicy
    """How it retries."""
    def call(self, func: Callable[Concatenate[ServiceInstance, _P], _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Calls `func(instance, *args, **kwargs)` with an instance of the balancer, and again with another if it fails.

        Of a coroutine function the awaited call is protected: `await proxy.call(func)`.
        """
    def call_async(
        self, func: Callable[Concatenate[ServiceInstance, _P], Awaitable[_R]], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Coroutine[Any, Any, _R]:
        """Calls a coroutine function, or any other whose result is awaitable."""
    def __call__(self, func: Callable[Concatenate[ServiceInstance, _P], _R]) -> ProxiedFunction[_P, _R]: ...
    def with_options(
        self,
        *,
        key: _Key | None = None,
        timeout: Seconds | None = None,
        explain: bool = False,
        classify: Callable[[Any, BaseException | None], Answer | None] | None = None,
    ) -> ServiceProxyOptions:
        """The same proxy for calls that ask for more: the `key` that they are about, a `timeout` of their own, or to
        `explain` what happened. It has `call`, `call_async`, decorates, and tells the `story` of its last call.

        `classify(result, error)` says of each attempt what it means, as an `Answer`; where it gives `None`, the predicates
        of the breaker and the policy say it. What is no `Exception` and refusals are not asked about.

        A policy that overrides `execute` makes calls of one attempt, and what is asked holds for each of them.
        """
    def instance_circuit_breaker(self, instance: _HasId | str) -> CircuitBreaker | None:
        """The circuit of an instance, as a view of it; `None` if no instance of this id can be picked, or instances have no
        circuits.
        """
    def subscribe(self, listener: Callable[[CircuitEvent], object]) -> None:
        """Tells a listener what happens here, in the service's circuit and in those of the instances, from now on. It is
        called with an event, holds up the call that caused it, and harms nothing if it raises.
        """
    def _call_with(
        self, asked: Asked, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None
    ) -> Any:
        """Like `call`, with what was asked for this call alone."""
    def _call_once(
        self,
        asked: Asked | None,
        func: Callable[Concatenate[ServiceInstance, _P], _R],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _R:
        """Like `call`, of one attempt: what a policy of the user's own calls again and again."""
    def _begin(self, asked: Asked | None = None) -> Call:
        """Begins a call that Python drives."""
    @property
    def _runs_calls_here(self) -> bool:
        """Whether it retries itself, or a policy of the user's own does, by its `execute`."""

@final
class Asked:
    """What one call asks for beyond the proxy's settings; kept by `ServiceProxyOptions`."""

    def story(self) -> Story | None:
        """The story of the last call that has begun, once it is over."""

@final
class Call:
    """One call that Python drives: the async drivers'.

    `begin` makes an attempt; then exactly one of `returned`, `raised` and `timed_out` says what came of it. They give the
    seconds to wait before the next `begin`, or nothing if the call is over. Dropped, the attempt was cancelled.
    """

    def begin(
        self,
        func: Callable[Concatenate[ServiceInstance, ...], _R],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
    ) -> tuple[_R, float | None]:
        """Begins the next attempt: calls the function with the instance, and gives what it returns and the seconds that the
        attempt may take, if anything limits it.
        """
    @property
    def is_running(self) -> bool:
        """Whether an attempt is under way."""
    def returned(self, result: object) -> float | None:
        """The attempt came to this result."""
    def raised(self, error: BaseException) -> float | None:
        """The attempt came to this error. If the call is over, this raises what its caller gets."""
    def timed_out(self) -> float | None:
        """The attempt was stopped, since its time was up. If the call is over, this raises what its caller gets."""
    @property
    def clock(self) -> _Clock | None:
        """The clock that its waits go by, if it is a manual one."""

@disjoint_base
class Mesh:
    """The services of a policy file, which Rust and the sidecar read too: a mapping of their names to their proxies.

    ```python
    mesh = Mesh.from_file("mesh.toml")
    mesh["payments"].call(lambda instance: print(instance.address))
    mesh.reload()  # on a signal, on a timer, when the file has changed
    ```

    `mesh["payments"]` is always the same `ServiceProxy`, which follows reloads by itself; a name that is not there is a
    `KeyError`. A reload applies what has changed and keeps live state. A file with a mistake changes nothing; `PolicyError`
    tells every mistake with its line and column.
    """

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    @classmethod
    def from_file(
        cls,
        path: str | PathLike[str],
        *,
        listeners: Iterable[Callable[[CircuitEvent], object]] | None = None,
        max_ejected_ratio: float | None = None,
        clock: _Clock | None = None,
    ) -> Mesh:
        """Reads a policy file, and makes a proxy for each of its services.

        Raises `OSError` if it cannot be read, and `PolicyError` with every mistake in it.
        """
    @classmethod
    def from_str(
        cls,
        text: str,
        *,
        listeners: Iterable[Callable[[CircuitEvent], object]] | None = None,
        max_ejected_ratio: float | None = None,
        clock: _Clock | None = None,
    ) -> Mesh:
        """The same from the text itself."""
    def reload(self, text: str | None = None) -> PolicyChanges:
        """Reads the file again, or `text` in its place, and applies what has changed: states of circuits, counters and calls
        under way stay. Returns what has changed.

        Raises like `from_file`, and has changed nothing then.
        """
    def keys(self) -> list[str]:
        """The names of the services."""
    def values(self) -> list[ServiceProxy]:
        """The proxies, in the order of their names."""
    def __getitem__(self, name: str, /) -> ServiceProxy: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __contains__(self, name: object, /) -> bool: ...

# ----- what is measured -----

@final
class Measures:
    """The sums of all that it watches."""

    def __new__(cls, bounds: list[float]) -> Self: ...
    def watch_proxy(self, proxy: ServiceProxy) -> None:
        """From now on the calls of a proxy, its retries and its circuits are counted."""
    def watch_circuit(self, circuit: CircuitBreaker) -> None:
        """From now on what happens to a circuit is counted, which stands alone."""
    def read(self) -> dict[str, Any]:
        """The sums, each a dict from labels, in a tuple, to a number; a duration's is of its buckets (cumulative), all, and the
        seconds.
        """

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
