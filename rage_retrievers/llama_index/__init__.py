"""Vectorize in LlamaIndex.

    from rage_retrievers.llama_index import VectorizeRetriever

    retriever = VectorizeRetriever(api_token, organization=..., pipeline_id=..., similarity_top_k=4)
    engine = RetrieverQueryEngine.from_args(retriever)

Needs the extra `llama-index`.
"""

from __future__ import annotations

try:
    import llama_index.core  # noqa: F401  # asked for here, so that its absence has one clear message
except ModuleNotFoundError as missing:
    raise ImportError(
        'rage_retrievers.llama_index needs llama-index-core: pip install "rage-retrievers[llama-index]"'
    ) from missing

from .events import VectorizeRetrievalEvent, VectorizeRetrievalFailedEvent
from .filters import from_metadata_filters
from .nodes import RetrievedNode, RetrievedNodes, to_nodes
from .postprocessors import ContextPostprocessor
from .query import VectorizeQuery, to_context
from .retriever import VectorizeRetriever
from .tools import research_tool, retrieval_tool

__all__ = [
    "ContextPostprocessor",
    "RetrievedNode",
    "RetrievedNodes",
    "VectorizeQuery",
    "VectorizeRetrievalEvent",
    "VectorizeRetrievalFailedEvent",
    "VectorizeRetriever",
    "from_metadata_filters",
    "research_tool",
    "retrieval_tool",
    "to_context",
    "to_nodes",
]
