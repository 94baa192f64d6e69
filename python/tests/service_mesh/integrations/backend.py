"""HTTP servers on free ports of this machine, which answer as they are told."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SO_LINGER, SOL_SOCKET, socket
from struct import pack
from typing import Any

from codomyrmex.service_mesh import ServiceInstance


@dataclass
class Reply:
    """What the next request gets. `hang`: nothing until then; `cut`: the connection is cut before a byte."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang: threading.Event | None = None
    cut: bool = False


class Backend:
    """Answers the replies that it was given, one by one, and then 200 with what it was asked, as JSON."""

    def __init__(self, name: str, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.name = name
        self.replies: deque[Reply] = deque()
        self.requests: list[dict[str, Any]] = []
        self._server = _Server(address, _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def instance(self) -> ServiceInstance:
        host, port = self._server.server_address[:2]
        return ServiceInstance(id=self.name, host=str(host), port=port)

    def then(self, *replies: Reply) -> None:
        self.replies.extend(replies)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that we cut, or whose client has gone, is no news."""


def _handler(backend: Backend) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked = {
                "by": backend.name,
                "method": self.command,
                "path": self.path,
                "host": self.headers["Host"],
                "body": body.decode(),
            }
            backend.requests.append(asked)
            reply = backend.replies.popleft() if backend.replies else Reply()
            if reply.hang is not None:
                reply.hang.wait(30)
            if reply.cut:
                self.connection.setsockopt(SOL_SOCKET, SO_LINGER, pack("ii", 1, 0))
                self.close_connection = True
                self.connection.close()
                return
            content = b"" if self.command == "HEAD" else json.dumps(asked).encode()
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer

        def log_message(self, *args: Any) -> None: ...

    return Handler


@contextmanager
def backends(*names: str) -> Iterator[list[Backend]]:
    started = [Backend(name) for name in names]
    try:
        yield started
    finally:
        for backend in started:
            for reply in backend.replies:
                if reply.hang is not None:
                    reply.hang.set()
            backend.stop()


def nobody() -> ServiceInstance:
    """An instance on a port where nobody listens."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        return ServiceInstance(id="nobody", host="127.0.0.1", port=free.getsockname()[1])
