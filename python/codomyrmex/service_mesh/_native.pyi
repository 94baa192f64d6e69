"""What is in Rust. Import it from `codomyrmex.service_mesh`."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from datetime import datetime
from os import PathLike
from types import TracebackType
from typing import Any, Literal, ParamSpec, Self, TypeVar, final

from typing_extensions import disjoint_base

from .mesh import PolicyChanges
from .models import (
    CircuitBreakerConfig,
    CircuitEvent,
    CircuitState,
    Errors,
    LoadBalancerStrategy,
    Seconds,
)
from .public_decorators import Guarded, Retried
from .retry import Attempt
from .service_proxy import ServiceProxyOptions, Story

__all__ = [
    "Asked",
    "Call",
    "CircuitBreaker",
    "CircuitBreakerRules",
    "InstanceState",
    "Lease",
    "LoadBalancer",
    "ManualClock",
    "Mesh",
    "Permit",
    "RetryBudget",
    "RetryCall",
    "RetryPolicy",
    "ServiceProxy",
    "Unbegun",
    "claim_interpreter",
    "count_window_rules",
    "guard_with_circuit_breaker",
    "guard_with_retry_policy",
    "halves_of_a_call",
    "switch_testing",
    "time_window_rules",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Listener = TypeVar("_Listener", bound=Callable[[CircuitEvent], object])

@disjoint_base
class CircuitBreaker:
    """Stops calling what keeps failing, and finds out carefully when it works again."""

    name: str
    def __init__(
        self,
        name: str,
        config: CircuitBreakerConfig | None = None,
        *,
        listeners: Iterable[Callable[[CircuitEvent], object]] | None = None,
        clock: ManualClock | None = None,
    ) -> None: ...
    def execute(self, func: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Calls `func` if the circuit admits it, and counts what comes of it. Of a coroutine function it is the awaited
        call that is protected, and asked for when it is awaited."""

    def can_execute(self) -> bool:
        """Whether a call would be admitted now, without taking a place. A circuit whose open time has passed becomes
        half-open by being asked."""

    def record_success(self) -> None:
        """Counts a success by hand, against the present state; in open it is late."""

    def record_failure(self, error: BaseException | None = None) -> None:
        """Counts a failure by hand, against the present state; in open it is late."""

    def acquire(self) -> Permit:
        """Leave to make one call, which is a context manager too. Raises `CircuitOpenError` where there is none."""

    def __call__(self, func: Callable[_P, _R]) -> Guarded[_P, _R]:
        """Decorates a function."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...
    def force_open(self) -> None:
        """Refuses every call until `reset` or `force_closed`."""

    def force_closed(self) -> None:
        """Admits every call and never trips, but goes on counting, until `reset` or `force_open`."""

    def reset(self) -> None:
        """Back to automatic: closed, with nothing counted. Verdicts of calls that are under way are late."""

    def update_config(self, config: CircuitBreakerConfig | None = None, /, **fields: Any) -> None:
        """Goes by another configuration, or by its own with some fields changed (a copy, so that no other breaker
        changes). State, counts and listeners stay."""

    def subscribe(self, listener: _Listener) -> _Listener:
        """Calls `listener` with a `CircuitEvent` of all that happens from now on, in order, with no lock held; it may call
        the breaker back. What it raises is reported by `sys.unraisablehook` and harms nothing. Gives it back, so that this
        is a decorator too."""

    def unsubscribe(self, listener: Callable[[CircuitEvent], object]) -> bool:
        """Calls `listener` no more; false if it was none."""

    @property
    def config(self) -> CircuitBreakerConfig:
        """When it trips and how it recovers: alive, and perhaps shared with other breakers."""

    @config.setter
    def config(self, config: CircuitBreakerConfig | None) -> None: ...
    @property
    def state(self) -> CircuitState:
        """Its state. One that is assigned begins anew; an open one ends when it would have if the last failure had tripped
        the circuit."""

    @state.setter
    def state(self, state: CircuitState | str) -> None: ...
    @property
    def failure_count(self) -> int:
        """The failures in a row in closed; after a trip the row that it had, until it is closed again."""

    @failure_count.setter
    def failure_count(self, count: int) -> None: ...
    @property
    def success_count(self) -> int:
        """The successes of probes since the circuit became half-open; 0 in other states."""

    @success_count.setter
    def success_count(self, count: int) -> None: ...
    @property
    def half_open_calls(self) -> int:
        """The probes in flight; 0 unless the circuit is half-open."""

    @half_open_calls.setter
    def half_open_calls(self, count: int) -> None: ...
    @property
    def last_failure_time(self) -> datetime | None:
        """When a failure was last counted, in naive local time. What is assigned moves the end of an open time."""

    @last_failure_time.setter
    def last_failure_time(self, time: datetime | None) -> None: ...
    @property
    def last_failure(self) -> BaseException | None:
        """The failure that a refusal has as its cause: the last one, for as long as the circuit is not closed. Its
        traceback keeps alive what the failed function held, and so it goes when the circuit recovers."""

    @property
    def retry_after(self) -> float | None:
        """The seconds for which an open circuit will go on refusing; `None` in other states, and if it is forced."""

    @property
    def late_outcomes(self) -> int:
        """Verdicts that came after the state that they belonged to had ended, and were not counted."""

    def _begin(self) -> Any: ...
    def _succeed(self, leave: Any, result: Any) -> None: ...
    def _fail(self, leave: Any, error: BaseException) -> None: ...
    def _restore(self, snapshot: tuple[str, bool, tuple[int, int, int], float | None, float | None]) -> None: ...

@final
class Permit:
    """Leave to make one call through a circuit breaker: `breaker.acquire()`.

    The first verdict counts and later ones do nothing; without one, released or collected, it is neutral."""

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
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

@disjoint_base
class RetryPolicy:
    """Tries a failed call again, after a wait that grows."""

    def __init__(
        self,
        max_retries: int = 3,
        initial_delay: Seconds = 0.1,
        max_delay: Seconds = 10.0,
        exponential_base: float = 2.0,
        jitter: bool | str = True,
        *,
        retry_after_max: Seconds = 60.0,
        on: Errors = ...,
        ignore: Errors = (),
        failed_result: Callable[[Any], bool] | None = None,
        budget: RetryBudget | None = None,
        clock: ManualClock | None = None,
    ) -> None: ...
    def get_delay(self, attempt: int) -> float:
        """The wait in seconds before retry `attempt`, counted from 0: `initial_delay * exponential_base ** attempt`, at
        most `max_delay`, then jitter, and again at most `max_delay`."""

    def execute(self, func: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Calls `func` until it succeeds, or until the policy gives up; then its last error comes back as it is, with a
        note of the attempts if there were several. Of a coroutine function it is the awaited call that is tried again."""

    def __call__(self, func: Callable[_P, _R]) -> Retried[_P, _R]:
        """Decorates a function."""

    def __iter__(self) -> Iterator[Attempt]: ...
    def __aiter__(self) -> AsyncIterator[Attempt]: ...
    @property
    def max_retries(self) -> int: ...
    @max_retries.setter
    def max_retries(self, value: int) -> None: ...
    @property
    def initial_delay(self) -> float: ...
    @initial_delay.setter
    def initial_delay(self, value: Seconds) -> None: ...
    @property
    def max_delay(self) -> float: ...
    @max_delay.setter
    def max_delay(self, value: Seconds) -> None: ...
    @property
    def exponential_base(self) -> float: ...
    @exponential_base.setter
    def exponential_base(self, value: float) -> None: ...
    @property
    def jitter(self) -> bool | str:
        """`True` for a factor of 0.5 to 1.5, `False` for none, or `"full"`, `"equal"`, `"decorrelated"`."""

    @jitter.setter
    def jitter(self, value: bool | str) -> None: ...
    @property
    def retry_after_max(self) -> float:
        """The longest `Retry-After` that is waited for, in seconds; a call that is asked to wait longer gives up at once."""

    @retry_after_max.setter
    def retry_after_max(self, value: Seconds) -> None: ...
    @property
    def on(self) -> Errors:
        """Which errors are tried again: a type, a predicate, or a tuple of them."""

    @on.setter
    def on(self, on: Errors) -> None: ...
    @property
    def ignore(self) -> Errors:
        """Which errors are not tried again, though they are among `on`."""

    @ignore.setter
    def ignore(self, ignore: Errors) -> None: ...
    @property
    def failed_result(self) -> Callable[[Any], bool] | None:
        """Says of a result whether the call is to be tried again; a result that is the last is returned nevertheless."""

    @failed_result.setter
    def failed_result(self, failed: Callable[[Any], bool] | None) -> None: ...
    @property
    def budget(self) -> RetryBudget | None:
        """What its retries are charged to, or `None`."""

    @budget.setter
    def budget(self, budget: RetryBudget | None) -> None: ...
    @property
    def _clock(self) -> ManualClock | None: ...
    def _begin(self) -> RetryCall | None: ...
    def _call(self) -> RetryCall: ...
    def _sleep(self, seconds: float) -> None: ...

