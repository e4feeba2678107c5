"""Never run, only type-checked: how a LangChain project calls us, and what it gets."""

from __future__ import annotations

from typing import assert_type

import httpx
from langchain_core.documents import Document
from langchain_core.messages import HumanMessage
from langchain_core.prompt_values import PromptValue
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnablePassthrough
from langchain_core.tools import BaseTool
from pydantic import SecretStr

from rage_retrievers import F, Retrieval, default_pipeline
from rage_retrievers.context import render
from rage_retrievers.langchain import (
    VectorizeContextMiddleware,
    VectorizeResearch,
    VectorizeRetriever,
    create_research_tool,
    create_vectorize_tool,
)


def blocking() -> None:
    retriever = VectorizeRetriever(api_token="t", organization="o", pipeline_id="p", environment="prod", k=3)
    assert_type(retriever.invoke("q", k=2, rerank=False, metadata_filters=[]), list[Document])
    assert_type(retriever.batch(["q"], {"max_concurrency": 2}, filters=F("a") == 1), list[list[Document]])
    assert_type(retriever.retrieve("q", mode="text", min_score=0.0), Retrieval)
    assert_type(retriever.num_results, int | None)
    retriever.invoke("q", context=[HumanMessage("hi")])
    retriever.invoke("q", filter={})  # type: ignore[call-arg]  # an unknown keyword is seen before it runs
    retriever.invoke("q", mode="fuzzy")  # type: ignore[arg-type]
    VectorizeRetriever(numResults=3)  # type: ignore[call-arg]
    VectorizeRetriever(
        api_key=SecretStr("t"), http_client=httpx.Client(), resilience=default_pipeline(), timeout=2.0, tags=["a"]
    )
    prompt = ChatPromptTemplate.from_template("{context} {question}")
    # Before langchain-core 1.3 a checker cannot tell the type of a mapping in a chain.
    chain: Runnable[str, PromptValue] = {"context": retriever | render, "question": RunnablePassthrough()} | prompt
    chain.invoke("q")


def around(retriever: VectorizeRetriever, other: BaseRetriever) -> None:
    tools: list[BaseTool] = [
        retriever.as_tool(filters={"year": int}),
        create_vectorize_tool(other, max_tokens=100),
        create_research_tool(retriever, web_search=True, timeout=60.0),
    ]
    tools[0].invoke({"query": "q"})
    VectorizeContextMiddleware(other, on_error="raise")
    VectorizeResearch(retriever=retriever).invoke("q")


async def in_asyncio() -> None:
    async def token() -> str:
        return "t"

    async with VectorizeRetriever(api_key=token) as retriever:
        assert_type(await retriever.ainvoke("q", num_results=2), list[Document])
        assert_type(await retriever.abatch(["q"], return_exceptions=True), list[list[Document]])
        assert_type(await retriever.aretrieve("q"), Retrieval)
