"""A retriever's link to the service, shared by its clones: settings are read and the token is asked for once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Self

from .._calls import Calls
from ..client import AsyncVectorizeClient, VectorizeClient
from ..engines import Engines
from ..errors import ConfigurationError
from ..resilience import Bulkhead
from ..settings import VectorizeSettings

if TYPE_CHECKING:
    import httpx

_READ = ("settings", "base_url", "environment", "retrieval_url", "allow_insecure", "max_response_mib", "user_agent")
_IDS = ("organization", "pipeline_id")
_OTHERS = ("api_key", "engine", "resilience", "listeners", "http_client", "http_async_client")
_read_of = itemgetter(*_READ)
_all_of = itemgetter(*_READ, *_IDS, *_OTHERS)
_UNNAMED = "unnamed"


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Link:
    """Both clients of a connection, and the values they were made from. A copy of a retriever takes it along."""

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
        settings = _settings(values, former)
        unnamed = _unnamed(values, settings)
        calls = Calls.make(_options(values, settings, unnamed))
        if former is not None and _former(former, "api_key") == values["api_key"]:
            credential = former.calls.connection.credential
            calls = replace(calls, connection=replace(calls.connection, credential=credential))
        blocking = VectorizeClient.over(calls, values["http_client"])
        asyncio = AsyncVectorizeClient.over(calls, values["http_async_client"])
        return cls(made_from, settings, calls, blocking, asyncio, unnamed)

    def check_named(self, options: Mapping[str, Any]) -> None:
        """Raise ConfigurationError if nobody said which organization or pipeline to ask."""
        for name in _IDS:
            if name in self.unnamed and name not in options:
                raise ConfigurationError(
                    f"{name} is missing; give it to the retriever, the call or the scope, or set "
                    f"{VectorizeSettings.variables()[name][0]}."
                )

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
    own = {name: values[name] for name in (*_READ[1:], *_IDS) if values[name] is not None}
    if given is None:
        return VectorizeSettings.load(**own)
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
