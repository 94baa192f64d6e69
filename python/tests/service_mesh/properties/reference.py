"""Models of the breaker and of the retry budget, in plain Python. Times are whole quarters of a second, so that they are
exact in floats, too."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

QUARTER = 0.25


@dataclass(frozen=True)
class Config:
    """The part of a configuration that the model knows; times in quarters of a second."""

    failure_threshold: int = 5
    success_threshold: int = 2
    timeout: int = 120
    half_open_max_calls: int = 3
    consecutive: bool = True
    multiplier: int = 1
    timeout_max: int | None = None
    probe_timeout: int | None = None
    window: tuple[int, int, int] | None = None
    """Size, minimum of calls, and the failure ratio in percent."""


@dataclass(frozen=True)
class Permit:
    generation: int
    is_probe: bool


@dataclass(frozen=True)
class Refusal:
    reason: str
    retry_after: int | None


class Circuit:
    """A circuit breaker. `now` is handed in, and whoever asks gets an answer: nothing waits, nothing is locked."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.state = "closed"
        self.forced = False
        self.generation = 0
        self.row = 0
        self.until = 0
        self.successes = 0
        self.probes = 0
        self.newest_probe = 0
        self.trips = 0
        self.write_offs = 0
        self.outcomes: list[bool] = []
        self.late = 0

    # ----- what is read -----

    def reading(self) -> dict[str, object]:
        half_open = self.state == "half_open"
        return {
            "state": self.state,
            "failure_count": self.row,
            "success_count": self.successes if half_open else 0,
            "half_open_calls": self.probes if half_open else 0,
            "late_outcomes": self.late,
        }

    def refusal(self, now: int) -> Refusal | None:
        """What a call would be told, if it would be refused."""
        if self.state == "closed":
            return None
        if self.state == "open":
            if self.forced:
                return Refusal("forced", None)
            return Refusal("open", self.until - now) if now < self.until else None
        if self.probes < self.config.half_open_max_calls or now >= self.newest_probe + self.probe_timeout():
            return None
        return Refusal("half_open_full", None)

    def boundaries(self) -> list[int]:
        """When something may happen by itself."""
        if self.state == "open" and not self.forced:
            return [self.until]
        return [self.newest_probe + self.probe_timeout()] if self.state == "half_open" else []

    # ----- what is done -----

    def acquire(self, now: int) -> Permit | Refusal:
        if refusal := self.refusal(now):
            return refusal
        self._probe_if_due(now)
        if self.state != "half_open":
            return Permit(self.generation, False)
        if self.probes == self.config.half_open_max_calls:
            self.generation += 1
            self.write_offs += 1
            self.probes = 0
        self.probes += 1
        self.newest_probe = now
        return Permit(self.generation, True)

    def can_execute(self, now: int) -> bool:
        self._probe_if_due(now)
        return self.refusal(now) is None

    def settle(self, permit: Permit, outcome: str, now: int) -> None:
        if permit.generation != self.generation:
            self.late += outcome != "neutral"
            return
        if self.state == "half_open":
            self.probes -= 1
        self._count(outcome, now)

    def record(self, outcome: str, now: int) -> None:
        if self.state == "open":
            self.late += 1
        else:
            self._count(outcome, now)

    def force_open(self) -> None:
        self._by_hand("open", True)

    def force_closed(self) -> None:
        self._by_hand("closed", True)

    def reset(self) -> None:
        self._by_hand("closed", False)

    def update_config(self, config: Config) -> None:
        self.config = config
        self.outcomes = self.outcomes[-config.window[0] :] if config.window else []

    # ----- the rules -----

    def _probe_if_due(self, now: int) -> None:
        if self.state == "open" and not self.forced and now >= self.until:
            self._enter("half_open")
            self.probes = self.successes = 0

    def _count(self, outcome: str, now: int) -> None:
        if outcome == "neutral":
            return
        failed = outcome == "failure"
        if self.state == "closed":
            self.row = self.row + 1 if failed else 0
            if self._reached(failed) and not self.forced:
                self.trips = 0
                self._trip(now)
        elif failed:
            self._trip(now)
        else:
            self.successes += 1
            if self.successes >= self.config.success_threshold:
                self._by_hand("closed", False)

    def _reached(self, failed: bool) -> bool:
        config = self.config
        by_row = config.consecutive and failed and self.row >= config.failure_threshold
        by_window = False
        if config.window:
            size, minimum, percent = config.window
            self.outcomes = [*self.outcomes, failed][-size:]
            calls, minimum = len(self.outcomes), min(minimum, size)
            due = calls >= minimum if failed else calls == minimum
            by_window = due and Fraction(sum(self.outcomes), calls) >= Fraction(percent, 100)
        return by_row or by_window

    def _trip(self, now: int) -> None:
        self.trips += 1
        time = self.config.timeout * self.config.multiplier ** (self.trips - 1)
        if self.config.timeout_max is not None:
            time = min(time, self.config.timeout_max)
        self._enter("open")
        self.until = now + time

    def _by_hand(self, state: str, forced: bool) -> None:
        self._enter(state)
        self.forced = forced
        self.row = self.trips = self.write_offs = 0

    def _enter(self, state: str) -> None:
        self.state, self.forced = state, False
        self.generation += 1
        self.outcomes = []

    def probe_timeout(self) -> int:
        own = self.config.probe_timeout
        return (max(self.config.timeout, 120) if own is None else own) * 2**self.write_offs


@dataclass
class Budget:
    """The law, judged over a whole history: in any ten seconds, retries <= ratio x calls + ten times the floor."""

    ratio: Fraction
    floor_per_second: Fraction
    calls: list[int] = field(default_factory=list)
    retries: list[int] = field(default_factory=list)

    def holds(self) -> bool:
        """For every window that begins with a retry, which are the only ones that can break it first."""
        return all(self._holds_from(begin) for begin in range(len(self.retries)))

    def _holds_from(self, index: int) -> bool:
        begin = self.retries[index]
        inside = [time for time in self.retries if begin <= time < begin + 40]
        calls = [time for time in self.calls if begin <= time < begin + 40]
        return len(inside) <= self.ratio * len(calls) + 10 * self.floor_per_second


def delay(attempt: int, first: Fraction, base: Fraction, longest: Fraction) -> Fraction:
    """The wait before the next attempt, without jitter; exact, and for any attempt."""
    time = first
    for _ in range(attempt):
        if time >= longest or base == 1 or time == 0:
            break
        time *= base
    return min(time, longest)
