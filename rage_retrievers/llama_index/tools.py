"""Retrieval and deep research as tools for LlamaIndex's agents."""

from __future__ import annotations

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel, Field
from typing_extensions import Unpack

from .._checks import typed
from .._face import check_tool, shaping
from .._options import ResearchPlan
from ..client import ResearchOptions
from ..context import Style, render
from ..errors import ConfigurationError
from .retriever import VectorizeRetriever

__all__ = ["research_tool", "retrieval_tool"]


class SearchInput(BaseModel):
    """What a model fills in to search."""

    query: str = Field(description="A question, or keywords", min_length=1)


class ResearchInput(BaseModel):
    """What a model fills in to research."""

    query: str = Field(description="The question to research, with all the detail that matters", min_length=1)


def _no_retriever(given: object) -> ConfigurationError:
    return ConfigurationError(f"retriever is {typed(given)}; give a VectorizeRetriever.")


def _checked(given: object) -> tuple[BaseNodePostprocessor, ...]:
    # One alone would be iterated over, too: it is a model of pydantic's, and gives its fields.
    if not isinstance(given, tuple | list) or not all(isinstance(one, BaseNodePostprocessor) for one in given):
        raise ConfigurationError(
            "node_postprocessors needs a list of postprocessors, such as [ContextPostprocessor(…)]."
        )
    return tuple(given)


def retrieval_tool(
    retriever: VectorizeRetriever,
    *,
    name: str = "search_documents",
    description: str = "Searches the documents. Returns the passages that fit a question or some keywords best.",
    node_postprocessors: tuple[BaseNodePostprocessor, ...] | list[BaseNodePostprocessor] = (),
    style: Style | None = None,
) -> FunctionTool:
    """A tool with one argument, `query`, which reaches the service as the model wrote it.

    The model reads the passages as `rage_retrievers.context.render` writes them, in RAGE_FORMAT_STYLE unless `style` is
    given; `raw_output` holds the nodes. What else is asked (filters, how many) is the retriever's and the scope's to
    say, never the model's.
    """
    if not isinstance(retriever, BaseRetriever):
        raise _no_retriever(retriever)
    check_tool(name, description)
    postprocessors = _checked(node_postprocessors)
    _, how = shaping(retriever, None, style)

    def search(query: str) -> list[NodeWithScore]:
        nodes = retriever.retrieve(query)
        for one in postprocessors:
            nodes = one.postprocess_nodes(nodes, QueryBundle(query))
        return nodes

    async def asearch(query: str) -> list[NodeWithScore]:
        nodes = await retriever.aretrieve(query)
        for one in postprocessors:
            nodes = await one.apostprocess_nodes(nodes, QueryBundle(query))
        return nodes

    def written(nodes: list[NodeWithScore]) -> str:
        return render(nodes, how) if nodes else "Nothing was found."

    async def awritten(nodes: list[NodeWithScore]) -> str:
        return written(nodes)

    return FunctionTool.from_defaults(
        search, name, description, async_fn=asearch, fn_schema=SearchInput, callback=written, async_callback=awritten
    )


def research_tool(
    retriever: VectorizeRetriever,
    *,
    name: str = "deep_research",
    description: str = "Researches a topic across all documents and returns a report. Takes minutes.",
    **options: Unpack[ResearchOptions],
) -> FunctionTool:
    """A tool with one argument, `query`, that gives the report of a deep research as Markdown.

    `options` are those of the client's `deep_research`: `web_search`, `schema`, `n8n`, `timeout`, `poll_every`,
    `on_progress`.
    """

    if not isinstance(retriever, VectorizeRetriever):
        raise _no_retriever(retriever)
    check_tool(name, description)
    ResearchPlan.make(options)

    def research(query: str) -> str:
        return retriever.deep_research(query, **options).markdown

    async def aresearch(query: str) -> str:
        return (await retriever.adeep_research(query, **options)).markdown

    return FunctionTool.from_defaults(research, name, description, async_fn=aresearch, fn_schema=ResearchInput)
