"""Settings: where each value comes from, and what is said of a wrong one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rage_retrievers import ConfigurationError, VectorizeSettings
from rage_retrievers._calls import Calls
from rage_retrievers.resilience import Deadline, Retry
from rage_retrievers.settings import PROFILES, ConfigurationWarning, documented


def test_what_is_nearer_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Constructor, environment, .env, profile, default: each gives way to the one before it."""
    assert VectorizeSettings.load().cache_ttl == 300
    monkeypatch.setenv("RAGE_CONFIG_PROFILE", "performance")
    assert VectorizeSettings.load().cache_ttl == PROFILES["performance"]["cache_ttl"]
    Path(".env").write_text("RAGE_CACHE_TTL=11\nVECTORIZE_API_KEY=from-dotenv\n")
    assert VectorizeSettings.load().cache_ttl == 11
    monkeypatch.setenv("RAGE_CACHE_TTL", "12")
    assert VectorizeSettings.load().cache_ttl == 12
    assert VectorizeSettings.load(cache_ttl=13).cache_ttl == 13


@pytest.mark.parametrize(
    ("field", "variables"),
    [(name, names) for name, names in VectorizeSettings.variables().items() if len(names) > 1],
)
def test_every_public_name_of_a_variable_is_read(
    field: str, variables: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each alias is read, the first one in the list wins, and an empty variable counts as not set."""
    for name in reversed(variables):
        monkeypatch.setenv(name, f"https://{name}")
        value = getattr(VectorizeSettings.load(), field)
        assert (value.get_secret_value() if field == "api_key" else value) == f"https://{name}"
    monkeypatch.setenv(variables[0], "")
    value = getattr(VectorizeSettings.load(), field)
    assert (value.get_secret_value() if field == "api_key" else value) == f"https://{variables[1]}"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("RAGE_NUM_RESULTS", "x", "RAGE_NUM_RESULTS (setting num_results) = 'x'"),
        ("RAGE_TIMEOUT_MS", "0", "RAGE_TIMEOUT_MS (setting timeout_ms) = '0'"),
        ("RAGE_RETRY_ATTEMPTS", "-1", "RAGE_RETRY_ATTEMPTS"),
        ("RAGE_LOG_LEVEL", "LOUD", "'DEBUG', 'INFO'"),
        ("VECTORIZE_ENV", "moon", "'prod', 'staging', 'dev' or 'local'"),
        ("RAGE_CONFIG_PROFILE", "fast", "'performance'"),
    ],
)
def test_a_wrong_value_is_one_line(variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong value is one line with its name, the value and what is allowed."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        VectorizeSettings.load()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mistyped_variable_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that looks like ours is named with the nearest one; another product's is left alone."""
    monkeypatch.setenv("VECTORIZE_INDEX_NAME", "of another product")
    monkeypatch.setenv("RAGE_TIMOUT_MS", "5")
    with pytest.warns(ConfigurationWarning, match=r"RAGE_TIMOUT_MS.*RAGE_TIMEOUT_MS") as told:
        VectorizeSettings.load()
    assert len(told) == 1


def test_an_unknown_setting_is_a_type_error() -> None:
    """A constructor argument that is no setting is refused with the nearest name."""
    with pytest.raises(TypeError, match=r"timout_ms.*timeout_ms"):
        VectorizeSettings.load(timout_ms=5)


def test_settings_shape_the_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timeouts and retries of the environment reach the pipeline; no retries means no Retry."""
    monkeypatch.setenv("RAGE_TIMEOUT_MS", "2500")
    monkeypatch.setenv("RAGE_RETRY_ATTEMPTS", "4")
    options = {"api_key": "t", "organization": "o", "pipeline_id": "p"}
    resilience = Calls.make(options).resilience
    assert resilience.get("deadline") == Deadline(2.5)
    retry = resilience.get("retry")
    assert isinstance(retry, Retry)
    assert retry.attempts == 5
    monkeypatch.setenv("RAGE_RETRY_ATTEMPTS", "0")
    assert Calls.make(options).resilience.get("retry") is None


def test_the_token_is_in_no_text_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """repr, dump and error never hold the token."""
    monkeypatch.setenv("VECTORIZE_API_KEY", "planted-token")
    settings = VectorizeSettings.load()
    assert "planted-token" not in f"{settings!r} {settings.model_dump()} {settings.model_dump_json()}"


def test_every_setting_is_documented() -> None:
    """Each setting says what it is, and each profile sets settings that exist, with values that are allowed."""
    assert all(field.description for _, _, field in documented())
    for name in PROFILES:
        assert VectorizeSettings.load(config_profile=name).config_profile == name
    assert {key for values in PROFILES.values() for key in values} <= set(VectorizeSettings.model_fields)


def test_importing_the_package_is_light() -> None:
    """`import rage_retrievers` loads no framework, no HTTP library and nothing else that is heavy."""
    heavy = ["langchain_core", "llama_index", "httpx", "pydantic", "numpy", "redis", "tornado", "opentelemetry"]
    code = f"import sys, rage_retrievers; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
