"""`VectorizeSettings`: every knob of the library, from arguments, the environment, `.env` and a profile.

What is given first wins: constructor, environment variable, `.env` in the working directory, profile, default. An
empty variable counts as not set. A wrong value is a line of a `ConfigurationError`: name, value (masked if secret), and
what is allowed.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self

from pydantic import AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ._keywords import unknown_keyword
from ._profiles import PROFILES, Profile, aliases
from ._secrets import secrets_in_use
from ._setting_kinds import (
    Count,
    Environment,
    Fallback,
    FromOne,
    LogLevel,
    MiB,
    NotNegative,
    Number,
    Positive,
    Profiles,
    Score,
    Share,
    ShareBelowOne,
    Style,
    in_case,
)
from ._variables import ENV_FILE, allowed, is_secret, misspelt, set_by, shortly, written
from .errors import ConfigurationError
from .observability.secrets import register_secret

__all__ = ["PROFILES", "ConfigurationWarning", "VectorizeSettings", "mistyped_variables"]


class ConfigurationWarning(UserWarning):
    """A variable looks like one of ours, and is not."""


def _variable(*names: str, default: Any, doc: str, unit: str | None = None) -> Any:
    """A setting read from the first of these environment variables that is set."""
    described = f"{doc} ({unit})" if unit else doc
    return Field(default, validation_alias=AliasChoices(*names), description=described)


class VectorizeSettings(BaseSettings):
    """The library's settings. Frozen. Make it with `VectorizeSettings.load(...)`; tokens are `SecretStr`."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        env_file=ENV_FILE,
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    api_key: SecretStr | None = _variable(
        "VECTORIZE_API_KEY",
        "VECTORIZE_TOKEN",
        "VECTORIZE_ACCESS_TOKEN",
        "VECTORIZE_PIPELINE_ACCESS_TOKEN",
        "RAGE_VECTORIZE_API_KEY",
        "VECTORIZE_API_TOKEN",
        default=None,
        doc="The access token of the organization or pipeline, a JWT",
    )
    organization: str | None = _variable(
        "VECTORIZE_ORGANIZATION_ID",
        "VECTORIZE_ORG_ID",
        "VECTORIZE_ORG",
        "RAGE_VECTORIZE_ORGANIZATION_ID",
        default=None,
        doc="The organization's id",
    )
    pipeline_id: str | None = _variable(
        "VECTORIZE_PIPELINE_ID", "RAGE_VECTORIZE_PIPELINE_ID", default=None, doc="The pipeline's id"
    )
    base_url: str | None = _variable(
        "VECTORIZE_BASE_URL",
        "VECTORIZE_API_URL",
        "RAGE_VECTORIZE_URI",
        default=None,
        doc="The API's address, or local:FOLDER for the embedded pipeline; instead of environment",
    )
    environment: Environment = _variable(
        "VECTORIZE_ENV", default="prod", doc="Which of the service's environments: prod, staging, dev or local"
    )
    retrieval_url: str | None = _variable(
        "VECTORIZE_RETRIEVAL_URL", default=None, doc="The older gateway's full retrieval address"
    )

    enabled: bool = _variable("RAGE_ENABLED", default=True, doc="Whether to retrieve at all; false answers empty lists")
    num_results: Number = _variable("RAGE_NUM_RESULTS", default=5, doc="Passages per question")
    rerank: bool = _variable(
        "RAGE_RERANK", default=False, doc="Whether to rerank, which costs a unit of the advanced quota"
    )
    min_relevance_score: Score | None = _variable(
        "RAGE_MIN_RELEVANCE_SCORE", default=None, doc="The least relevancy of a passage, where the list is reranked"
    )
    min_similarity_score: Score | None = _variable(
        "RAGE_MIN_SIMILARITY_SCORE", default=None, doc="The least similarity of a passage, where it is not"
    )
    timeout_ms: Positive = _variable(
        "RAGE_TIMEOUT_MS", default=10_000, doc="The budget of a whole call, retries included", unit="ms"
    )
    retry_attempts: Count = _variable(
        "RAGE_RETRY_ATTEMPTS", default=2, doc="Requests after the first, for transient errors; 0 for none"
    )
    retry_delay_ms: Positive = _variable(
        "RAGE_RETRY_DELAY_MS", default=200, doc="The ceiling of the first pause, doubled for each more", unit="ms"
    )
    retry_max_delay_ms: Positive = _variable(
        "RAGE_RETRY_MAX_DELAY_MS", default=5_000, doc="The ceiling of every pause", unit="ms"
    )
    retry_budget: Share = _variable(
        "RAGE_RETRY_BUDGET", default=0.1, doc="The share of a pipeline's calls that may be repeated in an outage"
    )
    retry_reserve: FromOne = _variable(
        "RAGE_RETRY_RESERVE", default=10, doc="Repeats that are there at once, before calls have earned any"
    )
    circuit_failures: Number = _variable(
        "RAGE_CIRCUIT_FAILURES", default=5, doc="Failures in a row that open the circuit"
    )
    circuit_failure_rate: Share = _variable(
        "RAGE_CIRCUIT_FAILURE_RATE", default=0.5, doc="The share of failures that opens the circuit"
    )
    circuit_minimum_calls: Number = _variable(
        "RAGE_CIRCUIT_MINIMUM_CALLS", default=10, doc="Calls in the window before that share counts"
    )
    circuit_window_ms: Positive = _variable(
        "RAGE_CIRCUIT_WINDOW_MS", default=30_000, doc="How far back that share looks", unit="ms"
    )
    circuit_reset_ms: Positive = _variable(
        "RAGE_CIRCUIT_RESET_MS", default=30_000, doc="Until an open circuit admits a probe", unit="ms"
    )
    max_in_flight: Number = _variable(
        "RAGE_MAX_IN_FLIGHT", default=64, doc="Calls to one pipeline at once, from this process"
    )
    max_wait_ms: NotNegative | None = _variable(
        "RAGE_MAX_WAIT_MS",
        default=None,
        doc="How long a call waits until fewer are in flight; unset for as long as its budget allows",
        unit="ms",
    )
    rate_limit: Positive | None = _variable(
        "RAGE_RATE_LIMIT", default=None, doc="Requests a second to one pipeline; unset for no limit"
    )
    rate_limit_burst: Number | None = _variable(
        "RAGE_RATE_LIMIT_BURST", default=None, doc="Requests at once after a quiet time; unset for those of a second"
    )
    rate_limit_wait_ms: NotNegative | None = _variable(
        "RAGE_RATE_LIMIT_WAIT_MS",
        default=None,
        doc="How long a request waits for its turn; unset for as long as its call's budget allows",
        unit="ms",
    )
    enable_throttling: bool = _variable(
        "RAGE_ENABLE_THROTTLING", default=False, doc="Whether a service that turns calls away is sent fewer of them"
    )
    throttle_k: FromOne = _variable(
        "RAGE_THROTTLE_K", default=2, doc="How many requests are sent for each that is accepted before any is refused"
    )
    throttle_window_ms: Positive = _variable(
        "RAGE_THROTTLE_WINDOW_MS", default=120_000, doc="How far back accepted requests are counted", unit="ms"
    )
    enable_hedging: bool = _variable(
        "RAGE_ENABLE_HEDGING", default=False, doc="Whether a slow request gets a second one beside it"
    )
    hedge_delay_ms: NotNegative | None = _variable(
        "RAGE_HEDGE_DELAY_MS",
        default=None,
        doc="After how long; unset for longer than most of the requests before took",
        unit="ms",
    )
    hedge_percentile: ShareBelowOne = _variable(
        "RAGE_HEDGE_PERCENTILE", default=0.95, doc="The share of the requests before, where no delay is set"
    )
    hedge_minimum_calls: Number = _variable(
        "RAGE_HEDGE_MINIMUM_CALLS", default=20, doc="Requests that must be known before that share is used"
    )
    hedge_budget: Share = _variable(
        "RAGE_HEDGE_BUDGET", default=0.05, doc="The share of requests that may get a second one"
    )
    max_response_mib: MiB = _variable(
        "RAGE_MAX_RESPONSE_MIB", default=16, doc="The largest answer that is read", unit="MiB"
    )
    enable_caching: bool = _variable("RAGE_ENABLE_CACHING", default=False, doc="Whether answers are cached in process")
    cache_ttl: Positive = _variable("RAGE_CACHE_TTL", default=300, doc="How long a cached answer is fresh", unit="s")
    cache_max_entries: Number = _variable("RAGE_CACHE_MAX_ENTRIES", default=1_024, doc="Answers kept for a pipeline")
    cache_stale_for: NotNegative = _variable(
        "RAGE_CACHE_STALE_FOR",
        default=0,
        doc="How long after that it still answers while the service is down",
        unit="s",
    )
    degrade: Fallback | None = _variable(
        "RAGE_DEGRADE",
        default=None,
        doc="What answers in an outage: an empty list, or what the cache still has; unset for an error",
    )
    engine: str = _variable("RAGE_ENGINE", default="httpx", doc="Which HTTP library sends the requests")
    allow_insecure: bool = _variable(
        "RAGE_ALLOW_INSECURE", default=False, doc="Whether plain http to another machine may carry the token"
    )
    user_agent: str = _variable("RAGE_USER_AGENT", default="", doc="What the User-Agent header says; empty for ours")

    log_level: LogLevel = _variable(
        "RAGE_LOG_LEVEL", default="WARNING", doc="Where set, every client logs its events from this level on"
    )
    debug: bool = _variable("RAGE_DEBUG", default=False, doc="Whether every event is logged, whatever the level")
    log_texts: bool = _variable(
        "RAGE_LOG_TEXTS", default=False, doc="Whether questions and passages are logged too, redacted"
    )
    log_max_text: Number = _variable(
        "RAGE_LOG_MAX_TEXT", default=2_000, doc="How much of each is logged", unit="characters"
    )
    enable_metrics: bool = _variable("RAGE_ENABLE_METRICS", default=False, doc="Whether calls are counted and timed")
    metrics_max_pipelines: Number = _variable(
        "RAGE_METRICS_MAX_PIPELINES", default=1_000, doc="Pipelines that are counted apart; others are counted together"
    )
    enable_audit_log: bool = _variable(
        "RAGE_ENABLE_AUDIT_LOG", default=False, doc="Whether each call leaves an audit record"
    )
    audit_file: str | None = _variable(
        "RAGE_AUDIT_FILE",
        default=None,
        doc="Where audit records are appended; unset for the handlers of the logger rage_retrievers.audit",
    )
    audit_key: Annotated[SecretStr, Field(min_length=16)] | None = _variable(
        "RAGE_AUDIT_KEY", default=None, doc="What questions are hashed with in audit records; unset for a random key"
    )
    audit_required: bool = _variable(
        "RAGE_AUDIT_REQUIRED", default=False, doc="Whether an answer is withheld whose audit record cannot be kept"
    )
    enable_tracing: bool = _variable(
        "RAGE_ENABLE_TRACING", default=False, doc="Whether calls are told to OpenTelemetry's tracer"
    )
    trace_documents: bool = _variable(
        "RAGE_TRACE_DOCUMENTS", default=False, doc="Whether spans hold the ids and scores of the documents"
    )
    trace_question: bool = _variable(
        "RAGE_TRACE_QUESTION", default=False, doc="Whether spans hold the question, redacted"
    )
    trace_requests: bool = _variable(
        "RAGE_TRACE_REQUESTS",
        default=True,
        doc="Whether each request has a span; false leaves that to the HTTP library's instrumentation",
    )
    correlation_id_prefix: str = _variable(
        "RAGE_CORRELATION_ID_PREFIX", default="rage", doc="How correlation ids made here begin"
    )

    max_tokens: Number = _variable(
        "RAGE_MAX_TOKENS",
        default=4_000,
        doc="What the passages in a prompt of the LangChain tool and middleware may take",
        unit="tokens",
    )
    token_buffer: Count = _variable(
        "RAGE_TOKEN_BUFFER", default=200, doc="How much of max_tokens is kept free", unit="tokens"
    )
    format_style: Style = _variable(
        "RAGE_FORMAT_STYLE", default="standard", doc="How tools and middleware write passages for a model"
    )
    config_profile: Annotated[Profiles, in_case("lower")] | None = _variable(
        "RAGE_CONFIG_PROFILE", default=None, doc="A named set of defaults"
    )

    @classmethod
    def load(cls, **given: Any) -> VectorizeSettings:
        """The settings in force; None stands for not given.

        Raises ConfigurationError for a wrong value, TypeError for a name that is no setting. Warns
        (ConfigurationWarning) of variables that look like ours and are not.
        """
        for name in given:
            if name not in cls.model_fields:
                raise unknown_keyword(name, list(cls.model_fields))
        for name, near in mistyped_variables({**written(), **os.environ}):
            warnings.warn(f"{name} is not a setting; did you mean {near}?", ConfigurationWarning, stacklevel=3)
        values = {name: value for name, value in given.items() if value is not None}
        try:
            return cls(**_other_addresses_aside(values), **values)
        except ValidationError as invalid:
            problems = invalid.errors(include_url=False, include_context=False)
        for token in _tokens(cls, given):
            register_secret(token)
        raise ConfigurationError("\n".join(dict.fromkeys(_line(cls, given, problem) for problem in problems)))

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.api_key is not None:
            register_secret(self.api_key.get_secret_value().strip())
        if self.token_buffer >= self.max_tokens:
            raise ValueError(
                f"token_buffer = {self.token_buffer} leaves nothing of max_tokens = {self.max_tokens}; make it smaller."
            )
        if self.degrade in ("stale", "stale-or-empty") and not self.enable_caching:
            raise ValueError(f"degrade = {self.degrade!r} needs a cache to answer from; set enable_caching as well.")
        return self

    def __getstate__(self) -> dict[Any, Any]:
        """Everything but the secrets; `changed(api_key=…)` gives the copy that a pickle brings a token of its own."""
        state = super().__getstate__()
        return {**state, "__dict__": {k: None if isinstance(v, SecretStr) else v for k, v in state["__dict__"].items()}}

    def changed(self, **given: Any) -> Self:
        """A copy with these values; None stands for not given. Raises what `load` raises."""
        wanted = {name: value for name, value in given.items() if value is not None}
        wanted |= _other_addresses_aside(wanted)
        new = {name: value for name, value in wanted.items() if value != getattr(self, name)}
        # The ids are texts of any form; reading the environment costs more than looking at them does.
        own = {name: value for name, value in new.items() if value is not None and name not in _IDS}
        checked = VectorizeSettings.load(**own) if own else self
        new |= {name: getattr(checked, name) for name in own}
        return self.model_copy(update=new) if new else self

    @classmethod
    def variables(cls) -> dict[str, tuple[str, ...]]:
        """The environment variables of each setting, the one to document first."""
        return {name: aliases(field) for name, field in cls.model_fields.items()}

    @property
    def context_tokens(self) -> int:
        """What the passages of an assembled context may take: `max_tokens` without `token_buffer`."""
        return self.max_tokens - self.token_buffer

    @property
    def min_score(self) -> float | None:
        """The least score of a passage, on the scale that orders the list these settings ask for."""
        return self.min_relevance_score if self.rerank else self.min_similarity_score

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Constructor, environment, `.env`, profile."""
        return init_settings, env_settings, dotenv_settings, Profile(settings_cls)


_IDS = ("organization", "pipeline_id")
_NO_ADDRESS: dict[str, Any] = {"base_url": None, "retrieval_url": None, "environment": "prod"}


def _other_addresses_aside(given: Mapping[str, Any]) -> dict[str, Any]:
    """What puts aside the addresses of the environment, where one is given: three settings name the one address."""
    if given.get("base_url") and given.get("retrieval_url"):
        raise ConfigurationError("base_url and retrieval_url are two addresses of one service; give one of them.")
    if not given.keys() & _NO_ADDRESS.keys():
        return {}
    return {name: nothing for name, nothing in _NO_ADDRESS.items() if name not in given}


def mistyped_variables(environ: Iterable[str]) -> list[tuple[str, str]]:
    """(variable, nearest setting) for each that looks like ours and is none of ours."""
    return misspelt(environ, VectorizeSettings.variables())


def _line(cls: type[VectorizeSettings], given: Mapping[str, Any], problem: Mapping[str, Any]) -> str:
    if not problem["loc"]:  # two settings do not go together, and the message names them
        return str(problem["msg"]).removeprefix("Value error, ")
    said = str(problem["loc"][0])
    name, names = next((name, names) for name, names in cls.variables().items() if said in (name, *names))
    where, value = name, given.get(name)
    if value is None:
        variable, value = set_by(names, os.environ) or set_by(names, written()) or (names[0], "?")
        place = "" if set_by(names, os.environ) else f"{ENV_FILE}: "
        where = f"{place}{variable} (setting {name})"
    field = cls.model_fields[name]
    shown = "***" if is_secret(field) else shortly(secrets_in_use.hide(value) if isinstance(value, str) else value)
    return f"{where} = {shown} cannot be used; allowed: {allowed(field)}."


def _tokens(cls: type[VectorizeSettings], given: Mapping[str, Any]) -> Iterable[str]:
    """The tokens of settings that cannot be made, so that no error about them shows one in the wrong place."""
    key = given.get("api_key")
    yield key.get_secret_value() if isinstance(key, SecretStr) else str(key or "")
    for source in (os.environ, written()):
        yield (set_by(cls.variables()["api_key"], source) or ("", ""))[1].strip()


def documented(cls: type[VectorizeSettings] = VectorizeSettings) -> Iterable[tuple[str, tuple[str, ...], FieldInfo]]:
    """(setting, variables, field) of every setting, for generated documentation."""
    return [(name, aliases(field), field) for name, field in cls.model_fields.items()]
