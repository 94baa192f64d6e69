"""What a `ServiceProxy` promises to Python; the rules of a call are proved by the scenarios of `conformance/`."""

import asyncio
import dataclasses
import gc
import inspect
import threading
import time
import warnings
import weakref
from datetime import timedelta

import pytest

from codomyrmex.service_mesh.circuit_breaker import CircuitBreaker
from codomyrmex.service_mesh.load_balancer import LoadBalancer
from codomyrmex.service_mesh.models import (
    AttemptTimedOutError,
    CircuitBreakerConfig,
    CircuitOpenError,
    CircuitState,
    ConfigError,
    DeadlineExceededError,
    NoHealthyInstanceError,
    ServiceInstance,
)
from codomyrmex.service_mesh.retry import RetryBudget, RetryPolicy
from codomyrmex.service_mesh.service_proxy import ServiceProxy
from codomyrmex.service_mesh.testing import ManualClock, set_testing


def instances(names="abc"):
    return [ServiceInstance(id=name, host=f"host-{name}", port=80) for name in names]


def proxy(names="abc", *, failures=5, retries=3, clock=None, balancer=None, breaker=None, policy=None, **options):
    return ServiceProxy(
        "payments",
        LoadBalancer(instances=instances(names)) if balancer is None else balancer,
        CircuitBreaker("payments", CircuitBreakerConfig(failure_threshold=failures)) if breaker is None else breaker,
        RetryPolicy(max_retries=retries, initial_delay=0, jitter=False) if policy is None else policy,
        clock=clock,
        **options,
    )


def name_of(instance):
    return instance.id


def down(instance):
    raise ConnectionError(instance.id)


def fails_at(*names):
    def call(instance):
        if instance.id in names:
            raise ConnectionError(instance.id)
        return instance.id

    return call


def test_the_function_gets_the_instance_and_what_else_is_given():
    registered = instances()
    payments = proxy(balancer=LoadBalancer(instances=registered))

    def call(instance, *args, **kwargs):
        return instance, args, kwargs

    assert payments.call(call) == (registered[0], (), {})
    assert payments.call(call, 1)[1:] == ((1,), {})
    assert payments.call(call, 1, 2)[1:] == ((1, 2), {})
    assert payments.call(call, 1, 2, 3)[1:] == ((1, 2, 3), {})
    assert payments.call(call, 1, func=2, self=3)[1:] == ((1,), {"func": 2, "self": 3})
    assert payments.call(call)[0] is registered[2]
    assert payments.call(call, key="v")[2] == {"key": "v"}
    for count in range(4, 10):
        assert payments.call(call, *range(count))[1:] == (tuple(range(count)), {})
        assert payments.call(call, *range(count), a=1, b=2)[1:] == (tuple(range(count)), {"a": 1, "b": 2})
    with pytest.raises(TypeError, match=r"call\(\) missing 1 required positional argument: 'func'"):
        payments.call()


def test_a_method_gets_the_instance_behind_its_object():
    class Client:
        def charge(self, instance, amount):
            return self, instance.id, amount

    client = Client()
    assert proxy().call(client.charge, 5) == (client, "a", 5)


def test_parts_may_be_assigned_while_a_call_runs():
    payments = proxy()

    def assign(instance):
        payments.load_balancer = LoadBalancer(instances=instances("z"))
        payments.circuit_breaker = CircuitBreaker("other")
        gc.collect()
        return instance.id, instance.in_flight

    assert payments.call(assign) == ("a", 1)
    assert payments.call(name_of) == "z"


def test_it_makes_its_own_parts_and_never_takes_what_is_false_for_none():
    payments = ServiceProxy("payments")
    assert type(payments.load_balancer) is LoadBalancer and type(payments.retry_policy) is RetryPolicy
    assert payments.circuit_breaker.name == payments.service_name == "payments"

    class Empty(LoadBalancer):
        def __bool__(self):
            return False

    balancer = Empty()
    assert ServiceProxy("payments", balancer).load_balancer is balancer
    assert repr(payments) == "ServiceProxy('payments')"
    with pytest.raises(TypeError, match="load_balancer must have a method get_instance, and int has none"):
        ServiceProxy("payments", 5)


