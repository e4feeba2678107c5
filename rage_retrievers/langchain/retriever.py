"""`VectorizeRetriever`: LangChain's retriever interface over the two clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Self

from langchain_core.callbacks.manager import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from langchain_core.runnables import RunnableConfig
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, SkipValidation
from typing_extensions import Unpack, override

from .._closing import AsyncClosing, Closing
from .._face import SEARCH, Link, canonical, folded, without_token
from ..errors import ConfigurationError
from ..filters import Filter
from ..models import AdvancedQuery, Query, Retrieval
from ..scope import Scope, current_scope, effective
from ._batches import ask_all, bounded, check_batch, fits_one_loop
from ._documents import to_documents
from ._options import CallOptions, RetrieverOptions, as_context, check_call, init_or_refuse, with_context
from ._runs import needs_run, within, without_run
from ._runtime import running_in, runtime_scope

if TYPE_CHECKING:
    from langchain_core.tools import StructuredTool

    from .tool import ToolOptions

_ASKED = ("num_results", "rerank", "filters", "metadata_filters", "context", "advanced_query", "min_score", "timeout")
_QUERY = (*_ASKED, *SEARCH)
_SHARED = ("api_key", "engine", "resilience", "listeners", "settings", "http_client", "async_http_client", "link",
           "runtime_filters")  # fmt: skip
_EVERYWHERE = Scope()
# Loaded without its function, a retriever would ask for everything; this is refused instead.
_TO_BE_GIVEN_AGAIN = "to be given again"


def _field(*, shown: bool = True, dumped: bool = True) -> Any:
    return Field(default=None, repr=shown, exclude=not dumped)


_Any = Annotated[Any, SkipValidation]


class VectorizeRetriever(Closing, AsyncClosing, BaseRetriever):
    """Retrieves passages from a Vectorize pipeline, in blocking code and in asyncio (no thread is used there).

    Made from `RetrieverOptions`; what is left out comes from `VectorizeSettings`, so `VectorizeRetriever()` works where
    VECTORIZE_API_KEY, VECTORIZE_ORGANIZATION_ID and VECTORIZE_PIPELINE_ID are set. Every option of `CallOptions` can be
    given per call, to a scope, or here; the call wins over the scope, the scope over the constructor. Copies, clones
    and pickles share the process's connections. Raises ConfigurationError for a value that cannot be used, TypeError
    for an unknown keyword, and whatever `RageError` a call ends with; an error never becomes an empty list.
    """

    # SkipValidation: the query and the settings check these, with errors that name the remedy.
    api_key: _Any = _field(shown=False, dumped=False)
    """The token, as a SecretStr, or a function (sync or async) that returns it."""
    organization: Annotated[str | None, SkipValidation] = _field()
    """The organization's id."""
    pipeline_id: Annotated[str | None, SkipValidation] = _field()
    """The pipeline's id."""
    environment: Annotated[str | None, SkipValidation] = _field()
    """Which of the service's environments: prod (the default), staging, dev or local."""
    base_url: Annotated[str | None, SkipValidation] = _field()
    """The API's address, or local:FOLDER for the embedded pipeline; instead of environment."""
    retrieval_url: Annotated[str | None, SkipValidation] = _field()
    """The older gateway's full retrieval address."""
    num_results: Annotated[int | None, SkipValidation] = _field()
    """How many passages, at most; 5 unless the settings say otherwise."""
    rerank: Annotated[bool | None, SkipValidation] = _field()
    """Whether to rerank, which costs a unit of the advanced quota; not, unless the settings say so."""
    filters: _Any = _field()
    """An `F(...)` expression, or raw filters."""
    metadata_filters: _Any = _field()
    """The service's own `metadata-filters`: one key per mapping, each with a list of values."""
    context: _Any = _field(shown=False)
    """The conversation so far, for query rewriting."""
    advanced_query: _Any = _field()
    """The service's own `advanced-query`."""
    mode: Annotated[str | None, SkipValidation] = _field()
    """text, vector or hybrid."""
    text_fields: Annotated[list[str] | None, SkipValidation] = _field()
    """Where text search looks."""
    match_type: Annotated[str | None, SkipValidation] = _field()
    """match, match_phrase or multi_match."""
    text_boost: Annotated[float | None, SkipValidation] = _field()
    """How much text search weighs in hybrid mode."""
    min_score: Annotated[float | None, SkipValidation] = _field()
    """The least score of a passage, on the scale of the score that orders the list."""
    timeout: Annotated[float | None, SkipValidation] = _field()
    """Seconds of a whole call, retries included."""
    allow_insecure: Annotated[bool | None, SkipValidation] = _field()
    """Whether plain http to another machine may carry the token."""
    max_response_mib: Annotated[float | None, SkipValidation] = _field()
    """The largest answer that is read."""
    user_agent: Annotated[str | None, SkipValidation] = _field()
    """What the User-Agent header says."""
    engine: _Any = _field(shown=False, dumped=False)
    """A name or a pair from `rage_retrievers.engines`."""
    resilience: _Any = _field(shown=False, dumped=False)
    """The policies around a call, instead of the default ones."""
    listeners: _Any = _field(shown=False, dumped=False)
    """Who hears of the events of a call."""
    settings: _Any = _field(shown=False, dumped=False)
    """The settings, instead of those in the environment."""
    http_client: _Any = _field(shown=False, dumped=False)
    """Your own httpx.Client."""
    async_http_client: _Any = _field(shown=False, dumped=False)
    """Your own httpx.AsyncClient."""
    runtime_filters: _Any = _field(shown=False, dumped=False)
    """From a LangGraph runtime's context to filters that hold whatever else is asked."""
    link: _Any = _field(shown=False, dumped=False)
    """Where copies find the connection they share; not for you to set."""

    # An argument of the base class's may be the token, given in the wrong place.
    model_config = ConfigDict(hide_input_in_errors=True)
    _closed: bool = PrivateAttr(default=False)

    def __init__(self, **options: Unpack[RetrieverOptions]) -> None:
        given = canonical(options, type(self).model_fields)
        if isinstance(given.get("api_key"), str):
            given["api_key"] = SecretStr(given["api_key"])
        init_or_refuse(super().__init__, given)
        self._linked()
        self._check()

    @property
    def k(self) -> int | None:
        """LangChain's name for `num_results`."""
        return self.num_results

    @k.setter
    def k(self, value: int | None) -> None:
        self.num_results = value

    # Asking

    @override
    def invoke(  # type: ignore[override]  # narrower on purpose: an unknown keyword is an error, also to a type checker
        self, input: str, config: RunnableConfig | None = None, **options: Unpack[CallOptions]
    ) -> list[Document]:
        """The passages for a question, best first. `options` as in `CallOptions`."""
        with running_in(config):
            if not self._needs_run(config, options):
                return to_documents(self.retrieve(input, **options))
            check_call(without_run(options))
            return super().invoke(input, config, **options)

    @override
    async def ainvoke(  # type: ignore[override]  # as in invoke
        self, input: str, config: RunnableConfig | None = None, **options: Unpack[CallOptions]
    ) -> list[Document]:
        """See `invoke`; never uses a thread."""
        with running_in(config):
            if not self._needs_run(config, options):
                return to_documents(await self.aretrieve(input, **options))
            check_call(without_run(options))
            return await super().ainvoke(input, config, **options)

    @override
    def batch(  # type: ignore[override]  # as in invoke
        self,
        inputs: list[str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **options: Unpack[CallOptions],
    ) -> list[list[Document]]:
        """The passages for each question, in the order of the questions.

        As many calls at once as the bulkhead admits (64), or as `max_concurrency` in the config says.
        """
        check_batch(inputs, options)
        link = self._linked()
        bound = bounded(config, link.at_once)
        ours = self.http_client is None and self.async_http_client is None and not self._needs_run(None, options)
        if not ours or not fits_one_loop(inputs, bound):
            return super().batch(inputs, bound, return_exceptions=return_exceptions, **options)

        async def ask(question: str) -> list[Document]:
            return to_documents(await self.aretrieve(question, **options))

        close = partial(link.close_asyncio, None)
        found: list[Any] = ask_all(ask, close, inputs, bound, return_exceptions=return_exceptions)
        return found

    @override
    async def abatch(  # type: ignore[override]  # as in invoke
        self,
        inputs: list[str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **options: Unpack[CallOptions],
    ) -> list[list[Document]]:
        """See `batch`."""
        check_batch(inputs, options)
        return await super().abatch(
            inputs, bounded(config, self._linked().at_once), return_exceptions=return_exceptions, **options
        )

    @override
    def batch_as_completed(  # type: ignore[override]  # as in invoke
        self,
        inputs: Sequence[str],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **options: Unpack[CallOptions],
    ) -> Iterator[tuple[int, list[Document] | Exception]]:
        """(place, passages) of each question as its answer comes; see `batch`."""
        check_batch(inputs, options)
        ask: Any = super().batch_as_completed
        yield from ask(inputs, bounded(config, self._linked().at_once), return_exceptions=return_exceptions, **options)

    @override
    async def abatch_as_completed(  # type: ignore[override]  # as in invoke
        self,
        inputs: Sequence[str],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **options: Unpack[CallOptions],
    ) -> AsyncIterator[tuple[int, list[Document] | Exception]]:
        """See `batch_as_completed`."""
        check_batch(inputs, options)
        ask: Any = super().abatch_as_completed
        async for found in ask(
            inputs, bounded(config, self._linked().at_once), return_exceptions=return_exceptions, **options
        ):
            yield found

    def retrieve(self, question: str, **options: Unpack[CallOptions]) -> Retrieval:
        """The whole answer: scores of the list, attempts and elapsed time beside the documents. Calls no callbacks."""
        link = self._linked()
        return link.blocking.retrieve(question, **self._asked(link, dict(options)))

    async def aretrieve(self, question: str, **options: Unpack[CallOptions]) -> Retrieval:
        """See `retrieve`."""
        link = self._linked()
        return await link.asyncio.retrieve(question, **self._asked(link, dict(options)))

    def asked(self, **options: Unpack[CallOptions]) -> dict[str, Any]:
        """What a call with these options would ask here and now, under the core's names; nothing is sent."""
        found: dict[str, Any] = self._asked(self._linked(), dict(options))
        return found

    @override
    def as_tool(  # type: ignore[override]  # the base's version is beta, and its tool loses sources and scores
        self, **options: Unpack[ToolOptions]
    ) -> StructuredTool:
        """A search tool for agents; see `create_vectorize_tool`."""
        from .tool import create_vectorize_tool

        return create_vectorize_tool(self, **options)

    @override
    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        options.pop("verbose", None)
        link = self._linked()
        with within(run_manager):
            return to_documents(link.blocking.retrieve(query, **self._asked(link, options)))

    # LangChain asks the hook above which keywords both get, so the two have one signature.
    @override
    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        options.pop("verbose", None)
        link = self._linked()
        with within(run_manager):
            return to_documents(await link.asyncio.retrieve(query, **self._asked(link, options)))

    def _needs_run(self, config: RunnableConfig | None, options: Mapping[str, Any]) -> bool:
        """Whether LangChain's own run is needed; it takes longer than all that is done here around a request."""
        return type(self) is not VectorizeRetriever or needs_run(config, options)  # a subclass may hand the run on

    def _asked(self, link: Link, options: dict[str, Any]) -> Any:
        """What one call asks: constructor < scope < call, with the scope's locks."""
        if self.__pydantic_private__["_closed"]:  # type: ignore[index]  # looked up by its name it takes 3 µs
            raise ConfigurationError("This VectorizeRetriever is closed; make a new one.")
        own = self._own_values()
        if options:
            check_call(options)
            bounds = current_scope()
            base = bounds.values.get("advanced_query", own.get("advanced_query"))
            options = with_context(folded(options, base))
        asked = self._effective(options, own)
        if link.unnamed:
            link.check_named(asked)
        return asked

    def _effective(self, options: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
        if self.runtime_filters is None:
            return effective(options, own)
        return effective(options, own, runtime_scope(self.runtime_filters))

    def _own_values(self) -> dict[str, Any]:
        fields = self.__dict__
        found = {name: value for name in _QUERY if (value := fields[name]) is not None}
        return with_context(folded(found, None))

    def _check(self) -> None:
        """Refuse now what every call would be refused for."""
        if self.runtime_filters is not None and not callable(self.runtime_filters):
            raise ConfigurationError(
                "runtime_filters needs the function from a runtime's context to filters; a dump does not hold it, so "
                "give it again."
            )
        asked = effective({}, self._own_values(), _EVERYWHERE)
        Query.make({"question": "any", **asked})

    def _linked(self) -> Link:
        link = Link.of(self.__dict__, self.link)
        if link is not self.link:
            self.__dict__["link"] = link
        return link

    # Tracing

    @override
    def _get_ls_params(self, **options: Any) -> LangSmithRetrieverParams:
        return LangSmithRetrieverParams(ls_retriever_name="vectorize", ls_vector_store_provider="Vectorize")

    # Serialization and copies

    @classmethod
    @override
    def is_lc_serializable(cls) -> bool:
        """`dumps` works; it holds no token, and none of the objects that only live in a process."""
        return True

    @property
    @override
    def lc_secrets(self) -> dict[str, str]:
        """Where `loads` finds the token."""
        return {"api_key": "VECTORIZE_API_KEY"}

    @property
    @override
    def lc_attributes(self) -> dict[str, Any]:
        """What is no JSON, as JSON: filters in the service's own languages, messages, the name of an engine."""
        found: dict[str, Any] = {"engine": self.engine} if isinstance(self.engine, str) else {}
        if self.context is not None:
            found["context"] = as_context(self.context)
        if isinstance(self.advanced_query, AdvancedQuery):
            found["advanced_query"] = self.advanced_query.wire()
        if self.runtime_filters is not None:
            found["runtime_filters"] = _TO_BE_GIVEN_AGAIN
        if isinstance(self.filters, Filter):
            said = effective({}, self._own_values(), _EVERYWHERE)
            found |= {name: said.get(name) for name in ("metadata_filters", "advanced_query")}
            found |= dict.fromkeys(("filters", *SEARCH))
        return found

    @override
    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, SecretStr(value) if name == "api_key" and isinstance(value, str) else value)

    @override
    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """A copy that shares token, connections, listeners and policies, and copies the rest."""
        shared = {id(value): value for name in _SHARED if (value := self.__dict__[name]) is not None}
        return super().__deepcopy__({**(memo or {}), **shared})

    @override
    def __getstate__(self) -> dict[Any, Any]:
        """Everything but the token, which is read again from the environment."""
        state = super().__getstate__()
        kept = {**without_token(state["__dict__"]), "link": None}
        return {**state, "__dict__": kept}

    @override
    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Read the settings here, where an event loop is not waiting; what is missing is told by the first call."""
        super().__setstate__(state)
        with suppress(ConfigurationError):
            self._linked()

    # Closing

    def close(self) -> None:
        """Close the idle connections of blocking code; this retriever answers no more."""
        self._closed = True
        self._linked().close_blocking(self.http_client)

    async def aclose(self) -> None:
        """Close the idle connections of the running loop and of blocking code; this retriever answers no more."""
        self.close()
        await self._linked().close_asyncio(self.async_http_client)
