"""The pages about Python do what they say: the blocks of each are run in their order, as one program.

The hosts `api-1` and `api-2` of the pages are servers of this process.
"""

from __future__ import annotations

import inspect
import re
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import requests

from codomyrmex import service_mesh
from codomyrmex.service_mesh import CircuitBreaker, LoadBalancer, Mesh, RetryPolicy, ServiceProxy

from .integrations.backend import Backend

REPOSITORY = Path(__file__).parents[3]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = [
    pytest.mark.thread_unsafe(reason="a page is a program, with names and a folder of its own"),
    pytest.mark.skipif(not (REPOSITORY / "docs").is_dir(), reason="the pages are not here"),
]


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The hosts of the pages listen on this port, each at a loopback address of its own."""
    look_up = socket.getaddrinfo
    first = Backend("1", ("127.0.0.2", 0))
    try:
        second = Backend("2", ("127.0.0.3", first.instance.port))
        known = {"api-1": "127.0.0.2", "api-2": "127.0.0.3"}

        def look_up_ours(host: Any, *args: Any, **kwargs: Any) -> Any:
            name = host.decode() if isinstance(host, bytes) else host
            return look_up(known.get(name, host), *args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", look_up_ours)
        try:
            yield first.instance.port
        finally:
            second.stop()
    finally:
        first.stop()


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "python/README.md",
        "docs/book/python.md",
        "docs/book/coming-from-python.md",
        "docs/book/differences-from-the-original.md",
    ],
)
def test_the_blocks_of_a_page_run(page: str, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (REPOSITORY / page).read_text().replace("8080", str(port))
    program = ModuleType("page")
    blocks = list(BLOCK.finditer(text))
    assert blocks, "a page without a block"
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what peers do is theirs
        for block in blocks:
            above = "\n" * text.count("\n", 0, block.start(1))
            exec(compile(above + block[1], page, "exec"), program.__dict__)


@pytest.mark.parametrize(
    "kind", [CircuitBreaker, LoadBalancer, Mesh, RetryPolicy, ServiceProxy], ids=lambda kind: kind.__name__
)
def test_the_example_that_help_shows_of_a_class_runs(
    kind: type, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    instance = f'{{ id = "1", host = "api-1", port = {port} }}'
    Path("mesh.toml").write_text(f"[services.payments]\ninstances = [{instance}]\n")
    program = {**vars(service_mesh), "requests": requests}
    blocks = BLOCK.findall(inspect.cleandoc(kind.__doc__ or "").replace("8080", str(port)))
    assert len(blocks) == 1
    exec(blocks[0], program)


def test_the_readme_shows_the_quick_start_of_the_original_to_the_letter() -> None:
    quick_start, decorators = SEED
    for page in ("README.md", "docs/book/python.md"):
        text = (REPOSITORY / page).read_text()
        assert f"```python\n{quick_start}```" in text, page
        assert decorators in text, page


SEED = (
    """\
from codomyrmex.service_mesh import (
    CircuitBreaker, LoadBalancer, RetryPolicy, ServiceInstance,
    LoadBalancerStrategy, with_circuit_breaker, with_retry
)

# Circuit breaker pattern
cb = CircuitBreaker("payment-service")

def call_payment_api():
    # External API call
    return {"status": "ok"}

result = cb.execute(call_payment_api)  # Protected call

# Load balancer
lb = LoadBalancer(strategy=LoadBalancerStrategy.ROUND_ROBIN)
lb.register(ServiceInstance(id="1", host="api-1", port=8080))
lb.register(ServiceInstance(id="2", host="api-2", port=8080))

instance = lb.get_instance()  # Returns next healthy instance
print(f"Routing to: {instance.address}")

# Retry with exponential backoff
policy = RetryPolicy(max_retries=3, initial_delay=0.1)
result = policy.execute(call_payment_api)
""",
    """\
@with_circuit_breaker("api-service")
def fetch_data():
    return requests.get("https://api.example.com")

@with_retry(max_retries=3)
def upload_file(path):
    # Automatically retries on failure
    pass
""",
)
