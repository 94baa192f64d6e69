"""What every HTTP client must do through a proxy, whichever library it is of."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from codomyrmex.service_mesh import Answer, CircuitOpenError, CircuitState, RetryPolicy, ServiceProxy
from codomyrmex.service_mesh.integrations.exchange import Delivery
from codomyrmex.service_mesh.testing import ManualClock

from .backend import Backend, Reply, nobody


@dataclass(frozen=True)
class Received:
    status: int
    asked: Any
    delivery: Delivery | None
    url: str


@dataclass(frozen=True)
class Asked:
    """What the caller asks the service for."""

    method: str
    path: str
    body: Any
    once: bool
    """Whether the body can be read only once."""

    @property
    def url(self) -> str:
        return f"http://payments.internal{self.path}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Content-Length": str(len(self.body))} if self.once else {}

    @property
    def content(self) -> Any:
        return iter([self.body]) if self.once else self.body

    @property
    def async_content(self) -> Any:
        async def chunks() -> AsyncIterator[bytes]:
            yield self.body

        return chunks() if self.once else self.body


Fetch = Callable[..., Received]


class Exchanges:
    """The tests; a class of each library says how it sends."""

    unreachable: type[Exception]
    """What the library raises if nobody listens."""

    def send(self, proxy: ServiceProxy, asked: Asked, clock: Any, **options: Any) -> Received:
        """Asks by the library; a clock that is waited for is moved by whoever waits for it."""
        raise NotImplementedError

    @pytest.fixture
    def fetch(self) -> Fetch:
        def fetch(
            proxy: ServiceProxy,
            method: str = "GET",
            path: str = "/",
            body: Any = None,
            *,
            once: bool = False,
            clock: Any = None,
            **options: Any,
        ) -> Received:
            return self.send(proxy, Asked(method, path, body, once), clock, **options)

        return fetch

    def test_the_instance_takes_the_place_of_the_host_and_the_header_stays(
        self, fetch: Fetch, payments: ServiceProxy
    ) -> None:
        received = fetch(payments, path="/charges?of=7")
        assert received.asked == {
            "by": "a",
            "method": "GET",
            "path": "/charges?of=7",
            "host": "payments.internal",
            "body": "",
        }
        assert received.url == "http://payments.internal/charges?of=7"
        assert fetch(payments).asked["by"] == "b"

    def test_the_response_tells_its_instance_and_attempts(
        self, fetch: Fetch, payments: ServiceProxy, servers: list[Backend]
    ) -> None:
        servers[0].then(Reply(500))
        servers[1].then(Reply(503))
        delivery = fetch(payments).delivery
        assert delivery is not None
        assert (delivery.service, delivery.instance.id, delivery.attempts) == ("payments", "c", 3)

    def test_a_server_error_is_a_failure_of_its_instance_alone(
        self, fetch: Fetch, payments: ServiceProxy, servers: list[Backend]
    ) -> None:
        servers[0].then(Reply(502))
        assert fetch(payments).status == 200
        assert payments.instance_circuit_breaker("a").failure_count == 1
        assert payments.circuit_breaker.failure_count == 0

    def test_what_is_not_found_is_a_success(self, fetch: Fetch, payments: ServiceProxy, servers: list[Backend]) -> None:
        servers[0].then(Reply(404))
        received = fetch(payments)
        assert (received.status, received.delivery and received.delivery.attempts) == (404, 1)
        assert payments.instance_circuit_breaker("a").failure_count == 0

    def test_too_many_requests_is_neutral_and_tried_elsewhere(
        self, fetch: Fetch, payments: ServiceProxy, servers: list[Backend]
    ) -> None:
        servers[0].then(Reply(429))
        assert fetch(payments).asked["by"] == "b"
        assert payments.instance_circuit_breaker("a").failure_count == 0

    def test_a_retry_is_not_earlier_than_retry_after(self, fetch: Fetch, servers: list[Backend]) -> None:
        clock = ManualClock()
        payments = ServiceProxy("payments", clock=clock)
        payments.load_balancer.register(servers[0].instance)
        servers[0].then(Reply(503, {"Retry-After": "7"}))
        assert fetch(payments, clock=clock).status == 200
        (waited,) = clock.sleeps
        assert 7 <= waited <= 7.7

    def test_the_last_response_comes_back_when_attempts_are_used_up(
        self, fetch: Fetch, payments: ServiceProxy, servers: list[Backend]
    ) -> None:
        payments.retry_policy.max_retries = 1
        servers[0].then(Reply(500))
        servers[1].then(Reply(503))
        received = fetch(payments)
        assert (received.status, received.delivery and received.delivery.attempts) == (503, 2)

    def test_a_post_that_may_have_arrived_is_sent_once(
        self, fetch: Fetch, payments: ServiceProxy, servers: list[Backend]
    ) -> None:
        servers[0].then(Reply(500))
        assert fetch(payments, "POST", body=b"once").status == 500
        assert [len(server.requests) for server in servers] == [1, 0, 0]
        assert payments.instance_circuit_breaker("a").failure_count == 1

    def test_a_post_that_cannot_have_arrived_is_sent_elsewhere(self, fetch: Fetch, servers: list[Backend]) -> None:
        payments = ServiceProxy("payments")
        payments.retry_policy.initial_delay = 0
        payments.load_balancer.register(nobody())
        payments.load_balancer.register(servers[0].instance)
        received = fetch(payments, "POST", body=b"paid")
        assert received.asked["body"] == "paid"
        assert received.delivery is not None and received.delivery.attempts == 2

    def test_a_body_in_memory_is_sent_again(self, fetch: Fetch, payments: ServiceProxy, servers: list[Backend]) -> None:
        servers[0].then(Reply(500))
        received = fetch(payments, "PUT", body=b"whole")
        assert (received.asked["by"], received.asked["body"]) == ("b", "whole")

    def test_a_body_that_is_read_once_is_sent_once(
        self, fetch: Fetch, payments: ServiceProxy, servers: list[Backend]
    ) -> None:
        servers[0].then(Reply(500))
        received = fetch(payments, "PUT", body=b"stream", once=True)
        assert received.status == 500
        assert [len(server.requests) for server in servers] == [1, 0, 0]

    def test_a_connection_that_is_cut_is_a_failure(
        self, fetch: Fetch, payments: ServiceProxy, servers: list[Backend]
    ) -> None:
        servers[0].then(Reply(cut=True))
        assert fetch(payments).asked["by"] == "b"
        assert payments.instance_circuit_breaker("a").failure_count == 1

    def test_the_clients_own_error_comes_back(self, fetch: Fetch) -> None:
        payments = ServiceProxy("payments")
        payments.retry_policy.max_retries = 0
        payments.load_balancer.register(nobody())
        with pytest.raises(self.unreachable):
            fetch(payments)

    def test_a_refusal_is_the_proxys(self, fetch: Fetch, payments: ServiceProxy) -> None:
        payments.circuit_breaker.force_open()
        with pytest.raises(CircuitOpenError, match="Circuit payments is open"):
            fetch(payments)

    def test_a_classifier_of_ones_own_is_asked_first(
        self, fetch: Fetch, payments: ServiceProxy, servers: list[Backend]
    ) -> None:
        servers[0].then(Reply(404))

        def classify(response: Any, error: BaseException | None) -> Answer | None:
            status = getattr(response, "status_code", getattr(response, "status", None))
            return Answer("failure") if status == 404 else None

        assert fetch(payments, classify=classify).asked["by"] == "b"
        assert payments.instance_circuit_breaker("a").failure_count == 1

    def test_methods_to_repeat_may_be_named(self, fetch: Fetch, payments: ServiceProxy, servers: list[Backend]) -> None:
        servers[0].then(Reply(500))
        assert fetch(payments, "POST", body=b"twice", retry_methods={"POST"}).asked["by"] == "b"

    def test_a_key_keeps_a_request_at_one_instance(self, fetch: Fetch, payments: ServiceProxy) -> None:
        payments.load_balancer.strategy = "consistent_hash"
        asked = {fetch(payments, key=lambda request: "customer-42").asked["by"] for _ in range(6)}
        assert len(asked) == 1

    def test_connections_are_given_back(self, fetch: Fetch, payments: ServiceProxy, servers: list[Backend]) -> None:
        servers[0].then(Reply(500))
        fetch(payments)
        assert [instance.in_flight for instance in payments.load_balancer] == [0, 0, 0]


class AwaitedExchanges(Exchanges):
    """Those of a library whose attempts can be stopped."""

    def test_an_attempt_that_hangs_is_stopped_and_made_elsewhere(self, fetch: Fetch, servers: list[Backend]) -> None:
        hang = threading.Event()
        servers[0].then(Reply(hang=hang))
        payments = ServiceProxy("payments", retry_policy=RetryPolicy(initial_delay=0), attempt_timeout=0.2)
        for server in servers:
            payments.load_balancer.register(server.instance)
        try:
            received = fetch(payments)
        finally:
            hang.set()
        # On a busy machine b may be too slow as well.
        assert received.asked["by"] in ("b", "c")
        assert payments.instance_circuit_breaker("a").failure_count == 1
        assert payments.circuit_breaker.state is CircuitState.CLOSED


async def when_it_waits(asked: Awaitable[Received], clock: Any) -> Received:
    """What was asked for; a clock that it waits for is moved."""
    task = asyncio.ensure_future(asked)
    while clock is not None and not task.done():
        clock.advance_to_next_timer()
        await asyncio.sleep(0)
    return await task
