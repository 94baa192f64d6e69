"""For tests: time that is moved by hand, and a switch that keeps a whole process from waiting.

Give a `ManualClock` to what shall go by it (`clock=`), and move it:

    clock = ManualClock()
    breaker = CircuitBreaker("payments", clock=clock)
    ...
    clock.advance(30)

A retry that waits moves the clock by itself, and is over at once. A coroutine that waits goes on when the clock has been
moved there; `clock.run(main())` does that whenever nothing else is left to do.

Where a test does not make the parts itself, `set_testing()` keeps every policy of the process from waiting:

    with set_testing(attempts=2):
        ...

With pytest installed there are the fixtures `manual_clock` and `no_waiting`.
"""

from __future__ import annotations

import asyncio
import heapq
import selectors
import sys
import threading
from collections.abc import Callable, Coroutine
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

from . import _native

__all__ = ["ManualClock", "set_testing"]

T = TypeVar("T")
_NANOSECONDS = 1_000_000_000


class ManualClock(_native.ManualClock):
    """A clock that stands still until it is moved.

    It starts at 0. What goes by it has chance that repeats itself, too, so that a test sees the same jitter every time.
    It may be moved from any thread; whoever waits for it is woken in its own loop.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Who waits for what, as a heap; the number tells waits for the same time apart.
        self._timers: list[tuple[int, int, Callable[[], object]]] = []
        self._number = 0
        self._sleeps: list[float] = []

    def now(self) -> float:
        """Seconds since the origin of the clock."""
        return self.nanoseconds() / _NANOSECONDS

    def advance(self, seconds: float | timedelta) -> None:
        """Moves the clock, and wakes whoever waited for that."""
        self._advance_to(self.nanoseconds() + _nanoseconds(seconds))

    def advance_to_next_timer(self) -> bool:
        """Moves the clock to the earliest time that a coroutine waits for; false if nobody waits."""
        at = self._next_timer()
        if at is None:
            return False
        self._advance_to(at)
        return True

    @property
    def sleeps(self) -> list[float]:
        """The waits so far, in seconds and in the order in which they began."""
        with self._lock:
            return self._sleeps.copy()

    def sleep(self, seconds: float | timedelta) -> None:
        """What a sync wait does: it moves the clock, and is over."""
        with self._lock:
            self._sleeps.append(_seconds(seconds))
        self.advance(seconds)

    async def sleep_async(self, seconds: float | timedelta) -> None:
        """What an async wait does: it is over when the clock has been moved there. Under asyncio and trio."""
        at = self.nanoseconds() + _nanoseconds(seconds)
        with self._lock:
            self._sleeps.append(_seconds(seconds))
        if at > self.nanoseconds():
            await self._reached(at)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine to its end, as `asyncio.run` does, in a loop whose time is this clock's.

        Whenever nothing is left to do but to wait, the clock moves to the next timer: of `asyncio.sleep` and
        `asyncio.timeout`, too. So it is not for code that waits for the network or for threads: time would pass it by.
        """
        with asyncio.Runner(loop_factory=lambda: _Loop(self)) as runner:
            return runner.run(main)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.now():g} s>"

    def _advance_to(self, at: int) -> None:
        due = []
        with self._lock:
            self.move_to(at)
            while self._timers and self._timers[0][0] <= at:
                due.append(heapq.heappop(self._timers)[2])
        for wake in due:
            wake()

    def _next_timer(self) -> int | None:
        with self._lock:
            return self._timers[0][0] if self._timers else None

    async def _reached(self, at: int) -> None:
        wake, woken = _alarm()
        with self._lock:
            self._number += 1
            timer = (at, self._number, wake)
            heapq.heappush(self._timers, timer)
        try:
            await woken
        finally:
            with self._lock:
                if timer in self._timers:  # cancelled
                    self._timers.remove(timer)
                    heapq.heapify(self._timers)


def _alarm() -> tuple[Callable[[], object], Any]:
    """A function that may be called from anywhere, and what is awaited until it was."""
    trio: Any = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        token, event = trio.lowlevel.current_trio_token(), trio.Event()
        return (lambda: token.run_sync_soon(event.set)), event.wait()
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    return (lambda: loop.call_soon_threadsafe(_resolve, future)), future


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose time is a manual clock's. `idle` is asked when nothing is left to do but to wait for a timer:
    so many nanoseconds, or none, lie before the loop's own next one."""

    def __init__(self, clock: ManualClock, idle: Callable[[int | None], bool] | None = None) -> None:
        self._manual_clock = clock
        super().__init__(_Selector(idle or self._move))

    def time(self) -> float:
        return self._manual_clock.now()

    def _move(self, until_next: int | None) -> bool:
        clock = self._manual_clock
        now, others = clock.nanoseconds(), clock._next_timer()
        times = [now + until_next] if until_next is not None else []
        times += [others] if others is not None else []
        if times:
            clock._advance_to(min(times))
        return bool(times)


class _Selector(selectors.DefaultSelector):
    """Never waits for a time: it asks somebody to move the clock."""

    def __init__(self, idle: Callable[[int | None], bool]) -> None:
        super().__init__()
        self._idle = idle

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        # Rounded up, or the loop would find that its timer is not due yet.
        until_next = None if timeout is None else int(timeout * _NANOSECONDS) + 1
        return [] if self._idle(until_next) else super().select(timeout)


def set_testing(testing: bool = True, *, attempts: int | None = 1) -> _Testing:
    """From now on no retry of this process waits, and no call makes more than so many attempts (None: as configured).

    As a context manager it ends with the block, and what was set before holds again. It is one switch for all threads.
    """
    if attempts is not None and attempts < 1:
        raise ValueError(f"attempts must be at least 1 or None, not {attempts}")
    return _Testing(_native.switch_testing(testing, attempts))


class _Testing:
    """Sets back what was before."""

    def __init__(self, before: tuple[bool, int | None]) -> None:
        self._before = before

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _native.switch_testing(*self._before)


def _seconds(seconds: float | timedelta) -> float:
    return seconds.total_seconds() if isinstance(seconds, timedelta) else float(seconds)


def _nanoseconds(seconds: float | timedelta) -> int:
    return max(0, round(_seconds(seconds) * _NANOSECONDS))