@final
class RetryCall:
    """One call that Python drives: it is told what came of each attempt, and says how long to wait before the next."""

    def after_error(self, error: BaseException) -> float | None: ...
    def after_result(self, result: Any) -> float | None: ...
    @property
    def attempts(self) -> int: ...

@disjoint_base
class RetryBudget:
    """Bounds the retries of all who share it: in any 10 seconds at most `ratio` times the calls, and `floor_per_second`
    times 10. A retry that it does not grant is not made, and the call comes to the error that it has."""

    def __new__(
        cls, ratio: float = 0.2, floor_per_second: float = 10.0, *, clock: ManualClock | None = None
    ) -> Self: ...
    def deposit(self) -> None:
        """A call begins: it earns `ratio` of a retry."""

    def withdraw(self) -> bool:
        """Takes a retry out, if there is one; it cannot be given back. Where it is false there must be no retry."""

    @property
    def balance(self) -> int:
        """How many retries could be taken out now."""

    @property
    def ratio(self) -> float:
        """The share of the calls that may be tried again. 0 to 1, default 0.2."""

    @ratio.setter
    def ratio(self, value: float) -> None: ...
    @property
    def floor_per_second(self) -> float:
        """Retries per second that are granted whatever the calls. At least 0, default 10."""

    @floor_per_second.setter
    def floor_per_second(self, value: float) -> None: ...

