"""`rage serve`: a folder behind the protocol, as a process of its own."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from rage_retrievers import ConfigurationError

from .conftest import TOKEN, Run

Start = Callable[..., subprocess.Popen[str]]


def _announced(running: subprocess.Popen[str]) -> dict[str, object]:
    """What `serve --json` says once it answers."""
    assert running.stdout is not None
    lines: list[str] = []
    while not (lines and lines[-1] == "}\n"):
        lines.append(running.stdout.readline())
        assert lines[-1], running.stderr.read() if running.stderr else ""
    said = json.loads("".join(lines))
    assert isinstance(said, dict)
    return said


def _shown(running: subprocess.Popen[str]) -> str:
    """What `serve` says to people once it answers."""
    assert running.stdout is not None
    shown = ""
    while "Ctrl-C" not in shown:
        line = running.stdout.readline()
        assert line
        shown += line
    return shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_until_it_is_told_to_stop(start: Start, folder: Path, number: signal.Signals) -> None:
    """Address and ids are told once the service answers; Ctrl-C and a polite kill end it with 0 and no traceback."""
    running = start("serve", str(folder), "--port", "0", "--json")
    said = _announced(running)
    answer = httpx.post(
        f"{said['base_url']}/org/{said['organization']}/pipelines/{said['pipeline_id']}/retrieval",
        headers={"Authorization": "Bearer any"},
        json={"question": "queen of the hive", "numResults": 1, "rerank": False},
    )
    assert answer.json()["documents"][0]["source"] == "bees.txt"
    running.send_signal(number)
    _, complaints = running.communicate(timeout=20)
    assert running.returncode == 0
    assert complaints == ""


def test_people_get_a_curl_command_and_the_skipped_files(start: Start, folder: Path) -> None:
    """The screen shows URL, ids, an example to copy, and every file that could not be read; never the key."""
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    running = start("serve", str(folder), "--port", "0", "--api-key", TOKEN)
    shown = _shown(running)
    running.send_signal(signal.SIGINT)
    rest, remarks = running.communicate(timeout=20)
    assert "curl -s http://127.0.0.1:" in shown
    assert "$VECTORIZE_API_KEY" in shown
    assert "3 files" in shown
    assert "skipped broken.pdf" in remarks
    assert TOKEN not in shown + rest + remarks


def test_an_empty_folder_is_served_and_told(start: Start, tmp_path: Path) -> None:
    """Files may come while it runs; until then somebody should know why nothing is found."""
    (tmp_path / "none").mkdir()
    running = start("serve", str(tmp_path / "none"), "--port", "0", "--json")
    assert _announced(running)["files"] == 0
    running.send_signal(signal.SIGINT)
    _, remarks = running.communicate(timeout=20)
    assert "none holds no .md, .txt, .html, .pdf or .docx file" in remarks


def test_one_document_is_told_as_one(start: Start, tmp_path: Path) -> None:
    """A number of one has no plural."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "bees.txt").write_text("Honey bees dance.")
    running = start("serve", str(tmp_path / "one"), "--port", "0")
    assert ": 1 file, 1 passage, " in _shown(running)


def test_brief_answers_are_worked_out_in_its_own_loop(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process serves nobody else, and a thread for each would take a fifth longer."""
    given: dict[str, Any] = {}

    def refuses(_: object, **options: Any) -> None:
        given.update(options)
        raise ConfigurationError("not today")

    monkeypatch.setattr("rage_retrievers.local.LocalServer", refuses, raising=False)
    assert run("serve", str(folder)).code == 2
    assert given["loop_waits"] is True


def test_an_unreadable_folder_is_bad_input(run: Run, tmp_path: Path) -> None:
    """A folder that is not there is named, with exit code 2."""
    ended = run("serve", str(tmp_path / "nowhere"))
    assert ended.code == 2
    assert "nowhere" in ended.err
    assert ended.err.count("\n") == 1


def test_a_taken_port_is_bad_input(run: Run, folder: Path) -> None:
    """A port that somebody else listens on is named, with exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run("serve", str(folder), "--port", port)
    assert ended.code == 2
    assert port in ended.err


def test_other_machines_need_a_key(run: Run, folder: Path) -> None:
    """Listening beyond loopback without a key is refused."""
    ended = run("serve", str(folder), "--host", "0.0.0.0", "--port", "0")
    assert ended.code == 2
    assert "api_key" in ended.err
