"""`codomyrmex` belongs to nobody: ours lives in it beside a regular package of that name, and neither harms the other."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from .conftest import Environment

pytestmark = pytest.mark.thread_unsafe(reason="it installs")

OURS = "import codomyrmex.service_mesh as ours; print(ours.CircuitBreaker('b').execute(lambda: 'ours works'))"
THEIRS = "import codomyrmex, codomyrmex.networking.service_mesh as theirs; print(codomyrmex.__version__, theirs.NAME)"
BOTH = f"{OURS}; {THEIRS}; from codomyrmex import service_mesh; print(service_mesh is ours)"

GONE = "import importlib.util, codomyrmex; print(importlib.util.find_spec('codomyrmex.service_mesh'))"


@pytest.fixture(scope="session")
def neighbour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distribution with a regular package `codomyrmex`, that finds its submodules by `__getattr__`, and a service mesh
    of its own in another place."""
    path = tmp_path_factory.mktemp("neighbour") / "codomyrmex-1.3.0-py3-none-any.whl"
    files = {
        "codomyrmex/__init__.py": "__version__ = '1.3.0'\n"
        "def __getattr__(name):\n"
        "    raise AttributeError(f'codomyrmex has no {name}')\n",
        "codomyrmex/networking/__init__.py": "",
        "codomyrmex/networking/service_mesh/__init__.py": "NAME = 'theirs works'\n",
        "codomyrmex-1.3.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: codomyrmex\nVersion: 1.3.0\n",
        "codomyrmex-1.3.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "codomyrmex-1.3.0.dist-info/RECORD"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(record, "".join(f"{name},,\n" for name in (*files, record)))
    return path


def test_alone_ours_is_imported_from_a_namespace(environment: Environment, wheel: Path) -> None:
    environment.install(wheel)
    assert environment.run(OURS) == "ours works"
    assert environment.run("import codomyrmex; print(codomyrmex.__file__)") == "None"


def test_ours_may_come_first_and_may_be_taken_out(environment: Environment, wheel: Path, neighbour: Path) -> None:
    environment.install(wheel)
    environment.install(neighbour)
    assert environment.run(BOTH).split("\n") == ["ours works", "1.3.0 theirs works", "True"]
    environment.uninstall("codomyrmex-service-mesh")
    assert environment.run(THEIRS) == "1.3.0 theirs works"
    assert environment.run(GONE) == "None"


def test_theirs_may_come_first_and_may_be_taken_out(environment: Environment, wheel: Path, neighbour: Path) -> None:
    environment.install(neighbour)
    environment.install(wheel)
    assert environment.run(BOTH).split("\n") == ["ours works", "1.3.0 theirs works", "True"]
    environment.uninstall("codomyrmex")
    assert environment.run(OURS) == "ours works"
