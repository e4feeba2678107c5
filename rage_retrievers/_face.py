"""What the retrievers of both frameworks stand on: their link to the service, and their options in the core's terms."""

from __future__ import annotations

import pickle
import types
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, Self

from typing_extensions import TypedDict

from ._calls import Calls
from ._checks import shown, typed
from ._connection import check_settings
from ._credential import ApiKey, register_key
from ._keywords import unknown_keyword
from .client import AsyncVectorizeClient, VectorizeClient, check_own
from .engines import Engines
from .errors import ConfigurationError
from .models import AdvancedQuery
from .observability.events import Listener
from .resilience import Bulkhead, Pipeline
from .scope import current_scope

if TYPE_CHECKING:
    from typing import TypeAlias

    import httpx

    from .context import Style
    from .settings import VectorizeSettings

    HttpClient: TypeAlias = httpx.Client
    AsyncHttpClient: TypeAlias = httpx.AsyncClient


class SearchOptions(TypedDict, total=False):
    """How passages are looked for; `mode` to `text_boost` are the parts of `advanced_query`."""

    metadata_filters: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None
    advanced_query: AdvancedQuery | Mapping[str, Any] | None
    mode: Literal["text", "vector", "hybrid"] | None
    text_fields: list[str] | None
    match_type: Literal["match", "match_phrase", "multi_match"] | None
    text_boost: float | None
    min_score: float | None
    timeout: float | None


class MadeFrom(SearchOptions, total=False):
    """What a retriever of either framework is made from. None stands for not given; then `VectorizeSettings` decides.

    Beside what a call takes: the connection, the policies (`resilience`), `listeners`, and your own `http_client` or
    `async_http_client`, which are never closed here.
    """

    api_key: ApiKey | None
    api_token: ApiKey | None
    organization: str | None
    pipeline_id: str | None
    environment: Literal["prod", "staging", "dev", "local"] | None
    base_url: str | None
    retrieval_url: str | None
    num_results: int | None
    rerank: bool | None
    engine: str | Engines | None
    resilience: Pipeline | None
    listeners: Sequence[Listener] | None
    allow_insecure: bool | None
    max_response_mib: float | None
    user_agent: str | None
    settings: VectorizeSettings | None
    http_client: HttpClient | None
    async_http_client: AsyncHttpClient | None