@pytest.mark.parametrize("argument", ["timeout", "attempt_timeout"])
def test_a_time_limit_that_is_refused_is_called_as_it_was_written(argument):
    for wrong in (0, timedelta(0), -1):
        with pytest.raises(ConfigError, match=f"^{argument} is (0|-1); allowed: ") as raised:
            ServiceProxy("payments", **{argument: wrong})
        assert raised.value.field == argument


def test_a_failed_attempt_goes_on_at_another_instance():
    tried = []

    def call(instance):
        tried.append(instance.id)
        raise ConnectionError(instance.id)

    with pytest.raises(ConnectionError, match="c") as raised:
        proxy(retries=2).call(call)
    assert tried == ["a", "b", "c"]
    assert raised.value.__notes__ == ["the call of payments ended after 3 attempts"]
    assert proxy().call(fails_at("a", "b")) == "c"


def test_the_original_error_comes_back_and_a_single_attempt_needs_no_note():
    error = ValueError("mine")

    def call(instance):
        raise error

    with pytest.raises(ValueError, match="mine") as raised:
        proxy(retries=0).call(call)
    assert raised.value is error and not hasattr(error, "__notes__")


def test_nobody_there_is_told_in_the_seeds_words():
    with pytest.raises(NoHealthyInstanceError, match="^No healthy instances for payments$") as raised:
        proxy("").call(name_of)
    assert raised.value.service == "payments" and raised.value.__cause__ is None


def test_a_refusal_says_when_to_come_back_and_what_failed_last():
    payments = proxy("a", failures=2, retries=9)
    with pytest.raises(CircuitOpenError) as raised:
        payments.call(down)
    assert str(raised.value) == "Circuit payments is open"
    assert raised.value.name == "payments" and 29 < raised.value.retry_after <= 30
    assert isinstance(raised.value.__cause__, ConnectionError) and raised.value.last_failure is raised.value.__cause__
    assert raised.value.__notes__ == ["the call of payments ended after 2 attempts"]
    with pytest.raises(CircuitOpenError) as raised:
        payments.call(name_of)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("how", ["call", "call_async"])
def test_the_services_circuit_keeps_the_failure_until_it_has_recovered(how):
    clock = ManualClock()
    breaker = CircuitBreaker("payments", CircuitBreakerConfig(failure_threshold=1, success_threshold=1), clock=clock)
    payments = proxy("a", breaker=breaker, retries=0, clock=clock, instance_circuit_breaker=None)
    call = payments.call if how == "call" else lambda func: clock.run(payments.call_async(func))
    with pytest.raises(ConnectionError) as raised:
        call(down)
    assert payments.circuit_breaker.last_failure is raised.value
    clock.advance(30)
    assert call(name_of) == "a"
    assert payments.circuit_breaker.state is CircuitState.CLOSED
    assert payments.circuit_breaker.last_failure is None


def test_one_bad_instance_trips_its_own_circuit_and_nobody_elses():
    payments = proxy(failures=3)
    assert {payments.call(fails_at("a")) for _ in range(50)} == {"b", "c"}
    bad = payments.instance_circuit_breaker("a")
    assert bad.name == "payments/a" and bad.state is CircuitState.OPEN
    assert payments.instance_circuit_breaker(payments.load_balancer["b"]).state is CircuitState.CLOSED
    assert payments.circuit_breaker.state is CircuitState.CLOSED
    assert payments.instance_circuit_breaker("nobody") is None
    bad.reset()
    assert "a" in {payments.call(name_of) for _ in range(3)}


def test_instances_have_circuits_of_their_own_or_none():
    config = CircuitBreakerConfig(failure_threshold=1)
    payments = proxy(instance_circuit_breaker=config)
    payments.call(fails_at("a"))
    assert payments.instance_circuit_breaker("a").state is CircuitState.OPEN
    config.failure_threshold = 2
    payments.call(fails_at("b"))
    assert payments.instance_circuit_breaker("b").state is CircuitState.CLOSED
    assert proxy(instance_circuit_breaker=None).instance_circuit_breaker("a") is None
    with pytest.raises(TypeError, match="instance_circuit_breaker must be a CircuitBreakerConfig or None, not int"):
        proxy(instance_circuit_breaker=5)


