"""The module that this package takes the place of had faults. Each has a test here, named for what holds now.

The numbers are those of the page "differences from the original module".
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest

from codomyrmex.service_mesh import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    CircuitState,
    LoadBalancer,
    LoadBalancerStrategy,
    NoHealthyInstanceError,
    RetryPolicy,
    ServiceInstance,
    ServiceProxy,
    with_circuit_breaker,
    with_retry,
)
from codomyrmex.service_mesh.testing import ManualClock


def fails(*_: Any, **__: Any) -> None:
    raise ConnectionError("down")


def works(*_: Any, **__: Any) -> str:
    return "up"


def trip(breaker: CircuitBreaker) -> None:
    while breaker.state is CircuitState.CLOSED:
        with pytest.raises(ConnectionError):
            breaker.execute(fails)


def instances(*ids: str, **settings: Any) -> list[ServiceInstance]:
    return [ServiceInstance(id=id, host=id, port=80, **settings) for id in ids]


def balancer(*ids: str, strategy: LoadBalancerStrategy = LoadBalancerStrategy.ROUND_ROBIN) -> LoadBalancer:
    made = LoadBalancer(strategy)
    for instance in instances(*ids):
        made.register(instance)
    return made


def picks(lb: LoadBalancer, times: int) -> list[str]:
    return [picked.id for _ in range(times) if (picked := lb.get_instance()) is not None]


# ------------------------------------------------------------------------------------------------- The circuit breaker


def test_01_half_open_does_not_wedge_where_more_successes_are_wanted_than_probes_allowed() -> None:
    config = CircuitBreakerConfig(failure_threshold=1, success_threshold=5, timeout_seconds=0, half_open_max_calls=3)
    breaker = CircuitBreaker("b", config)
    trip(breaker)
    for _ in range(5):
        assert breaker.execute(works) == "up"
    assert breaker.state is CircuitState.CLOSED


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_02_an_interrupted_probe_gives_its_place_back(interruption: type[BaseException]) -> None:
    breaker = CircuitBreaker("b", CircuitBreakerConfig(failure_threshold=1, timeout_seconds=0, half_open_max_calls=1))
    trip(breaker)

    def interrupted() -> None:
        raise interruption

    for _ in range(10):
        with pytest.raises(interruption):
            breaker.execute(interrupted)
        assert breaker.half_open_calls == 0
    assert breaker.can_execute()
    assert breaker.state is CircuitState.HALF_OPEN


def test_03_no_more_probes_run_at_once_than_are_allowed() -> None:
    config = CircuitBreakerConfig(
        failure_threshold=1, success_threshold=10_000, timeout_seconds=0, half_open_max_calls=1
    )
    breaker = CircuitBreaker("b", config)
    trip(breaker)
    counted = threading.Lock()
    running = most = 0

    def probe() -> None:
        nonlocal running, most
        with counted:
            running += 1
            most = max(most, running)
        with counted:
            running -= 1

    def caller() -> None:
        for _ in range(200):
            try:
                breaker.execute(probe)
            except CircuitOpenError:
                pass

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(caller) for _ in range(8)]:
            done.result()
    assert most == 1


def test_03_asking_takes_no_place() -> None:
    breaker = CircuitBreaker("b", CircuitBreakerConfig(failure_threshold=1, timeout_seconds=0, half_open_max_calls=1))
    trip(breaker)
    assert all(breaker.can_execute() for _ in range(5))
    assert breaker.half_open_calls == 0


def test_04_a_call_of_before_the_trip_is_no_probe() -> None:
    breaker = CircuitBreaker("b", CircuitBreakerConfig(failure_threshold=1, success_threshold=1, timeout_seconds=0))
    slow, slower = breaker.acquire(), breaker.acquire()
    trip(breaker)
    assert breaker.can_execute()
    slow.success()
    assert (breaker.state, breaker.success_count) == (CircuitState.HALF_OPEN, 0)
    slower.failure()
    assert breaker.state is CircuitState.HALF_OPEN


def test_05_a_late_failure_does_not_lengthen_the_open_time(manual_clock: ManualClock) -> None:
    config = CircuitBreakerConfig(failure_threshold=3, timeout_seconds=10)
    breaker = CircuitBreaker("b", config, clock=manual_clock)
    late = breaker.acquire()
    trip(breaker)
    manual_clock.advance(9)
    late.failure()
    breaker.record_failure()
    assert breaker.failure_count == 3
    manual_clock.advance(1)
    assert breaker.execute(works) == "up"


def test_06_each_half_open_state_counts_its_own_successes(manual_clock: ManualClock) -> None:
    config = CircuitBreakerConfig(failure_threshold=1, success_threshold=2, timeout_seconds=10)
    breaker = CircuitBreaker("b", config, clock=manual_clock)
    trip(breaker)
    manual_clock.advance(10)
    breaker.execute(works)
    assert breaker.success_count == 1
    with pytest.raises(ConnectionError):
        breaker.execute(fails)
    manual_clock.advance(10)
    breaker.execute(works)
    assert (breaker.state, breaker.success_count) == (CircuitState.HALF_OPEN, 1)
    breaker.execute(works)
    assert (breaker.state, breaker.success_count, breaker.half_open_calls) == (CircuitState.CLOSED, 0, 0)


def test_07_the_wall_clock_may_be_set_as_one_likes(manual_clock: ManualClock) -> None:
    breaker = CircuitBreaker("b", CircuitBreakerConfig(failure_threshold=1, timeout_seconds=10), clock=manual_clock)
    trip(breaker)
    breaker.last_failure_time = datetime.now() + timedelta(days=1)
    manual_clock.advance(10)
    assert breaker.can_execute()


def test_08_a_circuit_that_is_set_open_by_hand_recovers(manual_clock: ManualClock) -> None:
    breaker = CircuitBreaker("b", CircuitBreakerConfig(timeout_seconds=10), clock=manual_clock)
    breaker.state = CircuitState.OPEN
    assert not breaker.can_execute()
    manual_clock.advance(10)
    assert breaker.can_execute()
    assert breaker.state is CircuitState.HALF_OPEN


@pytest.mark.parametrize("field", ["failure_threshold", "success_threshold", "half_open_max_calls"])
@pytest.mark.parametrize("value", [0, -1])
def test_09_thresholds_below_one_are_refused_where_they_are_written(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=field):
        CircuitBreakerConfig(**{field: value})
    config = CircuitBreakerConfig()
    with pytest.raises(ValueError, match=field):
        setattr(config, field, value)
    assert config == CircuitBreakerConfig()


def test_10_a_refusal_tells_whose_why_when_and_what_went_wrong(manual_clock: ManualClock) -> None:
    config = CircuitBreakerConfig(failure_threshold=1, timeout_seconds=10, half_open_max_calls=1)
    breaker = CircuitBreaker("payments", config, clock=manual_clock)
    trip(breaker)
    manual_clock.advance(4)
    with pytest.raises(CircuitOpenError) as refused:
        breaker.execute(works)
    error = refused.value
    assert error.args == ("Circuit payments is open",)
    assert (error.name, error.state, error.reason) == ("payments", CircuitState.OPEN, "open")
    assert error.retry_after == pytest.approx(6)
    assert isinstance(error.__cause__, ConnectionError) and error.last_failure is error.__cause__


def test_10_a_half_open_circuit_does_not_say_that_it_is_open() -> None:
    config = CircuitBreakerConfig(failure_threshold=1, timeout_seconds=0, half_open_max_calls=1)
    breaker = CircuitBreaker("payments", config)
    trip(breaker)
    probe = breaker.acquire()
    with pytest.raises(CircuitOpenError, match="^Circuit payments is half open and its probes are taken$") as refused:
        breaker.execute(works)
    assert (refused.value.state, refused.value.reason) == (CircuitState.HALF_OPEN, "half_open_full")
    probe.success()


def test_11_what_is_the_callers_own_mistake_can_be_left_out() -> None:
    breaker = CircuitBreaker("b", CircuitBreakerConfig(failure_threshold=1, ignore=(TypeError,)))

    def mistaken() -> None:
        raise TypeError

    for _ in range(5):
        with pytest.raises(TypeError):
            breaker.execute(mistaken)
    assert (breaker.state, breaker.failure_count) == (CircuitState.CLOSED, 0)


def test_11_the_refusal_of_a_nested_breaker_does_not_trip_the_outer_one() -> None:
    inner, outer = CircuitBreaker("inner"), CircuitBreaker("outer", CircuitBreakerConfig(failure_threshold=1))
    trip(inner)
    with pytest.raises(CircuitOpenError):
        outer.execute(inner.execute, works)
    assert outer.state is CircuitState.CLOSED


def test_12_a_shared_configuration_stays_alive() -> None:
    config = CircuitBreakerConfig()
    one, two = CircuitBreaker("one", config), CircuitBreaker("two", config)
    config.failure_threshold = 1
    trip(one)
    trip(two)
    assert one.failure_count == two.failure_count == 1
    assert one.config is config


def test_13_the_awaited_call_of_a_coroutine_function_is_protected() -> None:
    breaker = CircuitBreaker("b", CircuitBreakerConfig(failure_threshold=2))

    async def failing() -> None:
        raise ConnectionError

    async def calls() -> None:
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await breaker.execute(failing)
        with pytest.raises(CircuitOpenError):
            await breaker.execute(failing)

    asyncio.run(calls())
    assert (breaker.state, breaker.failure_count) == (CircuitState.OPEN, 2)


def test_13_a_coroutine_function_is_tried_again() -> None:
    runs = 0

    @with_retry(max_retries=3, initial_delay=0)
    async def flaky() -> str:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ConnectionError
        return "up"

    assert asyncio.run(flaky()) == "up"
    assert runs == 3


def test_13_a_decorated_coroutine_function_is_one() -> None:
    async def fetch() -> None: ...

    assert inspect.iscoroutinefunction(with_circuit_breaker("b")(fetch))
    assert inspect.iscoroutinefunction(with_retry()(fetch))


def test_14_a_generator_is_judged_by_its_end() -> None:
    @with_circuit_breaker("b", CircuitBreakerConfig(failure_threshold=1))
    def rows() -> Iterator[int]:
        yield 1
        raise ConnectionError

    iteration = rows()
    assert next(iteration) == 1
    assert rows.circuit_breaker.state is CircuitState.CLOSED
    with pytest.raises(ConnectionError):
        next(iteration)
    assert rows.circuit_breaker.state is CircuitState.OPEN
    with pytest.raises(CircuitOpenError):
        next(rows())


@with_circuit_breaker("module")
def decorated(a: int, *, b: str = "b") -> str:
    """Says what it was given."""
    return f"{a}{b}"


def original(a: int, *, b: str = "b") -> str:
    return f"{a}{b}"


def test_15_a_decorated_function_is_still_itself() -> None:
    assert decorated.__name__ == "decorated"
    assert decorated.__qualname__ == "decorated"
    assert decorated.__doc__ == "Says what it was given."
    assert decorated.__module__ == __name__
    assert inspect.signature(decorated) == inspect.signature(original)
    assert decorated.__wrapped__(1) == "1b"
    assert pickle.loads(pickle.dumps(decorated)) is decorated
    assert copy.copy(decorated) is decorated
    assert decorated.circuit_breaker.name == "module"
    assert with_retry(max_retries=7)(original).retry_policy.max_retries == 7


def test_16_the_bare_form_decorates() -> None:
    @with_circuit_breaker
    def one() -> str:
        return "one"

    @with_retry
    def two() -> str:
        return "two"

    assert (one(), two()) == ("one", "two")
    assert two.retry_policy.max_retries == 3


def test_17_a_keyword_named_func_reaches_the_function() -> None:
    assert CircuitBreaker("b").execute(dict, func=1) == {"func": 1}
    assert RetryPolicy().execute(dict, func=1) == {"func": 1}

    def call(instance: ServiceInstance, **kwargs: Any) -> Any:
        return kwargs

    assert ServiceProxy("s", balancer("a")).call(call, func=1) == {"func": 1}


def test_18_a_breaker_can_be_shared_by_giving_it_instead_of_a_name() -> None:
    breaker = CircuitBreaker("shared", CircuitBreakerConfig(failure_threshold=1))
    one, two = with_circuit_breaker(breaker)(fails), with_circuit_breaker(breaker)(works)
    assert one.circuit_breaker is two.circuit_breaker is breaker
    with pytest.raises(ConnectionError):
        one()
    with pytest.raises(CircuitOpenError):
        two()


def test_19_what_can_be_copied_is() -> None:
    breaker = CircuitBreaker("b", CircuitBreakerConfig(failure_threshold=2))
    with pytest.raises(ConnectionError):
        breaker.execute(fails)
    for same in (copy.copy(breaker), copy.deepcopy(breaker), pickle.loads(pickle.dumps(breaker))):
        assert (same.name, same.state, same.failure_count) == ("b", CircuitState.CLOSED, 1)
        assert same.config == breaker.config
    lb = balancer("a", "b")
    for twin in (copy.copy(lb), copy.deepcopy(lb), pickle.loads(pickle.dumps(lb))):
        assert picks(twin, 2) == ["a", "b"]
    assert pickle.loads(pickle.dumps(RetryPolicy(max_retries=7))).max_retries == 7


# --------------------------------------------------------------------------------------------------- The load balancer


def test_20_round_robin_starts_with_the_first() -> None:
    assert picks(balancer("a", "b", "c"), 6) == ["a", "b", "c", "a", "b", "c"]


def test_20_round_robin_neither_skips_nor_repeats_anybody_when_health_changes() -> None:
    lb = balancer("a", "b", "c")
    assert picks(lb, 2) == ["a", "b"]
    lb.mark_healthy("b", False)
    assert picks(lb, 3) == ["c", "a", "c"]


def test_21_weights_of_zero_are_never_picked() -> None:
    lb = LoadBalancer(LoadBalancerStrategy.WEIGHTED)
    for instance in instances("a", "b", weight=0):
        lb.register(instance)
    assert lb.get_instance() is None


def test_21_a_negative_weight_does_not_skew_the_others() -> None:
    lb = LoadBalancer(LoadBalancerStrategy.WEIGHTED)
    try:
        a, b, c = (
            ServiceInstance(id=id, host=id, port=80, weight=weight) for id, weight in [("a", -3), ("b", 1), ("c", 1)]
        )
    except ValueError:
        return
    for instance in (a, b, c):
        lb.register(instance)
    assert Counter(picks(lb, 100)) == {"b": 50, "c": 50}


def test_21_weights_are_smooth() -> None:
    lb = LoadBalancer(LoadBalancerStrategy.WEIGHTED)
    for id, weight in [("a", 5), ("b", 1), ("c", 1)]:
        lb.register(ServiceInstance(id=id, host=id, port=80, weight=weight))
    assert picks(lb, 7) == list("aabacaa")


def test_22_least_connections_counts_what_is_leased() -> None:
    lb = balancer("a", "b", strategy=LoadBalancerStrategy.LEAST_CONNECTIONS)
    with lb.lease() as first, lb.lease() as second:
        assert {first.id, second.id} == {"a", "b"}


def test_22_ties_are_broken_by_chance() -> None:
    lb = balancer("a", "b", strategy=LoadBalancerStrategy.LEAST_CONNECTIONS)
    assert set(picks(lb, 200)) == {"a", "b"}


def test_22_the_proxy_counts_its_connections() -> None:
    lb = balancer("a", "b", strategy=LoadBalancerStrategy.LEAST_CONNECTIONS)
    proxy = ServiceProxy("s", lb)

    def outer(instance: ServiceInstance) -> tuple[str, str]:
        return instance.id, proxy.call(lambda other: other.id)

    for _ in range(20):
        assert set(proxy.call(outer)) == {"a", "b"}


def test_23_an_instance_that_is_replaced_keeps_its_turn() -> None:
    lb = balancer("a", "b", "c")
    replaced = ServiceInstance(id="b", host="elsewhere", port=81)
    lb.register(replaced)
    assert picks(lb, 3) == ["a", "b", "c"]
    assert [lb.get_instance(), lb.get_instance()][1] is replaced


def test_23_a_strategy_may_be_written_as_a_word_and_a_wrong_word_is_refused() -> None:
    lb = LoadBalancer("least_connections")  # type: ignore[arg-type]
    assert lb.strategy is LoadBalancerStrategy.LEAST_CONNECTIONS
    with pytest.raises(ValueError):
        LoadBalancer("fastest")  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        lb.strategy = "fastest"  # type: ignore[assignment]
    assert lb.strategy is LoadBalancerStrategy.LEAST_CONNECTIONS


def test_24_what_is_set_on_an_instance_is_seen_by_the_next_pick() -> None:
    lb = balancer("a", "b")
    a = lb.get_instance()
    assert a is not None
    a.healthy = False
    assert picks(lb, 3) == ["b", "b", "b"]


# ------------------------------------------------------------------------------------------------- Retry and the proxy


def test_25_jitter_never_passes_the_cap() -> None:
    policy = RetryPolicy(max_delay=10.0)
    assert all(policy.get_delay(20) <= 10.0 for _ in range(1000))


def test_25_no_attempt_overflows() -> None:
    policy = RetryPolicy(jitter=False)
    assert policy.get_delay(1024) == policy.get_delay(2**31) == 10.0


def test_25_negative_retries_are_refused_where_they_are_written() -> None:
    with pytest.raises(ValueError, match="max_retries"):
        RetryPolicy(max_retries=-1)
    policy = RetryPolicy()
    with pytest.raises(ValueError, match="max_retries"):
        policy.max_retries = -1
    assert policy.max_retries == 3


def test_26_only_what_may_be_tried_again_is() -> None:
    runs = 0

    @with_retry(max_retries=3, initial_delay=0, on=ConnectionError)
    def mistaken() -> None:
        nonlocal runs
        runs += 1
        raise TypeError

    with pytest.raises(TypeError):
        mistaken()
    assert runs == 1


def test_26_a_result_may_be_tried_again_too() -> None:
    answers = iter([503, 503, 200])
    policy = RetryPolicy(initial_delay=0, failed_result=lambda status: status == 503)
    assert policy.execute(lambda: next(answers)) == 200


def test_26_an_event_loop_is_not_blocked_while_a_retry_waits() -> None:
    policy = RetryPolicy(max_retries=1, initial_delay=0.01, jitter=False)
    answers = iter([ConnectionError(), "up"])
    order = []

    async def flaky() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def beside() -> None:
        await asyncio.sleep(0)
        order.append("beside")

    async def both() -> None:
        other = asyncio.create_task(beside())
        await policy.execute(flaky)
        order.append("retried")
        await other

    asyncio.run(both())
    assert order == ["beside", "retried"]


def test_27_each_attempt_goes_to_another_instance() -> None:
    tried = []

    def call(instance: ServiceInstance) -> None:
        tried.append(instance.id)
        raise ConnectionError

    proxy = ServiceProxy("s", balancer("a", "b", "c"), retry_policy=RetryPolicy(max_retries=2, initial_delay=0))
    with pytest.raises(ConnectionError):
        proxy.call(call)
    assert sorted(tried) == ["a", "b", "c"]


def test_28_nobody_sleeps_on_an_open_circuit_and_the_first_error_is_kept(manual_clock: ManualClock) -> None:
    runs = 0

    def failing(instance: ServiceInstance) -> None:
        nonlocal runs
        runs += 1
        raise ConnectionError(f"run {runs}")

    proxy = ServiceProxy(
        "s",
        balancer("a"),
        CircuitBreaker("s", CircuitBreakerConfig(failure_threshold=2), clock=manual_clock),
        RetryPolicy(max_retries=5, initial_delay=0.1, jitter=False, clock=manual_clock),
        clock=manual_clock,
    )
    with pytest.raises(CircuitOpenError) as refused:
        proxy.call(failing)
    assert runs == 2
    assert manual_clock.sleeps == [pytest.approx(0.1)]
    assert isinstance(refused.value.__cause__, ConnectionError)
    assert str(refused.value.__cause__) == "run 2"


def test_28_a_bare_policy_does_not_retry_a_refusal(manual_clock: ManualClock) -> None:
    breaker = CircuitBreaker("b", CircuitBreakerConfig(failure_threshold=1))
    trip(breaker)
    policy = RetryPolicy(clock=manual_clock)
    with pytest.raises(CircuitOpenError):
        policy.execute(breaker.execute, works)
    assert manual_clock.sleeps == []


def test_29_one_bad_instance_of_three_trips_its_own_breaker_only() -> None:
    proxy = ServiceProxy("s", balancer("a", "b", "c"), retry_policy=RetryPolicy(initial_delay=0))

    def call(instance: ServiceInstance) -> str:
        if instance.id == "a":
            raise ConnectionError
        return instance.id

    answers = Counter(proxy.call(call) for _ in range(100))
    assert set(answers) == {"b", "c"}
    assert proxy.circuit_breaker.state is CircuitState.CLOSED
    bad = proxy.instance_circuit_breaker("a")
    assert bad is not None and bad.state is CircuitState.OPEN


def test_29_a_balancer_that_is_false_is_used_nevertheless() -> None:
    class Empty(LoadBalancer):
        def __len__(self) -> int:
            return 0

        def __bool__(self) -> bool:
            return False

    lb = Empty()
    assert ServiceProxy("s", lb).load_balancer is lb


def test_30_nobody_there_is_told_at_once(manual_clock: ManualClock) -> None:
    proxy = ServiceProxy("orders", LoadBalancer(), retry_policy=RetryPolicy(clock=manual_clock), clock=manual_clock)
    with pytest.raises(NoHealthyInstanceError, match="^No healthy instances for orders$") as nobody:
        proxy.call(works)
    assert nobody.value.service == "orders"
    assert manual_clock.sleeps == []
