"""httpx as the client, uvicorn as the service."""

import asyncio

import httpx


def test_failover_is_not_noticed(start):
    one, other = start.uvicorn("one"), start.uvicorn("other")
    sidecar = start.sidecar(start.service([one.port, other.port]))
    with httpx.Client(base_url=sidecar.url) as client:
        assert {client.get("/").json()["name"] for _ in range(4)} == {"one", "other"}
        one.kill()
        assert [client.get("/").json()["name"] for _ in range(20)] == ["other"] * 20
        # A PUT is sent again, body and all; a POST is, since it was never sent: nobody listens there.
        assert all(
            client.request(method, "/", content=b"x" * 1000).json()["bytes"] == 1000 for method in ("PUT", "POST")
        )


def test_an_answer_streams_while_the_request_does(start):
    one = start.uvicorn()
    sidecar = start.sidecar(start.service([one.port]))

    async def exchange():
        first_is_back = asyncio.Event()

        async def pieces():
            yield b"one "
            # It would hang here for ever if either body were gathered first.
            await asyncio.wait_for(first_is_back.wait(), 30)
            yield b"two"

        async with httpx.AsyncClient(base_url=sidecar.url) as client:
            # httpx sends all of a body before it reads: so the answer is read by a connection of our own.
            reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
            writer.write(b"POST /stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            answer = b""
            async for piece in pieces():
                writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                while piece.upper() not in answer:
                    answer += await asyncio.wait_for(reader.read(65536), 30)
                first_is_back.set()
            writer.write(b"0\r\n\r\n")
            while not answer.endswith(b"0\r\n\r\n"):
                answer += await asyncio.wait_for(reader.read(65536), 30)
            writer.close()
            assert (await client.post("/stream", content=b"plain")).text == "PLAIN"

    asyncio.run(exchange())


def test_many_at_once(start):
    instances = [start.uvicorn(name) for name in ("one", "two", "three")]
    sidecar = start.sidecar(start.service([one.port for one in instances]))

    async def ask():
        async with httpx.AsyncClient(base_url=sidecar.url, timeout=60) as client:
            answers = await asyncio.gather(*(client.get(f"/{number}") for number in range(300)))
        assert [answer.json()["path"] for answer in answers] == [f"/{number}" for number in range(300)]
        assert {answer.json()["name"] for answer in answers} == {"one", "two", "three"}

    asyncio.run(ask())
    assert sidecar.sum("service_mesh_calls_total", 'outcome="success"') == 300


def test_a_status_is_tried_elsewhere_and_the_last_one_is_told(start):
    one, other = start.uvicorn("one"), start.uvicorn("other")
    sidecar = start.sidecar(start.service([one.port, other.port], "retry.max_retries = 1"))
    answer = httpx.get(f"{sidecar.url}/status/503")
    assert (answer.status_code, answer.json()["path"]) == (503, "/status/503")
    assert "x-service-mesh-refused" not in answer.headers
    assert sidecar.sum("service_mesh_attempts_total", 'outcome="failure"') == 2
    assert httpx.get(f"{sidecar.url}/status/404").status_code == 404


def test_a_deadline_ends_a_slow_answer(start):
    one = start.uvicorn()
    sidecar = start.sidecar(start.service([one.port], "timeouts.call_seconds = 30"))
    answer = httpx.get(f"{sidecar.url}/slow?20", headers={"x-service-mesh-timeout-ms": "200"})
    assert (answer.status_code, answer.headers["x-service-mesh-refused"]) == (504, "deadline_exceeded")


def test_restarts_of_uvicorn_one_by_one_are_not_noticed(start):
    """uvicorn ends in order at SIGTERM: it closes connections that lie in the pool, and finishes the rest."""
    instances = [start.uvicorn(name) for name in ("one", "two", "three")]
    ports = [one.port for one in instances]
    quick = "[services.api.circuit_breaker]\ntimeout_seconds = 0.1"
    sidecar = start.sidecar(start.service(ports, quick))

    async def roll():
        stop, answered = asyncio.Event(), 0

        async def load():
            nonlocal answered
            async with httpx.AsyncClient(base_url=sidecar.url, timeout=60) as client:
                while not stop.is_set():
                    answer = await client.get("/")
                    assert answer.status_code == 200, answer.text
                    answered += 1

        clients = [asyncio.create_task(load()) for _ in range(3)]
        for number, port in enumerate(ports):
            instances[number].process.terminate()
            await asyncio.to_thread(instances[number].ended)
            instances[number] = await asyncio.to_thread(start.uvicorn, f"new {number}", port)
        stop.set()
        await asyncio.gather(*clients)
        return answered

    answered = asyncio.run(roll())
    assert sidecar.sum("service_mesh_calls_total", 'outcome="success"') == answered > 0
    assert sidecar.sum("service_mesh_calls_total") == answered
