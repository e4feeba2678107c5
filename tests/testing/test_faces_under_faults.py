"""Every fault in the catalogue through both frameworks, in blocking code and in asyncio, retries and all.

What every engine makes of every fault is tried in `test_engines_under_faults`, in one attempt of its own. Faces know no
engine, so every fault passes through every face with one of them, and what they ask of an engine beyond an attempt,
another attempt after one that failed, through every face with every engine.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from pydantic import SecretStr

from rage_retrievers import ConnectionFailedError, Deadline, Pipeline, RageError, Retry
from rage_retrievers.langchain import VectorizeRetriever as LangChainRetriever
from rage_retrievers.llama_index import VectorizeRetriever as LlamaIndexRetriever
from rage_retrievers.settings import VectorizeSettings
from rage_retrievers.testing import FAULTS, Close, Fault, FaultCase, FaultServer, Reset, fail_then, refused_url, status
from testing.engines import NAMES, engines_called

TOKEN = "planted-token-0451"
QUESTION = "When does the planted café open?"
GRACE = 0.25
SETTINGS = VectorizeSettings(api_key=SecretStr(TOKEN), organization="o", pipeline_id="p")

Ask: TypeAlias = Callable[[dict[str, Any]], object]


def langchain_sync(options: dict[str, Any]) -> object:
    with LangChainRetriever(**options) as retriever:
        return retriever.invoke(QUESTION)


def langchain_async(options: dict[str, Any]) -> object:
    async def main() -> object:
        async with LangChainRetriever(**options) as retriever:
            return await retriever.ainvoke(QUESTION)

    return asyncio.run(main())


def llama_index_sync(options: dict[str, Any]) -> object:
    with LlamaIndexRetriever(**options) as retriever:
        return retriever.retrieve(QUESTION)


def llama_index_async(options: dict[str, Any]) -> object:
    async def main() -> object:
        async with LlamaIndexRetriever(**options) as retriever:
            return await retriever.aretrieve(QUESTION)

    return asyncio.run(main())


def at(url: str) -> dict[str, Any]:
    """What a retriever of that address is made from. Reading settings costs more than a call: they are read once."""
    return {"settings": SETTINGS.model_copy(update={"base_url": url})}


def seconds_for(case: FaultCase) -> float:
    """The deadline: short where it, or the pause that the service asks for, is waited for; long where much is read."""
    if "DeadlineExceededError" in case.outcomes:
        return 0.3
    return {"retry-after": 1.0, "size": 6.0}.get(case.group, 3.0)


in_every_face = pytest.mark.parametrize("ask", [langchain_sync, langchain_async, llama_index_sync, llama_index_async])
over_every_engine = pytest.mark.parametrize("engine", NAMES)


@in_every_face
@pytest.mark.parametrize("case", FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_has_its_outcome_in_every_face(
    ask: Ask, case: FaultCase, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The answer or the right typed error, in time, at one origin, and neither token nor question told to anybody."""
    caplog.set_level("DEBUG")
    timeout = seconds_for(case)
    resilience = Pipeline([Deadline(timeout), Retry(attempts=2, base=0.001, cap=0.001)])
    error: RageError | None = None
    with FaultServer(case.script) as server:
        started = time.monotonic()
        try:
            ask({**at(server.url), "resilience": resilience})
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
        ask({**at(server.url), "engine": engines_called(engine), "resilience": resilience})
        assert len(server.requests) == 3


@in_every_face
@over_every_engine
def test_a_refused_connection_is_a_connection_that_failed(ask: Ask, engine: str) -> None:
    """Nobody listens: tried again, and then the error that says so, well before the deadline."""
    resilience = Pipeline([Deadline(3.0), Retry(base=0.001, cap=0.001)])
    with pytest.raises(ConnectionFailedError) as caught:
        ask({**at(refused_url()), "engine": engines_called(engine), "resilience": resilience})
    assert TOKEN not in "".join(traceback.format_exception(caught.value))
