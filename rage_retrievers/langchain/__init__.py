"""Vectorize for LangChain (extra `langchain`).

    from rage_retrievers.langchain import VectorizeRetriever

    retriever = VectorizeRetriever(base_url="local:./docs", k=3)
    documents = retriever.invoke("How is a retry paused?")

Keywords, defaults and answers are the same in `invoke`, `ainvoke`, `batch`, `abatch` and everything built on them.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from .._lazy import loader

if find_spec("langchain_core") is None:
    raise ImportError(
        'rage_retrievers.langchain needs langchain-core: pip install "rage-retrievers[langchain]"',
        name="langchain_core",
    )

if TYPE_CHECKING:
    from ._options import CallOptions, RetrieverOptions, as_context
    from .middleware import VectorizeContextMiddleware, VectorizeState
    from .research import VectorizeResearch, create_research_tool
    from .retriever import VectorizeRetriever
    from .tool import create_vectorize_tool

__all__ = [
    "CallOptions",
    "RetrieverOptions",
    "VectorizeContextMiddleware",
    "VectorizeResearch",
    "VectorizeRetriever",
    "VectorizeState",
    "as_context",
    "create_research_tool",
    "create_vectorize_tool",
]

_HOMES = {
    "CallOptions": "_options",
    "RetrieverOptions": "_options",
    "VectorizeContextMiddleware": "middleware",
    "VectorizeResearch": "research",
    "VectorizeRetriever": "retriever",
    "VectorizeState": "middleware",
    "as_context": "_options",
    "create_research_tool": "research",
    "create_vectorize_tool": "tool",
}

__getattr__ = loader(__name__, _HOMES)
