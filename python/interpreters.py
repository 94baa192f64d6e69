"""Prints which interpreters of this machine the wheel for 3.12 and later is for: one path a line, and one of each version.

They are those on PATH and those that pyenv has installed. Each is asked for its version, since a name on PATH may be a
shim with nothing behind it. Builds without the global lock are left out: `abi3` is not for them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

OLDEST, NEWEST = 12, 20
VERSION = """
import sys, sysconfig
print(sys.version_info[1], sysconfig.get_config_var("Py_GIL_DISABLED") or 0, sys.executable)
"""


def main() -> None:
    found: dict[int, str] = {}
    for candidate in candidates():
        answer = ask(candidate)
        if answer is not None and answer[0] >= OLDEST and answer[0] not in found:
            found[answer[0]] = answer[1]
    if not found:
        print("no Python 3.12 or later was found: the abi3 wheel is not tested", file=sys.stderr)
    for version, path in sorted(found.items()):
        print(f"Python 3.{version}: {path}", file=sys.stderr)
        print(path)


def candidates() -> Iterator[str]:
    names = ["python3", *(f"python3.{minor}" for minor in range(OLDEST, NEWEST))]
    yield from filter(None, map(shutil.which, names))
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from map(str, sorted(pyenv.glob("versions/3.*/bin/python3")))


def ask(interpreter: str) -> tuple[int, str] | None:
    """Its minor version and its own path, or None if it does not run or cannot load the wheel."""
    try:
        answer = subprocess.run([interpreter, "-c", VERSION], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    minor, without_lock, path = answer.stdout.strip().split(" ", 2)
    return None if without_lock == "1" else (int(minor), path)


if __name__ == "__main__":
    main()
