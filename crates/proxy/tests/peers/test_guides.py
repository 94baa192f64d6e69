"""The files that the guides give away: as far as they can be tried without systemd and Docker running."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

BINARY = os.environ["SERVICE_MESH"]
EXAMPLES = Path(__file__).parents[4] / "examples" / "sidecar"


@pytest.mark.parametrize("name", ["mesh.toml", "compose.toml"])
def test_the_policies_have_no_mistake(name):
    subprocess.run([BINARY, "check", EXAMPLES / name], capture_output=True, check=True)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_the_unit_has_no_mistake(tmp_path):
    # It looks whether the program is there.
    unit = (EXAMPLES / "service-mesh.service").read_text().replace("/usr/local/bin/service-mesh", BINARY)
    (tmp_path / "service-mesh.service").write_text(unit)
    command = ["systemd-analyze", "verify", "--man=no", tmp_path / "service-mesh.service"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (0, "")


def test_what_ends_the_sidecar_gives_it_time_to_drain():
    policy = (EXAMPLES / "mesh.toml").read_text()
    drain = sum(int(line.split("=")[1]) for line in policy.splitlines() if line.startswith(("delay", "deadline")))
    unit = (EXAMPLES / "service-mesh.service").read_text()
    stop = next(line for line in unit.splitlines() if line.startswith("TimeoutStopSec="))
    assert int(stop.split("=")[1]) > drain
    compose = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())
    assert int(compose["services"]["mesh"]["stop_grace_period"].removesuffix("s")) > drain


def test_the_compose_file_names_what_is_there():
    compose = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())
    mesh = compose["services"]["mesh"]
    policy, inside, mode = mesh["volumes"][0].split(":")
    assert (EXAMPLES / policy).is_file() and mode == "ro" and mesh["command"] == ["run", inside]
    root = EXAMPLES / mesh["build"]["context"]
    assert (root / mesh["build"]["dockerfile"]).is_file() and (root / "Cargo.lock").is_file()
    # The name that is asked for in DNS is that of a service.
    assert f'dns = "{next(name for name in compose["services"] if name != "mesh")}:' in (EXAMPLES / policy).read_text()
    docker = ["docker", "compose", "-f", EXAMPLES / "compose.yaml"]
    if (
        shutil.which("docker")
        and subprocess.run([*docker, "version"], capture_output=True, check=False).returncode == 0
    ):
        subprocess.run([*docker, "config", "--quiet"], capture_output=True, check=True)
