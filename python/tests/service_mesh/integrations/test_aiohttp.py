from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from codomyrmex.service_mesh import RetryPolicy, ServiceProxy
from codomyrmex.service_mesh.integrations.aiohttp import MeshMiddleware, delivery

from .backend import Backend, Reply
from .exchanges import Exchanges, Fetch, Received, hanging
from .test_httpx import when_it_waits


class TestAiohttp(Exchanges):
    @pytest.fixture
    def unreachable(self) -> type[Exception]:
        return aiohttp.ClientConnectorError

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

            async def ask() -> Received:
                data: Any = chunks() if stream else body
                headers = {"Content-Length": str(len(body))} if stream else {}
                async with aiohttp.ClientSession(middlewares=[MeshMiddleware(proxy, **options)]) as session:
                    url = f"http://payments.internal{path}"
                    async with session.request(method, url, data=data, headers=headers) as response:
                        asked = await response.json(content_type=None)
                        return Received(response.status, asked, delivery(response), str(response.url))

            async def main() -> Received:
                result: Received = await when_it_waits(ask(), clock)
                return result

            return asyncio.run(main())

        return fetch

    def test_a_redirect_is_another_call(self, payments: ServiceProxy, servers: list[Backend]) -> None:
        servers[0].then(Reply(302, {"Location": "/there"}))

        async def main() -> Any:
            session = aiohttp.ClientSession(middlewares=[MeshMiddleware(payments)])
            async with session, session.get("http://payments.internal/here") as response:
                return await response.json(content_type=None)

        asked = asyncio.run(main())
        assert (asked["by"], asked["path"]) == ("b", "/there")

    def test_an_attempt_that_hangs_is_stopped_and_made_elsewhere(self, servers: list[Backend]) -> None:
        hung = hanging()
        servers[0].then(hung)
        payments = ServiceProxy("payments", retry_policy=RetryPolicy(initial_delay=0), attempt_timeout=0.2)
        for server in servers:
            payments.load_balancer.register(server.instance)

        async def main() -> Any:
            session = aiohttp.ClientSession(middlewares=[MeshMiddleware(payments)])
            async with session, session.get("http://payments.internal/") as response:
                return await response.json(content_type=None)

        try:
            asked = asyncio.run(main())
        finally:
            assert hung.hang is not None
            hung.hang.set()
        assert asked["by"] == "b"
        assert payments.instance_circuit_breaker("a").failure_count == 1
