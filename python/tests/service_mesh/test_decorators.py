"""The decorators: every kind of function stays what it was."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import inspect
import pickle
import typing
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest

from codomyrmex.service_mesh import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    CircuitState,
    RetryPolicy,
    with_circuit_breaker,
    with_retry,
)

DECORATORS: list[Callable[[Any], Any]] = [with_circuit_breaker, with_retry]
both = pytest.mark.parametrize("decorate", DECORATORS)


def plain(a: int, /, b: int = 2, *args: int, c: int, **rest: int) -> tuple[Any, ...]:
    """What a function says of itself."""
    return a, b, args, c, rest


@with_retry
@with_circuit_breaker
def module_level() -> str:
    return "here"


@both
def test_arguments_arrive_as_they_were_given(decorate: Any) -> None:
    guarded = decorate(plain)
    assert guarded(1, c=3) == plain(1, c=3)
    assert guarded(1, 2, 3, 4, c=5, d=6) == plain(1, 2, 3, 4, c=5, d=6)
    assert guarded(*[1, 2], c=3) == plain(1, 2, c=3)
    assert functools.partial(guarded, 1)(c=3) == plain(1, c=3)
    assert list(map(decorate(abs), [-1, -2])) == [1, 2]
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument"):
        guarded(1)


@both
def test_a_function_keeps_what_is_known_of_it(decorate: Any) -> None:
    guarded = decorate(plain)
    assert guarded.__wrapped__ is plain
    assert (guarded.__name__, guarded.__qualname__, guarded.__doc__) == ("plain", "plain", plain.__doc__)
    assert inspect.signature(guarded) == inspect.signature(plain)
    assert typing.get_type_hints(guarded) == typing.get_type_hints(plain)
    assert inspect.isroutine(guarded) and callable(guarded)
    assert "plain" in repr(guarded)


def test_a_decorated_function_pickles_by_name_and_is_its_own_copy() -> None:
    assert pickle.loads(pickle.dumps(module_level)) is module_level
    assert copy.copy(module_level) is copy.deepcopy(module_level) is module_level


@both
def test_methods_of_every_kind_bind(decorate: Any) -> None:
    class Service:
        @decorate
        def method(self, x: int) -> Any:
            return self, x

        @decorate
        @classmethod
        def outer_class(cls, x: int) -> Any:
            return cls, x

        @classmethod
        @decorate
        def inner_class(cls, x: int) -> Any:
            return cls, x

        @decorate
        @staticmethod
        def outer_static(x: int) -> Any:
            return x

        @staticmethod
        @decorate
        def inner_static(x: int) -> Any:
            return x

        @property
        @decorate
        def value(self) -> Any:
            return self

        @decorate
        async def coroutine(self, x: int) -> Any:
            return self, x

    class Sub(Service):
        def method(self, x: int) -> Any:
            return super().method(x + 1)

    service = Service()
    assert service.method(1) == Service.method(service, 1) == (service, 1)
    bound = service.method
    assert bound(x=2) == (service, 2)
    assert bound.__self__ is service
    for owner in (Service, service):
        assert owner.outer_class(1) == owner.inner_class(1) == (Service, 1)
        assert owner.outer_static(1) == owner.inner_static(1) == 1
    assert service.value is service
    assert asyncio.run(service.coroutine(1)) == (service, 1)
    sub = Sub()
    assert sub.method(1) == (sub, 2)
    guard = "circuit_breaker" if decorate is with_circuit_breaker else "retry_policy"
    for method in (service.method, service.outer_class, service.inner_class, service.outer_static, service.coroutine):
        assert getattr(method, guard) is not None


@both
def test_what_cannot_be_called_is_refused_where_it_is_decorated(decorate: Any) -> None:
    with pytest.raises(TypeError):
        decorate()(5)


@both
def test_a_callable_object_and_a_class_can_be_decorated(decorate: Any) -> None:
    class Adds:
        def __call__(self, a: int, b: int) -> int:
            return a + b

    class AddsLater:
        async def __call__(self, a: int, b: int) -> int:
            return a + b

    assert decorate(Adds())(1, 2) == 3
    assert asyncio.run(decorate(AddsLater())(1, 2)) == 3
    assert decorate(dict)(a=1) == {"a": 1}


def test_the_bare_form_is_called_after_the_function_and_settings_are_fields() -> None:
    assert with_circuit_breaker(plain).circuit_breaker.name == "plain"
    assert with_circuit_breaker()(plain).circuit_breaker.name == "plain"
    breaker = with_circuit_breaker("api", failure_threshold=7, on=OSError)(plain).circuit_breaker
    assert (breaker.name, breaker.config) == ("api", CircuitBreakerConfig(7, on=OSError))
    config = CircuitBreakerConfig(9)
    assert with_circuit_breaker("api", config)(plain).circuit_breaker.config is config
    assert with_circuit_breaker(name="api", config=config)(plain).circuit_breaker.config is config
    policy = with_retry(max_retries=7, max_delay=1)(plain).retry_policy
    assert (policy.max_retries, policy.max_delay) == (7, 1.0)
    assert with_retry(plain).retry_policy.max_retries == 3


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(TypeError, match="not both"):
        with_circuit_breaker("api", CircuitBreakerConfig(), failure_threshold=3)
    with pytest.raises(TypeError, match="brings its own settings"):
        with_circuit_breaker(CircuitBreaker("b"), failure_threshold=3)
    with pytest.raises(TypeError, match="brings its own settings"):
        with_retry(RetryPolicy(), max_delay=3)
    with pytest.raises(ValueError, match="failure_threshold is 0"):
        with_circuit_breaker("api", failure_threshold=0)


def test_a_setting_that_there_is_not_is_refused_by_the_decorator_that_it_was_given_to() -> None:
    wrong: dict[str, Any] = {"failure_treshold": 3}
    text = "with_circuit_breaker() got an unexpected keyword argument 'failure_treshold'; did you mean 'failure_threshold'?"
    for refused in (lambda: with_circuit_breaker("api", **wrong), lambda: with_circuit_breaker(plain, **wrong)):
        with pytest.raises(TypeError) as raised:
            refused()
        assert str(raised.value) == text
    wrong = {"max_retires": 3}
    with pytest.raises(TypeError) as raised:
        with_retry(**wrong)
    text = "with_retry() got an unexpected keyword argument 'max_retires'; did you mean 'max_retries'?"
    assert str(raised.value) == text
    wrong = {"colour": 3}
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'$"):
        with_circuit_breaker("api", **wrong)


def test_each_use_makes_its_own_and_one_that_exists_is_shared() -> None:
    decorate = with_circuit_breaker("api")
    assert decorate(plain).circuit_breaker is decorate(abs).circuit_breaker
    assert with_circuit_breaker("api")(plain).circuit_breaker is not with_circuit_breaker("api")(plain).circuit_breaker
    policy = RetryPolicy()
    assert with_retry(policy)(plain).retry_policy is policy(abs).retry_policy is policy


def test_stacked_in_either_order_both_are_reachable_and_both_work() -> None:
    runs = 0

    def failing() -> None:
        nonlocal runs
        runs += 1
        raise ConnectionError

    inside = with_retry(max_retries=9, initial_delay=0)(with_circuit_breaker("b", failure_threshold=3)(failing))
    # The third attempt trips the circuit, and nobody waits on a refusal.
    with pytest.raises(CircuitOpenError) as refused:
        inside()
    assert isinstance(refused.value.__cause__, ConnectionError)
    assert (runs, inside.circuit_breaker.state, inside.retry_policy.max_retries) == (3, CircuitState.OPEN, 9)
    runs = 0
    outside = with_circuit_breaker("b", failure_threshold=3)(with_retry(max_retries=1, initial_delay=0)(failing))
    with pytest.raises(ConnectionError):
        outside()
    assert (runs, outside.circuit_breaker.failure_count, outside.retry_policy.max_retries) == (2, 1, 1)


def test_a_generator_takes_what_is_sent_and_thrown() -> None:
    for decorate in DECORATORS:

        @decorate
        def echo() -> Generator[Any, Any, str]:
            got: Any = "begun"
            while got != "end":
                try:
                    got = yield got
                except KeyError as error:
                    got = repr(error)
            return "ended"

        assert inspect.isgeneratorfunction(echo)
        generator = echo()
        assert next(generator) == "begun"
        assert generator.send("a") == "a"
        assert generator.throw(KeyError("k")) == "KeyError('k')"
        with pytest.raises(StopIteration) as stopped:
            generator.send("end")
        assert stopped.value.value == "ended"


def test_an_async_generator_takes_what_is_sent_and_thrown() -> None:
    async def use(decorate: Any) -> None:
        closed = []

        @decorate
        async def echo() -> AsyncIterator[Any]:
            got: Any = "begun"
            try:
                while got != "end":
                    try:
                        got = yield got
                    except KeyError as error:
                        got = repr(error)
            finally:
                closed.append(True)

        assert inspect.isasyncgenfunction(echo)
        generator: Any = echo()
        assert await anext(generator) == "begun"
        assert await generator.asend("a") == "a"
        assert await generator.athrow(KeyError("k")) == "KeyError('k')"
        with pytest.raises(StopAsyncIteration):
            await generator.asend("end")
        early = echo()
        assert await anext(early) == "begun"
        await early.aclose()
        assert closed == [True, True]

    for decorate in DECORATORS:
        asyncio.run(use(decorate))


def test_a_generator_that_is_left_early_is_neutral() -> None:
    @with_circuit_breaker("b", failure_threshold=1, timeout_seconds=0, half_open_max_calls=1)
    def rows() -> Iterator[int]:
        yield from range(9)

    rows.circuit_breaker.state = CircuitState.HALF_OPEN
    for _ in range(3):
        for _row in rows():
            assert rows.circuit_breaker.half_open_calls == 1
            break
        assert (rows.circuit_breaker.half_open_calls, rows.circuit_breaker.success_count) == (0, 0)
    assert list(rows()) == list(range(9))
    assert rows.circuit_breaker.success_count == 1


def test_an_async_generator_is_judged_by_its_end() -> None:
    @with_circuit_breaker("b", failure_threshold=1)
    async def rows() -> AsyncIterator[int]:
        yield 1
        raise ConnectionError

    async def main() -> None:
        with pytest.raises(ConnectionError):
            async for _row in rows():
                assert rows.circuit_breaker.state is CircuitState.CLOSED
        with pytest.raises(CircuitOpenError):
            await anext(rows())

    asyncio.run(main())


def test_a_generator_is_tried_again_until_its_first_item() -> None:
    runs = 0

    @with_retry(max_retries=2, initial_delay=0)
    def rows() -> Iterator[int]:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ConnectionError
        yield runs
        raise ValueError("after the first item")

    generator = rows()
    assert next(generator) == 3
    with pytest.raises(ValueError):
        next(generator)
    assert runs == 3


def test_an_async_generator_is_tried_again_until_its_first_item() -> None:
    runs = 0

    @with_retry(max_retries=2, initial_delay=0)
    async def rows() -> AsyncIterator[int]:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ConnectionError
        yield runs

    async def main() -> list[int]:
        return [row async for row in rows()]

    assert asyncio.run(main()) == [3]


@both
def test_a_decorated_function_in_a_cycle_is_collected(decorate: Any) -> None:
    def cyclic() -> None: ...

    guarded = decorate(cyclic)
    guarded.itself = guarded
    cyclic.guarded = guarded  # type: ignore[attr-defined]
    gone = weakref.ref(guarded)
    del guarded, cyclic
    gc.collect()
    assert gone() is None


@both
def test_arguments_and_results_are_not_leaked(decorate: Any) -> None:
    class Thing: ...

    thing = Thing()
    held = weakref.ref(thing)
    guarded = decorate(lambda given: given)
    guarded(thing)
    guarded(given=thing)
    failing = decorate(lambda given: 1 // 0)
    if decorate is with_retry:
        failing.retry_policy.max_retries = 0
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            failing(thing)
    del thing
    gc.collect()
    assert held() is None


def test_a_decorated_coroutine_function_raises_what_it_raised_and_where() -> None:
    @with_circuit_breaker("b")
    @with_retry(max_retries=1, initial_delay=0)
    async def failing() -> None:
        raise ConnectionError("here")

    with pytest.raises(ConnectionError, match="here") as raised:
        asyncio.run(failing())
    assert raised.traceback[-1].name == "failing"
    assert raised.value.__notes__ == ["the call failed after 2 attempts"]
