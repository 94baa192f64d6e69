from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from codomyrmex.service_mesh import ServiceProxy
from codomyrmex.service_mesh.integrations.aiohttp import MeshMiddleware, delivery

from .backend import Backend, Reply
from .exchanges import Asked, AwaitedExchanges, Received, when_it_waits


class TestAiohttp(AwaitedExchanges):
    unreachable = aiohttp.ClientConnectorError

    def send(self, proxy: ServiceProxy, asked: Asked, clock: Any, **options: Any) -> Received:
        async def ask() -> Received:
            async with aiohttp.ClientSession(middlewares=[MeshMiddleware(proxy, **options)]) as session:
                sent = session.request(asked.method, asked.url, data=asked.async_content, headers=asked.headers)
                async with sent as response:
                    told = await response.json(content_type=None)
                    return Received(response.status, told, delivery(response), str(response.url))

        return asyncio.run(when_it_waits(ask(), clock))

    def test_a_redirect_is_another_call(self, payments: ServiceProxy, servers: list[Backend]) -> None:
        servers[0].then(Reply(302, {"Location": "/there"}))

        async def main() -> Any:
            session = aiohttp.ClientSession(middlewares=[MeshMiddleware(payments)])
            async with session, session.get("http://payments.internal/here") as response:
                return await response.json(content_type=None)

        asked = asyncio.run(main())
        assert (asked["by"], asked["path"]) == ("b", "/there")