def test_one_judge_says_for_both_circuits_what_a_failure_is():
    config = CircuitBreakerConfig(ignore=KeyError)
    with pytest.raises(ValueError, match="ignore must be that of the service's circuit breaker, which judges for both"):
        proxy(instance_circuit_breaker=config)
    breaker = CircuitBreaker("payments", config)
    payments = proxy(breaker=breaker, instance_circuit_breaker=dataclasses.replace(config, failure_threshold=1))
    payments.call(fails_at("a"))
    assert payments.instance_circuit_breaker("a").state is CircuitState.OPEN


def test_a_predicate_that_the_instances_cannot_have_is_refused_when_it_is_assigned_too():
    config = CircuitBreakerConfig()
    payments = proxy(instance_circuit_breaker=config)
    for field, predicate in (("on", KeyError), ("ignore", KeyError), ("failed_result", bool)):
        with pytest.raises(ValueError, match=f"{field} must be that of the service's circuit breaker"):
            setattr(config, field, predicate)
        setattr(payments.circuit_breaker.config, field, predicate)
        setattr(config, field, predicate)
        delattr(config, field)
    assert config == CircuitBreakerConfig()
    del payments
    config.ignore = ConnectionError


def test_what_is_assigned_to_the_parts_takes_effect():
    payments = proxy(failures=5, retries=0)
    payments.retry_policy.max_retries = 2
    tried = []

    def call(instance):
        tried.append(instance.id)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        payments.call(call)
    assert len(tried) == 3
    payments.circuit_breaker.config.failure_threshold = 1
    with pytest.raises(ConnectionError):
        payments.call(down)
    assert payments.instance_circuit_breaker("a").state is CircuitState.OPEN


def test_parts_may_be_replaced():
    payments = proxy()
    balancer, breaker, policy = LoadBalancer(instances=instances("z")), CircuitBreaker("other"), RetryPolicy()
    payments.load_balancer, payments.circuit_breaker, payments.retry_policy = balancer, breaker, policy
    assert payments.load_balancer is balancer and payments.circuit_breaker is breaker
    assert payments.retry_policy is policy and payments.call(name_of) == "z"
    breaker.force_open()
    with pytest.raises(CircuitOpenError, match="Circuit other is open"):
        payments.call(name_of)
    payments.service_name = "orders"
    payments.load_balancer = LoadBalancer()
    breaker.reset()
    with pytest.raises(NoHealthyInstanceError, match="orders"):
        payments.call(name_of)


def test_connections_are_leased_while_the_function_runs():
    payments = proxy("a")
    (one,) = payments.load_balancer
    assert payments.call(lambda instance: instance.in_flight) == 1
    assert one.in_flight == 0
    for error in (ConnectionError, KeyboardInterrupt):

        def call(instance, error=error):
            raise error

        with pytest.raises(error):
            payments.call(call)
        assert one.in_flight == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_an_interrupt_is_neutral_and_final(error):
    payments = proxy("ab", failures=1)
    tried = []

    def call(instance):
        tried.append(instance.id)
        raise error

    with pytest.raises(error):
        payments.call(call)
    assert tried == ["a"]
    assert payments.instance_circuit_breaker("a").state is CircuitState.CLOSED
    assert payments.circuit_breaker.state is CircuitState.CLOSED


def test_predicates_of_breaker_and_policy_say_each_their_part():
    breaker = CircuitBreaker("payments", CircuitBreakerConfig(failure_threshold=1, ignore=KeyError))

    def missing(instance):
        raise KeyError(instance.id)

    payments = proxy(breaker=breaker)
    with pytest.raises(KeyError) as raised:
        payments.call(missing)
    assert not hasattr(raised.value, "__notes__") and breaker.state is CircuitState.CLOSED
    policy = RetryPolicy(max_retries=2, initial_delay=0)
    policy.on = KeyError
    payments = proxy(breaker=breaker, policy=policy)
    with pytest.raises(KeyError) as raised:
        payments.call(missing)
    assert (
        raised.value.__notes__ == ["the call of payments ended after 3 attempts"]
        and breaker.state is CircuitState.CLOSED
    )


