"""`rage health`, `metrics`, `circuit-status`, `error-analysis` and `research`: what operators ask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from rage_retrievers.asgi import CircuitState
from rage_retrievers.local import LocalServer, LocalService
from rage_retrievers.testing import FaultServer, status

from .conftest import CIRCUITS, TOKEN, Run


def test_health_asks_the_pipeline(run: Run, where: LocalServer) -> None:
    """Without --url the pipeline itself is asked, over HTTP; 0 says that it answers."""
    ended = run("health", "--json")
    assert ended.code == 0
    assert ended.json()["ready"] is True
    assert ended.json()["status"] == "LISTENING"
    assert ended.json()["documents"] == 3


def test_a_pipeline_that_is_not_there_is_not_healthy(run: Run, where: LocalServer) -> None:
    """An unknown pipeline is exit code 1."""
    ended = run("health", "--pipeline", "nobody")
    assert ended.code == 1
    assert ended.err.count("\n") == 1


def test_health_of_a_running_service(run: Run, operated: str) -> None:
    """With --url the service's own readiness decides: an open circuit is exit code 1."""
    assert run("health", "--url", operated, "--json").json()["ready"] is True
    CIRCUITS[:] = [CircuitState("http://service/v1", "org-1", "aip-1", "open", 12.5)]
    ended = run("health", "--url", operated)
    assert ended.code == 1
    assert "open 1" in ended.out


@pytest.mark.parametrize("option", ["--base-url", "--environment", "--organization", "--pipeline", "--api-key"])
def test_health_asks_one_service(run: Run, operated: str, option: str) -> None:
    """What would be passed over beside --url is refused in one line, instead of the other service looking healthy."""
    ended = run("health", "--url", operated, option, "local")
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert ended.err.startswith("rage: --url ")


def test_circuits_of_a_running_service(run: Run, operated: str) -> None:
    """State, pipeline and the time until the next probe are shown; an open circuit is exit code 1."""
    assert run("circuit-status", "--url", operated).code == 0
    CIRCUITS.append(CircuitState("http://service/v1", "org-1", "aip-2", "open", 12.5))
    ended = run("circuit-status", "--url", operated)
    assert ended.code == 1
    assert "aip-2" in ended.out
    assert "in 12.5 s" in ended.out
    assert len(run("circuit-status", "--url", operated, "--json").json()["circuits"]) == 2
    CIRCUITS.clear()
    assert "No call went through" in run("circuit-status", "--url", operated).out


def test_metrics_of_a_running_service(run: Run, operated: str) -> None:
    """Calls and attempts are counted and timed; --json gives everything."""
    ended = run("metrics", "--url", operated)
    assert ended.code == 0
    assert "answered" in ended.out
    assert "p95 ms" in ended.out
    calls = run("metrics", "--url", operated, "--json").json()["calls"]
    assert [(call["outcome"], call["latency"]["count"]) for call in calls] == [("answered", 2)]


@pytest.mark.parametrize("command", ["metrics", "circuit-status", "health"])
def test_a_service_that_is_not_ours_is_told(run: Run, server: LocalServer, command: str) -> None:
    """Nothing there, nothing of ours there, and an address that is none end in one line each."""
    ours = server.url.removesuffix("/v1")
    for url, code in ((ours, 1), ("http://127.0.0.1:9", 1), ("nonsense", 2), ("ftp://127.0.0.1", 2)):
        ended = run(command, "--url", url)
        assert (ended.code, ended.err.count("\n")) == (code, 1), (url, ended.err)


def test_serve_tells_operators_about_itself(run: Run, folder: Path) -> None:
    """The routes that `rage serve` adds answer for the server itself, and on loopback only."""
    from rage_retrievers.cli.operating import SelfProbe, operator_routes

    with LocalService.open(folder, api_key=TOKEN) as service:
        probe = SelfProbe()
        with LocalServer(service, routes=operator_routes("127.0.0.1", probe)) as server:
            probe.knows(server.url, service, TOKEN)
            url = server.url.removesuffix("/v1")
            assert run("health", "--url", url, "--json").json()["probe"]["status"] == "LISTENING"
            assert run("circuit-status", "--url", url, "--json").json()["circuits"][0]["state"] == "closed"
            assert run("metrics", "--url", url, "--json").json()["calls"][0]["operation"] == "pipeline"
    assert operator_routes("0.0.0.0", probe) == []


def test_error_analysis_says_what_failed_and_what_to_do(run: Run, tmp_path: Path) -> None:
    """What, since when, how often, where, what to do; foreign lines are counted and left alone."""
    log = tmp_path / "app.log"
    log.write_text("".join([_completed(1), _failed(2), _failed(3), "a line of another program\n"]))
    ended = run("error-analysis", str(log))
    assert ended.code == 0
    assert "ServerError 503  2 failed calls (66.7%)" in ended.out
    assert "since 2026-01-01T10:02:00.000Z" in ended.out
    assert "aip-1" in ended.out
    assert "support" in ended.out
    assert "4 lines" in ended.out
    assert "1 of them not ours" in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80
    assert run("error-analysis", "--json", str(log)).json()["findings"][0]["count"] == 2


