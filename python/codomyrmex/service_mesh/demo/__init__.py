"""The main job, on real input: HTTP requests to three servers that fail, hang and die, and callers that do not notice.

Read `callers.py` for how a call is made, and `proxy` below for how the proxy is; the rest is scenery.
"""

from __future__ import annotations

import asyncio

from ..circuit_breaker import CircuitBreaker
from ..retry import RetryPolicy
from ..service_proxy import ServiceProxy
from . import callers, script
from .journal import Journal
from .server import Server

__all__ = ["run"]

NAMES = ("alpha", "beta", "gamma")

CALLERS = 16
"""Retries have a budget: in any 10 seconds 100, and one more for every five calls. The protection stays on, and it is
enough: a server that turns bad fails each caller about once before its circuit trips, since a caller makes one call at
a time, and the next ones pass the server by. Many more callers would need a larger floor."""

EVERY = 0.002
"""Seconds from the beginning of one call to that of the next, whoever makes it."""

INTRODUCTION = f"""\
{CALLERS} callers ask three servers through one proxy, while a script breaks the servers. A server
whose circuit trips gets no more calls until a probe finds it well again.
"""

INTERRUPTED = 130


def run() -> int:
    """Plays it; the result is the exit status."""
    journal = Journal(NAMES)
    status = 0
    try:
        with asyncio.Runner() as runner:
            runner.run(_play(journal))
    except KeyboardInterrupt:
        journal.interrupt()
        status = INTERRUPTED
    journal.finish()
    journal.say(f"{journal}")
    return status or int(journal.failed > 0)


async def _play(journal: Journal) -> None:
    servers = [await Server.start(name) for name in NAMES]
    shop = proxy(journal)
    for server in servers:
        shop.load_balancer.register(server.instance)
    journal.say(INTRODUCTION)
    stop, pace = asyncio.Event(), callers.Pace(EVERY)
    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CALLERS):
                tasks.create_task(callers.call(shop, journal, pace, stop))
            tasks.create_task(journal.show_progress(stop))
            await script.play(servers, shop, journal)
            stop.set()
    finally:
        for server in servers:
            server.stop()


def proxy(journal: Journal) -> ServiceProxy:
    """The proxy. What is not said here has its default: round robin, at most three retries, the budget."""
    return ServiceProxy(
        "shop",
        # Its configuration is for the service, and for each of its instances.
        circuit_breaker=CircuitBreaker("shop", failure_threshold=3, timeout_seconds=1),
        retry_policy=RetryPolicy(initial_delay=0.02),
        timeout=2,
        attempt_timeout=0.15,
        listeners=[journal.hear],
    )
