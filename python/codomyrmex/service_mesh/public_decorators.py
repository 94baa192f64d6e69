"""The decorators. One serves every kind of function, bare or with arguments, stacked in either order."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from ._native import guard_with_circuit_breaker
from .circuit_breaker import (
    CircuitBreaker,
    guard_async_generator_function,
    guard_coroutine_function,
    guard_generator_function,
)
from .models import CircuitBreakerConfig

if TYPE_CHECKING:
    from .decorated import CircuitBreakerDecorator, GuardedFunction
    from .fields import CircuitBreakerOptions

__all__ = ["with_circuit_breaker"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_CONFIG_FIELDS = frozenset(each.name for each in fields(CircuitBreakerConfig))


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
    if callable(name) and not isinstance(name, CircuitBreaker):
        return _guarded(name, _breaker(_called(name), config, settings))
    if isinstance(name, CircuitBreaker) or name is not None:
        breaker = _breaker(name, config, settings)
        return lambda func: _guarded(func, breaker)
    return lambda func: _guarded(func, _breaker(_called(func), config, settings))


def _breaker(name: Any, config: CircuitBreakerConfig | None, settings: dict[str, Any]) -> CircuitBreaker:
    if isinstance(name, CircuitBreaker):
        if config is not None or settings:
            raise TypeError("a CircuitBreaker that exists brings its own settings")
        return name
    own = {key: settings[key] for key in settings if key in _CONFIG_FIELDS}
    if own and config is not None:
        raise TypeError("give either a config or its fields, not both")
    rest = {key: settings[key] for key in settings if key not in _CONFIG_FIELDS}
    return CircuitBreaker(name, CircuitBreakerConfig(**own) if own else config, **rest)


def _called(func: Any) -> str:
    func = getattr(func, "__func__", func)
    return getattr(func, "__qualname__", None) or type(func).__qualname__


def _guarded(func: Any, breaker: CircuitBreaker) -> Any:
    if isinstance(func, (classmethod, staticmethod)):
        return type(func)(_guarded(func.__func__, breaker))
    if not callable(func):
        raise TypeError(f"only a function can be decorated, not {type(func).__name__}")
    guarded = _kind(func)(func, breaker)
    guarded.circuit_breaker = breaker
    return guarded


def _kind(func: Any) -> Callable[[Any, CircuitBreaker], Any]:
    # What is called is a function, or an object with a method for it.
    called = func if inspect.isroutine(func) or isinstance(func, type) else getattr(func, "__call__", func)
    for each in (func, called):
        if inspect.iscoroutinefunction(each):
            return guard_coroutine_function
        if inspect.isasyncgenfunction(each):
            return guard_async_generator_function
        if inspect.isgeneratorfunction(each):
            return guard_generator_function
    return _sync


def _sync(func: Any, breaker: CircuitBreaker) -> Any:
    return update_wrapper(guard_with_circuit_breaker(func, breaker), func)
