"""Services from one policy file: the mesh, and what is told of mistakes and of changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ._native import Mesh
from .models import ServiceMeshError

__all__ = ["Mesh", "Mistake", "PolicyChanges", "PolicyError"]


@dataclass(frozen=True)
class Mistake:
    """One mistake in a policy file."""

    line: int
    """The line of the key, or of the place where TOML ends, counted from 1."""
    column: int
    """Its column in characters, counted from 1."""
    key: str
    """The key with all the tables that it is in; empty where the file is no TOML."""
    message: str
    """What is wrong with it, as a sentence goes on behind the key."""

    def __str__(self) -> str:
        return f"{self.line}:{self.column}: {self.key}{' ' if self.key else ''}{self.message}"


class PolicyError(ServiceMeshError, ValueError):
    """A policy file that cannot be used. `mistakes` are all of them, in the order of the file; `line` and `column` are
    those of the first. `path` is the file, where it was one."""

    mistakes: tuple[Mistake, ...]
    path: str | None

    def __init__(self, message: str = "", *, mistakes: tuple[Mistake, ...] = (), path: str | None = None) -> None:
        super().__init__(*((message,) if message else ()))
        self.mistakes = mistakes
        self.path = path

    @property
    def line(self) -> int | None:
        """The line of the first mistake."""
        return self.mistakes[0].line if self.mistakes else None

    @property
    def column(self) -> int | None:
        """The column of the first mistake."""
        return self.mistakes[0].column if self.mistakes else None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, self.__dict__.copy()


@dataclass(frozen=True)
class PolicyChanges:
    """What a reload has changed; its text is one line for a log. It is false if that is nothing."""

    added: tuple[str, ...] = ()
    """Services that were not there before."""
    removed: tuple[str, ...] = ()
    """Services that are gone."""
    changed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Services that were there and are, with the sections that have changed, as the file names them."""
    sidecar: tuple[str, ...] = ()
    """What has changed of `listeners`, `routes` and `admin`, which only the sidecar uses."""
    text: str = field(default="", repr=False, compare=False)

    def __str__(self) -> str:
        return self.text

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.sidecar)
