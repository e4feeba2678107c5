"""On a screen of 40 columns nothing is cut: it is folded, or stands name by name."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from rich.console import Console

from rage_retrievers.asgi import CircuitState
from rage_retrievers.cli.screen import Rows
from rage_retrievers.local import LocalServer

from .conftest import CIRCUITS, TOKEN, Run
from .test_command_line import COMMANDS

UUID = "0a1b2c3d-0000-4000-8000-123456789abc"


@pytest.fixture(params=[40, 50])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """So many columns."""
    monkeypatch.setenv("COLUMNS", str(request.param))
    return int(request.param)


def whole(shown: str, width: int) -> str:
    """What is shown without its line breaks and spaces; nothing in it is cut, and no line is too long."""
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= width
    return "".join(shown.split())


@pytest.mark.parametrize("columns", ["40", "50", "60", "71", "72"])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_cuts_no_name_and_no_sentence(
    run: Run, command: str, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options, descriptions and exit codes are whole; examples are kept in one line, to be copied."""
    monkeypatch.setenv("COLUMNS", columns)
    shown = run(*filter(None, [command]), "--help").out
    assert "…" not in shown
    assert not re.search(r"\w\.\.\.$", shown, re.MULTILINE)
    assert "[bold]" not in shown
    said = " ".join(shown.split())
    assert "Exit codes: 0 done, 1 the service or a call failed, 2 bad input or configuration, 130 " in said
    long = [line for line in shown.splitlines() if len(line) > int(columns)]
    assert all(line.strip().startswith("rage ") for line in long)


def test_load_test(run: Run, where: LocalServer, width: int) -> None:
    """Latencies, and each row of the histogram with its bounds, its bar and its count."""
    shown = run("load-test", "bees", "-n", "9", "-c", "1").out
    whole(shown, width)
    rows = re.findall(r"^ *[\d,.]+ to [\d,.]+ ms  [█▏]* (\d+) *$", shown, re.MULTILINE)
    assert sum(map(int, rows)) == 9
    assert re.search(r"^ *█+ *$", shown, re.MULTILINE) is None
    assert re.search(r"p50 +(p90|[\d.]+)", shown)


def test_metrics_and_circuits(run: Run, operated: str, width: int) -> None:
    """Every name stands beside its value."""
    shown = whole(run("metrics", "--url", operated).out, width)
    assert "pipelineaip00000-0000-4000-8000-000000000000operationretrieveoutcomeansweredcount2" in shown.replace(
        "error-", ""
    )
    assert "p99ms" in shown
    CIRCUITS[:] = [CircuitState("https://service.example.org/v1", UUID, f"aip-{UUID}", "open", 12.5)]
    shown = whole(run("circuit-status", "--url", operated).out, width)
    assert f"organization{UUID}servicehttps://service.example.org/v1nextprobein12.5s" in shown


def test_error_analysis(run: Run, tmp_path: Path, width: int) -> None:
    """The pipeline's numbers have their names."""
    log = tmp_path / "app.log"
    line = {"timestamp": "2026-01-01T10:00:00.000Z", "event": "retrieve.failed", "pipeline": f"aip-{UUID}"}
    failed = {"error_type": "ServerError", "status": 503, "attempts": 1, "elapsed_ms": 12345.0}
    log.write_text(json.dumps(line | failed) + "\n")
    shown = whole(run("error-analysis", str(log)).out, width)
    assert f"pipelineaip-{UUID}calls1failed1rate100.0%" in shown
    assert "p95ms" in shown


def test_the_name_of_a_source_is_whole(run: Run, folder: Path, width: int) -> None:
    """A path that is longer than the line goes on in the next."""
    name = "a folder of a rather long name/another one below it/bees and hives.txt"
    (folder / name).parent.mkdir(parents=True)
    (folder / "bees.txt").rename(folder / name)
    shown = whole(run("ask", "bees hive", "--base-url", f"local:{folder}", "-k", "1").out, width)
    assert "".join(name.split()) in shown


def test_a_table_is_a_table_wherever_it_can_be_read() -> None:
    """Texts fold until they are too narrow to be read; numbers never do."""
    table = Rows(("pipeline", "count"), [[UUID, "1,234,567"]], numbers=("count",), title="calls")
    for width, lines in ((60, 3), (24, 5), (22, 5)):
        console = Console(width=width, record=True, file=None)
        with console.capture() as shown:
            console.print(table)
        assert len(shown.get().splitlines()) == lines, shown.get()
        assert "1,234,567" in shown.get()


def test_a_real_terminal_of_40_columns(folder: Path, tmp_path: Path) -> None:
    """Its width is the terminal's own; progress fits in it, too."""
    terminal, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    running = subprocess.Popen(
        [sys.executable, "-m", "rage_retrievers.cli", "load-test", "bees", "--base-url", f"local:{folder}", "-n", "50"],
        stdin=other, stdout=other, stderr=other, env={**kept, "TERM": "xterm", "VECTORIZE_API_KEY": TOKEN},
    )  # fmt: skip
    os.close(other)
    shown = b""
    try:
        while read := os.read(terminal, 65536):
            shown += read
    except OSError:  # what Linux says when the other side is closed
        pass
    os.close(terminal)
    assert running.wait(timeout=60) == 0
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()))
    whole("\n".join(lines), 40)
    assert any(re.match(r"asking ━+ +\d+/50 0:00:0\d", line) for line in lines)
