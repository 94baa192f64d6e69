"""The tables."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from row import OURS, Row
from stopwatch import median, tenth

SLEEPERS_BAR, IMPORT_BAR_SECONDS = 1.1, 0.010


class Report:
    def __init__(
        self,
        core: int | None,
        rounds: int,
        rows: list[Row],
        base: dict[str, Row],
        slept: list[tuple[str, float]],
        imported: list[tuple[str, float]],
    ) -> None:
        self.core, self.rounds, self.rows, self.base, self.slept, self.imported = (
            core,
            rounds,
            rows,
            base,
            slept,
            imported,
        )

    def over(self, row: Row) -> float:
        """What the row costs over its bare call, in nanoseconds, when nobody else was at work: by the fastest tenth."""
        return tenth(row) - tenth(self.base[row.bare])

    def missed(self) -> list[str]:
        """The bars that ours does not stay under."""
        rows = [row for row in self.rows if row.bar_ns is not None and self.over(row) > row.bar_ns]
        said = [f"{row.shape}: {row.how} costs {self.over(row):.0f} ns, the bar is {row.bar_ns:.0f}" for row in rows]
        slept, imported = dict(self.slept), dict(self.imported)
        if slept and slept[OURS] > SLEEPERS_BAR * slept["bare"]:
            said.append(
                f"four sleepers take {slept[OURS] / slept['bare']:.2f} x the bare sleep, the bar is {SLEEPERS_BAR}"
            )
        if imported and imported[OURS] > IMPORT_BAR_SECONDS:
            said.append(f"the import takes {imported[OURS] * 1e3:.1f} ms, the bar is {IMPORT_BAR_SECONDS * 1e3:.0f}")
        return said

    def markdown(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        where = f"CPython {platform.python_version()}, {_processor()}"
        pinned = "" if self.core is None else f", on core {self.core}"
        rounds = f"{self.rounds} rounds in random order, over the bare call"
        yield f"{where}; one process{pinned}, {rounds}. Load average {os.getloadavg()[0]:.1f}."
        bare = ", ".join(f"`{statement}` {tenth(row):.0f} ns" for statement, row in sorted(self.base.items()))
        yield f"Bare: {bare}."
        for table, title in [("sync", "A call"), ("async", "An awaited call"), ("picks", "A pick")]:
            rows = [row for row in self.rows if row.table == table]
            if rows:
                yield ""
                yield f"| {title} | how | median, ns | fastest tenth, ns | of ours |"
                yield "|---|---|---:|---:|---:|"
                for shape in dict.fromkeys(row.shape for row in rows):
                    yield from self._shape(shape, [row for row in rows if row.shape == shape])
        if self.slept:
            yield ""
            yield "| Four threads that each sleep 10 ms through one breaker | wall | over the bare sleep |"
            yield "|---|---:|---:|"
            bare_wall = dict(self.slept)["bare"]
            for who, taken in self.slept:
                bar = f" (bar: {SLEEPERS_BAR})" if who == OURS else ""
                yield f"| {_strong(who)} | {taken * 1e3:.1f} ms | {taken / bare_wall:.2f} ×{bar} |"
        if self.imported:
            yield ""
            yield "| Import, after `dataclasses` and `enum` | ms of a core |"
            yield "|---|---:|"
            for who, taken in self.imported:
                bar = f" (bar: {IMPORT_BAR_SECONDS * 1e3:.0f})" if who == OURS else ""
                yield f"| {_strong(who)} | {taken * 1e3:.1f}{bar} |"

    def _shape(self, shape: str, rows: list[Row]) -> Iterator[str]:
        ours = next((self.over(row) for row in rows if row.who == OURS), None)
        for row in rows:
            over = self.over(row)
            bar = "" if row.bar_ns is None else f" (bar: {row.bar_ns:.0f})"
            ratio = "1" if row.who == OURS else "" if ours is None else f"{over / max(ours, 1):.1f} ×"
            middle = median(row) - median(self.base[row.bare])
            yield f"| {shape} | {_strong(row.who)}: {row.how} | {round(middle)} | {round(over)}{bar} | {ratio} |"


def _strong(who: str) -> str:
    return f"**{who}**" if who == OURS else who


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
