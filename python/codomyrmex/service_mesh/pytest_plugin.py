"""Fixtures, found by pytest where this package is installed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .testing import ManualClock, set_testing

__all__ = ["manual_clock", "no_waiting"]


@pytest.fixture
def manual_clock() -> ManualClock:
    """A clock at 0, to be given to what shall go by it (`clock=`)."""
    return ManualClock()


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """For the length of a test no retry of the process waits; attempts are as configured."""
    with set_testing(attempts=None):
        yield