_READ = ("settings", "base_url", "environment", "retrieval_url", "allow_insecure", "max_response_mib", "user_agent")
_IDS = ("organization", "pipeline_id")
_OTHERS = ("api_key", "engine", "resilience", "listeners", "http_client", "async_http_client")
_read_of = itemgetter(*_READ)
_all_of = itemgetter(*_READ, *_IDS, *_OTHERS)
_UNNAMED = "unnamed"


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Link:
    """Both clients of a connection, and the values they were made from; settings are read, and the token is asked for,
    once for all copies of a retriever."""

    made_from: tuple[Any, ...]
    settings: VectorizeSettings
    calls: Calls
    blocking: VectorizeClient
    asyncio: AsyncVectorizeClient
    unnamed: frozenset[str]
    """Which of organization and pipeline_id every call must name, because nobody else did."""

    @classmethod
    def of(cls, values: Mapping[str, Any], former: Link | None) -> Link:
        """The former link if it was made from the same values, else a new one that shares what it can with it."""
        made_from = _all_of(values)
        if former is not None and former.made_from == made_from:
            return former
        register_key(values["api_key"])  # before anything can be wrong: no error shows a token that is known
        settings = _settings(values, former)
        unnamed = _unnamed(values, settings)
        calls = Calls.make(_options(values, settings, unnamed))
        if former is not None and _former(former, "api_key") == values["api_key"]:
            credential = former.calls.connection.credential
            calls = replace(calls, connection=replace(calls.connection, credential=credential))
        if values["async_http_client"] is not None:
            check_own(values["async_http_client"], "AsyncClient", "async_http_client")
        blocking = VectorizeClient.over(calls, values["http_client"])
        asyncio = AsyncVectorizeClient.over(calls, values["async_http_client"])
        return cls(made_from, settings, calls, blocking, asyncio, unnamed)

    def check_named(self, options: Mapping[str, Any]) -> None:
        """Raise ConfigurationError if nobody said which organization or pipeline to ask."""
        for name in _IDS:
            if name in self.unnamed and name not in options:
                raise ConfigurationError(
                    f"{name} is missing; give it to the retriever, the call or the scope, or set "
                    f"{self.settings.variables()[name][0]}."
                )

    def research_address(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The ids that the scope sets for a deep research; `asked` is what a retrieval would ask here.

        ConfigurationError where filters hold: a research reads the whole pipeline, so it would step over them.
        """
        if asked.get("metadata_filters") or (asked.get("advanced_query") or {}).get("filters"):
            raise ConfigurationError(
                "A deep research cannot be filtered, and filters hold here; use a pipeline that holds only what may be "
                "read, and a retriever without filters."
            )
        bounds = current_scope().values
        address = {name: bounds[name] for name in _IDS if name in bounds}
        self.check_named(address)
        return address

    @property
    def at_once(self) -> int:
        """How many calls of a batch are under way at once unless the caller says otherwise."""
        bulkhead = self.calls.resilience.get("bulkhead")
        return bulkhead.limit if isinstance(bulkhead, Bulkhead) else self.settings.max_in_flight

    def close_blocking(self, http_client: httpx.Client | None) -> None:
        """Close idle connections of blocking code; other users open new ones as they need them."""
        VectorizeClient.over(self.calls, http_client).close()

    async def close_asyncio(self, http_client: httpx.AsyncClient | None) -> None:
        """Close idle connections of the running loop."""
        await AsyncVectorizeClient.over(self.calls, http_client).aclose()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a link holds a token and is not pickled; it is made again where it is needed")


def _former(link: Link, name: str) -> Any:
    return link.made_from[(*_READ, *_IDS, *_OTHERS).index(name)]


def _settings(values: Mapping[str, Any], former: Link | None) -> VectorizeSettings:
    given: VectorizeSettings | None = values["settings"]
    if former is not None and former.made_from[: len(_READ)] == _read_of(values):
        # Reading the environment costs more than everything else a clone does.
        return former.settings
    from .settings import VectorizeSettings

    own = {name: values[name] for name in (*_READ[1:], *_IDS) if values[name] is not None}
    if given is None:
        return VectorizeSettings.load(**own)
    check_settings(given)
    if own:
        VectorizeSettings.load(**own)  # for its checks
    return (
        given if given.api_key is not None else given.model_copy(update={"api_key": VectorizeSettings.load().api_key})
    )


def _unnamed(values: Mapping[str, Any], settings: VectorizeSettings) -> frozenset[str]:
    engine, base_url = values["engine"], values["base_url"] or settings.base_url or ""
    embedded = isinstance(engine, Engines) and bool(engine.identity)
    if embedded or base_url.startswith("local:") or values["retrieval_url"] or settings.retrieval_url:
        return frozenset()
    return frozenset(name for name in _IDS if values[name] is None and getattr(settings, name) is None)


def _options(values: Mapping[str, Any], settings: VectorizeSettings, unnamed: frozenset[str]) -> Any:
    names = (*_READ[1:], *_IDS, "api_key", "engine", "resilience", "listeners")
    given = {name: values[name] for name in names if values[name] is not None}
    return {**given, "settings": settings, **dict.fromkeys(unnamed, _UNNAMED)}


def shaping(retriever: object, max_tokens: int | None, style: Style | None) -> tuple[int, Style]:
    """How many tokens the passages may take in a prompt, and how they are written: as given, else by the settings."""
    from .settings import VectorizeSettings

    linked = getattr(retriever, "_linked", None)
    settings = linked().settings if callable(linked) else VectorizeSettings.load()
    return settings.context_tokens if max_tokens is None else max_tokens, style or settings.format_style


def check_tool(name: object, description: object) -> None:
    """Raise ConfigurationError for what no model can call a tool by, or learn of it."""
    if not (isinstance(name, str) and name.strip() and name.isprintable()):
        raise ConfigurationError(f"name = {shown(name)} cannot be used; give the tool's name, such as 'search'.")
    if not (isinstance(description, str) and description.strip()):
        raise ConfigurationError(f"description = {shown(description)} cannot be used; say what the tool is for.")


SEARCH = {"mode": "mode", "text_fields": "text-fields", "match_type": "match-type", "text_boost": "text-boost"}
"""The typed parts of `advanced_query`, and their names on the wire."""
_ALIASES = {"api_token": "api_key", "k": "num_results"}


def canonical(
    options: Mapping[str, Any], known: Collection[str], aliases: Mapping[str, str] = _ALIASES
) -> dict[str, Any]:
    """A retriever's options under the names of its fields. TypeError for an unknown one, ConfigurationError for two
    values of one thing."""
    found = dict(options)
    for alias, name in aliases.items():
        value = found.pop(alias, None)
        if value is None:
            continue
        if found.get(name) is not None and found[name] != value:
            raise ConfigurationError(f"{name} and {alias} are two names of one thing; give one of them.")
        found[name] = value
    for name in found:
        if name not in known:
            raise unknown_keyword(name, [*known, *aliases])
    return found


def folded(values: dict[str, Any], base: Any) -> dict[str, Any]:
    """The values with the typed search options put into `advanced_query`, upon `base` where the values have none."""
    if not any(name in values for name in SEARCH):
        return values
    query = _wire(values.get("advanced_query", base))
    for name, wire in SEARCH.items():
        if name not in values:
            continue
        value = values.pop(name)
        query.pop(wire, None)
        if value is not None:
            query[wire] = value
    return {**values, "advanced_query": query or None}


def _wire(query: Any) -> dict[str, Any]:
    if query is None:
        return {}
    if isinstance(query, AdvancedQuery):
        return query.wire()
    if not isinstance(query, Mapping):
        raise ConfigurationError(f"advanced_query is {typed(query)}; use a mapping such as {{'mode': 'hybrid'}}.")
    return {SEARCH.get(str(name), str(name)): value for name, value in query.items()}


def without_token(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a pickle of a retriever keeps of its options; the token is read again where it is unpickled.

    A function of a module that returns the token is kept, by its name. TypeError for clients of the user's own, and for
    listeners that hold what lives in a process; left out silently, an audit trail would be lost.
    """
    for name in ("http_client", "async_http_client"):
        if values.get(name) is not None:
            raise TypeError(f"a retriever with your own {name} is not pickled; make it where it is needed")
    for listener in values.get("listeners") or ():
        try:
            pickle.dumps(listener)
        except Exception as reason:  # of whatever kind a listener's own pickling raises
            raise TypeError(
                f"a retriever with {typed(listener)} among its listeners is not pickled; make it where it is "
                "needed, or let the settings switch it on (RAGE_ENABLE_METRICS, RAGE_ENABLE_AUDIT_LOG, "
                "RAGE_ENABLE_TRACING, RAGE_LOG_LEVEL)"
            ) from reason
    kept = dict(values)
    if not _is_importable(kept.get("api_key")):
        kept["api_key"] = None
    if kept.get("settings") is not None:
        kept["settings"] = kept["settings"].model_copy(update={"api_key": None})
    return kept


def _is_importable(key: Any) -> bool:
    """Whether pickle writes the function's name and nothing that it holds."""
    return isinstance(key, types.FunctionType) and key.__closure__ is None and "<" not in key.__qualname__
