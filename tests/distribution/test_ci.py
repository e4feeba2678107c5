"""What `.ci/run` says at its end, tried with a `make` that does nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(folder: Path, failing: str) -> subprocess.CompletedProcess[str]:
    """The script in a copy of the checkout's outline, where one target of make fails."""
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", folder / ".ci" / "run")
    make = folder / "bin" / "make"
    make.parent.mkdir()
    make.write_text(f'#!/bin/sh\necho "make $*"\n[ "$1" != {failing} ]\n')
    make.chmod(0o755)
    path = f"{make.parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", folder / ".ci" / "run"], env={"PATH": path}, text=True, capture_output=True, check=False
    )


def test_ci_runs_every_step_and_names_the_one_that_failed(tmp_path: Path) -> None:
    """A failure stops no other step, is named at the end, and is the exit status."""
    done = run(tmp_path, "docs")
    table = dict(line.split()[:2] for line in done.stdout.rpartition("=== steps")[2].splitlines()[1:-2])
    assert table == {
        "install": "passed", "lint": "passed", "types": "passed", "docs": "FAILED", "others": "passed",
        "package": "passed", "tests": "passed",
    }  # fmt: skip
    assert done.stdout.splitlines()[-1] == "steps: 6 passed, 1 failed"
    assert done.returncode == 1


def test_ci_passes_where_every_step_does(tmp_path: Path) -> None:
    """And shows what each of them printed."""
    done = run(tmp_path, "nothing")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "steps: 7 passed, 0 failed"
    assert "make package\n" in done.stdout


def test_the_two_lanes_run_every_test_once(tmp_path: Path) -> None:
    """What one lane leaves out is what the other one runs, each in one process, for two cores."""
    said = run(tmp_path, "nothing").stdout.partition("=== steps")[0].splitlines()
    asked = [line.split("TESTS=")[1].split() for line in said if line.startswith("make unit WORKERS=0")]
    most, others = sorted(asked, key=lambda words: words[0] != "tests")
    assert most == ["tests", *(f"--ignore={folder}" for folder in others)]
    assert all((ROOT / folder).is_dir() for folder in others)


def test_ci_ends_where_nothing_could_be_installed(tmp_path: Path) -> None:
    """Without an environment no step can mean anything but the one that needs none."""
    done = run(tmp_path, "install")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "steps: 1 passed, 1 failed"
