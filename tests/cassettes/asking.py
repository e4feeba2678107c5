"""Asks what a promise asks, through every face."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from rage_retrievers import AsyncVectorizeClient, RageError, VectorizeClient
from rage_retrievers.langchain import VectorizeRetriever as LangChainRetriever
from rage_retrievers.llama_index import RetrievedNodes, VectorizeQuery
from rage_retrievers.llama_index import VectorizeRetriever as LlamaIndexRetriever
from rage_retrievers.resilience import Deadline, Pipeline, Policy, Retry

from .promises import GATEWAY, Promise, Taped
from .scrub import ORGANIZATION, PIPELINE
from .tape import BASE_URL, Tape

Face = Callable[[Promise, Mapping[str, Any]], Any]


def settings(promise: Promise, tape: Tape, **connection: Any) -> dict[str, Any]:
    """What a client is made from. Errors are not asked again, and pauses take no time."""
    policies: list[Policy] = [Deadline(30.0)]
    if promise.name.startswith("retry-"):
        policies.append(Retry(base=0.001, cap=0.001))
    return {
        "api_key": "any-token",
        "organization": ORGANIZATION,
        "pipeline_id": PIPELINE,
        "resilience": Pipeline(policies),
        "listeners": [tape],
        **connection,
        **promise.client,
    }


def located(promise: Promise, base_url: str = BASE_URL) -> dict[str, Any]:
    """Where a promise is asked; a replay only pretends to."""
    if promise.environment:
        return {"environment": promise.environment}
    return {"retrieval_url": base_url.removesuffix("/v1") + GATEWAY} if promise.gateway else {"base_url": base_url}


def arguments(promise: Promise, **more: Any) -> tuple[list[str], dict[str, Any]]:
    """Positional and keyword arguments of the operation."""
    if promise.operation == "pipeline":
        return [], {}
    research = {"poll_every": 0.001, **more} if promise.operation == "deep_research" else {}
    return [promise.question], {**promise.options, **research}


def blocking(promise: Promise, options: Mapping[str, Any], **more: Any) -> Any:
    """Through `VectorizeClient`."""
    asked, keywords = arguments(promise, **more)
    with VectorizeClient(**options) as client:
        return getattr(client, promise.operation)(*asked, **keywords)


def asynchronous(promise: Promise, options: Mapping[str, Any]) -> Any:
    """Through `AsyncVectorizeClient`."""
    asked, keywords = arguments(promise)

    async def ask() -> Any:
        async with AsyncVectorizeClient(**options) as client:
            return await getattr(client, promise.operation)(*asked, **keywords)

    return asyncio.run(ask())


def langchain(promise: Promise, options: Mapping[str, Any]) -> Any:
    """Through LangChain's retriever."""
    return LangChainRetriever(**options).retrieve(promise.question, **promise.options)


def llama_index(promise: Promise, options: Mapping[str, Any]) -> Any:
    """Through LlamaIndex's retriever."""
    nodes = LlamaIndexRetriever(**options).retrieve(VectorizeQuery(promise.question, **promise.options))
    assert isinstance(nodes, RetrievedNodes)
    return nodes.retrieval


def outcome(ask: Callable[[], Any], tape: Tape) -> Taped:
    """The answer or the error, and what was sent."""
    try:
        answer = ask()
    except RageError as error:
        answer = error
    return Taped(answer, tape.requests)
