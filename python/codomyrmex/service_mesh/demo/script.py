"""What happens to the servers.

At every moment at least one of them is well, and its circuit closed: no caller has an excuse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..models import CircuitState
from ..service_proxy import ServiceProxy
from .server import Condition, Server

if TYPE_CHECKING:
    from .journal import Journal

__all__ = ["play"]


async def play(servers: Sequence[Server], proxy: ServiceProxy, journal: Journal) -> None:
    """Plays the script to its end."""
    alpha, beta, gamma = servers

    journal.begin("all are well")
    await asyncio.sleep(1.0)

    journal.begin("alpha answers 503")
    alpha.condition = Condition.FAILING
    await asyncio.sleep(1.5)

    journal.begin("beta hangs as well")
    beta.condition = Condition.HANGING
    await asyncio.sleep(1.5)

    journal.begin("both are mended")
    alpha.condition = beta.condition = Condition.WELL
    await asyncio.sleep(1.5)
    await _recovered(servers, proxy)

    journal.begin("gamma is dead")
    gamma.die()
    await asyncio.sleep(1.7)

    journal.begin("gamma is back")
    await gamma.come_back()
    await asyncio.sleep(1.5)
    await _recovered(servers, proxy)


async def _recovered(servers: Sequence[Server], proxy: ServiceProxy) -> None:
    """The next trouble begins when the proxy trusts all servers again.

    They have had the time for that; on a machine that is very busy it may take longer.
    """
    try:
        async with asyncio.timeout(5):
            while not all(_is_trusted(proxy, server) for server in servers):  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise RuntimeError("a server that is well was not trusted again") from None


def _is_trusted(proxy: ServiceProxy, server: Server) -> bool:
    circuit = proxy.instance_circuit_breaker(server.name)
    return circuit is not None and circuit.state is CircuitState.CLOSED
