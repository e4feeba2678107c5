"""What the commands print holds no token, whatever a service echoes and a log holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rage_retrievers.testing import FaultServer, ReceivedRequest
from rage_retrievers.testing.faults import Fault, Write, answer_body, http

from .conftest import Run

OPAQUE = "opaque/token+with;odd&chars-4711-longer"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJhdWQiOiJvcmctMSJ9.cGxhbnRlZC1zaWduYXR1cmUtdGhhdC1pcy1sb25n"
EMAIL = "ada.lovelace@example.org"


def echo(request: ReceivedRequest) -> bytes:
    """An answer that holds the token everywhere where the service can put words."""
    told = json.dumps(dict(request.headers))
    token = request.headers["authorization"].removeprefix("Bearer ")
    if not request.path.endswith("/retrieval"):
        return http(200, json.dumps({"data": {"id": token, "name": told, "status": "LISTENING"}}).encode())
    answer = json.loads(answer_body())
    answer["documents"][0].update(text=told, id=token, source=token, metadata={token: told})
    return http(200, json.dumps(answer).encode())


@pytest.mark.parametrize("token", [OPAQUE, JWT], ids=["opaque", "JWT"])
@pytest.mark.parametrize("json_or_not", [(), ("--json",)], ids=["people", "programs"])
@pytest.mark.parametrize(
    "words", [("ask", "q"), ("ask", "q", "--full"), ("health",), ("load-test", "q", "-n", "2")], ids=" ".join
)
def test_an_echoed_token_is_not_printed(
    run: Run, monkeypatch: pytest.MonkeyPatch, token: str, json_or_not: tuple[str, ...], words: tuple[str, ...]
) -> None:
    """In passages, ids, names and metadata; for people, for programs, and in the log of RAGE_DEBUG with texts."""
    monkeypatch.setenv("RAGE_DEBUG", "1")
    monkeypatch.setenv("RAGE_LOG_TEXTS", "1")
    monkeypatch.setenv("VECTORIZE_API_KEY", token)
    monkeypatch.setenv("COLUMNS", "400")
    with FaultServer(Fault((Write(echo),))) as server:
        ended = run(*words, *json_or_not, "--base-url", server.url, "--organization", "o", "--pipeline", EMAIL)
    assert ended.code == 0, ended.err
    assert not [part for part in (token, token[:20], token[-20:]) if part in ended.out + ended.err]
    assert "retrieve.texts" in ended.err or words[0] == "health"
    assert EMAIL not in ended.out + ended.err
    if json_or_not:
        ended.json()


@pytest.mark.parametrize("json_or_not", [(), ("--json",)], ids=["people", "programs"])
def test_a_log_that_holds_a_token_shows_none(run: Run, tmp_path: Path, json_or_not: tuple[str, ...]) -> None:
    """Written by another program, or by another version: what is told of it is redacted again."""
    log = tmp_path / "app.log"
    lines = []
    for planted in (JWT, EMAIL):
        failed = {"error_type": planted, "status": 503, "attempts": 1, "elapsed_ms": 9.0, "error": f"HTTP: {planted}"}
        place = {"timestamp": "2026-01-01T10:00:00.000Z", "pipeline": planted, "correlation_id": planted}
        lines.append(json.dumps({"event": "retrieve.failed", **place, **failed}) + "\n")
    log.write_text("".join(lines))
    shown = run("error-analysis", str(log), *json_or_not).out
    assert (JWT[:20] in shown, "lovelace" in shown) == (False, False)
    assert "1 failed call" in shown or json.loads(shown)["lines"] == 2


def test_the_configuration_shows_no_address_of_a_person(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user agent often names somebody to write to; it is shown as `/rage/config` shows it."""
    monkeypatch.setenv("RAGE_USER_AGENT", f"search/1.0 ({EMAIL})")
    assert "search/1.0 ([email])" in run("validate-config", "--json").out
