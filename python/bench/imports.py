"""How much time of a core an import takes in a fresh interpreter, over importing what it cannot do without."""

from __future__ import annotations

import statistics
import subprocess
import sys

BASE = "import dataclasses, enum"

# Each over the same base; what a peer imports beyond it is its own.
MODULES = {
    "service-mesh": "codomyrmex.service_mesh",
    "pybreaker": "pybreaker",
    "circuitbreaker": "circuitbreaker",
    "purgatory": "purgatory",
    "aiobreaker": "aiobreaker",
    "interlock-cb": "interlock",
    "pyresilience": "pyresilience",
    "tenacity": "tenacity",
    "stamina": "stamina",
    "backoff": "backoff",
}

PROGRAM = """
import time
{base}
begin = time.process_time()
import {module}
print(time.process_time() - begin)
"""


def seconds(module: str) -> float:
    program = PROGRAM.format(base=BASE, module=module)
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return float(done.stdout)


def measure(rounds: int) -> list[tuple[str, float]]:
    """Who, and the median time of a core in seconds."""
    samples: dict[str, list[float]] = {who: [] for who in MODULES}
    for _ in range(rounds):
        for who, module in MODULES.items():
            samples[who].append(seconds(module))
    return [(who, statistics.median(taken)) for who, taken in samples.items()]
