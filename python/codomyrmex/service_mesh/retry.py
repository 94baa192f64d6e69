"""The retry policy, and the parts of it that are Python: calls that are awaited or iterated over, and attempts as blocks."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from datetime import UTC, datetime, timedelta
from functools import update_wrapper
from types import TracebackType
from typing import Any, Self

from ._native import RetryBudget, RetryCall, RetryPolicy, Unbegun
from .circuit_breaker import named_after

__all__ = ["Attempt", "Attempts", "RetryBudget", "RetryPolicy"]


class Attempts:
    """The attempts of one call, for `for` and `async for`. Between them it waits."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._call = policy._call()
        self._wait: float | None = 0.0

    def __iter__(self) -> Attempts:
        return self

    def __next__(self) -> Attempt:
        if self._wait is None:
            raise StopIteration
        self._policy._sleep(self._wait)
        return self._next()

    def __aiter__(self) -> Attempts:
        return self

    async def __anext__(self) -> Attempt:
        if self._wait is None:
            raise StopAsyncIteration
        await sleep(self._policy, self._wait)
        return self._next()

    def _next(self) -> Attempt:
        # Without a verdict there is no other attempt.
        self._wait = None
        return Attempt(self, self._call.attempts)


class Attempt:
    """One attempt, as a block: an error that is to be tried again ends here, and the loop goes on."""

    def __init__(self, attempts: Attempts, number: int) -> None:
        self._attempts = attempts
        self.number = number
        """1 for the first."""

    def judge(self, result: Any) -> Any:
        """Asks `failed_result` about a result: where it is one, there is another attempt. Gives the result back."""
        self._attempts._wait = self._attempts._call.after_result(result)
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is None:
            return False
        self._attempts._wait = wait = self._attempts._call.after_error(error)
        return wait is not None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return self.__exit__(kind, error, traceback)

    def __repr__(self) -> str:
        return f"<attempt {self.number}>"


async def sleep(policy: RetryPolicy, seconds: float) -> None:
    """Waits without blocking the event loop: by the policy's clock, else with trio where it runs, else with asyncio."""
    if seconds <= 0:
        return
    clock: Any = policy._clock
    trio: Any = sys.modules.get("trio")
    if clock is not None:
        await clock.sleep_async(seconds)
    elif trio is not None and trio.lowlevel.in_trio_task():
        await trio.sleep(seconds)
    else:
        import asyncio  # half the time that importing this package would take

        await asyncio.sleep(seconds)


def retry_coroutine_function(func: Callable[..., Coroutine[Any, Any, Any]], policy: RetryPolicy) -> Any:
    """A coroutine function whose awaited calls are tried again."""
    begin = policy._begin

    async def retried(*args: Any, **kwargs: Any) -> Any:
        call = begin()
        try:
            # Keywords are copied for a call, even none.
            result = await (func(*args, **kwargs) if kwargs else func(*args))
        except Exception as error:
            if call is None:
                call = policy._call()
            wait = call.after_error(error)
            if wait is None:
                raise
        else:
            if call is None:
                return result
            wait = call.after_result(result)
            if wait is None:
                return result
        return await _again(policy, call, wait, func, args, kwargs)

    return update_wrapper(retried, func)


def awaited(
    policy: RetryPolicy,
    call: RetryCall | None,
    func: Callable[..., Coroutine[Any, Any, Any]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None,
    first: Coroutine[Any, Any, Any],
) -> Coroutine[Any, Any, Any]:
    """The awaited call of a function that gave back a coroutine, `first`, for its first attempt."""
    return named_after(_awaited(policy, call or policy._call(), func, args, kwargs or {}, Unbegun(first)), first)


async def _awaited(
    policy: RetryPolicy, call: RetryCall, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], unbegun: Unbegun
) -> Any:
    try:
        result = await unbegun.take()
    except Exception as error:
        wait = call.after_error(error)
        if wait is None:
            raise
    else:
        wait = call.after_result(result)
        if wait is None:
            return result
    return await _again(policy, call, wait, func, args, kwargs)


async def _again(
    policy: RetryPolicy, call: RetryCall, wait: float | None, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    result: Any = None
    while wait is not None:
        result = None
        await sleep(policy, wait)
        try:
            result = await func(*args, **kwargs)
        except Exception as error:
            wait = call.after_error(error)
            if wait is None:
                raise
        else:
            wait = call.after_result(result)
    return result


def retry_generator_function(func: Callable[..., Generator[Any, Any, Any]], policy: RetryPolicy) -> Any:
    """A generator function that is tried again until its first item: what has been handed out cannot be taken back."""

    def retried(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        call = policy._call()
        while True:
            items = func(*args, **kwargs)
            try:
                item = next(items)
                break
            except StopIteration as stop:
                return stop.value
            except Exception as error:
                wait = call.after_error(error)
                if wait is None:
                    raise
            policy._sleep(wait)
        try:
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    items.close()
                    raise
                except BaseException as error:
                    item = items.throw(error)
                else:
                    item = items.send(sent)
        except StopIteration as stop:
            return stop.value

    return update_wrapper(retried, func)


def retry_async_generator_function(func: Callable[..., AsyncGenerator[Any, Any]], policy: RetryPolicy) -> Any:
    """The same of an async generator function."""

    async def retried(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call = policy._call()
        while True:
            items = func(*args, **kwargs)
            try:
                item = await anext(items)
                break
            except StopAsyncIteration:
                return
            except Exception as error:
                wait = call.after_error(error)
                if wait is None:
                    raise
            await sleep(policy, wait)
        try:
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
            return

    return update_wrapper(retried, func)


GUARDS: dict[str, Callable[..., Any]] = {
    "coroutine": retry_coroutine_function,
    "generator": retry_generator_function,
    "async generator": retry_async_generator_function,
}
"""How a function is guarded that is of a kind of its own."""


def retry_after_of(answer: Any) -> float | None:
    """The seconds for which an error or a response asks to be left alone; `None` if it does not.

    It is read from `retry_after` (seconds or a `timedelta`), or from the header `Retry-After` of the answer itself or of its
    `response`: so are the errors and responses of requests, httpx, aiohttp and urllib made. A date that has passed, or
    anything that cannot be read, says nothing.
    """
    wait = _seconds(getattr(answer, "retry_after", None))
    if wait is not None:
        return wait
    for holder in (answer, getattr(answer, "response", None)):
        headers = getattr(holder, "headers", None)
        get = getattr(headers, "get", None)
        if get is None:
            continue
        try:
            # Most of those that hold headers do not mind the case; a plain dict does.
            text = get("Retry-After") or get("retry-after")
        except Exception:
            continue
        if isinstance(text, str) and (wait := _seconds_of(text.strip())) is not None:
            return wait
    return None


def _seconds(value: Any) -> float | None:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value < float("inf") else None


def _seconds_of(text: str) -> float | None:
    try:
        return _seconds(float(text))
    except ValueError:
        pass
    from email.utils import parsedate_to_datetime  # as large as all of this package

    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return _seconds((at - datetime.now(UTC)).total_seconds())


def restored(kind: type[RetryPolicy], settings: dict[str, Any], state: dict[str, Any]) -> RetryPolicy:
    """The policy that was pickled."""
    policy = kind.__new__(kind)
    RetryPolicy.__init__(policy, **settings)
    policy.__dict__.update(state)
    return policy
