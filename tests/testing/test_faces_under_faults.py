"""Every fault in the catalogue through both frameworks, in blocking code and in asyncio, retries and all."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from rage_retrievers import ConnectionFailedError, Deadline, Pipeline, RageError, Retry
from rage_retrievers.langchain import VectorizeRetriever as LangChainRetriever
from rage_retrievers.llama_index import VectorizeRetriever as LlamaIndexRetriever
from rage_retrievers.testing import FAULTS, Close, Fault, FaultCase, FaultServer, Reset, fail_then, refused_url, status
from testing.engines import NAMES, engines_called

TOKEN = "planted-token-0451"
QUESTION = "When does the planted café open?"
GRACE = 0.25
NAMED = {"api_key": TOKEN, "organization": "o", "pipeline_id": "p"}

Ask: TypeAlias = Callable[[dict[str, Any]], object]


def langchain_sync(options: dict[str, Any]) -> object:
    return LangChainRetriever(**options).invoke(QUESTION)


def langchain_async(options: dict[str, Any]) -> object:
    return asyncio.run(LangChainRetriever(**options).ainvoke(QUESTION))


def llama_index_sync(options: dict[str, Any]) -> object:
    return LlamaIndexRetriever(**options).retrieve(QUESTION)


def llama_index_async(options: dict[str, Any]) -> object:
    return asyncio.run(LlamaIndexRetriever(**options).aretrieve(QUESTION))


in_every_face = pytest.mark.parametrize("ask", [langchain_sync, langchain_async, llama_index_sync, llama_index_async])
over_every_engine = pytest.mark.parametrize("engine", NAMES)


@in_every_face
@over_every_engine
@pytest.mark.parametrize("case", FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_has_its_outcome_in_every_face(
    ask: Ask, engine: str, case: FaultCase, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The answer or the right typed error, in time, at one origin, and neither token nor question told to anybody."""
    caplog.set_level("DEBUG")
    timeout = 0.3 if "DeadlineExceededError" in case.outcomes else 3.0
    resilience = Pipeline([Deadline(timeout), Retry(attempts=2, base=0.001, cap=0.001)])
    options = {**NAMED, "engine": engines_called(engine), "resilience": resilience}
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
    shown = repr(error) + repr(error.__dict__) if error is not None else ""
    told = shown + "".join(traceback.format_exception(error)) + caplog.text + "".join(capfd.readouterr())
    assert TOKEN not in told
    assert QUESTION not in told


@in_every_face
@over_every_engine
@pytest.mark.parametrize(
    "fault", [status(503), status(429), Fault((Close(),)), Fault((Reset(),))], ids=["503", "429", "dropped", "reset"]
)
def test_what_fails_twice_and_then_works_is_answered(ask: Ask, engine: str, fault: Fault) -> None:
    """Three attempts, the third of which brings the answer."""
    resilience = Pipeline([Deadline(3.0), Retry(base=0.001, cap=0.001)])
    with FaultServer(fail_then(2, fault)) as server:
        ask({**NAMED, "base_url": server.url, "engine": engines_called(engine), "resilience": resilience})
        assert len(server.requests) == 3


@in_every_face
@over_every_engine
def test_a_refused_connection_is_a_connection_that_failed(ask: Ask, engine: str) -> None:
    """Nobody listens: tried again, and then the error that says so, well before the deadline."""
    resilience = Pipeline([Deadline(3.0), Retry(base=0.001, cap=0.001)])
    with pytest.raises(ConnectionFailedError) as caught:
        ask({**NAMED, "base_url": refused_url(), "engine": engines_called(engine), "resilience": resilience})
    assert TOKEN not in "".join(traceback.format_exception(caught.value))
