"""Never run, only type-checked: this is how users call us, and what they get."""

from __future__ import annotations

from typing import assert_type

import httpx
from pydantic import SecretStr

from rage_retrievers import (
    AsyncVectorizeClient,
    Deadline,
    Document,
    Pipeline,
    PipelineStatus,
    Research,
    Retrieval,
    Retry,
    VectorizeClient,
    default_pipeline,
)


def blocking() -> None:
    with VectorizeClient(api_key=SecretStr("t"), organization="o", pipeline_id="p", timeout=3.0) as client:
        answer = client.retrieve("What?", num_results=3, rerank=False, metadata_filters=[{"year": [2024]}])
        assert_type(answer, Retrieval)
        assert_type(answer.documents, tuple[Document, ...])
        assert_type(answer.documents[0].similarity, float | None)
        assert_type(client.pipeline(), PipelineStatus)
        assert_type(client.deep_research("Why?", web_search=True, timeout=60.0), Research)
        assert_type(client.with_options(num_results=2), VectorizeClient)
    VectorizeClient(http_client=httpx.Client(), api_key=lambda: "t", resilience=Pipeline([Deadline(1.0), Retry(2)]))
    client.retrieve("What?", numResults=3)  # type: ignore[call-arg]  # a mistyped keyword is seen before it runs


async def in_asyncio() -> None:
    async def token() -> str:
        return "t"

    async with AsyncVectorizeClient(api_key=token, resilience=default_pipeline().without("retry")) as client:
        assert_type(await client.retrieve("What?", context=[{"role": "user", "content": "Hi"}]), Retrieval)
        assert_type(await client.pipeline(), PipelineStatus)
        assert_type(await client.deep_research("Why?"), Research)
