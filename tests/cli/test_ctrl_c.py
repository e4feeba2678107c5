"""Ctrl-C at any time: one line, 130, no traceback, nothing temporary left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rage_retrievers.testing import FaultServer, ReceivedRequest
from rage_retrievers.testing.faults import Fault, Hang, Write

from .conftest import TOKEN

Start = Callable[..., subprocess.Popen[str]]
STOPPED = "rage: stopped by Ctrl-C\n"


def stop(running: subprocess.Popen[str]) -> tuple[str, str]:
    """Send Ctrl-C; what was said on stdout and stderr."""
    running.send_signal(signal.SIGINT)
    return running.communicate(timeout=30)


class Silent:
    """A service that reads requests and never answers; `asked` is set once it has read the first."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def __call__(self, _: ReceivedRequest) -> bytes:
        self.asked.set()
        return b""


@pytest.fixture
def silent() -> Iterator[tuple[Silent, list[str]]]:
    """The silent service, and the options that lead to it."""
    silent = Silent()
    with FaultServer(Fault((Write(silent), Hang()))) as server:
        yield silent, ["--base-url", server.url, "--organization", "o", "--pipeline", "p", "--api-key", TOKEN]


@pytest.mark.parametrize("words", [("ask", "q"), ("health",), ("research", "q")], ids=lambda words: words[0])
@pytest.mark.parametrize("as_json", [False, True], ids=["people", "programs"])
def test_a_call_under_way_is_stopped(
    start: Start, silent: tuple[Silent, list[str]], words: tuple[str, ...], as_json: bool
) -> None:
    """Nothing waits for the answer or for the deadline."""
    service, where = silent
    running = start(*words, *where, *(["--json"] if as_json else []), RAGE_TIMEOUT_MS="600000")
    assert service.asked.wait(30)
    assert (*stop(running), running.returncode) == ("", STOPPED, 130)


def test_a_load_test_shows_what_it_has_measured(start: Start, silent: tuple[Silent, list[str]], tmp_path: Path) -> None:
    """The numbers so far on stdout and in the report, then the line; 130 although no call had failed."""
    service, where = silent
    report = tmp_path / "load.html"
    running = start("load-test", "q", *where, "--json", "--report", str(report))
    assert service.asked.wait(30)
    shown, said = stop(running)
    assert (said, running.returncode) == (STOPPED, 130)
    assert json.loads(shown)["interrupted"] is True
    assert "(interrupted)" in report.read_text()
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("cache", "docs")] == ["load.html"]


def test_reading_a_log_is_stopped(start: Start, tmp_path: Path) -> None:
    """A log that comes through a pipe may never end."""
    log = tmp_path / "log"
    os.mkfifo(log)
    running = start("error-analysis", str(log))
    with log.open("w") as written:  # opens once it is read
        written.write("a line of another program\n")
        written.flush()
        assert (*stop(running), running.returncode) == ("", STOPPED, 130)


def test_the_demo_is_stopped_between_its_answers(start: Start, folder: Path, tmp_path: Path) -> None:
    """What it has shown stays, and the index it has made is whole."""
    running = start("demo", "--docs", str(folder), PYTHONUNBUFFERED="1")
    assert running.stdout is not None
    assert running.stdout.readline().startswith("documents")
    _, said = stop(running)
    assert (said, running.returncode) == (STOPPED, 130)
    again = start("ask", "bees", "--base-url", f"local:{folder}", "--json")
    assert "bees.txt" in again.communicate(timeout=60)[0]


@pytest.mark.parametrize("module", ["rage_retrievers.cli.ask", "rage_retrievers.client"])
def test_ctrl_c_before_a_command_has_begun(start: Start, folder: Path, module: str) -> None:
    """While what `rage` needs is still being loaded, it ends in the same way."""
    program = f"""
import os, signal, sys
class Impatient:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Impatient())
from rage_retrievers.cli import main
main()
"""
    running = start("ask", "bees", "--base-url", f"local:{folder}", program=program)
    shown, said = running.communicate(timeout=60)
    assert (shown, said) == ("", STOPPED)
    # Where Ctrl-C met the code of a module, Python ends by the signal itself: 130 for a shell, too.
    assert running.returncode in (130, -signal.SIGINT)
