"""`with_options(classify=...)`: one that says of each attempt of a call what it means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from codomyrmex.service_mesh import Answer, CircuitOpenError, RetryPolicy, ServiceInstance, ServiceProxy
from codomyrmex.service_mesh.testing import ManualClock

Call = Callable[..., Any]


@pytest.fixture
def payments() -> ServiceProxy:
    policy = RetryPolicy(max_retries=2, initial_delay=0, jitter=False)
    proxy = ServiceProxy("payments", retry_policy=policy, clock=ManualClock())
    proxy.load_balancer.register(ServiceInstance(id="a", host="10.0.0.1", port=80))
    return proxy


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    def call(payments: ServiceProxy, function: Callable[[], Any], classify: Any) -> Any:
        options = payments.with_options(classify=classify)
        if request.param == "sync":
            return options.call(lambda instance: function())

        async def awaited(instance: ServiceInstance) -> Any:
            return function()

        return ManualClock().run(options.call_async(awaited))

    return call


def failures(payments: ServiceProxy) -> int:
    circuit = payments.instance_circuit_breaker("a")
    assert circuit is not None
    return circuit.failure_count


def test_a_result_may_be_a_failure_and_comes_back_when_it_is_the_last(payments: ServiceProxy, call: Call) -> None:
    said: list[tuple[Any, BaseException | None]] = []

    def classify(result: Any, error: BaseException | None) -> Answer:
        said.append((result, error))
        return Answer("failure")

    assert call(payments, lambda: "bad", classify) == "bad"
    assert said == [("bad", None)] * 3
    assert failures(payments) == 3


def test_an_error_may_be_a_success_and_final(payments: ServiceProxy, call: Call) -> None:
    def fail() -> None:
        raise KeyError("nobody of this name")

    with pytest.raises(KeyError):
        call(payments, fail, lambda result, error: Answer("success"))
    assert failures(payments) == 0


def test_neutral_may_be_tried_again(payments: ServiceProxy, call: Call) -> None:
    results = iter(["busy", "paid"])
    judge = lambda result, error: Answer("neutral", retryable=True) if result == "busy" else None  # noqa: E731
    assert call(payments, lambda: next(results), judge) == "paid"
    assert failures(payments) == 0


def test_who_says_nothing_leaves_it_to_the_predicates(payments: ServiceProxy, call: Call) -> None:
    payments.circuit_breaker.config.failed_result = lambda result: result is None
    assert call(payments, lambda: None, lambda result, error: None) is None
    assert failures(payments) == 3


def test_refusals_and_interrupts_are_not_asked_about(payments: ServiceProxy, call: Call) -> None:
    def classify(result: Any, error: BaseException | None) -> Answer:
        raise AssertionError("it was asked")

    for error in (CircuitOpenError("another is open"), KeyboardInterrupt()):

        def fail(error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)):
            call(payments, fail, classify)


@pytest.mark.parametrize(
    ("answer", "mistake", "message"),
    [
        ("failure", TypeError, "classify must give an Answer or None, not str"),
        (Answer("broken"), ValueError, 'outcome must be "success", "failure" or "neutral", not "broken"'),  # type: ignore[arg-type]
        (Answer("failure", retry_after=-1), ValueError, "retry_after"),
    ],
)
def test_a_wrong_answer_is_told_and_counts_nothing(
    payments: ServiceProxy, call: Call, answer: Any, mistake: type[Exception], message: str
) -> None:
    with pytest.raises(mistake, match=message):
        call(payments, lambda: "paid", lambda result, error: answer)
    assert failures(payments) == 0


def test_what_cannot_be_called_is_refused(payments: ServiceProxy) -> None:
    with pytest.raises(TypeError, match="classify must be callable, not int"):
        payments.with_options(classify=7)  # type: ignore[arg-type]
