"""An HTTP server that can be made to fail, hang, die, and come back."""

from __future__ import annotations

import asyncio
from enum import Enum
from socket import AF_INET, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, socket

from ..models import ServiceInstance

__all__ = ["Condition", "Server"]


class Condition(Enum):
    """How a server is."""

    WELL = "well"
    """It answers 200 and its name."""
    FAILING = "failing"
    """It answers 503."""
    HANGING = "hanging"
    """It accepts connections and requests, and never answers."""


class Server:
    """An HTTP server on a free port of this machine. `start` makes one that is well."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.condition = Condition.WELL
        """Every request is met in this way."""
        self._port = _bound(0)
        self._number: int = self._port.getsockname()[1]
        self._serving: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @classmethod
    async def start(cls, name: str) -> Server:
        """A server that is well."""
        server = cls(name)
        await server.come_back()
        return server

    @property
    def instance(self) -> ServiceInstance:
        """What a load balancer must know of it."""
        return ServiceInstance(id=self.name, host="127.0.0.1", port=self._number)

    def die(self) -> None:
        """Closes the listener and all connections.

        The port stays bound, without a listener: whoever connects is refused, as by a dead process, and nobody else can
        take the port before the server comes back.
        """
        self.stop()
        self._port = _bound(self._number)

    async def come_back(self) -> None:
        """Listens again, on the same port."""
        self._serving = await asyncio.start_server(self._accept, sock=self._port)

    def stop(self) -> None:
        """Gives the port back as well."""
        if self._serving is not None:
            self._serving.close()
            self._serving = None
        self._port.close()
        for writer in self._connections.values():
            writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own: asyncio before 3.12 reports its own as a mistake when Ctrl-C cancels it.
        serving = asyncio.create_task(self._serve(reader, writer))
        self._connections[serving] = writer
        serving.add_done_callback(self._connections.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            if self.condition is Condition.HANGING:
                await reader.read()  # until the client hangs up
            else:
                status = "200 OK" if self.condition is Condition.WELL else "503 Service Unavailable"
                head = f"HTTP/1.1 {status}\r\nContent-Length: {len(self.name)}\r\nConnection: close\r\n\r\n"
                writer.write(f"{head}{self.name}".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass  # a client that hung up, which is its right, or a server that has died
        finally:
            writer.close()


def _bound(port: int) -> socket:
    """Binds a port. Connections of a server that died on it linger in the kernel, and must not keep it."""
    bound = socket(AF_INET, SOCK_STREAM)
    bound.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound
