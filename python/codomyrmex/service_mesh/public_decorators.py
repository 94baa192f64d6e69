"""The decorators. One serves every kind of function, bare or with arguments, stacked in either order."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from ._native import CircuitBreaker, RetryPolicy, guard_with_circuit_breaker, guard_with_retry_policy
from .models import CircuitBreakerConfig

if TYPE_CHECKING:
    from .decorated import (
        CircuitBreakerDecorator,
        GuardedFunction,
        ResilientFunction,
        RetriedFunction,
        RetryDecorator,
    )
    from .fields import CircuitBreakerOptions, RetryOptions

__all__ = ["with_circuit_breaker", "with_retry"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


@overload
def with_circuit_breaker(  # type: ignore[overload-overlap]  # a breaker can be called, and so can a static method
    name: CircuitBreaker, config: None = None
) -> CircuitBreakerDecorator: ...
@overload
def with_circuit_breaker(name: classmethod[T, P, R], /) -> classmethod[T, P, R]: ...
@overload
def with_circuit_breaker(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    name: staticmethod[P, R], /
) -> staticmethod[P, R]: ...
@overload
def with_circuit_breaker(name: RetriedFunction[P, R], /) -> ResilientFunction[P, R]: ...
@overload
def with_circuit_breaker(name: Callable[P, R], /) -> GuardedFunction[P, R]: ...
@overload
def with_circuit_breaker(
    name: str | None = None, config: CircuitBreakerConfig | None = None, **settings: Unpack[CircuitBreakerOptions]
) -> CircuitBreakerDecorator: ...
def with_circuit_breaker(name: Any = None, config: CircuitBreakerConfig | None = None, **settings: Any) -> Any:
    """Puts a circuit breaker before a function, a coroutine function, a generator function or an async one.

    `name` is what the breaker is to be called, or a `CircuitBreaker` that exists and may be shared; the bare form,
    `@with_circuit_breaker`, calls it after the function. Each use that does not give one makes its own. `settings` are
    fields of `CircuitBreakerConfig`, or other arguments of `CircuitBreaker`. The decorated function has the breaker as
    `.circuit_breaker`.
    """
    if settings:
        _refuse_unknown(
            "with_circuit_breaker", settings, (*CircuitBreakerConfig.__dataclass_fields__, "listeners", "clock")
        )
    if isinstance(name, CircuitBreaker):
        if config is not None or settings:
            raise TypeError("a CircuitBreaker that exists brings its own settings")
        return lambda func: _break_circuit(func, name)
    if _is_function(name):
        return _break_circuit(name, CircuitBreaker(_called(name), config, **settings))
    if name is None:
        return lambda func: _break_circuit(func, CircuitBreaker(_called(func), config, **settings))
    breaker = CircuitBreaker(name, config, **settings)
    return lambda func: _break_circuit(func, breaker)


@overload
def with_retry(  # type: ignore[overload-overlap]  # a policy can be called, and so can a static method
    max_retries: RetryPolicy,
) -> RetryDecorator: ...
@overload
def with_retry(max_retries: classmethod[T, P, R], /) -> classmethod[T, P, R]: ...
@overload
def with_retry(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    max_retries: staticmethod[P, R], /
) -> staticmethod[P, R]: ...
@overload
def with_retry(max_retries: GuardedFunction[P, R], /) -> ResilientFunction[P, R]: ...
@overload
def with_retry(max_retries: Callable[P, R], /) -> RetriedFunction[P, R]: ...
@overload
def with_retry(max_retries: int = 3, **settings: Unpack[RetryOptions]) -> RetryDecorator: ...
def with_retry(max_retries: Any = 3, **settings: Any) -> Any:
    """Tries again what fails: a function, a coroutine function, a generator function or an async one.

    `max_retries` is how often, or a `RetryPolicy` that exists and may be shared; `@with_retry` alone is the default policy.
    `settings` are the other arguments of `RetryPolicy`. The decorated function has the policy as `.retry_policy`.
    """
    if settings:
        _refuse_unknown("with_retry", settings, tuple(inspect.signature(RetryPolicy).parameters))
    if isinstance(max_retries, RetryPolicy):
        if settings:
            raise TypeError("a RetryPolicy that exists brings its own settings")
        return lambda func: _try_again(func, max_retries)
    if _is_function(max_retries):
        return _try_again(max_retries, RetryPolicy(**settings))
    policy = RetryPolicy(max_retries, **settings)
    return lambda func: _try_again(func, policy)


def _refuse_unknown(decorator: str, settings: dict[str, Any], known: Collection[str]) -> None:
    for name in settings:
        if name not in known:
            from .suggestion import did_you_mean  # of no concern to those who write what there is

            raise TypeError(f"{decorator}() got an unexpected keyword argument {name!r}{did_you_mean(name, known)}")


def _break_circuit(func: Any, breaker: CircuitBreaker) -> Any:
    def guard(inner: Any) -> Any:
        from .circuit_breaker import GUARDS  # none of it concerns those who decorate nothing

        guarded = _guarded(inner, breaker, GUARDS, guard_with_circuit_breaker)
        guarded.circuit_breaker = breaker
        return guarded

    return _within(func, guard)


def _try_again(func: Any, policy: RetryPolicy) -> Any:
    def guard(inner: Any) -> Any:
        from .retry import GUARDS  # none of it concerns those who decorate nothing

        guarded = _guarded(inner, policy, GUARDS, guard_with_retry_policy)
        guarded.retry_policy = policy
        return guarded

    return _within(func, guard)


def _guarded(func: Any, by: Any, guards: Mapping[str, Callable[..., Any]], otherwise: Callable[..., Any]) -> Any:
    """The function, guarded as one of its kind; most are of no kind of their own."""
    guard = guards.get(_kind(func))
    return guard(func, by) if guard else update_wrapper(otherwise(func, by), func)


def _within(func: Any, guard: Callable[[Any], Any]) -> Any:
    """Guards what a classmethod or staticmethod holds, and leaves it one."""
    if isinstance(func, (classmethod, staticmethod)):
        return type(func)(_within(func.__func__, guard))
    if not callable(func):
        raise TypeError(f"only a function can be decorated, not {type(func).__name__}")
    return guard(func)


def _kind(func: Any) -> str:
    # What is called is a function, or an object with a method for it.
    called = func if inspect.isroutine(func) or isinstance(func, type) else getattr(func, "__call__", func)  # noqa: B004  # it is wanted
    for each in (func, called):
        if inspect.iscoroutinefunction(each):
            return "coroutine"
        if inspect.isasyncgenfunction(each):
            return "async generator"
        if inspect.isgeneratorfunction(each):
            return "generator"
    return "sync"


def _is_function(given: Any) -> bool:
    return callable(given) or isinstance(given, (classmethod, staticmethod))


def _called(func: Any) -> str:
    func = getattr(func, "__func__", func)
    return getattr(func, "__qualname__", None) or type(func).__qualname__
