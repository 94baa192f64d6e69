"""Times rows: shuffled rounds, medians."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import statistics
import timeit
from collections.abc import Callable
from textwrap import dedent
from typing import Any

from row import Row

# Shorter than a slice of the scheduler: on a busy machine most samples are then left alone.
SAMPLE_SECONDS = 0.001


def pin() -> int | None:
    """Keeps this process on one core, if the system can do that: the last, where least else runs."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


class Stopwatch:
    """Times statements; those that await run in a loop of its own."""

    def __init__(self, seed: int = 0) -> None:
        self.loop = asyncio.new_event_loop()
        self.chance = random.Random(seed)

    def time(self, rows: list[Row], rounds: int) -> None:
        """Fills the samples of the rows, in nanoseconds a statement, and asks each for its proof."""
        timed = [(row, self._timer(row)) for row in rows]
        numbers = {id(row): self._number(timer) for row, timer in timed}
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            for _ in range(rounds):
                self.chance.shuffle(timed)
                for row, timer in timed:
                    gc.collect()
                    number = numbers[id(row)]
                    timer(number // 10 + 1)  # the collector has swept the caches, too
                    row.samples.append(timer(number) / number * 1e9)
        finally:
            gc.enable()
            gc.unfreeze()
        for row in rows:
            try:
                row.prove()
            except BaseException as error:
                error.add_note(f"the row {row.table} / {row.who} / {row.how}")
                raise

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def _timer(self, row: Row) -> Callable[[int], float]:
        if not row.is_async:
            return timeit.Timer(row.statement, globals=dict(row.names)).timeit
        source = f"""
        async def sample(number):
            begin = now()
            for _ in repeat(None, number):
                {row.statement}
            return now() - begin
        """
        names: dict[str, Any] = {"now": timeit.default_timer, "repeat": __import__("itertools").repeat, **row.names}
        exec(dedent(source), names)
        return lambda number: self.run(names["sample"](number))

    def _number(self, timer: Callable[[int], float]) -> int:
        number = 10
        # The least of three: whoever was interrupted here would be timed in samples of a few calls ever after.
        while (took := min(timer(number) for _ in range(3))) < SAMPLE_SECONDS / 2:
            number = max(number * 2, int(number * SAMPLE_SECONDS / max(took, 1e-7) / 2))
        return max(1, int(number * SAMPLE_SECONDS / took))


def median(row: Row) -> float:
    return statistics.median(row.samples)


def tenth(row: Row) -> float:
    return statistics.quantiles(row.samples, n=10)[0] if len(row.samples) > 1 else row.samples[0]