def test_error_analysis_says_nothing_of_an_attempt_but_that_it_failed(run: Run, tmp_path: Path) -> None:
    """The one attempt of a call that failed was made good by nothing; a single one is told as one."""
    log = tmp_path / "app.log"
    refused = {"error_type": "UnauthorizedError", "status": 401}
    attempt = _line("attempt.failed", 1, attempt=1, elapsed_ms=9.0, **refused)
    log.write_text(attempt + _line("retrieve.failed", 1, attempts=1, elapsed_ms=9.0, **refused))
    out = run("error-analysis", str(log)).out
    assert "UnauthorizedError 401  1 failed call (100.0%)" in out
    assert "UnauthorizedError 401  1 failed attempt (100.0%)" in out


def test_error_analysis_of_good_news_and_of_nothing(run: Run, tmp_path: Path) -> None:
    """Logs without failures and without our lines are told apart; a missing file is bad input."""
    good, none = tmp_path / "good.log", tmp_path / "none.log"
    good.write_text(_completed(1))
    none.write_text("hello\n")
    assert "Nothing failed." in run("error-analysis", str(good)).out
    assert "no event of this package" in run("error-analysis", str(none)).out
    ended = run("error-analysis", str(tmp_path / "missing.log"))
    assert (ended.code, ended.err.count("\n")) == (2, 1)


def test_error_analysis_reads_what_is_piped_into_it(run: Run, tmp_path: Path) -> None:
    """`-` is standard input and a named pipe is read to its end, beside files."""
    log, pipe = tmp_path / "app.log", tmp_path / "pipe"
    log.write_text(_completed(1))
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_text, args=(_failed(2),), daemon=True)  # should nobody read it
    writer.start()
    ended = run("error-analysis", str(log), "-", str(pipe), "--json", stdin=_failed(3) + _failed(4))
    assert ended.code == 0, ended.err
    assert ended.json()["findings"][0]["count"] == 3
    assert ended.json()["lines"] == 4


def test_error_analysis_of_a_closed_standard_input_is_bad_input() -> None:
    """As a service without a terminal may start it."""
    line = 'exec "$0" -m rage_retrievers.cli error-analysis - <&-'
    home = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(["sh", "-c", line, sys.executable], env=home, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert "standard input, which is closed; name a log file" in ended.stderr


def test_most_limits_what_is_shown_and_says_so(run: Run, tmp_path: Path) -> None:
    """A long list of findings is cut, and the rest is counted."""
    log = tmp_path / "app.log"
    log.write_text(_failed(1) + _failed(2, "NotFoundError", 404))
    shown = run("error-analysis", "--most", "1", str(log)).out
    assert "1 findings more" in shown


def test_research_ends_in_its_report(run: Run, where: LocalServer) -> None:
    """The report is Markdown on stdout; --json has the events, too."""
    ended = run("research", "What do honey bees do?")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("# ")
    assert "bees" in ended.out
    assert run("research", "What do honey bees do?", "--json").json()["markdown"] == ended.out[:-1]


def test_research_refuses_what_cannot_be_used(run: Run, where: LocalServer) -> None:
    """An empty question and a time of 0 are bad input."""
    assert run("research", " ").code == 2
    assert run("research", "q", "--timeout", "0").code == 2


@pytest.mark.parametrize("schema", ["nope", "", "[1]", "[" * 9000])
def test_research_refuses_a_schema_that_is_none(run: Run, schema: str) -> None:
    """What is no JSON object is refused before anything is sent; one that is goes to the service as it was given."""
    with FaultServer(status(401)) as server:
        where = ("--base-url", server.url, "--api-key", "any", "--organization", "o", "--pipeline", "p")
        ended = run("research", "q", "--schema", schema, *where)
        assert (ended.code, ended.err.count("\n"), server.requests) == (2, 1, [])
        assert "give a JSON object" in ended.err
        run("research", "q", "--schema", '{"type": "object"}', *where)
        assert json.loads(server.requests[0].body)["schema"] == '{"type": "object"}'


def _line(event: str, minute: int, **fields: object) -> str:
    at = f"2026-01-01T10:{minute:02d}:00.000Z"
    return json.dumps({"timestamp": at, "event": event, "pipeline": "aip-1", "correlation_id": "c", **fields}) + "\n"


def _completed(minute: int) -> str:
    return _line("retrieve.completed", minute, attempts=1, elapsed_ms=100.0, documents=5)


def _failed(minute: int, error: str = "ServerError", status: int = 503) -> str:
    return _line("retrieve.failed", minute, attempts=3, elapsed_ms=9.0, error_type=error, status=status)
