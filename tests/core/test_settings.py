"""Settings: where each value comes from, and what is said of a wrong one."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from pydantic import SecretStr

from rage_retrievers import ConfigurationError, VectorizeClient, VectorizeSettings, scope
from rage_retrievers._calls import Calls
from rage_retrievers._face import shaping
from rage_retrievers._listeners import listeners_of
from rage_retrievers._policies import policies_of
from rage_retrievers._variables import allowed
from rage_retrievers.models import Target
from rage_retrievers.observability import Audit, CallCompleted, EventLog, Metrics, Tracing
from rage_retrievers.observability.redaction import DEFAULT_REDACTOR
from rage_retrievers.resilience import (
    AdaptiveThrottle,
    Bulkhead,
    Cache,
    CircuitBreaker,
    Deadline,
    Degrade,
    EmptyAnswer,
    Hedge,
    RateLimit,
    Retry,
    RetryBudget,
    StaleAnswer,
    default_pipeline,
)
from rage_retrievers.settings import PROFILES, ConfigurationWarning, documented, mistyped_variables


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


def _texts(field: str) -> tuple[str, str, str]:
    """Three values of a setting, as texts."""
    annotation = str(VectorizeSettings.model_fields[field].annotation)
    if "Literal" in annotation:
        names = allowed(VectorizeSettings.model_fields[field]).split(", ")
        return names[0], names[1], names[2]
    if "bool" in annotation:
        return "true", "false", "true"
    if "float" in annotation and any(word in field for word in ("rate", "budget", "percentile")):
        return "0.25", "0.5", "0.75"
    if "int" in annotation or "float" in annotation:
        return "301", "302", "303"
    return "a" * 16, "b" * 16, "c" * 16


def _same(settings: VectorizeSettings, field: str, text: str) -> bool:
    value = getattr(settings, field)
    if isinstance(value, SecretStr):
        return value.get_secret_value() == text
    return str(value).lower() == text.lower() or (isinstance(value, float) and value == float(text))


@pytest.mark.parametrize("field", VectorizeSettings.model_fields)
def test_every_setting_goes_by_what_is_nearer(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Constructor before environment before .env, for every kind of setting, whatever aliases are mixed."""
    if field == "degrade":  # a stale answer needs a cache
        monkeypatch.setenv("RAGE_ENABLE_CACHING", "true")
    argument, environment, file = _texts(field)
    for in_file, in_environment in product(VectorizeSettings.variables()[field], repeat=2):
        Path(".env").write_text(f"{in_file}={file}\n")
        assert _same(VectorizeSettings.load(), field, file)
        monkeypatch.setenv(in_environment, environment)
        assert _same(VectorizeSettings.load(), field, environment)
        assert _same(VectorizeSettings.load(**{field: argument}), field, argument)
        monkeypatch.delenv(in_environment)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_gives_way_to_everything_but_the_defaults(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a profile sets is in force, named anywhere in either case; .env, environment and arguments win over it."""
    monkeypatch.setenv("RAGE_CONFIG_PROFILE", profile.upper())
    for field, preset in PROFILES[profile].items():
        assert getattr(VectorizeSettings.load(), field) == preset
        (variable,), other = (
            VectorizeSettings.variables()[field],
            next(t for t in _texts(field) if t != str(preset).lower()),
        )
        Path(".env").write_text(f"{variable}={other}\n")
        assert _same(VectorizeSettings.load(), field, other)
        Path(".env").unlink()
        monkeypatch.setenv(variable, other)
        assert _same(VectorizeSettings.load(), field, other)
        monkeypatch.delenv(variable)
        assert _same(VectorizeSettings.load(**{field: other}), field, other)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        (
            "RAGE_NUM_RESULTS",
            "x",
            "RAGE_NUM_RESULTS (setting num_results) = 'x' cannot be used; allowed: whole number ≥ 1.",
        ),
        ("RAGE_TIMEOUT_MS", "0", "RAGE_TIMEOUT_MS (setting timeout_ms) = '0' cannot be used; allowed: number > 0."),
        ("RAGE_RETRY_ATTEMPTS", "-1", "RAGE_RETRY_ATTEMPTS (setting retry_attempts) = '-1'"),
        ("RAGE_RETRY_BUDGET", "1.5", "allowed: number > 0 and ≤ 1."),
        ("rage_cache_ttl", "nan", "RAGE_CACHE_TTL (setting cache_ttl) = 'nan'"),
        ("RAGE_RERANK", "maybe", "allowed: true or false."),
        ("RAGE_LOG_LEVEL", "LOUD", "allowed: DEBUG, INFO, WARNING, ERROR, CRITICAL."),
        ("VECTORIZE_ENV", "moon", "allowed: prod, staging, dev, local."),
        ("RAGE_CONFIG_PROFILE", "fast", "allowed: development, staging, production, performance, security."),
        ("RAGE_AUDIT_KEY", "planted", "RAGE_AUDIT_KEY (setting audit_key) = *** cannot be used"),
        ("RAGE_TIMEOUT_MS", "eyJhbGciOiJIUzI1NiJ9.eyJhdWQiOiJvIn0.planted", "= 'eyJhbGciOiJI…' cannot be used"),
        ("RAGE_TOKEN_BUFFER", "4000", "token_buffer = 4000 leaves nothing of max_tokens = 4000"),
    ],
)
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_a_wrong_value_is_one_line(
    variable: str, value: str, said: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong value is one line with its place, name, value and what is allowed; never a secret, wherever it stands."""
    if place == ".env":
        Path(".env").write_text(f"{variable}={value}\n")
    else:
        monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        VectorizeSettings.load()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "planted" not in str(caught.value)
    assert str(caught.value).startswith(".env: ") is (place == ".env" and "TOKEN_BUFFER" not in variable)


def test_every_wrong_value_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two wrong values are two lines, so that two runs are not needed to find them."""
    monkeypatch.setenv("RAGE_NUM_RESULTS", "0")
    with pytest.raises(ConfigurationError) as caught:
        VectorizeSettings.load(timeout_ms=-1)
    first, second = str(caught.value).split("\n")
    assert first.startswith("RAGE_NUM_RESULTS (setting num_results) = '0'")
    assert second.startswith("timeout_ms = -1 cannot be used")


@pytest.mark.parametrize("place", ["environment", ".env"])
def test_a_mistyped_variable_is_a_warning(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that looks like ours is named with the nearest one; another product's is left alone."""
    variables = {"VECTORIZE_INDEX_NAME": "of another product", "RAGE_TIMOUT_MS": "5"}
    if place == ".env":
        Path(".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    else:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
    with pytest.warns(ConfigurationWarning, match=r"RAGE_TIMOUT_MS.*RAGE_TIMEOUT_MS") as told:
        VectorizeSettings.load()
    assert len(told) == 1


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("rage_timout_ms", "RAGE_TIMEOUT_MS"),
        ("RAGE_NUMRESULTS", "RAGE_NUM_RESULTS"),
        ("RAGE_RETRIES", "RAGE_RETRY_ATTEMPTS"),
        ("RAGE_PROFILE", "RAGE_CONFIG_PROFILE"),
        ("RAGE_CACHING", "RAGE_ENABLE_CACHING"),
        ("RAGE_ORGANIZATION", "VECTORIZE_ORGANIZATION_ID"),
        ("VECTORIZE_APIKEY", "VECTORIZE_API_KEY"),
        ("VECTORIZE_KEY", "VECTORIZE_API_KEY"),
        ("VECTORIZE_URL", "VECTORIZE_BASE_URL"),
        ("VECTORIZE_ENVIRONMENT", "VECTORIZE_ENV"),
        ("VECTORIZE_ORGANISATION_ID", "VECTORIZE_ORGANIZATION_ID"),
        ("VECTORIZE_INDEX", None),
        ("VECTORIZE_ACCOUNT", None),
        ("RAGE_AGAINST_THE_MACHINE", None),
        ("RAGE_FOO", None),
        ("RAGE_CACHE_DIR", None),
        ("GARAGE_TIMEOUT_MS", None),
    ],
)
def test_the_nearest_name_is_the_one_that_was_meant(name: str, near: str | None) -> None:
    """Misspelt, shortened, or named after the setting itself; what only begins alike is none of ours."""
    assert mistyped_variables([name]) == ([] if near is None else [(name, near)])


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


