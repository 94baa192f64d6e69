"""Those who call: tasks that send HTTP requests through the proxy and write down what came back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..models import ServiceInstance
from ..service_proxy import ServiceProxy

if TYPE_CHECKING:
    from .journal import Journal

__all__ = ["Pace", "ServerError", "call", "get"]


class ServerError(Exception):
    """The server answered, with an error of its own."""


async def get(instance: ServiceInstance) -> str:
    """Sends one request to one instance; gives the body of the answer."""
    reader, writer = await asyncio.open_connection(instance.host, instance.port)
    try:
        writer.write(f"GET / HTTP/1.1\r\nHost: {instance.address}\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        # Not waited for: an attempt that was stopped is over at once.
        writer.transport.abort()
    if not head:
        raise ConnectionResetError("the server hung up")
    status = head.split()[1].decode()
    if not status.startswith("2"):
        raise ServerError(f"the answer was {status}")
    return body.decode()


async def call(proxy: ServiceProxy, journal: Journal, pace: Pace, stop: asyncio.Event) -> None:
    """Calls the service again and again, until told to stop."""
    # Every call tells its story, for the sums at the end. In production one would not ask for it.
    shop = proxy.with_options(explain=True)
    while not stop.is_set():
        await pace.next()
        try:
            # This is the whole use of the proxy: a function that sends one request to the one instance it is given.
            journal.answered(await shop.call_async(get))
        except Exception as error:
            # Whatever it is, a caller got no answer.
            journal.unanswered(error)
        journal.remember(shop.story)


class Pace:
    """Says when the next call begins, whoever makes it. What was missed is not made up for."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._turn = asyncio.Lock()
        self._next = 0.0

    async def next(self) -> None:
        """Waits for one's turn."""
        now = asyncio.get_running_loop().time
        async with self._turn:
            self._next = max(self._next + self._every, now())
            await asyncio.sleep(self._next - now())
