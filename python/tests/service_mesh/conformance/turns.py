"""A thread that is handed its turns: it runs until it says something, and waits until it is told something.

So calls of the sync driver overlap without ever racing.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

PATIENCE_SECONDS = 60
"""How long a test waits for a thread that never speaks, before it fails."""


class Gone(BaseException):
    """The test is over; so is the thread."""


class Turns:
    """Both ends: the test tells and listens, the thread asks."""

    def __init__(self, run: Callable[[Turns], Any]) -> None:
        self._says: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
        self._told: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._run = run
        self.thread = threading.Thread(target=self._main, daemon=True)
        self.thread.start()

    def _main(self) -> None:
        try:
            said = (True, self._run(self))
        except Gone:
            return
        except BaseException as error:  # the test shall see it
            said = (False, error)
        self._says.put(said)

    def listen(self) -> Any:
        """What the thread says next; the last is what it returns."""
        fine, said = self._says.get(timeout=PATIENCE_SECONDS)
        if not fine:
            raise said
        return said

    def tell(self, told: Any) -> Any:
        self._told.put(told)
        return self.listen()

    def end(self) -> None:
        """Ends the thread where it asks."""
        self._told.put(Gone)
        self.thread.join(PATIENCE_SECONDS)

    def ask(self, says: Any) -> Any:
        """In the thread: says something, and waits to be told something."""
        self._says.put((True, says))
        told = self._told.get()
        if told is Gone:
            raise Gone
        return told
