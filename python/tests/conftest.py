"""For pytest-run-parallel, which runs a test in several threads with the fixtures of one."""

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    if "manual_clock" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.thread_unsafe(reason="several threads would move one clock"))
