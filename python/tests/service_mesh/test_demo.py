"""`python -m codomyrmex.service_mesh demo`, as a person runs it."""

from __future__ import annotations

import inspect
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from codomyrmex.service_mesh.demo import script

STORY = Path(__file__).parents[3] / "crates/story"
COMMAND = [sys.executable, "-X", "faulthandler", "-m", "codomyrmex.service_mesh"]


@pytest.fixture
def heard() -> Iterator[None]:
    """Sees that programs hear of Ctrl-C: in the background of some shells they are born deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def told(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        try:
            out, err = program.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            program.send_signal(signal.SIGABRT)  # it tells where it is
            pytest.fail("{}\nit does not come to an end:\n{}".format(*program.communicate()))
    return subprocess.CompletedProcess(command, program.returncode, out, err)


@pytest.mark.thread_unsafe
def test_no_caller_notices_that_servers_fail_hang_and_die() -> None:
    demo = told("demo")
    assert (demo.returncode, demo.stderr) == (0, "")
    summary = re.search(
        r"^(\d+) calls, (\d+) retries, 0 failed: no caller noticed anything$", demo.stdout, re.MULTILINE
    )
    assert summary is not None, demo.stdout
    calls, retries = map(int, summary.groups())
    parts = re.findall(r"^ +(\d+) answered, (\d+) retries, 0 failed$", demo.stdout, re.MULTILINE)
    assert [sum(map(int, column)) for column in zip(*parts, strict=True)] == [calls, retries]
    assert calls > 100
    # Each of the three troubles was met, and passed by.
    assert 0 < retries < calls / 5
    for server in ("alpha", "beta", "gamma"):
        assert re.search(rf"{server} +circuit tripped, \d+ failures in a row ", demo.stdout)
        assert re.search(rf"{server} +probed at .*: circuit reset, enough probes succeeded$", demo.stdout, re.MULTILINE)


@pytest.mark.skipif(not STORY.is_dir(), reason="the other demo is not here")
def test_its_parts_are_called_as_those_of_the_demo_in_rust() -> None:
    ours = inspect.getsource(script)
    begins = re.compile(r'journal\.begin\("(.*?)"\)')
    theirs = (STORY / "src/script.rs").read_text()
    assert begins.findall(ours) == begins.findall(theirs) != []


@pytest.mark.thread_unsafe
@pytest.mark.usefixtures("heard")
def test_ctrl_c_tells_what_is_known_until_then() -> None:
    with subprocess.Popen([*COMMAND, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None and demo.stderr is not None
        line = ""
        while "all are well" not in line:
            line = demo.stdout.readline()
            assert line, demo.stderr.read()
        demo.send_signal(signal.SIGINT)
        out, err = demo.communicate(timeout=30)
    assert (demo.returncode, err) == (130, "")
    assert "\ninterrupted after " in out
    assert re.search(r"^until the interruption \d+ calls, ", out, re.MULTILINE)


@pytest.mark.thread_unsafe
@pytest.mark.usefixtures("heard")
def test_a_closed_pipe_is_no_error() -> None:
    with subprocess.Popen([*COMMAND, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None and demo.stderr is not None
        demo.stdout.readline()
        demo.stdout.close()
        demo.send_signal(signal.SIGINT)
        assert demo.stderr.read() == ""
    assert demo.returncode == 130


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["demo", "--help"]])
def test_help_says_what_it_does(arguments: list[str]) -> None:
    helped = told(*arguments)
    assert (helped.returncode, helped.stderr) == (0, "")
    assert helped.stdout.startswith("Usage: python -m codomyrmex.service_mesh demo\n")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["dmeo"], "there is no command dmeo, only demo; try --help\n"),
        (["demo", "--fast"], "demo takes no arguments, but was given --fast; try --help\n"),
    ],
)
def test_a_wrong_argument_is_one_clear_error(arguments: list[str], error: str) -> None:
    wrong = told(*arguments)
    assert (wrong.returncode, wrong.stdout, wrong.stderr) == (2, "", error)
