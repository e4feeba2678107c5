"""`scripts/check_npm_client.py` without npm and its registry: what it says of what is missing, and what it serves."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_npm_client.py"
_ASKS = """
import json, sys, urllib.request
steps, home, url, organization, pipeline = sys.argv[1:]
body = json.dumps({"question": "Why do bees dance?", "numResults": 3}).encode()
address = f"{url}/org/{organization}/pipelines/{pipeline}/retrieval"
headers = {"authorization": "Bearer any", "content-type": "application/json"}
with urllib.request.urlopen(urllib.request.Request(address, body, headers)) as answer:
    sources = [document["source"] for document in json.load(answer)["documents"]]
sys.exit(sources != ["bees.md", "engines.md"])
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which programs are looked for."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(SCRIPT)])
    return tmp_path


def program(tools: Path, name: str, code: str) -> None:
    (tools / name).write_text(f"#!{sys.executable}\n{code}")
    (tools / name).chmod(0o755)


def run() -> Any:
    return runpy.run_path(str(SCRIPT))["main"]()


def test_without_npm_nothing_is_tried(tools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says so, and is no failure."""
    assert run() == 0
    assert capsys.readouterr().out == "skipped: node and npm are not installed\n"


def test_without_its_registry_nothing_is_tried(tools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What npm complains of is told."""
    program(tools, "node", "")
    program(tools, "npm", "raise SystemExit('ENOTFOUND registry')")
    assert run() == 0
    assert "skipped: npm could not install @vectorize-io/vectorize-client 0.4.0:\nENOTFOUND" in capsys.readouterr().out


def test_the_steps_are_given_a_service_that_answers(tools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two documents are served while they run."""
    program(tools, "npm", "")
    program(tools, "node", _ASKS)
    assert run() == 0
    assert "0.4.0: works unmodified" in capsys.readouterr().out


def test_a_step_that_fails_is_a_failure(tools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit status says so."""
    program(tools, "npm", "")
    program(tools, "node", "raise SystemExit(1)")
    assert run() == 1
    assert "0.4.0: FAILED" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_steps_can_be_read() -> None:
    """By node, which runs them."""
    subprocess.run(["node", "--check", str(SCRIPT.with_suffix(".mjs"))], check=True)
