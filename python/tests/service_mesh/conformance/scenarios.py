"""Reads scenarios."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .expect import Mismatch


def directory() -> Path:
    """`conformance/` at the root of the repository."""
    for above in Path(__file__).resolve().parents:
        if (above / "conformance" / "README.md").exists():
            return above / "conformance"
    raise FileNotFoundError("the scenarios are not part of what was installed: test from a checkout")


@dataclass(frozen=True)
class Scenario:
    file: str
    table: dict[str, Any]

    @property
    def name(self) -> str:
        return self.table["name"]

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(self.table.get("needs", ()))

    @property
    def steps(self) -> list[dict[str, Any]]:
        return self.table.get("steps", [])

    def only(self, *known: str) -> None:
        """Refuses what nobody here would look at."""
        unknown = self.table.keys() - {"name", "rules", "needs", "steps", *known}
        assert not unknown, f"{self.file}: {self.name!r}: unknown: {sorted(unknown)}"


def scenarios(file: str) -> Iterator[Scenario]:
    with open(directory() / file, "rb") as opened:
        for table in tomllib.load(opened)["scenario"]:
            yield Scenario(file, table)


def parameters(file: str, can: set[str]) -> list[Any]:
    """A parameter for each scenario; one that needs what the driver cannot do is skipped, and says what it lacks."""
    made = []
    for scenario in scenarios(file):
        lacks = sorted(scenario.needs - can)
        marks = [pytest.mark.skip(reason=f"the driver lacks {', '.join(lacks)}")] if lacks else []
        made.append(pytest.param(scenario, id=scenario.name, marks=marks))
    return made


def step_by_step(scenario: Scenario) -> Iterator[Step]:
    for number, table in enumerate(scenario.steps, 1):
        step = Step(table)
        try:
            yield step
            step.finish()
        except Mismatch as mismatch:
            mismatch.add_note(f"conformance/{scenario.file}: {scenario.name!r}, step {number}: {table}")
            raise


class Step:
    """What is written in a step; whatever nobody took is an error."""

    def __init__(self, table: dict[str, Any]) -> None:
        self.table = table
        self.taken: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self.table

    def take(self, key: str, default: Any = None) -> Any:
        self.taken.add(key)
        return self.table.get(key, default)

    def finish(self) -> None:
        left = self.table.keys() - self.taken
        assert not left, f"nobody looked at {sorted(left)}"