def test_every_knob_of_the_policies_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these changes its policy, in its unit; what is off by default is a policy once it is on."""
    environ = {
        "RAGE_RETRY_MAX_DELAY_MS": "900", "RAGE_RETRY_BUDGET": "0.3", "RAGE_CIRCUIT_FAILURE_RATE": "0.2",
        "RAGE_CIRCUIT_MINIMUM_CALLS": "7", "RAGE_CIRCUIT_WINDOW_MS": "8000", "RAGE_MAX_WAIT_MS": "0",
        "RAGE_ENABLE_CACHING": "1", "RAGE_CACHE_MAX_ENTRIES": "9", "RAGE_CACHE_STALE_FOR": "60",
        "RAGE_ENABLE_HEDGING": "1", "RAGE_HEDGE_DELAY_MS": "250", "RAGE_RATE_LIMIT": "0.5",
        "RAGE_RETRY_RESERVE": "3", "RAGE_HEDGE_PERCENTILE": "0.9", "RAGE_HEDGE_BUDGET": "0.2",
        "RAGE_HEDGE_MINIMUM_CALLS": "5", "RAGE_RATE_LIMIT_BURST": "4", "RAGE_RATE_LIMIT_WAIT_MS": "50",
        "RAGE_ENABLE_THROTTLING": "1", "RAGE_THROTTLE_K": "1.5", "RAGE_THROTTLE_WINDOW_MS": "60000",
        "RAGE_DEGRADE": "Stale-or-empty",
    }  # fmt: skip
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    pipeline = Calls.make({"api_key": "t", "organization": "o", "pipeline_id": "p"}).resilience
    assert pipeline.get("retry") == Retry(cap=0.9, budget=RetryBudget(0.3, 3))
    assert pipeline.get("circuit breaker") == CircuitBreaker(failure_rate=0.2, minimum_calls=7, window=8)
    assert pipeline.get("bulkhead") == Bulkhead(max_wait=0)
    assert pipeline.get("cache") == Cache(300, 9, 60)
    assert pipeline.get("hedge") == Hedge(0.25, percentile=0.9, budget=0.2, minimum_calls=5)
    assert pipeline.get("rate limit") == RateLimit(0.5, 4, max_wait=0.05)
    assert pipeline.get("throttle") == AdaptiveThrottle(1.5, 60)
    assert pipeline.get("degradation") == Degrade((StaleAnswer(Cache(300, 9, 60)), EmptyAnswer()))


def test_what_is_switched_on_without_more_has_the_policies_defaults() -> None:
    """A switch alone gives the policy that its page describes."""
    settings = VectorizeSettings.load(enable_hedging=True, enable_throttling=True, rate_limit=10)
    pipeline = policies_of(settings)
    assert [pipeline.get(kind) for kind in ("hedge", "throttle", "rate limit")] == [
        Hedge(),
        AdaptiveThrottle(),
        RateLimit(),
    ]


@pytest.mark.parametrize(
    ("value", "fallbacks"), [("empty", ["empty"]), ("stale", ["stale"]), ("stale-or-empty", ["stale", "empty"])]
)
def test_a_fallback_is_a_setting(value: str, fallbacks: list[str]) -> None:
    """RAGE_DEGRADE names what answers in an outage; without it nothing does."""
    assert policies_of(VectorizeSettings.load()).get("degradation") is None
    chosen = policies_of(VectorizeSettings.load(degrade=value, enable_caching=True)).get("degradation")
    assert isinstance(chosen, Degrade)
    assert [fallback.name for fallback in chosen.to] == fallbacks


def test_an_outage_is_answered_as_the_setting_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the variable to the answer: no documents, and the answer says why."""
    monkeypatch.setenv("RAGE_DEGRADE", "empty")
    monkeypatch.setenv("RAGE_RETRY_ATTEMPTS", "0")
    options = {"api_key": "token-1", "organization": "o", "pipeline_id": "p", "base_url": "http://127.0.0.1:9/v1"}
    with VectorizeClient(**options) as client:  # type: ignore[arg-type]
        answer = client.retrieve("Anybody there?")
    assert (answer.documents, answer.degraded) == ((), "empty")


