"""What an instrumentation sees, in a process of its own: it patches the framework for good."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import textwrap
from typing import Any

import pytest


def seen(module: str, script: str) -> tuple[Any, str]:
    """What the script, which the name of the instrumentation's module is put into, prints last, and its stderr.

    The test is skipped where the module is not installed, and fails where the token that the script plants is printed.
    """
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None:
        pytest.skip(f"{module} is not installed")
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert "planted-token" not in done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr
