"""One line of a table: a statement to time, and the proof that it did something."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

OURS = "service-mesh"
NAIVE = "the naive way"


@dataclass
class Row:
    """What is timed.

    `statement` is Python over `names`; with `await` in it, it runs inside an event loop. `bare` is the statement that
    would be there without any library, over the same function. `bar_ns` is what we promised ourselves.
    """

    table: str
    shape: str
    who: str
    how: str
    statement: str
    names: dict[str, Any]
    prove: Callable[[], None]
    bare: str = "f()"
    bar_ns: float | None = None
    samples: list[float] = field(default_factory=list)

    @property
    def is_async(self) -> bool:
        return "await " in self.statement or "async with" in self.statement


class Broken(ConnectionError):
    """What the functions of the bench raise when they are told to fail."""


class Target:
    """A function that does nothing, until it is told to fail: its code is exchanged under whatever wraps it."""

    def __init__(self, of: FunctionType) -> None:
        self.f: Any = FunctionType(of.__code__, globals(), of.__name__, of.__defaults__)
        self.runs = 0

    def fails(self, times: int | None = None) -> None:
        """From now on, or the next so many times."""
        left = [times]

        def run(*_: Any, **__: Any) -> None:
            self.runs += 1
            if left[0] is None:
                raise Broken
            if left[0] > 0:
                left[0] -= 1
                raise Broken

        self.f.__code__ = (_run_async if self.f.__code__.co_flags & 0x80 else _run).__code__
        self.f.__defaults__ = None
        self.f.__kwdefaults__ = {"run": run}


def nothing() -> None:
    pass


async def nothing_async() -> None:
    pass


def two(a: int, b: int) -> None:
    pass


def of_instance(instance: Any) -> None:
    pass


def _run(*args: Any, run: Callable[..., None], **kwargs: Any) -> None:
    run(*args, **kwargs)


async def _run_async(*args: Any, run: Callable[..., None], **kwargs: Any) -> None:
    run(*args, **kwargs)


def trips(target: Target, call: Callable[[], Any], refusal: type[Exception] | tuple[type[Exception], ...]) -> None:
    """It admits now, and refuses soon after the function has begun to fail."""
    call()
    target.fails()
    for _ in range(300):
        try:
            call()
        except Broken:
            continue
        except refusal:
            ran = target.runs
            try:
                call()
            except refusal:
                assert target.runs == ran, "a refused call ran the function"
                return
    raise AssertionError("it never tripped")


def tries_again(target: Target, call: Callable[[], Any]) -> None:
    """A failure is tried again."""
    call()
    target.fails(times=1)
    call()
    assert target.runs == 2, f"the function ran {target.runs} times"
