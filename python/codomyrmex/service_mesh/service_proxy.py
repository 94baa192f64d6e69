"""The service proxy, and the parts of it that are Python: calls that are awaited, and what is told of a call."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from ._native import Call, ServiceProxy, Unbegun
from .circuit_breaker import named_after

if TYPE_CHECKING:
    from ._native import Asked
    from .decorated import ProxiedFunction
    from .models import ServiceInstance

__all__ = ["AttemptStory", "PassedOver", "ServiceProxy", "ServiceProxyOptions", "Story"]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class PassedOver:
    """An instance that was passed over, and why its circuit refused."""

    instance: str
    """The id of the instance."""
    reason: str
    """`"open"`, `"half_open_full"` or `"forced"`."""
    retry_after: float | None
    """The seconds until it may admit a call, if anybody can know."""


@dataclass(frozen=True)
class AttemptStory:
    """What is told of one attempt."""

    instance: str | None
    """The id of the instance that was chosen, if one was."""
    passed_over: tuple[PassedOver, ...]
    """The instances whose circuits refused."""
    outcome: str | None
    """`"success"`, `"failure"` or `"neutral"`; none if it was cancelled."""
    timed_out: bool
    """Whether its time limit was up."""
    began_after: float
    """The seconds from the begin of the call to that of the attempt."""
    took: float
    """The seconds that it took."""


@dataclass(frozen=True)
class Story:
    """The story of a call. Its text has a line for the call and one for each attempt."""

    service: str
    """The name of the service."""
    attempts: tuple[AttemptStory, ...]
    """In order. The last one has no instance if none was found for it."""
    ending: str
    """How it ended: the outcome that was returned, `"circuit_open"`, `"no_healthy_instance"`, `"deadline_exceeded"`,
    `"attempt_timed_out"` or `"abandoned"`."""
    given_up: str | None
    """Why there was no further attempt after one that failed: `"not_retryable"`, `"retries_spent"`, `"retry_after_too_long"`,
    `"past_deadline"` or `"budget_spent"`."""
    took: float
    """The seconds that it took in all."""
    text: str = field(default="", repr=False, compare=False)

    def __str__(self) -> str:
        return self.text


class ServiceProxyOptions:
    """A proxy for calls that ask for more than others: `proxy.with_options(key="customer-42", timeout=0.5)`."""

    def __init__(self, proxy: ServiceProxy, asked: Asked) -> None:
        self._proxy = proxy
        self._asked = asked

    def call(self, func: Callable[Concatenate[ServiceInstance, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Like `ServiceProxy.call`."""
        result: R = self._proxy._call_with(self._asked, func, args, kwargs or None)
        return result

    def call_async(
        self, func: Callable[Concatenate[ServiceInstance, P], Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]:
        """Like `ServiceProxy.call_async`."""
        return _call_async(self._proxy, self._asked, func, args, kwargs)

    def __call__(self, func: Callable[Concatenate[ServiceInstance, P], R]) -> ProxiedFunction[P, R]:
        """Decorates a function, as a proxy does."""
        decorated: ProxiedFunction[P, R] = _decorated(self, func)
        return decorated

    @property
    def service_proxy(self) -> ServiceProxy:
        """The proxy itself."""
        return self._proxy

    @property
    def story(self) -> Story | None:
        """The story of the last call that was begun by these options with `explain=True`, once it is over."""
        story: Story | None = self._asked.story()
        return story


def _call_async(
    proxy: ServiceProxy,
    asked: Asked | None,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None,
) -> Coroutine[Any, Any, Any]:
    if proxy._runs_calls_here:
        return named_after(_driven(proxy, asked, None, None, None, func, args, kwargs), func)
    return named_after(_executed(proxy, asked, func, args, kwargs), func)


async def _executed(
    proxy: ServiceProxy,
    asked: Asked | None,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None,
) -> Any:
    """A call that a policy of the user's own retries; each of its runs is one attempt here."""
    return await proxy.retry_policy.execute(_driven, proxy, asked, None, None, None, func, args, kwargs)


def _begun(
    call: Call,
    coroutine: Coroutine[Any, Any, Any],
    limit: float | None,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None,
) -> Coroutine[Any, Any, Any]:
    """The awaited call of a function whose first attempt, made by `call`, turned out to be a coroutine."""
    return named_after(_driven(None, None, call, Unbegun(coroutine), limit, func, args, kwargs), coroutine)


async def _driven(
    proxy: ServiceProxy | None,
    asked: Any,
    call: Call | None,
    unbegun: Unbegun | None,
    limit: float | None,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None,
) -> Any:
    """A call from its begin, or from its first attempt."""
    if call is None:
        assert proxy is not None
        call = proxy._begin(asked)
    awaitable: Any = unbegun and unbegun.take()
    while True:
        late = False
        try:
            if awaitable is None:
                # A refusal goes to the caller as it is.
                awaitable, limit = call.begin(func, args, kwargs)
            if not hasattr(awaitable, "__await__"):
                result = awaitable
            elif limit is None:
                result = await awaitable
            else:
                late, result = await _within(limit, awaitable)
        except BaseException as error:
            if not call.is_running:
                raise
            wait = call.raised(error)
        else:
            wait = call.timed_out() if late else call.returned(result)
            if wait is None:
                return result
        awaitable = None
        if wait:
            await _sleep(call, wait)


async def _within(limit: float, awaitable: Any) -> tuple[bool, Any]:
    """Whether its time was up, or its result. A timeout of its own is its error."""
    trio = _running_trio()
    if trio is not None:
        with trio.move_on_after(limit) as scope:
            return False, await awaitable
        assert scope.cancelled_caught
        return True, None
    import asyncio  # half the time that importing this package would take

    deadline = asyncio.timeout(limit)
    try:
        async with deadline:
            return False, await awaitable
    except TimeoutError:
        if not deadline.expired():
            raise
        return True, None


async def _sleep(call: Call, seconds: float) -> None:
    clock = call.clock
    trio = _running_trio()
    if clock is not None:
        await clock.sleep_async(seconds)
    elif trio is not None:
        await trio.sleep(seconds)
    else:
        import asyncio

        await asyncio.sleep(seconds)


def _running_trio() -> Any:
    """trio, if it runs this task. Nobody imports it for that."""
    trio: Any = sys.modules.get("trio")
    return trio if trio is not None and trio.lowlevel.in_trio_task() else None


def _decorated(proxy: ServiceProxy | ServiceProxyOptions, func: Callable[..., Any]) -> Any:
    """A function that is called without the instance, which is its first parameter."""
    if inspect.iscoroutinefunction(func):

        async def called_async(*args: Any, **kwargs: Any) -> Any:
            return await proxy.call_async(func, *args, **kwargs)

        called: Any = called_async
    else:

        def called_sync(*args: Any, **kwargs: Any) -> Any:
            return proxy.call(func, *args, **kwargs)

        called = called_sync
    update_wrapper(called, func)
    try:
        signature = inspect.signature(func)
        called.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])
    except (TypeError, ValueError):  # some callables have none
        pass
    called.service_proxy = proxy
    return called


def _takes_exclude(balancer: Any) -> bool:
    """Whether a balancer's own `get_instance` may be told whom to leave out."""
    try:
        parameters = inspect.signature(balancer.get_instance).parameters
    except (TypeError, ValueError):
        return False
    return "exclude" in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())
