""" "Did you mean": the known word that somebody who wrote another one had in mind. Imported when something is refused."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean"]


def did_you_mean(written: str, known: Iterable[str]) -> str:
    """What ends the sentence about a word that is not known; nothing if no known word is close."""
    plain = written.lower().replace("-", "_").replace(" ", "_")
    close = get_close_matches(plain, [*known], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
