"""Never run, only type-checked: this is how LlamaIndex users call us, and what they get."""

from __future__ import annotations

from typing import assert_type

import httpx
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.tools import FunctionTool
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters

from rage_retrievers import F, Research, Retrieval
from rage_retrievers.context import Budget, Deduplicate
from rage_retrievers.filters import Filter
from rage_retrievers.llama_index import (
    ContextPostprocessor,
    RetrievedNodes,
    VectorizeQuery,
    VectorizeRetriever,
    from_metadata_filters,
    research_tool,
    retrieval_tool,
)


def blocking(filters: MetadataFilters) -> None:
    retriever: BaseRetriever = VectorizeRetriever("t", organization="o", pipeline_id="p", num_results=3, rerank=True)
    assert_type(retriever.retrieve("What?"), list[NodeWithScore])
    with VectorizeRetriever(api_key=lambda: "t", filters=filters, http_client=httpx.Client()) as own:
        nodes = own.retrieve(
            VectorizeQuery("What?", similarity_top_k=2, rerank=False, metadata_filters=[], min_score=0.0)
        )
        if isinstance(nodes, RetrievedNodes):
            assert_type(nodes.ndcg, float | None)
            assert_type(nodes.retrieval, Retrieval)
        assert_type(own.similarity_top_k, int)
        own.similarity_top_k = 4
        own.filters = F("year") == 2024
        own.rerank = "yes"  # type: ignore[assignment]  # an attribute is as strict as the argument
        assert_type(own.pipeline_id, str | None)
        assert_type(own.with_options(filters=F("year") == 2024, mode="hybrid"), VectorizeRetriever)
        assert_type(own.deep_research("Why?", timeout=60.0), Research)
    assert_type(from_metadata_filters(MetadataFilters(filters=[MetadataFilter(key="k", value=1)])), Filter | None)
    query: QueryBundle = VectorizeQuery("What?", filters=filters, context=[{"role": "user", "content": "Hi"}])
    step: BaseNodePostprocessor = ContextPostprocessor(Deduplicate(), Budget(2000))
    assert_type(retrieval_tool(own, node_postprocessors=[step]), FunctionTool)
    assert_type(research_tool(own, web_search=True), FunctionTool)
    own.retrieve(query)
    VectorizeRetriever(num_result=3)  # type: ignore[call-arg]  # a mistyped keyword is seen before it runs
    VectorizeQuery("What?", top_k=3)  # type: ignore[call-arg]


async def in_asyncio() -> None:
    async with VectorizeRetriever(async_http_client=httpx.AsyncClient()) as retriever:
        assert_type(await retriever.aretrieve("What?"), list[NodeWithScore])
        assert_type(await retriever.adeep_research("Why?"), Research)
