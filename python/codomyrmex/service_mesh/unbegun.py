"""A coroutine that another is going to await."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

__all__ = ["Unbegun", "named_after"]


class Unbegun:
    """Holds a coroutine, and closes it when nobody is left to await it: a task that is cancelled before it begins has
    forgotten nothing, and is to be warned of nothing. A coroutine that has ended does not mind."""

    __slots__ = ("coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine = coroutine

    def __del__(self) -> None:
        self.coroutine.close()


def named_after(coroutine: Any, other: Any) -> Coroutine[Any, Any, Any]:
    """The coroutine, which warnings and task lists call by the other's name."""
    coroutine.__name__, coroutine.__qualname__ = other.__name__, other.__qualname__
    return coroutine  # type: ignore[no-any-return]