def test_a_result_may_be_a_failure_and_the_last_one_comes_back():
    policy = RetryPolicy(max_retries=3, initial_delay=0)
    policy.failed_result = lambda result: result >= 500
    payments = proxy("ab", policy=policy)
    assert payments.call(lambda instance: 503 if instance.id == "a" else 200) == 200
    assert payments.instance_circuit_breaker("a").failure_count == 1
    assert proxy("a", policy=policy).call(lambda instance: 500) == 500


def test_a_predicate_that_fails_is_told_beside_what_it_judged():
    policy = RetryPolicy()
    policy.on = lambda error: 1 / 0
    payments = proxy("a", policy=policy)
    with pytest.raises(ZeroDivisionError) as raised:
        payments.call(down)
    assert isinstance(raised.value.__context__, ConnectionError)
    assert next(iter(payments.load_balancer)).in_flight == 0


def test_the_budget_bounds_retries_and_may_be_switched_off():
    runs = []

    def call(instance):
        runs.append(instance.id)
        raise ConnectionError

    payments = proxy(failures=10**6, budget=RetryBudget(ratio=0.0, floor_per_second=0.1))
    for _ in range(10):
        with pytest.raises(ConnectionError):
            payments.call(call)
    assert len(runs) == 11
    unbounded = proxy(failures=10**6, budget=None)
    runs.clear()
    for _ in range(50):
        with pytest.raises(ConnectionError):
            unbounded.call(call)
    assert len(runs) == 200
    with pytest.raises(TypeError, match="budget must be a RetryBudget or None, not int"):
        proxy(budget=5)


def test_set_testing_keeps_calls_from_waiting_and_caps_their_attempts():
    payments = proxy(policy=RetryPolicy(max_retries=5, initial_delay=60))
    tried = []

    def call(instance):
        tried.append(instance.id)
        raise ConnectionError

    with set_testing(attempts=2), pytest.raises(ConnectionError):
        payments.call(call)
    assert len(tried) == 2


def test_waits_go_by_the_clock_and_the_deadline_is_looked_at_between_attempts():
    clock = ManualClock()
    payments = proxy("ab", clock=clock, timeout=1, policy=RetryPolicy(max_retries=9, initial_delay=0.4, jitter=False))
    with pytest.raises(ConnectionError):
        payments.call(down)
    assert clock.sleeps == pytest.approx([0.4])

    def slow(instance):
        clock.advance(2)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        payments.call(slow)
    with pytest.raises(DeadlineExceededError, match="The time for payments is up") as raised:
        payments.with_options(timeout=0).call(name_of)
    assert isinstance(raised.value, TimeoutError) and raised.value.service == "payments"


def test_a_sync_wait_lets_other_threads_run():
    payments = proxy("ab", policy=RetryPolicy(max_retries=1, initial_delay=0.05, jitter=False))
    payments.call(fails_at("a"))  # warm
    payments = proxy("ab", policy=RetryPolicy(max_retries=1, initial_delay=0.2, jitter=False))
    done = threading.Event()
    thread = threading.Thread(target=lambda: (payments.call(fails_at("a")), done.set()))
    thread.start()
    ran_meanwhile = not done.is_set()
    thread.join()
    assert ran_meanwhile and done.is_set()


def test_sleep_is_looked_up_when_it_is_needed(monkeypatch):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    assert proxy("ab", policy=RetryPolicy(initial_delay=5, jitter=False)).call(fails_at("a")) == "b"
    assert slept == [5.0]


def test_a_key_goes_to_one_instance():
    payments = proxy("abcdef")
    payments.load_balancer.strategy = "consistent_hash"
    (home,) = {payments.with_options(key="customer-42").call(name_of) for _ in range(9)}
    assert payments.load_balancer.get_instance(key="customer-42").id == home


def test_a_story_tells_what_happened():
    payments = proxy(failures=1)
    explained = payments.with_options(explain=True)
    assert explained.story is None and explained.service_proxy is payments
    assert explained.call(fails_at("a")) == "b"
    story = explained.story
    assert (story.service, story.ending) == ("payments", "success")
    assert [(attempt.instance, attempt.outcome) for attempt in story.attempts] == [("a", "failure"), ("b", "success")]
    assert str(story).startswith("call of payments took ")
    assert explained.call(name_of) == "c"
    explained.call(name_of)
    (attempt,) = explained.story.attempts
    assert [(over.instance, over.reason) for over in attempt.passed_over] == [("a", "open")]


