"""Runs `rage` in this process or in one of its own, over a small folder of documents."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rage_retrievers import VectorizeClient
from rage_retrievers.asgi import CircuitState, routes
from rage_retrievers.cli.app import app
from rage_retrievers.local import LocalServer, LocalService
from rage_retrievers.observability import Metrics

TEXTS = {
    "tomatoes.md": "# Tomatoes\n\nTomatoes want sun and water. Prune the side shoots of tomatoes every week.",
    "bees.txt": "Honey bees dance to tell each other where the flowers are. A hive holds one queen.",
    "engines.txt": "A two stroke engine fires once in every revolution of the crankshaft.",
}
TOKEN = "secret-token-that-must-never-be-shown"
CIRCUITS: list[CircuitState] = []
"""The circuits that the `operated` service tells of."""
_PROGRAM = "from rage_retrievers.cli import main; main()"


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three small documents."""
    home = tmp_path / "docs"
    home.mkdir()
    for name, text in TEXTS.items():
        (home / name).write_text(text, encoding="utf-8")
    (home / "bees.txt.metadata.json").write_text('{"year": 2024, "kind": "insect"}')
    (home / "tomatoes.md.metadata.json").write_text('{"year": 2023, "kind": "plant"}')
    return home


@pytest.fixture
def run() -> Run:
    """Runs a command in this process."""

    def in_process(*words: str, stdin: str | None = None) -> Outcome:
        result = CliRunner().invoke(app, list(words), input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return in_process


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard() -> Iterator[None]:
    """A shell starts its background jobs, and so whatever they start, with Ctrl-C ignored."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a command as a process of its own; it is gone at the end of the test."""
    started: list[subprocess.Popen[str]] = []

    def process(*words: str, program: str = _PROGRAM, **environment: str) -> subprocess.Popen[str]:
        running = subprocess.Popen(
            [sys.executable, "-c", program, *words],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        started.append(running)
        return running

    yield process
    for running in started:
        if running.poll() is None:
            running.kill()
        running.communicate()


@pytest.fixture
def server(folder: Path, tmp_path: Path) -> Iterator[LocalServer]:
    """The folder behind real HTTP on loopback; any token is accepted."""
    service = LocalService.open(folder, cache_dir=tmp_path / "server-cache")
    with service, LocalServer(service) as running:
        yield running


@pytest.fixture
def where(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    """The environment of a user whose service is `server`."""
    from rage_retrievers.local import LOCAL_ORGANIZATION, LOCAL_PIPELINE

    monkeypatch.setenv("VECTORIZE_API_KEY", TOKEN)
    monkeypatch.setenv("VECTORIZE_ORGANIZATION_ID", LOCAL_ORGANIZATION)
    monkeypatch.setenv("VECTORIZE_PIPELINE_ID", LOCAL_PIPELINE)
    monkeypatch.setenv("VECTORIZE_BASE_URL", server.url)
    return server


@pytest.fixture
def operated(folder: Path, tmp_path: Path) -> Iterator[str]:
    """A service that mounts the operators' routes and has answered two questions; gives its address."""
    CIRCUITS[:] = [CircuitState("http://service/v1", "org-1", "aip-1", "closed", 0.0)]
    metrics = Metrics()
    with LocalService.open(folder, cache_dir=tmp_path / "server-cache") as service:
        told = routes(metrics=metrics, states=lambda: CIRCUITS)
        with (
            LocalServer(service, routes=told) as server,
            VectorizeClient(
                base_url=server.url,
                organization=service.organization,
                pipeline_id=service.pipeline_id,
                api_key=TOKEN,
                listeners=(metrics,),
            ) as client,
        ):
            client.retrieve("bees")
            client.retrieve("tomatoes")
            yield server.url.removesuffix("/v1")
