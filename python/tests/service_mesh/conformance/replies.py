"""How the function that is called answers, and what the predicates make of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from codomyrmex.service_mesh import CircuitOpenError


class Replied(Exception):
    """An answer that is an error; `run` tells which run of the function gave it."""

    def __init__(self, reply: Reply, run: int = 1) -> None:
        super().__init__(reply.kind)
        self.reply = reply
        self.run = run
        if reply.retry_after is not None:
            self.retry_after = reply.retry_after

    @property
    def kind(self) -> str:
        return self.reply.kind


class Failed(Replied):
    """`error`: failure, may be tried again."""


class Fatal(Replied):
    """`fatal`: failure, final."""


class Ignored(Replied):
    """`ignored`: neutral, final."""


class Accepted(Replied):
    """`accepted_error`: success, final."""


class TryLater(Replied):
    """`try_later`: neutral, may be tried again."""


class NestedRefusal(CircuitOpenError):
    """`refusal`: what a breaker further down would raise; nobody is told that it is neutral."""

    def __init__(self, reply: Reply, run: int = 1) -> None:
        super().__init__("Circuit nested is open", name="nested", reason="open")
        self.reply = reply
        self.run = run

    @property
    def kind(self) -> str:
        return self.reply.kind


ERRORS: dict[str, type[Replied | NestedRefusal]] = {
    "error": Failed,
    "fatal": Fatal,
    "ignored": Ignored,
    "accepted_error": Accepted,
    "try_later": TryLater,
    "refusal": NestedRefusal,
}


@dataclass
class Value:
    """An answer that is a value, `ok` or `bad_value`."""

    reply: Reply
    run: int = 1

    @property
    def kind(self) -> str:
        return self.reply.kind


@dataclass(frozen=True)
class Reply:
    kind: str
    takes: float = 0.0
    retry_after: float | None = None

    @classmethod
    def written(cls, written: str | dict[str, Any]) -> Reply:
        if isinstance(written, str):
            return cls(written)
        unknown = written.keys() - {"reply", "takes_seconds", "retry_after_seconds"}
        assert not unknown, unknown
        return cls(written["reply"], written.get("takes_seconds", 0.0), written.get("retry_after_seconds"))

    def answer(self, run: int = 1) -> Value:
        """Returns or raises it."""
        if self.kind in ("ok", "bad_value"):
            return Value(self, run)
        raise ERRORS[self.kind](self, run)


def is_bad(value: object) -> bool:
    return isinstance(value, Value) and value.kind == "bad_value"


# What of a breaker's configuration says the same as the classifier of `conformance/README.md`.
BREAKER_PREDICATES: dict[str, Any] = {"on": (Failed, Fatal), "ignore": (Ignored, TryLater), "failed_result": is_bad}

# And of a retry policy's.
RETRY_PREDICATES: dict[str, Any] = {"on": (Failed, TryLater), "failed_result": is_bad}
