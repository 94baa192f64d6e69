"""What is in the wheel, and that it is the wheel that the rest of the suite tests."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import zipfile
from pathlib import Path, PurePosixPath

import pytest

import codomyrmex.service_mesh
from codomyrmex.service_mesh import _native

DISTRIBUTION = "codomyrmex-service-mesh"
SOURCE = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def names(wheel: Path) -> list[str]:
    return zipfile.ZipFile(wheel).namelist()


def test_what_is_tested_is_what_was_installed_and_not_the_source() -> None:
    distribution = importlib.metadata.distribution(DISTRIBUTION)
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        pytest.skip("the package was installed to be edited in place")
    for module in (codomyrmex.service_mesh, _native):
        assert module.__file__ is not None
        place = Path(module.__file__).resolve()
        assert not place.is_relative_to(SOURCE / "codomyrmex")
        assert place in {Path(str(file.locate())).resolve() for file in distribution.files or ()}


def test_the_package_says_its_version() -> None:
    assert codomyrmex.service_mesh.__version__ == importlib.metadata.version(DISTRIBUTION)


def test_nobody_owns_the_namespace(names: list[str]) -> None:
    inside = [PurePosixPath(name) for name in names if ".dist-info/" not in name]
    assert {path.parts[:2] for path in inside} == {("codomyrmex", "service_mesh")}


def test_it_brings_its_types_and_its_licences(names: list[str]) -> None:
    assert {"codomyrmex/service_mesh/py.typed", "codomyrmex/service_mesh/_native.pyi"} <= set(names)
    licences = {PurePosixPath(name).name for name in names if ".dist-info/licenses/" in name}
    assert licences == {"LICENSE-APACHE", "LICENSE-MIT"}


def test_a_licence_is_a_text_and_not_the_name_of_one(wheel: Path, names: list[str]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        texts = [archive.read(name).decode() for name in names if ".dist-info/licenses/" in name]
    assert sorted("Apache License" in text for text in texts) == [False, True]
    assert all(len(text) > 1000 for text in texts)


def test_it_brings_neither_tests_nor_benches_nor_what_was_compiled_elsewhere(names: list[str]) -> None:
    parts = {part for name in names for part in PurePosixPath(name).parts}
    assert not parts & {"tests", "bench", "__pycache__", "interpreters.py"}
    assert sum(name.endswith((".so", ".pyd")) for name in names) == 1


def test_its_tag_is_one_version_or_all_from_3_12_on(wheel: Path) -> None:
    _, _, python, interface, _ = wheel.stem.split("-", 4)
    assert (python, interface) == ("cp312", "abi3") or python == interface


def test_it_needs_nothing_else() -> None:
    needed = importlib.metadata.distribution(DISTRIBUTION).requires or []
    assert [need for need in needed if "extra ==" not in need] == []
