"""What runs in uvicorn: a service that echoes, streams, fails and talks over a WebSocket, as it is asked to."""

import asyncio
import hashlib
import json
import os

NAME = os.environ["NAME"]


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await chat(scope, receive, send)
    else:
        await answer(scope, receive, send)


async def lifespan(receive, send):
    while (message := await receive())["type"] != "lifespan.shutdown":
        await send({"type": f"{message['type']}.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def answer(scope, receive, send):
    path = scope["path"]
    if path == "/stream":
        # The first piece is out before the last piece of the request is in.
        await head(send, 200)
        while (message := await receive()).get("more_body"):
            await send({"type": "http.response.body", "body": message["body"].upper(), "more_body": True})
        await send({"type": "http.response.body", "body": message["body"].upper()})
        return
    count, digest = 0, hashlib.sha256()
    while True:
        message = await receive()
        count += len(message.get("body", b""))
        digest.update(message.get("body", b""))
        if not message.get("more_body"):
            break
    if path == "/slow":
        await asyncio.sleep(float(scope["query_string"] or b"0"))
    status = int(path.removeprefix("/status/")) if path.startswith("/status/") else 200
    fields = {}
    for name, value in scope["headers"]:
        fields.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    told = {
        "name": NAME,
        "method": scope["method"],
        "path": path,
        "version": scope["http_version"],
        "bytes": count,
        "sha256": digest.hexdigest(),
        "fields": {name: ", ".join(values) for name, values in fields.items()},
    }
    await head(send, status, [(b"content-type", b"application/json")])
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})


async def head(send, status, fields=()):
    await send({"type": "http.response.start", "status": status, "headers": list(fields)})


async def chat(scope, receive, send):
    assert (await receive())["type"] == "websocket.connect"
    asked = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": asked[0] if asked else None})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "leave":
            await send({"type": "websocket.close", "code": 4001, "reason": "as you say"})
            return
        echo = {key: message[key] for key in ("text", "bytes") if message.get(key) is not None}
        await send({"type": "websocket.send", **echo})
