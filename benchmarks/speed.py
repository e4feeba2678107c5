"""Every measure of speed in one table, its bar beside it, and the machine it was measured on. Takes some minutes.

    python benchmarks/speed.py [--smoke]

With --smoke each part runs once and briefly, which shows that it works and not what the code can do; a missed bar is
then no failure.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import speed_calls
import speed_connections
import speed_path
from _table import show, smoke_asked

PARTS = (speed_calls, speed_path, speed_connections)
PACKAGES = ("httpx", "httpcore", "httptools", "langchain-core", "llama-index-core", "pydantic", "langchain-vectorize",
            "llama-index-retrievers-vectorize", "vectorize-client")  # fmt: skip


def machine() -> str:
    """The processor, the cores this process may use, and the versions that were measured."""
    described = Path("/proc/cpuinfo")
    models = (
        [line.partition(":")[2].strip() for line in described.read_text().splitlines() if "model name" in line]
        if (described.exists())
        else [platform.processor()]
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"{models[0]}, {cores} cores, Python {platform.python_version()}, {platform.system()}\n{versions}"


def main() -> int:
    """Print the table; 1 when a bar is missed."""
    assert __doc__ is not None
    smoke = smoke_asked(__doc__)
    print(machine(), end="\n\n", flush=True)
    missed = show([row for part in PARTS for row in part.rows(smoke)])
    return 0 if smoke else missed


if __name__ == "__main__":
    sys.exit(main())
