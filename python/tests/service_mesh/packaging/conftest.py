"""The wheel that is tested, and environments to install it into."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The wheel that this suite was installed from: `make python-test` tells."""
    path = os.environ.get("SERVICE_MESH_WHEEL")
    if path is None:
        pytest.skip("SERVICE_MESH_WHEEL names no wheel; `make python-test` does")
    return Path(path)


@dataclass(frozen=True)
class Environment:
    """A virtual environment with nothing in it, not even pip."""

    directory: Path

    @property
    def python(self) -> str:
        return str(self.directory / "bin" / "python")

    def install(self, distribution: Path) -> None:
        self._pip("install", "--no-index", "--no-deps", "--no-compile", str(distribution))

    def uninstall(self, name: str) -> None:
        self._pip("uninstall", "--yes", name)

    def run(self, code: str) -> str:
        """What the code prints, run from a directory that holds no source."""
        arguments = [self.python, "-c", code]
        run = subprocess.run(arguments, capture_output=True, text=True, timeout=60, cwd=self.directory, check=False)
        assert run.returncode == 0, run.stderr
        return run.stdout.strip()

    def _pip(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "pip", "--python", self.python, "--quiet", "--disable-pip-version-check"]
        run = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, check=False)
        assert run.returncode == 0, run.stderr


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    directory = tmp_path / "environment"
    venv.create(directory, symlinks=True)
    return Environment(directory)
