"""The retriever: LlamaIndex's hooks in front of the two clients."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self, TypeVar

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters
from llama_index_instrumentation.dispatcher import DISPATCHER_SPAN_DECORATED_ATTR
from llama_index_instrumentation.span import active_span_id
from pydantic import SecretStr
from typing_extensions import Unpack

from .._closing import AsyncClosing, Closing
from .._credential import ApiKey
from .._face import Link, canonical, without_token
from .._keywords import nearest
from ..client import ResearchOptions
from ..errors import ConfigurationError
from ..filters import Condition
from ..models import AdvancedQuery, Query, Research
from ..observability.correlation import within_run
from ..scope import Scope, current_scope, effective
from .events import announce, failure_announced, is_heard
from .nodes import Asked, RetrievedNodes, to_nodes
from .query import CALL_NAMES, NAMES, Context, RetrieverOptions, VectorizeQuery, translated
from .settable import Settable

__all__ = ["VectorizeRetriever"]

_ALIASES = {"api_token": "api_key", "similarity_top_k": "num_results"}
_ADDRESS = {"pipeline_id", "organization"}
_ASKED = CALL_NAMES - _ADDRESS
_EVERYWHERE = Scope()
_RESEMBLING = 0.75


F = TypeVar("F", bound=Callable[..., Any])


def _without_span(method: F) -> F:
    """The method as it is: LlamaIndex puts a span around each method that overrides one which has a span already."""
    setattr(method, DISPATCHER_SPAN_DECORATED_ATTR, True)
    return method


class VectorizeRetriever(Closing, AsyncClosing, BaseRetriever):
    """Retrieves from a Vectorize pipeline, blocking or natively async; safe to share between threads, tasks and loops.

    Takes what the client takes (see `ClientOptions`; `api_token` is `api_key`), the defaults of its calls
    (`num_results` or `similarity_top_k`, `rerank`, `filters`, `metadata_filters`, `context`, `advanced_query`,
    `min_score`, `timeout`) and the caller's own `http_client` and `async_http_client`, never closed here. `filters`
    takes LlamaIndex's `MetadataFilters` too, and `context` a list of `ChatMessage`. What is left out comes from
    `VectorizeSettings`.

    Values are merged constructor < `rage_retrievers.scope(...)` < `VectorizeQuery(...)`. The constructor's are
    attributes: what shapes a question can be set, and holds from then on; what makes the connection cannot, so use
    `with_options`. Raises ConfigurationError for a value that cannot be used and TypeError for an unknown keyword, both
    before anything is sent; a call raises `RageError`, and never answers an empty list in its place.
    """

    num_results = Settable[int]()
    similarity_top_k = Settable[int]()
    rerank = Settable[bool]()
    filters = Settable[MetadataFilters | Condition | None]()
    metadata_filters = Settable[Sequence[Mapping[str, Any]] | Mapping[str, Any] | None]()
    context = Settable[Context]()
    advanced_query = Settable[AdvancedQuery | Mapping[str, Any] | None]()
    mode = Settable[Literal["text", "vector", "hybrid"] | None]()
    text_fields = Settable[list[str] | None]()
    match_type = Settable[Literal["match", "match_phrase", "multi_match"] | None]()
    text_boost = Settable[float | None]()
    min_score = Settable[float | None]()
    timeout = Settable[float | None]()
    organization = Settable[str | None]()
    pipeline_id = Settable[str | None]()

    _link: Link | None = None
    _closed = False

    def __init__(
        self,
        api_key: ApiKey | None = None,
        /,
        *,
        callback_manager: CallbackManager | None = None,
        verbose: bool = False,
        **options: Unpack[RetrieverOptions],
    ) -> None:
        super().__init__(callback_manager=callback_manager, verbose=verbose)
        given = dict(options)
        if api_key is not None:
            given["api_token" if given.get("api_key") is not None else "api_key"] = api_key
        self._set(canonical(given, NAMES, _ALIASES))

    def _set(self, values: Mapping[str, Any]) -> None:
        """Take these values, which are under their canonical names; refuse what every call would be refused for."""
        given = {name: value for name, value in values.items() if value is not None}
        if isinstance(key := given.get("api_key"), str):
            given["api_key"] = SecretStr(key)
        link = Link.of({**dict.fromkeys(NAMES), **given}, self._link)
        own = translated({name: value for name, value in given.items() if name in _ASKED}, None)
        Query.make({"question": "?", **effective({}, own, _EVERYWHERE)})
        self._link, self._values, self._own = link, given, own

    def __setattr__(self, name: str, value: Any) -> None:
        if name in NAMES and name not in CALL_NAMES:
            raise AttributeError(f"{name} is not set afterwards; with_options({name}=...) gives a copy that has it.")
        if type(self) is VectorizeRetriever and not hasattr(self, name):
            meant = None if name.startswith("_") else nearest(name, [*CALL_NAMES, *_ALIASES], _RESEMBLING)
            if meant is not None:  # set all the same, it would leave every question as it was
                raise AttributeError(f"there is no {name!r} to be set; did you mean {meant!r}?")
        super().__setattr__(name, value)

    def _option(self, name: str) -> Any:
        name = _ALIASES.get(name, name)
        if name in self._values:
            return self._values[name]
        link = self._linked()
        if name in _ADDRESS:
            return None if name in link.unnamed else getattr(link.calls.connection.address.target, name)
        return getattr(link.settings, name, None)

    def _change(self, name: str, value: Any) -> None:
        self._set({**self._values, **canonical({name: value}, NAMES, _ALIASES)})

    def with_options(self, **options: Unpack[RetrieverOptions]) -> Self:
        """A cheap copy with these options changed; it shares connections, circuit and budget."""
        twin = copy.copy(self)
        twin._set({**self._values, **canonical(options, NAMES, _ALIASES)})
        return twin

    def deep_research(self, query: str, **options: Unpack[ResearchOptions]) -> Research:
        """Start a deep research and wait until it is ready; see `VectorizeClient.deep_research`.

        Raises ConfigurationError where filters hold: a research reads the whole pipeline.
        """
        link, address = self._research()
        return link.blocking.with_options(**address).deep_research(query, **options)

    async def adeep_research(self, query: str, **options: Unpack[ResearchOptions]) -> Research:
        """See `deep_research`."""
        link, address = self._research()
        return await link.asyncio.with_options(**address).deep_research(query, **options)

    def _research(self) -> tuple[Link, Any]:
        link = self._open()
        return link, link.research_address(effective({}, self._own))

    def close(self) -> None:
        """Close the idle connections of blocking code; this retriever answers no more."""
        self._closed = True
        if self._link is not None:
            self._link.close_blocking(self._values.get("http_client"))

    async def aclose(self) -> None:
        """Close the idle connections of the running loop and of blocking code; this retriever answers no more."""
        self.close()
        if self._link is not None:
            await self._link.close_asyncio(self._values.get("async_http_client"))

    @_without_span
    def retrieve(self, str_or_query_bundle: str | QueryBundle) -> list[NodeWithScore]:
        """The nodes for a question, best first."""
        bundle = _bundle(str_or_query_bundle)
        if self._is_heard():
            return super().retrieve(str_or_query_bundle)
        nodes = self._nodes(bundle)
        self._announced(nodes)
        return nodes

    @_without_span
    async def aretrieve(self, str_or_query_bundle: str | QueryBundle) -> list[NodeWithScore]:
        """See `retrieve`; never uses a thread."""
        bundle = _bundle(str_or_query_bundle)
        if self._is_heard():
            return await super().aretrieve(str_or_query_bundle)
        nodes = await self._anodes(bundle)
        self._announced(nodes)
        return nodes

    def _is_heard(self) -> bool:
        """Whether LlamaIndex's events and spans are needed; they take longer than all that is done around a request."""
        return type(self) is not VectorizeRetriever or is_heard(self.callback_manager)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._nodes(query_bundle)

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await self._anodes(query_bundle)

    def _nodes(self, bundle: QueryBundle) -> list[NodeWithScore]:
        link, options = self._asked(bundle)
        asked = _asked(link, options)
        with within_run(active_span_id.get()), failure_announced(type(self).__name__, asked):
            retrieval = link.blocking.retrieve(_question(bundle), **options)
        return to_nodes(retrieval, asked)

    async def _anodes(self, bundle: QueryBundle) -> list[NodeWithScore]:
        link, options = self._asked(bundle)
        asked = _asked(link, options)
        with within_run(active_span_id.get()), failure_announced(type(self).__name__, asked):
            retrieval = await link.asyncio.retrieve(_question(bundle), **options)
        return to_nodes(retrieval, asked)

    def _asked(self, bundle: QueryBundle) -> tuple[Link, Any]:
        """Whom to ask, and for what: constructor < scope < query, with the scope's locks."""
        own, link = self._own, self._open()
        call: dict[str, Any] = {}
        if isinstance(bundle, VectorizeQuery):
            base = current_scope().values.get("advanced_query", own.get("advanced_query"))
            call = translated(bundle.overrides, base)
        options = effective(call, own)
        if link.unnamed:
            link.check_named(options)
        return link, options

    def _open(self) -> Link:
        if self._closed:
            raise ConfigurationError("This VectorizeRetriever is closed; make a new one.")
        return self._linked()

    def _linked(self) -> Link:
        if self._link is None:
            self._set(self._values)
        assert self._link is not None  # _set has made one
        return self._link

    def _handle_recursive_retrieval(self, query_bundle: QueryBundle, nodes: list[NodeWithScore]) -> list[NodeWithScore]:
        # Nothing of ours points to another retriever, and the base class would lose what RetrievedNodes knows.
        return nodes if self._announced(nodes) else super()._handle_recursive_retrieval(query_bundle, nodes)

    async def _ahandle_recursive_retrieval(
        self, query_bundle: QueryBundle, nodes: list[NodeWithScore]
    ) -> list[NodeWithScore]:
        return nodes if self._announced(nodes) else await super()._ahandle_recursive_retrieval(query_bundle, nodes)

    def _announced(self, nodes: list[NodeWithScore]) -> bool:
        """Tell of an answer of ours; here, because here the span of `retrieve` is the current one in both worlds."""
        if not isinstance(nodes, RetrievedNodes):
            return False
        if nodes.asked is not None:
            announce(type(self).__name__, nodes.retrieval, nodes.asked)
        return True

    def __copy__(self) -> Self:
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy with values of its own, which shares token and connections."""
        twin = copy.copy(self)
        asked = {name: value for name, value in self._values.items() if name in _ASKED}
        twin._values, twin._own = {**self._values, **copy.deepcopy(asked, memo)}, copy.deepcopy(self._own, memo)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the token, which is read again from the environment, and what lives in this process only."""
        return {**self.__dict__, "_values": without_token(self._values), "_link": None, "callback_manager": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.callback_manager = CallbackManager()

    def __repr__(self) -> str:
        if self._link is None:
            return f"{type(self).__name__}(not connected yet)"
        base_url, organization, pipeline_id = self._link.calls.connection.address.target
        return f"{type(self).__name__}({base_url}, {organization=}, {pipeline_id=})"


def _bundle(question: Any) -> QueryBundle:
    if isinstance(question, QueryBundle):
        return question
    if not isinstance(question, str):
        Query.make({"question": question})  # which says what is wrong with it
    return QueryBundle(question)


def _asked(link: Link, options: Mapping[str, Any]) -> Asked:
    target = link.calls.connection.address.target
    return Asked(
        options.get("organization", target.organization),
        options.get("pipeline_id", target.pipeline_id),
        options.get("num_results", link.settings.num_results),
    )


_NOISE = re.compile(r"\n(?:input|query) is (?P<named>.*)\n|(?P<placed>.*)\n\n", re.DOTALL)
"""What `RetrieverTool` makes of `tool(input=question)` and of `tool(question)`."""


def _question(bundle: QueryBundle) -> str:
    """The question as it was asked, without what `RetrieverTool` adds to it."""
    noisy = _NOISE.fullmatch(bundle.query_str)
    return bundle.query_str if noisy is None else noisy["named"] or noisy["placed"] or ""
