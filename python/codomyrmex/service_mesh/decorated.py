"""What the decorators make of a function, for type checkers and for those who annotate.

A decorated function keeps its parameters and its result, as a function, as a coroutine function and as a method, and has
its breaker or its policy as an attribute:

```python
@with_circuit_breaker("payments")
async def pay(order: Order) -> Receipt: ...

pay: GuardedFunction[[Order], Coroutine[Any, Any, Receipt]]
```

These are protocols: nothing at run time is an instance of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from typing import Self

    from ._native import CircuitBreaker, RetryPolicy, ServiceProxy
    from .service_proxy import ServiceProxyOptions

__all__ = [
    "CircuitBreakerDecorator",
    "GuardedFunction",
    "ProxiedFunction",
    "ResilientFunction",
    "RetriedFunction",
    "RetryDecorator",
]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class GuardedFunction(Protocol[P, R_co]):
    """A function behind a circuit breaker."""

    __name__: str
    __qualname__: str

    @property
    def __wrapped__(self) -> Callable[P, R_co]:
        """The function as it was written."""
        ...

    @property
    def circuit_breaker(self) -> CircuitBreaker:
        """The breaker that it is behind."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Calls it, or raises `CircuitOpenError`."""
        ...

    # Of a class method, of the class, of an object, of a static method. They overlap, and the first that fits is right.
    @overload
    def __get__(self: TakesFirst[T, Q, R], instance: object, owner: T, /) -> GuardedFunction[Q, R]: ...
    @overload
    def __get__(self, instance: None, owner: type[Any], /) -> Self: ...
    @overload
    def __get__(self: TakesFirst[T, Q, R], instance: T, owner: type[Any] | None = None, /) -> GuardedFunction[Q, R]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None, /) -> Self: ...


class RetriedFunction(Protocol[P, R_co]):
    """A function that is tried again."""

    __name__: str
    __qualname__: str

    @property
    def __wrapped__(self) -> Callable[P, R_co]:
        """The function as it was written."""
        ...

    @property
    def retry_policy(self) -> RetryPolicy:
        """The policy by which it is tried again."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Calls it, perhaps several times."""
        ...

    # Of a class method, of the class, of an object, of a static method. They overlap, and the first that fits is right.
    @overload
    def __get__(self: TakesFirst[T, Q, R], instance: object, owner: T, /) -> RetriedFunction[Q, R]: ...
    @overload
    def __get__(self, instance: None, owner: type[Any], /) -> Self: ...
    @overload
    def __get__(self: TakesFirst[T, Q, R], instance: T, owner: type[Any] | None = None, /) -> RetriedFunction[Q, R]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None, /) -> Self: ...


class ResilientFunction(GuardedFunction[P, R_co], RetriedFunction[P, R_co], Protocol[P, R_co]):
    """A function that is both, in either order."""

    # As above.
    @overload
    def __get__(self: TakesFirst[T, Q, R], instance: object, owner: T, /) -> ResilientFunction[Q, R]: ...
    @overload
    def __get__(self, instance: None, owner: type[Any], /) -> Self: ...
    @overload
    def __get__(
        self: TakesFirst[T, Q, R], instance: T, owner: type[Any] | None = None, /
    ) -> ResilientFunction[Q, R]: ...
    @overload
    def __get__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, instance: object, owner: type[Any] | None = None, /
    ) -> Self: ...


class ProxiedFunction(Protocol[P, R_co]):
    """A function that a service proxy gives its instance to: it is called without."""

    __name__: str
    __qualname__: str

    @property
    def service_proxy(self) -> ServiceProxy | ServiceProxyOptions:
        """The proxy that calls it."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Calls it with an instance, and perhaps with others after that."""
        ...


class CircuitBreakerDecorator(Protocol):
    """What `with_circuit_breaker("name")` gives: it decorates any kind of function."""

    @overload
    def __call__(self, func: classmethod[T, P, R], /) -> classmethod[T, P, R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, func: staticmethod[P, R], /
    ) -> staticmethod[P, R]: ...
    @overload
    def __call__(self, func: RetriedFunction[P, R], /) -> ResilientFunction[P, R]: ...
    @overload
    def __call__(self, func: Callable[P, R], /) -> GuardedFunction[P, R]: ...


class RetryDecorator(Protocol):
    """What `with_retry(3)` gives: it decorates any kind of function."""

    @overload
    def __call__(self, func: classmethod[T, P, R], /) -> classmethod[T, P, R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, func: staticmethod[P, R], /
    ) -> staticmethod[P, R]: ...
    @overload
    def __call__(self, func: GuardedFunction[P, R], /) -> ResilientFunction[P, R]: ...
    @overload
    def __call__(self, func: Callable[P, R], /) -> RetriedFunction[P, R]: ...


class TakesFirst(Protocol[T_contra, Q, R_co]):
    """A function by its first parameter and the others: what is told apart where a function is bound to an object."""

    def __call__(self, first: T_contra, /, *args: Q.args, **kwargs: Q.kwargs) -> R_co:
        """Calls it."""
        ...
