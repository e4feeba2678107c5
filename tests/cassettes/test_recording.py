"""What `make cassettes LIVE=1` would write, tried on a stand-in: nobody here can reach the real service."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from rage_retrievers.errors import ConfigurationError
from rage_retrievers.local import LocalServer, LocalService

from .promises import PROMISES
from .scrub import findings
from .tape import header_of

ROOT = Path(__file__).parents[2]
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJhdWQiOiJvcmcifQ.c2lnbmF0dXJl"
ORGANIZATION = "582893ba-291c-4ec7-a6ee-e85c26888817"
PIPELINE = "aipf9ab5-702c-40de-a2f7-8a2139129ba5"
RECORDED = ("retrieve", "rerank", "pipeline", "error-401", "error-404", "error-503")


@pytest.fixture
def script() -> ModuleType:
    """The recording script as a module."""
    spec = importlib.util.spec_from_file_location("record_cassettes", ROOT / "scripts" / "record_cassettes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_live_recording_is_scrubbed_like_any_other(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The account of the environment is asked, and neither its token nor its ids are written down."""
    documents = ROOT / "tests" / "cassettes" / "documents"
    opened = LocalService.open(
        documents, cache_dir=tmp_path / "cache", api_key=TOKEN, organization=ORGANIZATION, pipeline_id=PIPELINE
    )
    with opened as service, LocalServer(service) as server:
        monkeypatch.setenv("VECTORIZE_API_KEY", TOKEN)
        monkeypatch.setenv("VECTORIZE_ORGANIZATION_ID", ORGANIZATION)
        monkeypatch.setenv("VECTORIZE_PIPELINE_ID", PIPELINE)
        monkeypatch.setenv("VECTORIZE_BASE_URL", server.url)
        promises = [PROMISES[name] for name in RECORDED]
        assert script.record_all(promises, tmp_path / "cassettes", from_service=True) == 0, capsys.readouterr().out
    files = sorted((tmp_path / "cassettes").iterdir())
    assert [file.stem for file in files] == sorted(RECORDED)
    for file in files:
        text = file.read_text("utf-8")
        assert [secret for secret in (TOKEN, ORGANIZATION, PIPELINE) if secret in text] == []
        assert findings(text) == []
    assert header_of(tmp_path / "cassettes" / "retrieve.yaml")["recorded against"] == f"the service at {server.url}"


def test_a_live_recording_without_an_account_says_what_is_missing(script: ModuleType, tmp_path: Path) -> None:
    """Nothing is asked of anybody."""
    with pytest.raises(ConfigurationError, match="VECTORIZE_API_KEY"):
        script.record_all([], tmp_path, from_service=True)


def test_a_promise_that_does_not_hold_leaves_the_old_cassette(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failed recording replaces nothing, and is counted."""
    from dataclasses import replace

    def refuse(_: object) -> None:
        raise AssertionError("it did not hold")

    (tmp_path / "error-503.yaml").write_text("the old one")
    assert script.record_all([replace(PROMISES["error-503"], check=refuse)], tmp_path, from_service=False) == 1
    assert (tmp_path / "error-503.yaml").read_text() == "the old one"
    assert "it did not hold" in capsys.readouterr().out
