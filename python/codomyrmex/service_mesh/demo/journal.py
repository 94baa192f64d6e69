"""What happened, as it is told: the events while they happen, a line that moves, and the sums at the end."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from ..models import CircuitEvent, CircuitState
from ..service_proxy import Story

__all__ = ["Journal"]


class Phase:
    """A part of the script, and what came of it."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.answered: Counter[str] = Counter()
        self.retried = 0
        self.failed = 0

    def add(self, other: Phase) -> None:
        """Adds the sums of another one."""
        self.answered += other.answered
        self.retried += other.retried
        self.failed += other.failed

    def sums(self) -> str:
        """What came of it, in words."""
        return f"{self.answered.total()} answered, {self.retried} retries, {self.failed} failed"

    def row(self, names: Sequence[str]) -> str:
        """Its line in the table."""
        answered = "".join(f"{self.answered[name]:>8}" for name in names)
        return f"  {self.title:24}{answered}{self.retried:>10}{self.failed:>10}"


class Journal:
    """What happened so far. Times are told from when it was made."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._start = time.monotonic()
        self._phases: list[Phase] = []
        # By the instance that failed and the one that was asked next.
        self._retries: Counter[tuple[str, str]] = Counter()
        self._hardest: Story | None = None
        # Since when a circuit is half-open, in seconds.
        self._probing: dict[str, float] = {}
        self._first_failure: str | None = None
        self._interrupted: float | None = None
        self._progress = ""

    @property
    def failed(self) -> int:
        """How many callers got no answer."""
        return self._sum().failed

    def begin(self, title: str) -> None:
        """A part of the script begins."""
        self._tell_phase()
        self._tell("", f"-- {title}")
        self._phases.append(Phase(title))

    def finish(self) -> None:
        """Nobody calls any more."""
        self._tell_phase()

    def answered(self, by: str) -> None:
        """A caller got an answer from this server."""
        self._phases[-1].answered[by] += 1

    def unanswered(self, why: Exception) -> None:
        """A caller got none."""
        if self._first_failure is None:
            self._first_failure = f"at {self._seconds():.2f} s: {type(why).__name__}: {why}"
        self._phases[-1].failed += 1

    def remember(self, story: Story | None) -> None:
        """The story of a call: each attempt but the first is a retry."""
        if story is None or len(story.attempts) < 2:
            return
        for one, other in pairwise(story.attempts):
            self._retries[one.instance or "nobody", other.instance or "nobody"] += 1
            self._phases[-1].retried += 1
        if self._hardest is None or _hardness(self._hardest) < _hardness(story):
            self._hardest = story

    def hear(self, event: CircuitEvent) -> None:
        """The proxy tells of something. Circuits are named `SERVICE/INSTANCE`."""
        whose = event.name.rpartition("/")[2]
        if event.kind == "budget_exhausted":
            self._tell(whose, "a call was not retried: the budget is spent")
        if event.kind != "transition":
            return
        # A circuit that may be probed is told of when the probes have decided.
        since = self._probing.pop(whose, None)
        probed = "" if since is None else f"probed at {since:.2f} s: "
        # The event's own words, which end with the reason: `shop/alpha: closed -> open: 3 failures in a row`.
        reason = str(event).removeprefix(f"{event.name}: ").partition(": ")[2]
        match event.to_state:
            case CircuitState.HALF_OPEN:
                self._probing[whose] = self._seconds()
            case CircuitState.OPEN:
                self._tell(whose, f"{probed}circuit tripped, {reason}")
            case _:
                self._tell(whose, f"{probed}circuit reset, {reason}")

    def interrupt(self) -> None:
        """Ctrl-C ends it here."""
        self._interrupted = self._seconds()

    async def show_progress(self, stop: asyncio.Event) -> None:
        """Keeps a line of the sums so far at the foot of a terminal; elsewhere there is none."""
        try:
            while sys.stdout.isatty() and not stop.is_set():
                total = self._sum()
                answered = "  ".join(f"{name} {total.answered[name]}" for name in self._names)
                self._progress = f"{self._seconds():5.1f} s  {answered}   {total.sums()}"
                self._write("")
                await asyncio.sleep(0.1)
        finally:
            self._progress = ""

    def say(self, line: str) -> None:
        """Prints a line."""
        self._write(f"{line}\n")

    def _tell_phase(self) -> None:
        """What came of the part that ends, for whoever sees no line of progress."""
        if self._phases and not sys.stdout.isatty():
            self.say(f"{'':16}{self._phases[-1].sums()}")

    def _tell(self, whose: str, what: str) -> None:
        self.say(f"{self._seconds():5.2f} s  {whose:5}  {what}")

    def _write(self, text: str) -> None:
        clear = "\r\x1b[K" if sys.stdout.isatty() else ""
        try:
            sys.stdout.write(f"{clear}{text}{self._progress}")
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever closed the pipe does not want to read on; nor is anything to be flushed into it at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _seconds(self) -> float:
        return time.monotonic() - self._start

    def _sum(self) -> Phase:
        total = Phase("in all")
        for phase in self._phases:
            total.add(phase)
        return total

    def __str__(self) -> str:
        total = self._sum()
        lines = [""]
        if self._interrupted is not None:
            part = self._phases[-1].title if self._phases else "nothing had happened"
            lines += [
                f"interrupted after {self._interrupted:.2f} s ({part}); what follows is all until then",
                "",
            ]
        lines += [f"{'answers from':26}{''.join(f'{name:>8}' for name in self._names)}{'retries':>10}{'failed':>10}"]
        lines += [phase.row(self._names) for phase in [*self._phases, total]]
        lines += ["", "retried elsewhere"]
        lines += [f"  {one:>5} -> {other:5} {times:>6}" for (one, other), times in sorted(self._retries.items())]
        if self._hardest is not None:
            lines += ["", "the call that was hit hardest", *(f"  {line}" for line in str(self._hardest).splitlines())]
        calls = total.answered.total() + total.failed
        so_far = "" if self._interrupted is None else "until the interruption "
        end = ": no caller noticed anything" if self._first_failure is None else f"; the first {self._first_failure}"
        lines += ["", f"{so_far}{calls} calls, {total.retried} retries, {total.failed} failed{end}"]
        return "\n".join(lines)


def _hardness(story: Story) -> tuple[int, float]:
    return len(story.attempts), story.took
