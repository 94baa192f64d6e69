from __future__ import annotations

import subprocess
import sys

OPTIONAL = ["httpx", "requests", "aiohttp", "prometheus_client", "opentelemetry", "trio", "http.server"]


def test_the_package_imports_no_library_that_it_works_with() -> None:
    program = f"""
import sys, codomyrmex.service_mesh
loaded = [name for name in {OPTIONAL!r} if name in sys.modules]
loaded += [name for name in sys.modules if name.startswith("codomyrmex.service_mesh.integrations")]
print(loaded)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
