"""`rage validate-config`: every setting with its source, and what is wrong."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from rage_retrievers.settings import PROFILES

from .conftest import TOKEN, Run
from .test_tokens import jwt


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> str:
    """A token, an organization and a pipeline of the real service; gives the token."""
    token = jwt(aud="org-1", exp=time.time() + 3600)
    _set(monkeypatch, VECTORIZE_API_KEY=token, VECTORIZE_ORGANIZATION_ID="org-1", VECTORIZE_PIPELINE_ID="aip-1")
    return token


def test_sources_are_told_and_win_in_their_order(run: Run, account: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment before .env before profile before default, each named, whatever the variable's case."""
    Path(".env").write_text("RAGE_TIMEOUT_MS=7000\nRAGE_CACHE_TTL=60\n")
    _set(monkeypatch, RAGE_TIMEOUT_MS="8000", rage_num_results="9", RAGE_CONFIG_PROFILE="performance")
    ended = run("validate-config", "--json")
    assert ended.code == 0, ended.err
    found = {setting["name"]: setting for setting in ended.json()["settings"]}
    assert _of(found, "timeout_ms") == (8000, "RAGE_TIMEOUT_MS")
    assert _of(found, "num_results") == (9, "RAGE_NUM_RESULTS")
    assert _of(found, "cache_ttl") == (60, ".env: RAGE_CACHE_TTL")
    assert _of(found, "max_in_flight") == (256, "profile performance")
    assert _of(found, "rerank") == (False, "default")
    assert ended.json()["valid"]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_is_printed(run: Run, account: str, profile: str) -> None:
    """--profile shows what a profile sets, as from that profile."""
    ended = run("validate-config", "--profile", profile, "--json")
    assert ended.code == 0
    settings = {setting["name"]: setting for setting in ended.json()["settings"]}
    for name, value in PROFILES[profile].items():
        assert _of(settings, name) == (value, f"profile {profile}")
    assert _of(settings, "config_profile") == (profile, "--profile")


def test_the_screen_fits_80_columns_and_masks_the_token(run: Run, account: str) -> None:
    """The token and its parts are nowhere; that calls can be made is said."""
    ended = run("validate-config")
    assert ended.code == 0
    assert "***" in ended.out
    assert "Calls can be made with these settings." in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80
    for part in (account, *account.split(".")):
        assert part not in ended.out + ended.err + run("validate-config", "--json").out


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (TOKEN, "not a JWT"),
        (jwt(aud="org-1", exp=1_600_000_000), "expired on 2020-09-13"),
        (jwt(aud="org-2"), "belongs to organization org-2"),
    ],
    ids=["not a JWT", "expired", "another organization"],
)
def test_problems_of_the_token_are_told_apart(
    run: Run, account: str, monkeypatch: pytest.MonkeyPatch, token: str, said: str
) -> None:
    """Each problem has its own words and exit code 2; the token is in none of them."""
    _set(monkeypatch, VECTORIZE_API_KEY=token)
    ended = run("validate-config", "--json")
    assert ended.code == 2
    (problem,) = ended.json()["problems"]
    assert said in problem
    assert token not in ended.out + ended.err


def test_a_service_on_this_machine_takes_any_token(run: Run, account: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a loopback address a token that is no JWT is a note, not a problem."""
    _set(monkeypatch, VECTORIZE_API_KEY=TOKEN, VECTORIZE_BASE_URL="http://127.0.0.1:8000/v1")
    ended = run("validate-config", "--json")
    assert ended.code == 0
    assert "not a JWT" in ended.json()["notes"][0]


def test_what_is_missing_is_a_problem(run: Run) -> None:
    """Without a token no call can be made: the settings are shown all the same, and the exit code is 2."""
    ended = run("validate-config", "--json")
    assert ended.code == 2
    assert ended.json()["problems"][0].startswith("api_key is missing")
    assert ended.json()["settings"]


@pytest.mark.parametrize(("name", "reason"), [("nope/x", "No such file or directory"), (".", "Is a directory")])
def test_an_audit_file_that_cannot_be_written_is_told(
    run: Run, account: str, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    """It is a problem where every call would fail for it, and a note where only the records are lost."""
    _set(monkeypatch, RAGE_ENABLE_AUDIT_LOG="true", RAGE_AUDIT_FILE=name, RAGE_AUDIT_REQUIRED="true")
    ended = run("validate-config", "--json")
    assert ended.code == 2
    (problem,) = ended.json()["problems"]
    assert problem == f"audit_file {name!r} cannot be written ({reason}), so every call will raise AuditError."
    _set(monkeypatch, RAGE_AUDIT_REQUIRED="false")
    ended = run("validate-config", "--json")
    assert (ended.code, ended.json()["problems"]) == (0, [])
    assert any("audit records are lost" in note for note in ended.json()["notes"])


@pytest.mark.parametrize("former", [None, b"a record\n"])
def test_an_audit_file_is_left_as_it_is(
    run: Run, account: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, former: bytes | None
) -> None:
    """A trail that can be written is no problem; none is begun by the check, and a former one stays."""
    trail = tmp_path / "audit.jsonl"
    if former is not None:
        trail.write_bytes(former)
    _set(monkeypatch, RAGE_ENABLE_AUDIT_LOG="true", RAGE_AUDIT_FILE=str(trail), RAGE_AUDIT_REQUIRED="true")
    assert run("validate-config").code == 0
    assert (trail.read_bytes() if trail.exists() else None) == former


def test_mistyped_variables_are_notes_wherever_they_stand(
    run: Run, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the environment and in .env a variable that is nearly ours is named."""
    Path(".env").write_text("RAGE_NUM_RESULT=3\n")
    _set(monkeypatch, RAGE_TIMOUT_MS="5")
    notes = run("validate-config", "--json").json()["notes"]
    assert any("RAGE_TIMOUT_MS" in note and "RAGE_TIMEOUT_MS" in note for note in notes)
    assert any("RAGE_NUM_RESULT " in note and "RAGE_NUM_RESULTS" in note for note in notes)


@pytest.mark.parametrize("words", [("--profile", "turbo"), ()])
def test_a_value_that_cannot_be_used_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """An unknown profile and a wrong number end with one line that says what is allowed."""
    if not words:
        _set(monkeypatch, RAGE_NUM_RESULTS="many")
    ended = run("validate-config", *words)
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "allowed: " in ended.err


def test_a_password_inside_an_address_is_hidden(run: Run, account: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials in a URL are shown nowhere."""
    _set(monkeypatch, VECTORIZE_BASE_URL="https://me:hunter2@example.org/v1")
    ended = run("validate-config", "--json")
    assert ended.code == 2
    assert "hunter2" not in ended.out + ended.err


def _of(found: dict[str, Any], name: str) -> tuple[Any, str]:
    return found[name]["value"], found[name]["source"]


def _set(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
