"""Every fault in the catalogue through both frameworks, in blocking code and in asyncio, retries and all."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from rage_retrievers import Deadline, Pipeline, RageError, Retry
from rage_retrievers.langchain import VectorizeRetriever as LangChainRetriever
from rage_retrievers.llama_index import VectorizeRetriever as LlamaIndexRetriever
from rage_retrievers.testing import FAULTS, FaultCase, FaultServer

TOKEN = "planted-token-0451"
QUESTION = "When does the planted café open?"
GRACE = 0.25

Ask: TypeAlias = Callable[[dict[str, Any]], object]


def langchain_sync(options: dict[str, Any]) -> object:
    return LangChainRetriever(**options).invoke(QUESTION)


def langchain_async(options: dict[str, Any]) -> object:
    return asyncio.run(LangChainRetriever(**options).ainvoke(QUESTION))


def llama_index_sync(options: dict[str, Any]) -> object:
    return LlamaIndexRetriever(**options).retrieve(QUESTION)


def llama_index_async(options: dict[str, Any]) -> object:
    return asyncio.run(LlamaIndexRetriever(**options).aretrieve(QUESTION))


@pytest.mark.parametrize("ask", [langchain_sync, langchain_async, llama_index_sync, llama_index_async])
@pytest.mark.parametrize("case", FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_has_its_outcome_in_every_face(
    ask: Ask, case: FaultCase, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The answer or the right typed error, in time, at one origin, and neither token nor question told to anybody."""
    caplog.set_level("DEBUG")
    timeout = 0.3 if "DeadlineExceededError" in case.outcomes else 3.0
    resilience = Pipeline([Deadline(timeout), Retry(attempts=2, base=0.001, cap=0.001)])
    options = {"api_key": TOKEN, "organization": "o", "pipeline_id": "p", "resilience": resilience}
    error: RageError | None = None
    with FaultServer(case.script) as server:
        started = time.monotonic()
        try:
            ask({**options, "base_url": server.url})
        except RageError as raised:
            error = raised
        elapsed = time.monotonic() - started
        assert {request.port for request in server.requests} <= {server.port}
        assert len(server.requests) <= 2
    assert case.allows(error), repr(error)
    assert elapsed <= timeout + GRACE
    told = "".join(traceback.format_exception(error)) + caplog.text + "".join(capfd.readouterr())
    assert TOKEN not in told
    assert QUESTION not in told
