from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from codomyrmex.service_mesh import ServiceProxy
from codomyrmex.service_mesh.integrations.httpx import AsyncMeshTransport, MeshTransport

from .backend import Backend, Reply
from .exchanges import Asked, AwaitedExchanges, Exchanges, Received, when_it_waits

# To read those of the whole world takes longer than to send a request.
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def received(response: httpx.Response) -> Received:
    asked = response.json() if response.content else None
    return Received(response.status_code, asked, response.extensions["service_mesh"], str(response.url))


class TestSync(Exchanges):
    unreachable = httpx.ConnectError

    def send(self, proxy: ServiceProxy, asked: Asked, clock: Any, **options: Any) -> Received:
        transport = MeshTransport(proxy, httpx.HTTPTransport(verify=NO_CERTIFICATES), **options)
        with httpx.Client(transport=transport) as client:
            return received(client.request(asked.method, asked.url, content=asked.content, headers=asked.headers))

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


class TestAsync(AwaitedExchanges):
    unreachable = httpx.ConnectError

    def send(self, proxy: ServiceProxy, asked: Asked, clock: Any, **options: Any) -> Received:
        async def ask() -> Received:
            transport = AsyncMeshTransport(proxy, httpx.AsyncHTTPTransport(verify=NO_CERTIFICATES), **options)
            async with httpx.AsyncClient(transport=transport) as client:
                return received(
                    await client.request(asked.method, asked.url, content=asked.async_content, headers=asked.headers)
                )

        return asyncio.run(when_it_waits(ask(), clock))
