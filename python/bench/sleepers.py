"""Four threads that each sleep 10 ms through one breaker: how long they take together, over the bare sleep.

A breaker that holds its lock, or the interpreter, while the function runs makes them queue.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import naive
import peers
from row import NAIVE, OURS

THREADS, SECONDS = 4, 0.010


def sleepers() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Who, and a call that sleeps."""
    from codomyrmex.service_mesh import with_circuit_breaker

    def sleep() -> None:
        time.sleep(SECONDS)

    yield "bare", sleep
    yield OURS, with_circuit_breaker("sleepers")(sleep)
    yield NAIVE, naive.with_circuit_breaker("sleepers")(sleep)
    for who, _, decorate, _ in peers.breakers():
        yield who, decorate(sleep)


def wall(call: Callable[[], Any]) -> float:
    """Seconds from the start of the first thread to the end of the last."""
    ready = threading.Barrier(THREADS + 1)

    def run() -> None:
        ready.wait()
        call()

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    ready.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begin


def measure(rounds: int) -> list[tuple[str, float]]:
    """Who, and the median wall time in seconds."""
    calls = list(sleepers())
    samples: dict[str, list[float]] = {who: [] for who, _ in calls}
    for _ in range(rounds):
        for who, call in calls:
            samples[who].append(wall(call))
    return [(who, statistics.median(taken)) for who, taken in samples.items()]
