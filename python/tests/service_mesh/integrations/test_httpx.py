from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from codomyrmex.service_mesh import CircuitState, RetryPolicy, ServiceProxy
from codomyrmex.service_mesh.integrations.httpx import AsyncMeshTransport, MeshTransport

from .backend import Backend, Reply
from .exchanges import Exchanges, Fetch, Received, hanging


def received(response: httpx.Response) -> Received:
    asked = response.json() if response.content else None
    return Received(response.status_code, asked, response.extensions["service_mesh"], str(response.url))


class TestSync(Exchanges):
    @pytest.fixture
    def unreachable(self) -> type[Exception]:
        return httpx.ConnectError

    @pytest.fixture
    def fetch(self) -> Fetch:
        def fetch(
            proxy: ServiceProxy,
            method: str = "GET",
            path: str = "/",
            body: Any = None,
            stream: bool = False,
            clock: Any = None,
            **options: Any,
        ) -> Received:
            content: Any = iter([body]) if stream else body
            with httpx.Client(transport=MeshTransport(proxy, **options)) as client:
                headers = {"Content-Length": str(len(body))} if stream else {}
                return received(
                    client.request(method, f"http://payments.internal{path}", content=content, headers=headers)
                )

        return fetch

    def test_a_redirect_is_another_call(self, payments: ServiceProxy, servers: list[Backend]) -> None:
        servers[0].then(Reply(302, {"Location": "/there"}))
        with httpx.Client(transport=MeshTransport(payments), follow_redirects=True) as client:
            response = client.get("http://payments.internal/here")
        assert (response.json()["by"], response.json()["path"]) == ("b", "/there")
        assert str(response.url) == "http://payments.internal/there"

    def test_a_mistake_of_the_callers_says_nothing_of_the_instance(self, payments: ServiceProxy) -> None:
        with httpx.Client(transport=MeshTransport(payments)) as client, pytest.raises(httpx.UnsupportedProtocol):
            client.get("gopher://payments.internal/")
        assert payments.instance_circuit_breaker("a").failure_count == 0

    def test_responses_that_are_not_the_last_are_closed(self, payments: ServiceProxy, servers: list[Backend]) -> None:
        closed: list[int] = []

        class Stream(httpx.SyncByteStream):
            def __init__(self, status: int) -> None:
                self.status = status

            def __iter__(self) -> Iterator[bytes]:
                yield b""

            def close(self) -> None:
                closed.append(self.status)

        statuses = iter([500, 503, 200])

        def answer(request: httpx.Request) -> httpx.Response:
            status = next(statuses)
            return httpx.Response(status, stream=Stream(status))

        transport = MeshTransport(payments, httpx.MockTransport(answer))
        with httpx.Client(transport=transport).stream("GET", "http://payments.internal/") as response:
            assert (response.status_code, closed) == (200, [500, 503])
        assert closed == [500, 503, 200]

    def test_https_is_checked_against_the_name_and_not_the_address(self, payments: ServiceProxy) -> None:
        names = []

        def answer(request: httpx.Request) -> httpx.Response:
            names.append((request.extensions["sni_hostname"], request.url.host, request.headers["Host"]))
            return httpx.Response(200)

        with httpx.Client(transport=MeshTransport(payments, httpx.MockTransport(answer))) as client:
            client.get("https://payments.internal/")
        assert names == [("payments.internal", "127.0.0.1", "payments.internal")]


class TestAsync(Exchanges):
    @pytest.fixture
    def unreachable(self) -> type[Exception]:
        return httpx.ConnectError

    @pytest.fixture
    def fetch(self) -> Fetch:
        def fetch(
            proxy: ServiceProxy,
            method: str = "GET",
            path: str = "/",
            body: Any = None,
            stream: bool = False,
            clock: Any = None,
            **options: Any,
        ) -> Received:
            async def chunks() -> AsyncIterator[bytes]:
                yield body

            async def main() -> Received:
                content: Any = chunks() if stream else body
                async with httpx.AsyncClient(transport=AsyncMeshTransport(proxy, **options)) as client:
                    headers = {"Content-Length": str(len(body))} if stream else {}
                    request = client.request(
                        method, f"http://payments.internal{path}", content=content, headers=headers
                    )
                    return received(await when_it_waits(request, clock))

            return asyncio.run(main())

        return fetch

    def test_an_attempt_that_hangs_is_stopped_and_made_elsewhere(self, servers: list[Backend]) -> None:
        hung = hanging()
        servers[0].then(hung)
        payments = ServiceProxy("payments", retry_policy=RetryPolicy(initial_delay=0), attempt_timeout=0.2)
        for server in servers:
            payments.load_balancer.register(server.instance)

        async def main() -> httpx.Response:
            async with httpx.AsyncClient(transport=AsyncMeshTransport(payments)) as client:
                return await client.get("http://payments.internal/")

        try:
            response = asyncio.run(main())
        finally:
            assert hung.hang is not None
            hung.hang.set()
        assert response.json()["by"] == "b"
        assert payments.instance_circuit_breaker("a").failure_count == 1
        assert payments.circuit_breaker.state is CircuitState.CLOSED


async def when_it_waits(request: Any, clock: Any) -> Any:
    """The awaited request; a clock that it waits for is moved."""
    task = asyncio.ensure_future(request)
    while clock is not None and not task.done():
        clock.advance_to_next_timer()
        await asyncio.sleep(0)
    return await task
