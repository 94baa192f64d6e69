"""The calls without any library, which all costs are told over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from row import Row, Target, nothing, nothing_async, two


def bares(statements: set[str]) -> dict[str, Row]:
    """A row for each statement."""
    target, pair, asynchronous = Target(nothing), Target(two), Target(nothing_async)
    names: dict[str, dict[str, Any]] = {
        "f()": {"f": target.f},
        "f(1, b=2)": {"f": pair.f},
        "k.m()": {"k": type("Holder", (), {"m": lambda self: None})()},
        "await f()": {"f": asynchronous.f},
    }
    prove: Callable[[], None] = lambda: None
    return {
        statement: Row("bare", "bare", "bare", f"`{statement}`", statement, names[statement], prove)
        for statement in statements
    }
