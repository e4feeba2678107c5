"""The retriever: LlamaIndex's hooks in front of the two clients."""

from __future__ import annotations

import copy
import re
from types import TracebackType
from typing import Any, Self

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.schema import NodeWithScore, QueryBundle
from typing_extensions import Unpack

from .._connection import ApiKey
from .._face import Clients
from .nodes import RetrievedNodes, to_nodes
from .query import Options, VectorizeQuery, translated

__all__ = ["VectorizeRetriever"]


class VectorizeRetriever(BaseRetriever):
    """Retrieves from a Vectorize pipeline, blocking or natively async; safe to share between threads, tasks and loops.

    Takes what the client takes (see `ClientOptions`; `api_token` is `api_key`), the defaults of its calls
    (`num_results` or `similarity_top_k`, `rerank`, `filters`, `metadata_filters`, `context`, `advanced_query`,
    `min_score`, `timeout`) and the caller's own `http_client` and `async_http_client`, never closed here. `filters`
    takes LlamaIndex's `MetadataFilters` too, and `context` a list of `ChatMessage`. What is left out comes from
    `VectorizeSettings`.

    Values are merged constructor < `rage_retrievers.scope(...)` < `VectorizeQuery(...)`. Raises ConfigurationError for
    a value that cannot be used and TypeError for an unknown keyword, both before anything is sent; a call raises
    `RageError`, and never answers an empty list in its place.
    """

    def __init__(
        self,
        api_key: ApiKey | None = None,
        /,
        *,
        callback_manager: CallbackManager | None = None,
        verbose: bool = False,
        **options: Unpack[Options],
    ) -> None:
        given = translated(options)
        if api_key is not None:
            given = {**given, "api_key" if given.get("api_key") is None else "api_token": api_key}
        self._clients = Clients(given)
        super().__init__(callback_manager=callback_manager, verbose=verbose)

    @property
    def similarity_top_k(self) -> int:
        """How many passages a call asks for, where scope and query say nothing; can be set."""
        return int(self._clients.value("num_results"))

    @similarity_top_k.setter
    def similarity_top_k(self, value: int) -> None:
        self._clients = self._clients.with_options({"num_results": value})

    num_results = similarity_top_k

    def with_options(self, **options: Unpack[Options]) -> Self:
        """A cheap copy with these options changed; it shares connections, circuit and budget."""
        return self._twin(self._clients.with_options(translated(options)))

    def close(self) -> None:
        """Answer no more, and close the idle connections of blocking code."""
        self._clients.close()

    async def aclose(self) -> None:
        """Answer no more, and close idle connections, those of the running event loop included."""
        await self._clients.aclose()

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        options = self._clients.query(_overrides(query_bundle))
        return to_nodes(self._clients.blocking.retrieve(_question(query_bundle), **options))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        options = self._clients.query(_overrides(query_bundle))
        return to_nodes(await self._clients.asyncio.retrieve(_question(query_bundle), **options))

    def _handle_recursive_retrieval(self, query_bundle: QueryBundle, nodes: list[NodeWithScore]) -> list[NodeWithScore]:
        # Nothing of ours points to another retriever, and the base class would lose what RetrievedNodes knows.
        return nodes if isinstance(nodes, RetrievedNodes) else super()._handle_recursive_retrieval(query_bundle, nodes)

    async def _ahandle_recursive_retrieval(
        self, query_bundle: QueryBundle, nodes: list[NodeWithScore]
    ) -> list[NodeWithScore]:
        if isinstance(nodes, RetrievedNodes):
            return nodes
        return await super()._ahandle_recursive_retrieval(query_bundle, nodes)

    def _twin(self, clients: Clients) -> Self:
        twin = copy.copy(self)
        twin._clients = clients
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self._twin(self._clients.copy())

    def __getstate__(self) -> dict[str, Any]:
        # Callback handlers belong to the process that made them.
        return {**self.__dict__, "callback_manager": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.callback_manager = self.callback_manager or CallbackManager()

    def __copy__(self) -> Self:
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__, _clients=self._clients.copy())
        return twin

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._clients.shown()})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _overrides(bundle: QueryBundle) -> dict[str, Any]:
    return translated(bundle.overrides) if isinstance(bundle, VectorizeQuery) else {}


def _question(bundle: QueryBundle) -> str:
    """The question as it was asked: `RetrieverTool` sends "input is QUESTION" between line breaks."""
    noisy = re.fullmatch(r"\s*input is (.+)\n", bundle.query_str, re.DOTALL)
    return noisy.group(1).strip() if noisy else bundle.query_str