def test_listeners_hear_of_the_service_and_its_instances():
    heard = []
    payments = proxy("a", failures=1, listeners=[heard.append])
    late = []
    payments.subscribe(late.append)
    with pytest.raises((ConnectionError, CircuitOpenError)):
        payments.call(down)
    assert {event.name for event in heard if event.kind == "transition"} == {"payments", "payments/a"}
    assert len(late) == len(heard)
    with pytest.raises(TypeError, match="a listener must be callable"):
        payments.subscribe(5)


def test_it_decorates_functions_whose_first_parameter_is_the_instance():
    payments = proxy()

    @payments
    def charge(instance: ServiceInstance, amount: int) -> str:
        "Charges."
        return f"{instance.id} {amount}"

    @payments.with_options(key="k")
    async def refund(instance, amount):
        return f"{instance.id} {amount}"

    assert charge(5) == "a 5" and charge.service_proxy is payments
    assert (charge.__name__, charge.__doc__, str(inspect.signature(charge))) == (
        "charge",
        "Charges.",
        "(amount: int) -> str",
    )
    assert inspect.iscoroutinefunction(refund) and asyncio.run(refund(amount=3)) == "b 3"


class OwnWay(LoadBalancer):
    def get_instance(self, key=None, exclude=()):
        return super().get_instance(exclude=["c", *exclude])


class SeedStyle(LoadBalancer):
    def get_instance(self):
        return super().get_instance()


class Discovery:
    """A balancer that is none of ours."""

    def __init__(self, names):
        self.found = instances(names)
        self.turn = -1

    def get_instance(self):
        self.turn += 1
        return self.found[self.turn % len(self.found)] if self.found else None


def test_a_balancer_that_picks_in_its_own_way_is_asked_for_each_attempt():
    payments = proxy(balancer=OwnWay(instances=instances()))
    assert [payments.call(name_of) for _ in range(4)] == ["a", "b", "a", "b"]
    assert payments.call(fails_at("a")) == "b"
    assert payments.call(lambda instance: instance.in_flight) == 1
    with pytest.raises(ConnectionError):
        payments.call(down)
    seed = proxy(balancer=SeedStyle(instances=instances()), failures=2)
    assert {seed.call(fails_at("a")) for _ in range(20)} == {"b", "c"}
    assert seed.instance_circuit_breaker("a").state is CircuitState.OPEN
    empty = proxy(balancer=SeedStyle())
    with pytest.raises(NoHealthyInstanceError):
        empty.call(name_of)


def test_a_balancer_that_is_none_of_ours_is_used_too():
    discovery = Discovery("ab")
    payments = proxy(balancer=discovery, failures=2)
    assert payments.load_balancer is discovery
    assert payments.call(lambda instance: instance) is discovery.found[0]
    assert {payments.call(fails_at("a")) for _ in range(9)} == {"b"}
    assert payments.instance_circuit_breaker("a").state is CircuitState.OPEN
    discovery.found = []
    with pytest.raises(NoHealthyInstanceError):
        payments.call(name_of)
    discovery.get_instance = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        payments.call(name_of)


def test_a_breaker_that_overrides_a_step_is_asked():
    class Counting(CircuitBreaker):
        failed = 0

        def record_failure(self, *args):
            Counting.failed += 1
            super().record_failure(*args)

    payments = proxy("ab", breaker=Counting("payments", CircuitBreakerConfig(failure_threshold=3)), retries=1)
    assert payments.call(fails_at("a")) == "b" and Counting.failed == 1
    for _ in range(3):
        with pytest.raises((ConnectionError, CircuitOpenError)):
            payments.call(down)
    assert payments.circuit_breaker.state is CircuitState.OPEN
    with pytest.raises(CircuitOpenError):
        payments.call(name_of)

    class Foreign:
        def execute(self, func, *args, **kwargs):
            return "wrapped " + func(*args, **kwargs)

    assert proxy(breaker=Foreign()).call(name_of) == "wrapped a"


def test_a_policy_that_overrides_its_delay_or_its_execute_is_asked():
    clock = ManualClock()

    class Steady(RetryPolicy):
        def get_delay(self, attempt):
            return 7.0 + attempt

    assert proxy(policy=Steady(), clock=clock).call(fails_at("a", "b")) == "c"
    assert clock.sleeps == [7.0, 8.0]

    class Twice(RetryPolicy):
        def execute(self, func, /, *args, **kwargs):
            try:
                return func(*args, **kwargs)
            except ConnectionError:
                return func(*args, **kwargs)

    assert proxy(policy=Twice()).call(fails_at("a")) == "b"
    with pytest.raises(ConnectionError):
        proxy(policy=Twice()).call(down)


# ----------------------------------------------------------------------------------------------------------- Async


def test_options_hold_for_the_attempts_of_a_policy_that_overrides_execute():
    class Twice(RetryPolicy):
        def execute(self, func, /, *args, **kwargs):
            return [func(*args, **kwargs) for _ in range(2)]

    balancer = LoadBalancer("consistent_hash", instances())
    payments = proxy(balancer=balancer, policy=Twice())
    options = payments.with_options(key="customer-42", explain=True)
    instance = balancer.get_instance("customer-42").id
    assert options.call(name_of) == [instance, instance]
    assert [attempt.instance for attempt in options.story.attempts] == [instance]


async def name_async(instance):
    await asyncio.sleep(0)
    return instance.id


def fails_async(*names):
    async def call(instance):
        await asyncio.sleep(0)
        return fails_at(*names)(instance)

    return call


def test_an_awaited_call_is_protected_like_a_sync_one():
    payments = proxy(failures=3)

    async def main():
        assert await payments.call(name_async) == "a"
        assert await payments.call_async(name_async) == "b"
        assert await payments.call_async(name_of) == "c"
        for call in (payments.call, payments.call_async):
            assert {await call(fails_async("a")) for _ in range(9)} == {"b", "c"}
        assert payments.instance_circuit_breaker("a").state is CircuitState.OPEN
        with pytest.raises(ConnectionError) as raised:
            await payments.call_async(fails_async("a", "b", "c"))
        assert raised.value.__notes__[-1].startswith("the call of payments ended after ")

    asyncio.run(main())


def test_a_coroutine_function_is_refused_when_it_is_awaited():
    payments = proxy()
    payments.circuit_breaker.force_open()
    for call in (payments.call(name_async), payments.call_async(name_async)):
        with pytest.raises(CircuitOpenError):
            asyncio.run(call)


def test_a_call_that_is_never_awaited_gives_everything_back():
    payments = proxy("a")
    call = payments.call(name_async)
    assert next(iter(payments.load_balancer)).in_flight == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it was never awaited
        del call
        gc.collect()
    assert next(iter(payments.load_balancer)).in_flight == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda: proxy().call(name_async),
        lambda: proxy().call_async(name_async),
        lambda: proxy("").call(name_async),
        lambda: proxy().with_options(timeout=1).call_async(name_async),
        lambda: forced_open().execute(name_async),
    ],
)
def test_what_is_never_awaited_is_warned_of_by_the_name_of_the_users_function(call):
    with pytest.warns(RuntimeWarning, match="coroutine 'name_async' was never awaited"):
        call()


def forced_open():
    breaker = CircuitBreaker("payments")
    breaker.force_open()
    return breaker


def test_an_attempt_that_takes_too_long_is_stopped_and_the_next_instance_asked():
    clock = ManualClock()
    payments = proxy(clock=clock, attempt_timeout=1, policy=RetryPolicy(max_retries=1, initial_delay=0, jitter=False))

    async def hangs(instance, *names):
        if instance.id in names:
            await asyncio.sleep(1000)
        return instance.id

    async def main():
        assert await payments.call(hangs, "a") == "b"
        assert payments.instance_circuit_breaker("a").failure_count == 1
        with pytest.raises(AttemptTimedOutError, match="An attempt at payments timed out") as raised:
            await payments.call_async(hangs, "a", "b", "c")
        assert raised.value.__notes__ == ["the call of payments ended after 2 attempts"]
        assert clock.now() == pytest.approx(3, abs=0.01)

        async def own_timeout(instance):
            raise TimeoutError("mine")

        with pytest.raises(TimeoutError, match="mine"):
            await payments.call(own_timeout)

    clock.run(main())


