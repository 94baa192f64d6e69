"""The circuit breaker, and the parts of it that are Python: calls that are awaited or iterated over.

Each of these asks for leave when the call really begins (when it is awaited, when the first item is asked for) and gives
its verdict when it really ends. What is no `Exception`, such as a cancellation or a generator that is closed early, is
neutral and gives everything back.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from functools import update_wrapper
from typing import Any

from ._native import CircuitBreaker, Permit, Unbegun, halves_of_a_call
from .models import CircuitBreakerConfig, CircuitEvent, CircuitOpenError, CircuitState, CountWindow, TimeWindow

__all__ = [
    "CircuitBreaker",
    "CircuitBreakerConfig",
    "CircuitEvent",
    "CircuitOpenError",
    "CircuitState",
    "CountWindow",
    "Permit",
    "TimeWindow",
]


def guard_coroutine_function(func: Callable[..., Coroutine[Any, Any, Any]], breaker: CircuitBreaker) -> Any:
    """A coroutine function whose awaited calls are protected."""
    (begin, succeed), fail = halves_of_a_call(breaker), breaker._fail

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        leave = begin()
        try:
            # Keywords are copied for a call, even none.
            result = await (func(*args, **kwargs) if kwargs else func(*args))
        except BaseException as error:
            fail(leave, error)
            raise
        return succeed(leave, result)

    return update_wrapper(guarded, func)


def guard_generator_function(func: Callable[..., Generator[Any, Any, Any]], breaker: CircuitBreaker) -> Any:
    """A generator function whose iterations are protected, from the first item to the end."""

    def guarded(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        leave = breaker._begin()
        try:
            result = yield from func(*args, **kwargs)
        except BaseException as error:
            breaker._fail(leave, error)
            raise
        breaker._succeed(leave, result)
        return result

    return update_wrapper(guarded, func)


def guard_async_generator_function(func: Callable[..., AsyncGenerator[Any, Any]], breaker: CircuitBreaker) -> Any:
    """An async generator function whose iterations are protected, from the first item to the end."""

    async def guarded(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        leave = breaker._begin()
        try:
            items = func(*args, **kwargs)
            try:
                item = await anext(items)
                while True:
                    try:
                        sent = yield item
                    except GeneratorExit:
                        await items.aclose()
                        raise
                    except BaseException as error:
                        item = await items.athrow(error)
                    else:
                        item = await items.asend(sent)
            except StopAsyncIteration:
                pass
        except BaseException as error:
            breaker._fail(leave, error)
            raise
        breaker._succeed(leave, None)

    return update_wrapper(guarded, func)


GUARDS: dict[str, Callable[..., Any]] = {
    "coroutine": guard_coroutine_function,
    "generator": guard_generator_function,
    "async generator": guard_async_generator_function,
}
"""How a function is guarded that is of a kind of its own."""


def awaited(breaker: CircuitBreaker, coroutine: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
    """The same coroutine under the breaker, which is asked when this is awaited."""
    return named_after(_awaited(breaker, Unbegun(coroutine)), coroutine)


def named_after(coroutine: Any, other: Any) -> Coroutine[Any, Any, Any]:
    """The coroutine, which warnings and lists of tasks call by the other's name, if it has one."""
    name = getattr(other, "__name__", None)
    if isinstance(name, str):
        coroutine.__name__, coroutine.__qualname__ = name, getattr(other, "__qualname__", name)
    return coroutine  # type: ignore[no-any-return]


async def _awaited(breaker: CircuitBreaker, unbegun: Unbegun) -> Any:
    leave = breaker._begin()
    try:
        result = await unbegun.take()
    except BaseException as error:
        breaker._fail(leave, error)
        raise
    breaker._succeed(leave, result)
    return result


def refused_when_awaited(func: Any, error: BaseException) -> Coroutine[Any, Any, Any]:
    """The call of a coroutine function that was refused: like every error of such a call, it is told who awaits it."""
    return named_after(_refused(error), func)


async def _refused(error: BaseException) -> Any:
    raise error


def restored(
    kind: type[CircuitBreaker], name: str, config: CircuitBreakerConfig, snapshot: Any, state: dict[str, Any]
) -> CircuitBreaker:
    """A breaker that goes on where a pickled one was."""
    breaker = kind.__new__(kind)
    CircuitBreaker.__init__(breaker, name, config)
    breaker._restore(snapshot)
    breaker.__dict__.update(state)
    return breaker