def test_stale_answers_need_a_cache() -> None:
    """Two settings that do not go together are told of by name."""
    with pytest.raises(ConfigurationError, match=r"degrade = 'stale' needs a cache.*enable_caching"):
        VectorizeSettings.load(degrade="stale")


def test_the_settings_defaults_are_the_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any setting the client has the policies that the documentation promises."""
    assert Calls.make({"api_key": "t", "organization": "o", "pipeline_id": "p"}).resilience == default_pipeline()


def test_a_context_is_shaped_by_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """RAGE_MAX_TOKENS without RAGE_TOKEN_BUFFER, and RAGE_FORMAT_STYLE, unless the caller says otherwise."""
    assert shaping(None, None, None) == (3_800, "standard")
    for name, value in {"RAGE_MAX_TOKENS": "900", "RAGE_TOKEN_BUFFER": "0", "RAGE_FORMAT_STYLE": "Compact"}.items():
        monkeypatch.setenv(name, value)
    assert shaping(None, None, None) == (900, "compact")
    assert shaping(None, 50, "detailed") == (50, "detailed")


def test_an_audit_trail_can_be_set_up_by_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """File, key and what happens without a record: all of it without a line of code, and the key is redacted."""
    environ = {
        "ENABLE_AUDIT_LOG": "1",
        "AUDIT_FILE": "trail.jsonl",
        "AUDIT_KEY": "k3y-of-the-auditors",
        "AUDIT_REQUIRED": "1",
    }
    for name, value in environ.items():
        monkeypatch.setenv(f"RAGE_{name}", value)
    (audit,) = listeners_of(VectorizeSettings.load())
    assert isinstance(audit, Audit)
    assert (audit.required, audit.key) == (True, b"k3y-of-the-auditors")
    with scope(user="u-1"):
        audit.on_event(CallCompleted("c", Target("https://h/v1", "o", "p"), "retrieve", None, 1, 0.1, None, None))
    assert json.loads(Path("trail.jsonl").read_text())["who"] == {"user": "u-1"}
    assert DEFAULT_REDACTOR.text("k3y-of-the-auditors") == "[redacted]"


def test_tracing_and_the_level_of_the_log_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """RAGE_ENABLE_TRACING tells the tracer; RAGE_LOG_LEVEL is the least level logged, RAGE_DEBUG logs everything."""
    monkeypatch.setenv("RAGE_ENABLE_TRACING", "1")
    monkeypatch.setenv("RAGE_LOG_LEVEL", "error")
    log, tracing = listeners_of(VectorizeSettings.load())
    assert isinstance(log, EventLog)
    assert isinstance(tracing, Tracing)
    assert log.level == "ERROR"
    (log, _) = listeners_of(VectorizeSettings.load(debug=True))
    assert isinstance(log, EventLog)
    assert log.level == "DEBUG"


def test_what_logs_and_spans_show_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts in the log, documents and question on spans, the requests' own spans, how many pipelines are counted."""
    shown = {"LOG_TEXTS": "1", "LOG_MAX_TEXT": "80", "TRACE_DOCUMENTS": "1", "TRACE_QUESTION": "1"}
    counted = {"TRACE_REQUESTS": "0", "ENABLE_TRACING": "1", "ENABLE_METRICS": "1", "METRICS_MAX_PIPELINES": "1000"}
    for name, value in {**shown, **counted}.items():
        monkeypatch.setenv(f"RAGE_{name}", value)
    log, metrics, tracing = listeners_of(VectorizeSettings.load())
    assert isinstance(log, EventLog)
    assert isinstance(tracing, Tracing)
    assert isinstance(metrics, Metrics)
    assert (log.show_texts, log.max_text, metrics.max_pipelines) == (True, 80, 1_000)
    assert (tracing.documents, tracing.question, tracing.http_spans) == (True, True, False)


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
