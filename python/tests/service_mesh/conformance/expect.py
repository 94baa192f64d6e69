"""What is expected, and how it is compared with what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

TOLERANCE_SECONDS = 1e-6


class Mismatch(AssertionError):
    """Something else was seen than is written."""


def mismatch(what: str, expected: object, got: object) -> Mismatch:
    return Mismatch(f"{what}: expected {expected}, got {got}")


def same(what: str, expected: object, got: object) -> None:
    if expected != got:
        raise mismatch(what, repr(expected), repr(got))


def contains(bounds: float | list[float], number: float) -> bool:
    least, greatest = bounds if isinstance(bounds, list) else (bounds, bounds)
    return least - TOLERANCE_SECONDS <= number <= greatest + TOLERANCE_SECONDS


def within(what: str, bounds: float | list[float], got: float) -> None:
    if not contains(bounds, got):
        raise mismatch(what, bounds, got)


def told(what: str, bounds: float | list[float] | None, got: float | None) -> None:
    """A time that must be told exactly where one is expected."""
    if bounds is None or got is None:
        same(what, bounds, got)
    else:
        within(what, bounds, got)


def row(what: str, bounds: list[Any], got: Sequence[float]) -> None:
    if len(bounds) != len(got) or not all(contains(each, seen) for each, seen in zip(bounds, got, strict=True)):
        raise mismatch(what, bounds, list(got))


def names(what: str, expected: str, got: Sequence[str | None]) -> None:
    """Names in a row; nobody is `-`, `a|b` is either."""
    choices = [word.split("|") for word in expected.split()]
    seen = [name or "-" for name in got]
    if len(choices) != len(seen) or not all(name in each for each, name in zip(choices, seen, strict=True)):
        raise mismatch(what, expected, " ".join(seen))
