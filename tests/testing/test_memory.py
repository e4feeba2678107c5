"""What the engines keep in memory while a server sends too much."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from rage_retrievers.testing import FAULTS, FaultServer, answer
from testing.engines import WORLDS

MOST = 64 * 1024 * 1024


@pytest.mark.parametrize("world", sorted(WORLDS))
def test_an_oversized_answer_takes_less_than_64_mib(world: str) -> None:
    """300 MB bodies, bombs, endless heads, millions of tiny values, one after the other, at the usual 16 MiB."""
    cases = [case for case in FAULTS.values() if case.group == "size"]
    with ExitStack() as stack:
        servers = [stack.enter_context(FaultServer(script)) for script in (answer(), *(case.script for case in cases))]
        command = [sys.executable, str(Path(__file__).with_name("memory.py")), "client", world]
        done = subprocess.run(
            [*command, *(server.url for server in servers)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert all(len(server.requests) == 1 for server in servers)
    assert int(done.stdout) < MOST, done.stdout
    assert done.stderr.count("ResponseTooLargeError") >= 12, done.stderr
