"""A call: who gets it, what comes back, and what is told of it."""

import asyncio
import inspect
import threading
import time

import pytest

from codomyrmex.service_mesh.circuit_breaker import CircuitBreaker
from codomyrmex.service_mesh.load_balancer import LoadBalancer
from codomyrmex.service_mesh.models import (
    CircuitBreakerConfig,
    CircuitOpenError,
    CircuitState,
    DeadlineExceededError,
    NoHealthyInstanceError,
    ServiceInstance,
)
from codomyrmex.service_mesh.retry import RetryBudget, RetryPolicy
from codomyrmex.service_mesh.testing import ManualClock, set_testing

from .payments import down, fails_at, instances, name_of, proxy


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
    clock = ManualClock()
    breaker = CircuitBreaker("payments", CircuitBreakerConfig(failure_threshold=2), clock=clock)
    payments = proxy("a", breaker=breaker, retries=9, clock=clock)
    with pytest.raises(CircuitOpenError) as raised:
        payments.call(down)
    assert str(raised.value) == "Circuit payments is open"
    assert raised.value.name == "payments" and raised.value.retry_after == 30
    assert isinstance(raised.value.__cause__, ConnectionError) and raised.value.last_failure is raised.value.__cause__
    assert raised.value.__notes__ == ["the call of payments ended after 2 attempts"]
    with pytest.raises(CircuitOpenError) as raised:
        payments.call(name_of)
    assert raised.value.__cause__ is None


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


def test_a_result_may_be_a_failure_and_the_last_one_comes_back():
    policy = RetryPolicy(max_retries=3, initial_delay=0)
    policy.failed_result = lambda result: result >= 500
    payments = proxy("ab", policy=policy)
    assert payments.call(lambda instance: 503 if instance.id == "a" else 200) == 200
    assert payments.instance_circuit_breaker("a").failure_count == 1
    assert proxy("a", policy=policy).call(lambda instance: 500) == 500


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
    waits, ended = threading.Event(), threading.Event()

    class Waits(ManualClock):
        def sleep(self, seconds):
            waits.set()
            assert ended.wait(60)

    payments = proxy("ab", clock=Waits(), policy=RetryPolicy(max_retries=1, initial_delay=5, jitter=False))
    came = []
    thread = threading.Thread(target=lambda: came.append(payments.call(fails_at("a"))))
    thread.start()
    assert waits.wait(60)
    assert [payments.call(name_of) for _ in range(2)] == ["b", "a"] and came == []
    ended.set()
    thread.join()
    assert came == ["b"]


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
