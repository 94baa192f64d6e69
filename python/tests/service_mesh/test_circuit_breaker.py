"""The circuit breaker as a Python object: what the scenarios of `conformance/` do not speak of."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import inspect
import pickle
import sys
import threading
import weakref
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from codomyrmex.service_mesh import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitEvent,
    CircuitOpenError,
    CircuitState,
    ConfigError,
    CountWindow,
    Permit,
)
from codomyrmex.service_mesh.testing import ManualClock


def fails(error: type[BaseException] = ConnectionError) -> None:
    raise error("down")


def works() -> str:
    return "up"


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(ConnectionError):
            breaker.execute(fails)


def tripped(clock: ManualClock | None = None, **fields: Any) -> CircuitBreaker:
    breaker = CircuitBreaker("b", CircuitBreakerConfig(failure_threshold=1, **fields), clock=clock)
    fail(breaker)
    return breaker


# ----- attributes -----


def test_every_count_is_read_and_assigned() -> None:
    breaker = CircuitBreaker("b", CircuitBreakerConfig(failure_threshold=4))
    breaker.failure_count = 3
    assert breaker.failure_count == 3
    breaker.record_success()
    assert breaker.failure_count == 0
    breaker.state = CircuitState.HALF_OPEN
    breaker.success_count, breaker.half_open_calls = 1, 2
    assert (breaker.state, breaker.success_count, breaker.half_open_calls) == (CircuitState.HALF_OPEN, 1, 2)
    breaker.execute(works)
    assert breaker.state is CircuitState.CLOSED


@pytest.mark.parametrize("field", ["failure_count", "success_count", "half_open_calls"])
def test_a_count_that_is_none_is_refused(field: str) -> None:
    breaker = CircuitBreaker("b")
    with pytest.raises(ValueError, match=f"{field} is -1"):
        setattr(breaker, field, -1)
    with pytest.raises(TypeError, match=field):
        setattr(breaker, field, "many")


def test_a_state_is_a_state_or_its_word() -> None:
    breaker = CircuitBreaker("b")
    breaker.state = "open"
    assert breaker.state is CircuitState.OPEN
    with pytest.raises(ValueError, match="ajar"):
        breaker.state = "ajar"


def test_an_open_circuit_is_as_old_as_its_last_failure() -> None:
    breaker = CircuitBreaker("b", CircuitBreakerConfig(timeout_seconds=30))
    breaker.state = CircuitState.OPEN
    assert not breaker.can_execute()
    long_ago = datetime.now() - timedelta(seconds=60)
    breaker.last_failure_time = long_ago
    assert breaker.last_failure_time is long_ago
    assert breaker.can_execute()


def test_the_time_of_the_last_failure_is_naive_local_and_the_same_whenever_it_is_read() -> None:
    breaker = CircuitBreaker("b")
    assert breaker.last_failure_time is None
    before = datetime.now()
    fail(breaker)
    time = breaker.last_failure_time
    assert time is not None and time.tzinfo is None
    assert before - timedelta(seconds=1) < time < datetime.now() + timedelta(seconds=1)
    assert breaker.last_failure_time == time
    breaker.last_failure_time = None
    assert breaker.last_failure_time is None


def test_a_new_name_is_the_name_in_errors_and_events() -> None:
    breaker = CircuitBreaker("old")
    heard: list[CircuitEvent] = []
    breaker.subscribe(heard.append)
    breaker.name = "new"
    breaker.force_open()
    with pytest.raises(CircuitOpenError, match="^Circuit new is open$") as refused:
        breaker.execute(works)
    assert refused.value.name == "new"
    assert {event.name for event in heard} == {"new"}
    assert str(heard[0]) == "new: closed -> open: forced open"


def test_anything_may_be_attached_to_it() -> None:
    breaker = CircuitBreaker("b")
    breaker.team = "payments"  # type: ignore[attr-defined]
    assert weakref.ref(breaker)() is breaker
    assert breaker.team == "payments"  # type: ignore[attr-defined]


def test_its_signature_is_shown() -> None:
    assert str(inspect.signature(CircuitBreaker)) == "(name, config=None, *, listeners=None, clock=None, **fields)"


def test_it_prints_what_one_wants_to_know() -> None:
    assert repr(CircuitBreaker("payments")) == "<CircuitBreaker 'payments' closed, failure_count=0>"


# ----- the configuration -----


def test_its_fields_may_be_given_in_place_of_a_configuration() -> None:
    breaker = CircuitBreaker("b", failure_threshold=1, on=KeyError, listeners=[], clock=None)
    assert breaker.config == CircuitBreakerConfig(1, on=KeyError)
    fail(breaker)
    assert breaker.state is CircuitState.CLOSED
    breaker.config.on = Exception
    fail(breaker)
    assert breaker.state is CircuitState.OPEN
    both: dict[str, Any] = {"config": CircuitBreakerConfig(), "failure_threshold": 3}
    with pytest.raises(TypeError, match="^give either a config or its fields, not both$"):
        CircuitBreaker("b", **both)
    assert CircuitBreaker("b", None, failure_threshold=3).config.failure_threshold == 3
    with pytest.raises(ConfigError, match="failure_threshold is 0"):
        CircuitBreaker("b", failure_threshold=0)


def test_a_mistyped_field_is_refused_with_the_one_that_was_meant() -> None:
    class Own(CircuitBreaker):
        pass

    breaker, wrong = CircuitBreaker("b"), {"failure_treshold": 3}
    end = "got an unexpected keyword argument 'failure_treshold'; did you mean 'failure_threshold'?"
    for refused, name in (
        (lambda: CircuitBreaker("b", **wrong), "CircuitBreaker"),
        (lambda: Own("b", **wrong), "Own"),
        (lambda: breaker.update_config(**wrong), "update_config"),
    ):
        with pytest.raises(TypeError) as raised:
            refused()
        assert str(raised.value) == f"{name}() {end}"
    assert breaker.config == CircuitBreakerConfig()


def test_an_assigned_configuration_is_the_one_that_counts() -> None:
    old, new = CircuitBreakerConfig(), CircuitBreakerConfig(failure_threshold=2)
    breaker = CircuitBreaker("b", old)
    breaker.config = new
    assert breaker.config is new
    old.failure_threshold = 1
    fail(breaker)
    assert breaker.state is CircuitState.CLOSED
    new.failure_threshold = 1
    fail(breaker)
    assert breaker.state is CircuitState.OPEN


def test_an_update_by_fields_changes_nobody_elses_configuration() -> None:
    shared = CircuitBreakerConfig()
    one, other = CircuitBreaker("one", shared), CircuitBreaker("other", shared)
    one.update_config(failure_threshold=1)
    fail(one)
    fail(other)
    assert (one.state, other.state) == (CircuitState.OPEN, CircuitState.CLOSED)
    assert (one.config.failure_threshold, shared.failure_threshold) == (1, 5)


def test_a_configuration_does_not_keep_its_breakers_alive() -> None:
    config = CircuitBreakerConfig()
    breaker = weakref.ref(CircuitBreaker("b", config))
    gc.collect()
    assert breaker() is None
    config.failure_threshold = 1


def test_something_else_is_no_configuration() -> None:
    with pytest.raises(TypeError, match="config must be a CircuitBreakerConfig, not dict"):
        CircuitBreaker("b", {"failure_threshold": 1})


# ----- what is a failure -----


def test_a_second_init_that_fails_changes_nothing() -> None:
    config = CircuitBreakerConfig(3)
    breaker = CircuitBreaker("first", config)
    heard: list[CircuitEvent] = []
    for wrong in ({"config": 5}, {"listeners": [heard.append, 5]}):
        with pytest.raises(TypeError):
            breaker.__init__("second", **wrong)  # type: ignore[misc, call-overload]
    assert (breaker.name, breaker.config) == ("first", config)
    assert breaker.config is config
    breaker.force_open()
    assert heard == []


def test_predicates_say_what_a_failure_is() -> None:
    config = CircuitBreakerConfig(
        failure_threshold=1,
        on=(OSError, lambda error: "fatal" in str(error)),
        ignore=lambda error: isinstance(error, FileNotFoundError),
        failed_result=lambda status: status == 503,
    )
    breaker = CircuitBreaker("b", config)

    def raises(error: Exception) -> None:
        raise error

    for error in (ValueError("a success: it did answer"), FileNotFoundError()):
        with pytest.raises(type(error)):
            breaker.execute(raises, error)
        assert breaker.failure_count == 0
    assert breaker.execute(lambda: 200) == 200
    for failure in (lambda: raises(ConnectionError()), lambda: raises(ValueError("fatal")), lambda: 503):
        with contextlib.suppress(ConnectionError, ValueError):
            breaker.execute(failure)
        assert breaker.state is CircuitState.OPEN
        breaker.reset()


def test_a_value_that_counts_as_a_success_ends_the_row_and_an_ignored_error_does_not() -> None:
    breaker = CircuitBreaker("b", CircuitBreakerConfig(on=OSError, ignore=KeyError))
    fail(breaker, 2)
    with pytest.raises(KeyError):
        breaker.execute(fails, KeyError)
    assert breaker.failure_count == 2
    with pytest.raises(ValueError):
        breaker.execute(fails, ValueError)
    assert breaker.failure_count == 0


def test_a_predicate_that_raises_is_heard_and_the_call_counts_as_nothing() -> None:
    def broken(_: object) -> bool:
        raise RuntimeError("predicate")

    breaker = CircuitBreaker("b", CircuitBreakerConfig(failure_threshold=1, on=broken))
    with pytest.raises(RuntimeError, match="predicate") as raised:
        breaker.execute(fails)
    assert isinstance(raised.value.__context__, ConnectionError)
    breaker.update_config(on=Exception, failed_result=broken)
    with pytest.raises(RuntimeError, match="predicate"):
        breaker.execute(works)
    assert (breaker.state, breaker.failure_count) == (CircuitState.CLOSED, 0)


# ----- the last failure -----


def test_the_last_failure_is_kept_while_there_may_be_refusals_and_no_longer(manual_clock: ManualClock) -> None:
    class Held(ConnectionError):
        pass

    def failing() -> None:
        raise Held

    breaker = CircuitBreaker("b", CircuitBreakerConfig(failure_threshold=2, success_threshold=1), clock=manual_clock)
    with pytest.raises(Held):
        breaker.execute(failing)
    assert breaker.last_failure is None
    with pytest.raises(Held):
        breaker.execute(failing)
    held = weakref.ref(breaker.last_failure)
    with pytest.raises(CircuitOpenError) as refused:
        breaker.execute(works)
    assert refused.value.__cause__ is held()
    manual_clock.advance(30)
    breaker.execute(works)
    assert breaker.last_failure is None
    del refused
    gc.collect()
    assert held() is None


def test_a_refusal_survives_the_way_into_another_process_without_its_cause() -> None:
    breaker = tripped()
    with pytest.raises(CircuitOpenError) as refused:
        breaker.execute(works)
    twin = pickle.loads(pickle.dumps(refused.value))
    assert (str(twin), twin.name, twin.state, twin.reason) == ("Circuit b is open", "b", CircuitState.OPEN, "open")
    assert twin.retry_after == refused.value.retry_after
    assert twin.last_failure is None


# ----- permits and blocks -----


def test_the_first_verdict_on_a_permit_counts(manual_clock: ManualClock) -> None:
    breaker = CircuitBreaker("b")
    permit = breaker.acquire()
    permit.failure(ConnectionError())
    permit.success()
    permit.failure()
    assert breaker.failure_count == 1
    assert permit.circuit_breaker is breaker
    assert not permit.is_probe
    assert repr(permit) == '<permit of "b", settled>'


@pytest.mark.parametrize("end", [Permit.release, lambda permit: None])
def test_a_permit_without_a_verdict_gives_its_place_back(end: Any) -> None:
    breaker = tripped(timeout_seconds=0, half_open_max_calls=1)
    for _ in range(3):
        permit = breaker.acquire()
        assert permit.is_probe and breaker.half_open_calls == 1
        end(permit)
        del permit
        assert breaker.half_open_calls == 0


def test_a_permit_is_a_block() -> None:
    breaker = CircuitBreaker("b", CircuitBreakerConfig(failure_threshold=1))
    with breaker.acquire() as permit:
        assert isinstance(permit, Permit)
    with pytest.raises(ConnectionError), breaker.acquire():
        fails()
    assert breaker.state is CircuitState.OPEN
    with pytest.raises(CircuitOpenError):
        breaker.acquire()


def test_a_block_counts_and_is_refused_like_a_call() -> None:
    breaker = CircuitBreaker("b", CircuitBreakerConfig(failure_threshold=1))
    with breaker as same:
        assert same is breaker
    with pytest.raises(ConnectionError), breaker:
        fails()
    ran = False
    with pytest.raises(CircuitOpenError), breaker:
        ran = True
    assert not ran


def test_blocks_of_one_breaker_may_be_nested_and_interleaved() -> None:
    breaker = CircuitBreaker("b", CircuitBreakerConfig(failure_threshold=2, success_threshold=1, timeout_seconds=0))

    def block() -> Iterator[None]:
        with breaker:
            yield

    before = block()
    next(before)
    with pytest.raises(ConnectionError), breaker, breaker:
        fails()
    assert (breaker.state, breaker.can_execute()) == (CircuitState.OPEN, True)
    probe = block()
    next(probe)
    assert breaker.half_open_calls == 1
    # The block from before the trip ends: late, and not the probe's verdict.
    next(before, None)
    assert (breaker.state, breaker.half_open_calls, breaker.late_outcomes) == (CircuitState.HALF_OPEN, 1, 1)
    next(probe, None)
    assert breaker.state is CircuitState.CLOSED


def test_a_block_in_an_exit_stack_gives_its_place_back() -> None:
    breaker = tripped(timeout_seconds=0, half_open_max_calls=1, success_threshold=2)
    with contextlib.ExitStack() as stack:
        stack.enter_context(breaker)
        assert breaker.half_open_calls == 1
    assert (breaker.half_open_calls, breaker.success_count) == (0, 1)


def test_threads_in_blocks_keep_apart() -> None:
    breaker = CircuitBreaker("b", CircuitBreakerConfig(failure_threshold=1000))
    barrier = threading.Barrier(4)

    def run() -> None:
        barrier.wait()
        for _ in range(50):
            with contextlib.suppress(ConnectionError), breaker:
                fails()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert breaker.failure_count == 200


# ----- coroutines -----


def test_tasks_in_blocks_keep_apart() -> None:
    breaker = tripped(timeout_seconds=0, half_open_max_calls=3, success_threshold=9)

    async def probe(fate: type[BaseException] | None, begun: asyncio.Event, go: asyncio.Event) -> None:
        async with breaker:
            begun.set()
            await go.wait()
            if fate is not None:
                raise fate

    async def main() -> None:
        gates = [(asyncio.Event(), asyncio.Event()) for _ in range(2)]
        tasks = [asyncio.create_task(probe(None, *gate)) for gate in gates]
        for begun, _ in gates:
            await begun.wait()
        assert breaker.half_open_calls == 2
        tasks[0].cancel()
        await asyncio.wait([tasks[0]])
        assert (breaker.half_open_calls, breaker.success_count) == (1, 0)
        gates[1][1].set()
        await tasks[1]
        assert (breaker.half_open_calls, breaker.success_count) == (0, 1)

    asyncio.run(main())


def test_a_cancelled_call_is_neutral_and_gives_its_place_back() -> None:
    breaker = tripped(timeout_seconds=0, half_open_max_calls=1)

    async def hangs() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        for _ in range(5):
            task = asyncio.create_task(breaker.execute(hangs))
            await asyncio.sleep(0)
            assert breaker.half_open_calls == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert breaker.half_open_calls == 0

    asyncio.run(main())
    assert breaker.state is CircuitState.HALF_OPEN


def test_a_coroutine_that_nobody_awaits_takes_no_place() -> None:
    breaker = tripped(timeout_seconds=0, half_open_max_calls=1)

    async def call() -> None: ...

    coroutine = breaker.execute(call)
    assert breaker.half_open_calls == 0
    assert coroutine.__qualname__ == call.__qualname__
    coroutine.close()

    async def main() -> None:
        for _ in range(3):
            asyncio.create_task(breaker.execute(call)).cancel()
        await asyncio.sleep(0)

    asyncio.run(main())
    gc.collect()
    assert breaker.half_open_calls == 0


def test_a_refused_coroutine_function_is_refused_when_it_is_awaited() -> None:
    breaker = tripped()

    async def call() -> None:
        raise AssertionError("it ran")

    async def main() -> None:
        answers = await asyncio.gather(*(breaker.execute(call) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(answer, CircuitOpenError) for answer in answers)

    asyncio.run(main())


def test_a_function_that_gives_back_a_coroutine_is_protected_too() -> None:
    breaker = CircuitBreaker("b", CircuitBreakerConfig(failure_threshold=1))

    async def call() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        asyncio.run(breaker.execute(lambda: call()))
    assert breaker.state is CircuitState.OPEN


# ----- subclasses -----


class Counting(CircuitBreaker):
    def __init__(self, host: str, *, secure: bool) -> None:
        super().__init__(f"{host}:{secure}", CircuitBreakerConfig(failure_threshold=2, timeout_seconds=0))
        self.heard: list[str] = []

    def can_execute(self) -> bool:
        self.heard.append("can_execute")
        return super().can_execute()

    def record_success(self) -> None:
        self.heard.append("record_success")
        super().record_success()

    def record_failure(self, error: object = None) -> None:
        self.heard.append("record_failure")
        super().record_failure()


def test_a_subclass_has_a_signature_of_its_own_and_its_methods_are_asked() -> None:
    breaker = Counting("api", secure=True)
    assert breaker.name == "api:True"
    breaker.execute(works)
    fail(breaker)
    with breaker:
        pass
    assert breaker.heard == [
        "can_execute",
        "record_success",
        "can_execute",
        "record_failure",
        "can_execute",
        "record_success",
    ]
    assert breaker.failure_count == 0


def test_a_late_verdict_through_an_overridden_method_is_still_late() -> None:
    breaker = Counting("api", secure=True)
    late = breaker.acquire()
    fail(breaker, 2)
    assert breaker.can_execute()
    late.failure()
    assert (breaker.state, breaker.late_outcomes) == (CircuitState.HALF_OPEN, 1)


def test_an_override_that_keeps_a_verdict_to_itself_gives_the_place_back() -> None:
    class Deaf(CircuitBreaker):
        def record_failure(self, error: object = None) -> None: ...

    breaker = Deaf("b", CircuitBreakerConfig(failure_threshold=1, half_open_max_calls=1))
    fail(breaker)
    breaker.state = CircuitState.HALF_OPEN
    fail(breaker)
    assert (breaker.state, breaker.half_open_calls) == (CircuitState.HALF_OPEN, 0)


def test_an_override_may_refuse_and_may_admit() -> None:
    class Switched(CircuitBreaker):
        on = False

        def can_execute(self) -> bool:
            return self.on

    breaker = Switched("b")
    with pytest.raises(CircuitOpenError, match="Circuit b is open"):
        breaker.execute(works)
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    breaker.on = True
    breaker.force_open()
    assert breaker.execute(works) == "up"


def test_an_overridden_execute_is_called_by_whoever_calls_for_it() -> None:
    class Loud(CircuitBreaker):
        def execute(self, func: Any, /, *args: Any, **kwargs: Any) -> Any:
            return f"{super().execute(func, *args, **kwargs)}!"

    assert Loud("b")(works)() == "up!"
    assert Loud("b")(lambda a, *, b: a + b)("a", b="b") == "ab!"


def test_a_subclass_that_forgets_to_call_ours_has_the_defaults() -> None:
    class Forgetful(CircuitBreaker):
        def __init__(self) -> None: ...

    breaker = Forgetful()
    assert breaker.execute(works) == "up"
    assert (breaker.name, breaker.config) == ("", CircuitBreakerConfig())


# ----- listeners -----


def test_listeners_hear_everything_in_order_with_its_counts(manual_clock: ManualClock) -> None:
    config = CircuitBreakerConfig(
        2, 1, count_window=CountWindow(size=4, minimum_calls=4, failure_ratio=0.5), consecutive=False
    )
    heard: list[CircuitEvent] = []
    breaker = CircuitBreaker("b", config, listeners=[heard.append], clock=manual_clock)
    breaker.execute(works)
    breaker.execute(works)
    fail(breaker, 2)
    with pytest.raises(CircuitOpenError):
        breaker.execute(works)
    manual_clock.advance(30)
    breaker.execute(works)
    assert [(event.kind, event.reason) for event in heard] == [
        ("transition", "failure_ratio"),
        ("refused", "open"),
        ("transition", "timeout_elapsed"),
        ("transition", "recovered"),
    ]
    trip, refusal, *_ = heard
    assert (trip.from_state, trip.to_state) == (CircuitState.CLOSED, CircuitState.OPEN)
    assert trip.details == {"window": "count", "failures": 2, "calls": 4, "ratio": 0.5}
    assert refusal.retry_after == 30
    assert pickle.loads(pickle.dumps(trip)) == trip


def test_a_listener_may_call_back_and_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    breaker = CircuitBreaker("b", CircuitBreakerConfig(failure_threshold=1))
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)

    @breaker.subscribe
    def broken(event: CircuitEvent) -> None:
        raise RuntimeError(event.kind)

    @breaker.subscribe
    def resets(event: CircuitEvent) -> None:
        if event.to_state is CircuitState.OPEN:
            breaker.reset()

    fail(breaker)
    assert breaker.state is CircuitState.CLOSED
    ours = [str(each.exc_value) for each in unraisable if isinstance(each.exc_value, RuntimeError)]
    assert ours == ["transition", "transition"]


def test_a_listener_that_has_left_hears_nothing() -> None:
    heard: list[CircuitEvent] = []
    breaker = CircuitBreaker("b", listeners=[heard.append])
    assert breaker.unsubscribe(heard.append)
    assert not breaker.unsubscribe(heard.append)
    breaker.force_open()
    assert heard == []


def test_a_breaker_that_its_listener_holds_is_collected() -> None:
    class Owner:
        def __init__(self) -> None:
            self.breaker = CircuitBreaker("b", CircuitBreakerConfig(on=self.judges), listeners=[self.hears])

        def hears(self, event: CircuitEvent) -> None: ...

        def judges(self, error: BaseException) -> bool:
            return True

    owner = weakref.ref(Owner())
    gc.collect()
    assert owner() is None


# ----- copies -----


def test_a_copy_goes_on_where_the_original_is_and_apart_from_it() -> None:
    breaker = tripped(timeout_seconds=1000)
    breaker.label = "x"  # type: ignore[attr-defined]
    for twin in (copy.copy(breaker), copy.deepcopy(breaker), pickle.loads(pickle.dumps(breaker))):
        assert (twin.name, twin.state, twin.failure_count, twin.label) == ("b", CircuitState.OPEN, 1, "x")
        assert 900 < twin.retry_after <= 1000
        twin.reset()
        assert breaker.state is CircuitState.OPEN
    assert copy.copy(breaker).config is breaker.config
    assert copy.deepcopy(breaker).config is not breaker.config


def test_a_subclass_is_copied_without_its_init() -> None:
    breaker = Counting("api", secure=False)
    twin = pickle.loads(pickle.dumps(breaker))
    assert type(twin) is Counting
    assert (twin.name, twin.heard) == ("api:False", [])
