"""websockets as the client, and as the server; uvicorn as a server, too."""

import asyncio

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus


@pytest.fixture
def url(start):
    sidecar = start.sidecar(start.service([start.uvicorn().port]))
    return f"ws://127.0.0.1:{sidecar.port}/chat"


def test_messages_go_both_ways(url):
    async def talk():
        async with connect(url, subprotocols=["chat.v1"], max_size=None, compression=None) as socket:
            assert socket.subprotocol == "chat.v1"
            for message in ("hello", b"\x00\xff" * 10, "é" * 100_000, b"x" * 1_000_000):
                await socket.send(message)
                assert await socket.recv() == message
            await (await socket.ping())

    asyncio.run(asyncio.wait_for(talk(), 30))


def test_the_reason_of_an_end_is_told(url):
    async def talk():
        async with connect(url) as socket:
            await socket.send("leave")
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            assert (socket.close_code, socket.close_reason) == (4001, "as you say")

    asyncio.run(asyncio.wait_for(talk(), 30))


def test_many_talk_at_once(url):
    async def talk(number):
        async with connect(url) as socket:
            for count in range(20):
                await socket.send(f"{number} {count}")
                assert await socket.recv() == f"{number} {count}"

    async def all_of_them():
        await asyncio.gather(*(talk(number) for number in range(20)))

    asyncio.run(asyncio.wait_for(all_of_them(), 60))


def test_the_server_speaks_first_and_compresses(start):
    async def greet(socket):
        await socket.send("welcome " * 1000)
        async for message in socket:
            await socket.send(message[::-1])

    async def talk():
        async with serve(greet, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            sidecar = await asyncio.to_thread(start.sidecar, start.service([port]))
            async with connect(f"ws://127.0.0.1:{sidecar.port}/") as socket:
                assert await socket.recv() == "welcome " * 1000
                await socket.send("abc")
                assert await socket.recv() == "cba"

    asyncio.run(asyncio.wait_for(talk(), 60))


def test_a_server_that_is_gone_is_told_as_a_status(start):
    sidecar = start.sidecar(start.service([start.free_port()], "retry.max_retries = 0"))

    async def talk():
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://127.0.0.1:{sidecar.port}/")
        assert refused.value.response.status_code == 502
        assert refused.value.response.headers["x-service-mesh-refused"] == "connect_failed"

    asyncio.run(asyncio.wait_for(talk(), 30))
