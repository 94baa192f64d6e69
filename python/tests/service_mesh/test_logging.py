"""What the logger `codomyrmex.service_mesh` is told without being asked."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from codomyrmex.service_mesh import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    Mesh,
    RetryPolicy,
    ServiceInstance,
    ServiceProxy,
)
from codomyrmex.service_mesh.testing import ManualClock

LOGGER = "codomyrmex.service_mesh"

pytestmark = pytest.mark.thread_unsafe(reason="caplog is one for all threads")


def fail(*_: object) -> None:
    raise ConnectionError("refused")


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records if record.name == LOGGER]


def test_every_change_of_a_circuits_state_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    clock = ManualClock()
    config = CircuitBreakerConfig(failure_threshold=2, success_threshold=1, timeout_seconds=10)
    breaker = CircuitBreaker("payments", config, clock=clock)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            breaker.execute(fail)
    clock.advance(10)
    breaker.execute(dict)
    assert [level for level, _ in told(caplog)] == ["WARNING", "INFO", "INFO"]
    assert all(message.startswith("payments: ") for _, message in told(caplog))
    event = caplog.records[0].service_mesh  # type: ignore[attr-defined]
    assert (event.kind, event.reason, event.details["failures"]) == ("transition", "consecutive_failures", 2)


def test_refusals_are_logged_once_a_second_with_their_number(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    clock = ManualClock()
    breaker = CircuitBreaker("payments", clock=clock)
    breaker.force_open()
    caplog.clear()

    def refuse(times: int) -> None:
        for _ in range(times):
            with pytest.raises(CircuitOpenError):
                breaker.execute(dict)

    refuse(5)
    assert told(caplog) == [("INFO", "payments: refused a call (forced)")]
    clock.advance(1)
    refuse(3)
    assert told(caplog)[1:] == [("INFO", "payments: refused a call (forced); 5 since the last record")]


def test_retries_are_logged_for_those_who_want_details(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, LOGGER)
    with pytest.raises(ConnectionError):
        RetryPolicy(max_retries=1, initial_delay=0.5, jitter=False, clock=ManualClock()).execute(fail)
    assert told(caplog) == [("DEBUG", "retry in 500ms after 1 attempts")]
    caplog.set_level(logging.INFO, LOGGER)
    caplog.clear()
    with pytest.raises(ConnectionError):
        RetryPolicy(max_retries=1, initial_delay=0).execute(fail)
    assert told(caplog) == []


def test_a_service_logs_its_retries_and_the_circuits_of_its_instances_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, LOGGER)
    breaker = CircuitBreaker("payments", CircuitBreakerConfig(failure_threshold=1))
    policy = RetryPolicy(max_retries=1, initial_delay=0.5, jitter=False)
    payments = ServiceProxy("payments", None, breaker, policy, clock=ManualClock())
    for name in "ab":
        payments.load_balancer.register(ServiceInstance(id=name, host="10.0.0.1", port=80))
    with pytest.raises(ConnectionError):
        payments.call(fail)
    names = sorted((level, message.split(":")[0]) for level, message in told(caplog))
    assert names == [
        ("DEBUG", "payments"),
        ("WARNING", "payments"),
        ("WARNING", "payments/a"),
        ("WARNING", "payments/b"),
    ]


def test_a_service_of_a_policy_file_logs_its_own_circuit_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, LOGGER)
    mesh = Mesh.from_str(
        """
        [services.mail]
        instances = [{ id = "a", host = "10.0.0.1", port = 25 }]
        circuit_breaker = { failure_threshold = 1 }
        retry = { max_retries = 0 }
        """
    )
    with pytest.raises(ConnectionError):
        mesh["mail"].call(fail)
    assert sorted(message.split(":")[0] for _, message in told(caplog)) == ["mail", "mail/a"]


def test_a_program_without_logging_set_up_finds_nothing_on_its_standard_error() -> None:
    program = """
import logging
from codomyrmex.service_mesh import CircuitBreaker
CircuitBreaker("payments").force_open()
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stderr == ""
