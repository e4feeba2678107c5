"""A project that uses this package is type-checked as strictly as this one, without its configuration or plugins."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
USES = {"core_uses.py": "tests/typing_api.py", "langchain_uses.py": "tests/langchain_face/typing_uses.py"}


def test_a_strict_consumer_project_type_checks(tmp_path: Path) -> None:
    """mypy --strict finds nothing in code that uses the package, and every mistake in it that is marked as one."""
    for name, source in USES.items():
        shutil.copy(ROOT / source, tmp_path / name)
    # Errors inside of an installed package are not shown to those who use it; neither are they here.
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", *USES]
    cache = ["--cache-dir", str(ROOT / ".mypy_cache" / "consumer")]
    done = subprocess.run(
        [*command, *cache],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
