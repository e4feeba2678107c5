"""The commands shown in the documentation print what is shown."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .test_examples import PAGES, ROOT, named

PAGES_WITH_COMMANDS = [named(page) for page in PAGES if "```console\n" in page.read_text()]


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS)
def test_documented_commands_print_what_is_shown(page: str) -> None:
    """Numbers, ids and instants apart; `python scripts/record_console.py PAGE` writes what is printed today."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "record_console.py", "--check", page],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