@disjoint_base
class LoadBalancer:
    """Says who is next among the instances of a service."""

    def __init__(
        self,
        strategy: LoadBalancerStrategy | str = ...,
        instances: Iterable[Any] = (),
        *,
        slow_start: Seconds | None = None,
        clock: ManualClock | None = None,
    ) -> None: ...
    @property
    def strategy(self) -> LoadBalancerStrategy: ...
    @strategy.setter
    def strategy(self, strategy: LoadBalancerStrategy | str) -> None: ...
    def register(self, instance: Any, /) -> Any | None: ...
    def deregister(self, instance_id: str) -> Any | None: ...
    def mark_healthy(self, instance_id: str, healthy: bool = True) -> bool: ...
    def get_instance(self, key: Any = None, exclude: Iterable[Any] | None = None) -> Any | None: ...
    def lease(self, key: Any = None, exclude: Iterable[Any] | None = None) -> Lease: ...
    def leased(self, instance_id: str) -> int: ...
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __contains__(self, instance: object, /) -> bool: ...
    def __getitem__(self, instance_id: str, /) -> Any: ...
    @property
    def _instances(self) -> Any: ...

@final
class Lease:
    """An instance whose connection is counted until this is released, or its block ends."""

    @property
    def instance(self) -> Any: ...
    def release(self) -> None: ...
    def __enter__(self) -> Any: ...
    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None, /
    ) -> None: ...

@disjoint_base
class ServiceProxy:
    """One call with everything that it needs: balance, circuits, time limits, and a retry elsewhere."""

    service_name: str
    load_balancer: Any
    circuit_breaker: Any
    retry_policy: Any
    def __init__(
        self,
        service_name: str,
        load_balancer: Any = None,
        circuit_breaker: Any = None,
        retry_policy: Any = None,
        *,
        instance_circuit_breaker: CircuitBreakerConfig | Literal[False] | None = ...,
        timeout: Seconds | None = None,
        attempt_timeout: Seconds | None = None,
        budget: Any = ...,
        max_ejected_ratio: float | None = None,
        explain_ratio: float | None = None,
        listeners: Iterable[Callable[[CircuitEvent], object]] | None = None,
        clock: ManualClock | None = None,
    ) -> None: ...
    def call(self, func: Callable[..., _R], /, *args: Any, **kwargs: Any) -> _R: ...
    def call_async(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any: ...
    def __call__(self, func: Callable[..., Any]) -> Any: ...
    def with_options(
        self, *, key: Any = None, timeout: Seconds | None = None, explain: bool = False
    ) -> ServiceProxyOptions: ...
    def instance_circuit_breaker(self, instance: Any) -> CircuitBreaker | None: ...
    def subscribe(self, listener: Callable[[CircuitEvent], object]) -> None: ...
    @property
    def _runs_calls_here(self) -> bool: ...
    def _begin(self, asked: Any = None) -> Call: ...
    def _call_with(self, asked: Any, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any: ...
    def _call_once(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any: ...

@final
class Call:
    """One call that Python drives."""

    def begin(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None
    ) -> tuple[Any, float | None]: ...
    @property
    def is_running(self) -> bool: ...
    def returned(self, result: Any) -> float | None: ...
    def raised(self, error: BaseException) -> float | None: ...
    def timed_out(self) -> float | None: ...
    @property
    def clock(self) -> Any: ...

@disjoint_base
class Mesh:
    """The services of one policy file."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    @classmethod
    def from_file(
        cls,
        path: str | PathLike[str],
        *,
        listeners: Iterable[Callable[[CircuitEvent], object]] | None = None,
        max_ejected_ratio: float | None = None,
        clock: ManualClock | None = None,
    ) -> Self:
        """Reads a policy file, and makes a proxy for each of its services."""

    @classmethod
    def from_str(
        cls,
        text: str,
        *,
        listeners: Iterable[Callable[[CircuitEvent], object]] | None = None,
        max_ejected_ratio: float | None = None,
        clock: ManualClock | None = None,
    ) -> Self:
        """The same from the text itself."""

    def reload(self, text: str | None = None) -> PolicyChanges:
        """Reads the file again, or `text` in its place, and applies what has changed."""

    def keys(self) -> list[str]: ...
    def values(self) -> list[ServiceProxy]: ...
    def __getitem__(self, name: str, /) -> ServiceProxy: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __contains__(self, name: object, /) -> bool: ...

@final
class Unbegun:
    """Holds a coroutine, and closes it if nobody takes it."""

    def __new__(cls, coroutine: Coroutine[Any, Any, Any]) -> Self: ...
    def take(self) -> Any: ...

@final
class Asked:
    def story(self) -> Story | None: ...

@disjoint_base
class CircuitBreakerRules:
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def _take(self, fields: dict[str, Any]) -> dict[str, Any]: ...
    def _check(self, name: str, value: Any) -> Any: ...

@disjoint_base
class InstanceState:
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    weight: float
    healthy: bool
    connections: int
    @property
    def in_flight(self) -> int: ...

@disjoint_base
class ManualClock:
    def nanoseconds(self) -> int: ...
    def move_to(self, nanoseconds: int) -> None: ...

def claim_interpreter() -> None: ...
def count_window_rules(fields: dict[str, Any]) -> dict[str, Any]: ...
def time_window_rules(fields: dict[str, Any]) -> dict[str, Any]: ...
def guard_with_circuit_breaker(func: Callable[..., Any], breaker: CircuitBreaker) -> Any: ...
def guard_with_retry_policy(func: Callable[..., Any], policy: RetryPolicy) -> Any: ...
def halves_of_a_call(breaker: CircuitBreaker) -> tuple[Callable[[], Any], Callable[[Any, Any], Any]]: ...
def switch_testing(testing: bool, attempts: int | None) -> tuple[bool, int | None]: ...