def test_the_deadline_stops_a_running_attempt():
    clock = ManualClock()
    payments = proxy(clock=clock, timeout=2)

    async def hangs(instance):
        await asyncio.sleep(1000)

    async def main():
        with pytest.raises(DeadlineExceededError):
            await payments.call(hangs)
        with pytest.raises(DeadlineExceededError):
            await payments.with_options(timeout=1).call_async(hangs)
        assert clock.now() == pytest.approx(3, abs=0.01)
        assert sum(one.in_flight for one in payments.load_balancer) == 0

    clock.run(main())


def test_a_cancelled_call_is_neutral_and_gives_everything_back():
    payments = proxy("a", failures=1)

    async def hangs(instance):
        await asyncio.sleep(1000)

    async def main():
        for begin in (payments.call, payments.call_async):
            task = asyncio.ensure_future(begin(hangs))
            await asyncio.sleep(0)
            assert next(iter(payments.load_balancer)).in_flight == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert next(iter(payments.load_balancer)).in_flight == 0
        assert payments.circuit_breaker.state is CircuitState.CLOSED
        assert payments.instance_circuit_breaker("a").state is CircuitState.CLOSED

    asyncio.run(main())


def test_a_task_that_is_cancelled_before_it_begins_warns_of_nothing():
    payments = proxy("a", failures=1)

    async def main():
        task = asyncio.ensure_future(payments.call(name_async))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    gc.collect()
    assert next(iter(payments.load_balancer)).in_flight == 0
    assert payments.instance_circuit_breaker("a").state is CircuitState.CLOSED


def test_waits_between_attempts_are_awaited():
    clock = ManualClock()
    payments = proxy("ab", clock=clock, policy=RetryPolicy(initial_delay=3, jitter=False))

    async def main():
        beside = asyncio.ensure_future(asyncio.sleep(1, "beside"))
        assert await payments.call(fails_async("a")) == "b"
        assert beside.result() == "beside"

    clock.run(main())
    assert clock.sleeps == [3.0]


def test_under_trio_it_waits_and_stops_by_trio():
    trio = pytest.importorskip("trio")
    payments = proxy("ab", attempt_timeout=0.01, policy=RetryPolicy(max_retries=1, initial_delay=0.001))

    async def call(instance):
        if instance.id == "a":
            await trio.sleep(1000)
        return instance.id

    assert trio.run(payments.call_async, call) == "b"
    assert payments.instance_circuit_breaker("a").failure_count == 1


def test_own_parts_are_asked_by_awaited_calls_too():
    async def main():
        assert await proxy(balancer=OwnWay(instances=instances())).call(fails_async("a")) == "b"
        assert await proxy(balancer=Discovery("ab")).call_async(fails_async("a")) == "b"

        class Twice(RetryPolicy):
            async def execute(self, func, /, *args, **kwargs):
                try:
                    return await func(*args, **kwargs)
                except ConnectionError:
                    return await func(*args, **kwargs)

        assert await proxy(policy=Twice()).call_async(fails_async("a")) == "b"

    asyncio.run(main())


# ------------------------------------------------------------------------------------------------------ Life and death


def test_a_subclass_may_take_other_arguments():
    class Payments(ServiceProxy):
        def __init__(self, names):
            super().__init__("payments", LoadBalancer(instances=instances(names)))

        def call(self, func, /, *args, **kwargs):
            return "by " + super().call(func, *args, **kwargs)

    payments = Payments("a")
    payments.extra = 5
    assert payments.call(name_of) == "by a" and payments.extra == 5
    with pytest.raises(RuntimeError, match="ServiceProxy.__init__ was not called"):
        ServiceProxy.__new__(ServiceProxy).call(name_of)


def test_cycles_through_a_proxy_are_collected():
    payments = proxy(listeners=[lambda event: payments])
    payments.load_balancer["a"].metadata["proxy"] = payments
    payments.call(name_of)
    gone = weakref.ref(payments)
    del payments
    gc.collect()
    assert gone() is None


def test_threads_share_a_proxy():
    payments = proxy("abcd", failures=10**6, budget=None)
    answers = []

    def calls():
        for _ in range(500):
            answers.append(payments.call(fails_at("a")))

    threads = [threading.Thread(target=calls) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 2000 and set(answers) == {"b", "c", "d"}
    assert [one.in_flight for one in payments.load_balancer] == [0, 0, 0, 0]
