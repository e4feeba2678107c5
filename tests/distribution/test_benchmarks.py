"""Benchmarks are run by hand for their figures; here each runs once and briefly, so that none of them rots."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
COMMANDS = sorted(path.name for path in BENCHMARKS.glob("*.py") if not path.name.startswith("_"))
ALONE = {"local_ranking.py"}
"""Those that need a collection of documents that nobody may redistribute."""
WHOLE = {"resilience.py", "speed.py"}
"""Those that run the others, one after the other."""


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ALONE | WHOLE])
def test_a_benchmark_runs(command: str) -> None:
    """It measures something and prints a table; what it measures on a busy machine is no verdict."""
    run = subprocess.run(
        [sys.executable, str(BENCHMARKS / command), "--smoke"], capture_output=True, text=True, timeout=600, check=False
    )
    assert "Traceback" not in run.stderr, run.stderr
    assert run.returncode in (0, 1), run.stderr
    assert len(run.stdout.splitlines()) > 1


@pytest.mark.parametrize("command", sorted(ALONE))
def test_a_benchmark_says_what_it_needs(command: str, tmp_path: Path) -> None:
    """Without it there is a line that says so, and no figure; also where a collection lies beside this repository."""
    run = subprocess.run(
        [sys.executable, str(BENCHMARKS / command)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "RAGE_TEST_IR": str(tmp_path)},
    )
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
