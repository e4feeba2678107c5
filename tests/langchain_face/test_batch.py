"""Batches, tracing, and tokens that rotate."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.base import BaseTracer
from langchain_core.tracers.schemas import Run

from rage_retrievers import (
    Bulkhead,
    ConfigurationError,
    Pipeline,
    RageError,
    Retry,
    RetryBudget,
    ServerError,
    UnauthorizedError,
)

from .conftest import TOKEN, WIRE, Ask, Recorder, in_loop, reply


def echo(request: httpx.Request) -> httpx.Response:
    question = json.loads(request.content)["question"]
    if question == "bad":
        return reply({"error": "bad"}, 400)
    return reply({"documents": [{**WIRE, "text": question}]})


class Gate:
    """Answers only when as many requests are there at once as it waits for; keeps the most it ever saw."""

    def __init__(self, together: int) -> None:
        self.barrier = threading.Barrier(together)
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            self.barrier.wait(20)
        finally:
            with self._lock:
                self._now -= 1
        return echo(request)


def test_a_batch_runs_64_at_once(service: Recorder) -> None:
    """A sync batch has 64 calls under way, so 200 calls of 200 ms take four rounds and not forty."""
    gate = Gate(64)
    service.answer = gate
    questions = [f"q{number}" for number in range(192)]
    answers = service.retriever().batch(questions)
    assert [answer[0].page_content for answer in answers] == questions
    assert gate.most == 64


@pytest.mark.parametrize(
    ("options", "config", "expected"),
    [
        ({"resilience": Pipeline([Bulkhead(8)])}, None, 8),
        ({}, {"max_concurrency": 4}, 4),
        ({}, [{"max_concurrency": 4}] * 16, 4),
        ({}, [{"tags": ["a"]}] * 64, 64),
    ],
)
def test_the_bound_of_a_batch(service: Recorder, options: Any, config: Any, expected: int) -> None:
    """The bulkhead, or `max_concurrency`, says how many calls are under way at once."""
    gate = Gate(expected)
    service.answer = gate
    size = len(config) if isinstance(config, list) else expected * 2
    service.retriever(**options).batch([f"q{number}" for number in range(size)], config)
    assert gate.most == expected


@pytest.mark.parametrize(("config", "expected"), [(None, 64), ({"max_concurrency": 3}, 3)])
def test_the_bound_of_an_async_batch(service: Recorder, config: Any, expected: int) -> None:
    """`abatch` is bounded by default, too, and keeps the order."""
    now, most = 0, 0

    async def respond(request: httpx.Request) -> httpx.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        for _ in range(200):
            await asyncio.sleep(0)
        now -= 1
        return echo(request)

    retriever = service.retriever(async_http_client=httpx.AsyncClient(transport=httpx.MockTransport(respond)))
    questions = [f"q{number}" for number in range(150)]
    answers = asyncio.run(retriever.abatch(questions, config))
    assert [answer[0].page_content for answer in answers] == questions
    assert most == expected


@pytest.mark.parametrize("world", ["sync", "async"])
def test_return_exceptions(service: Recorder, world: str) -> None:
    """A failed question is an exception in its place, or raises, as the caller chose."""
    service.answer = echo
    retriever = service.retriever()

    def batch(**options: Any) -> Any:
        if world == "sync":
            return retriever.batch(["a", "bad", "c"], **options)
        return asyncio.run(retriever.abatch(["a", "bad", "c"], **options))

    answers = batch(return_exceptions=True)
    assert answers[0][0].page_content == "a"
    assert isinstance(answers[1], RageError)
    assert answers[2][0].page_content == "c"
    with pytest.raises(RageError, match="400"):
        batch()


@pytest.mark.parametrize("world", ["sync", "async"])
def test_a_batch_shares_one_retry_budget(service: Recorder, world: str) -> None:
    """In an outage a batch of 50 sends few requests more than 50, not three times as many."""
    service.answer = lambda _: reply({}, 503)
    retry = Retry(attempts=3, base=0.0001, cap=0.0001, budget=RetryBudget())
    retriever = service.retriever(resilience=Pipeline([retry]))
    if world == "sync":
        answers: list[Any] = retriever.batch(["q"] * 50, return_exceptions=True)
    else:
        answers = asyncio.run(retriever.abatch(["q"] * 50, return_exceptions=True))
    assert all(isinstance(answer, RageError) for answer in answers)
    assert 50 <= len(service.requests) < 80


@pytest.mark.parametrize("world", ["sync", "async"])
def test_answers_as_they_come(service: Recorder, world: str) -> None:
    """`batch_as_completed` and its twin are bounded as `batch` is, and tell the place of each answer."""
    service.answer = Gate(64) if world == "sync" else echo
    retriever = service.retriever()
    questions = [f"q{number}" for number in range(64)]

    async def collect() -> list[Any]:
        return [found async for found in retriever.abatch_as_completed(questions, k=2)]

    found: list[Any] = list(retriever.batch_as_completed(questions, k=2)) if world == "sync" else asyncio.run(collect())
    assert {place: answer[0].page_content for place, answer in found} == dict(enumerate(questions))
    assert service.body["numResults"] == 2


def test_unknown_keyword_in_streams(service: Recorder) -> None:
    """Every other way to call refuses an unknown keyword, too."""
    retriever: Any = service.retriever()

    async def drain(found: Any) -> None:
        async for _ in found:
            pass

    for call in (retriever.stream, lambda _, **more: retriever.batch_as_completed(["q"], **more)):
        with pytest.raises(TypeError, match="filter"):
            list(call("q", filter=1))
    for acall in (retriever.astream, lambda _, **more: retriever.abatch_as_completed(["q"], **more)):
        with pytest.raises(TypeError, match="filter"):
            asyncio.run(drain(acall("q", filter=1)))
    assert service.requests == []


def every_batch(retriever: Any, config: Any = None, **options: Any) -> list[Any]:
    """The four ways to ask two questions at once, each to be called."""

    async def collect() -> list[Any]:
        return [found async for found in retriever.abatch_as_completed(["q", "r"], config, **options)]

    return [
        lambda: retriever.batch(["q", "r"], config, **options),
        lambda: asyncio.run(retriever.abatch(["q", "r"], config, **options)),
        lambda: list(retriever.batch_as_completed(["q", "r"], config, **options)),
        lambda: asyncio.run(collect()),
    ]


def test_verbose_is_a_runs_own_keyword_in_a_batch_too(service: Recorder) -> None:
    """What `invoke` takes, every batch takes."""
    for ask in every_batch(service.retriever(), verbose=True):
        assert len(ask()) == 2
    assert service.body.keys() == {"question", "numResults", "rerank"}


@pytest.mark.parametrize("wrong", [0, -1, True, 2.5, "8"])
def test_a_bound_that_admits_nobody_is_refused(service: Recorder, wrong: Any) -> None:
    """With 0, LangChain's own `abatch` would wait for ever."""
    for ask in every_batch(service.retriever(), {"max_concurrency": wrong}):
        with pytest.raises(ConfigurationError, match=r"max_concurrency.*1 or more"):
            ask()
    assert service.requests == []


def test_empty_batch(service: Recorder) -> None:
    """No questions, no requests."""
    assert service.retriever().batch([]) == []
    assert asyncio.run(service.retriever().abatch([])) == []
    assert service.requests == []


class Tracer(BaseTracer):
    """Keeps every finished run."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[Run] = []

    def _persist_run(self, run: Run) -> None:
        self.runs.append(run)


def test_traces_name_the_provider_and_hold_scores_and_ids(ask: Ask, service: Recorder) -> None:
    """A run's metadata names Vectorize; its documents have ids and scores where tracing tools look for them."""
    tracer = Tracer()
    retriever = service.retriever(tags=["mine"], metadata={"team": "a"}).with_config(callbacks=[tracer])
    ask(retriever, "q", k=2)
    (run,) = tracer.runs
    assert run.extra is not None
    assert run.extra["metadata"]["ls_retriever_name"] == "vectorize"
    assert run.extra["metadata"]["ls_vector_store_provider"] == "Vectorize"
    assert run.extra["metadata"]["team"] == "a"
    assert run.outputs is not None
    (document,) = run.outputs["documents"]
    assert document.id == WIRE["id"]
    assert document.metadata["score"] == WIRE["similarity"]


def test_traces_hold_no_secret(ask: Ask, service: Recorder) -> None:
    """Neither a constructor's nor a configured token is in a run, in its metadata or in that of an error."""
    from langchain_core.runnables import ConfigurableField

    tracer = Tracer()
    retriever: Any = service.retriever().configurable_fields(api_key=ConfigurableField(id="api_key"))
    config: Any = {"callbacks": [tracer], "configurable": {"api_key": TOKEN}}
    ask(retriever.with_config(config), "q")
    service.answer = lambda _: reply({}, 400)
    with pytest.raises(RageError):
        ask(retriever.with_config(config), "q")
    assert len(tracer.runs) == 2
    for run in tracer.runs:
        assert TOKEN not in repr(run.extra) + repr(run.serialized) + repr(run.inputs) + str(run.error) + repr(run)


def test_callbacks_see_start_end_and_error(ask: Ask, service: Recorder) -> None:
    """Callback handlers hear of each retrieval; a failure's error says how many requests were sent."""
    heard: list[Any] = []

    class Handler(BaseCallbackHandler):
        def on_retriever_start(self, serialized: Any, query: str, *, run_id: UUID, **_: Any) -> None:
            heard.append(("start", query))

        def on_retriever_end(self, documents: Any, **_: Any) -> None:
            heard.append(("end", len(documents)))

        def on_retriever_error(self, error: BaseException, **_: Any) -> None:
            heard.append(("error", type(error), getattr(error, "attempts", None)))

    pipeline = Pipeline([Retry(attempts=2, base=0.001)])
    retriever = service.retriever(resilience=pipeline).with_config(callbacks=[Handler()])
    ask(retriever, "q")
    service.answer = lambda _: reply({}, 500)
    with pytest.raises(ServerError):
        ask(retriever, "q")
    assert heard == [("start", "q"), ("end", 1), ("start", "q"), ("error", ServerError, 2)]


def test_a_mistyped_keyword_starts_no_run(ask: Ask, service: Recorder) -> None:
    """An unknown keyword is refused before any callback hears of a retrieval."""
    tracer = Tracer()
    with pytest.raises(TypeError):
        ask(service.retriever().with_config(callbacks=[tracer]), "q", filter=1)
    assert tracer.runs == []


def test_run_id_is_langchains_own_keyword(service: Recorder) -> None:
    """`run_id` names the run and is no option of the query."""
    tracer = Tracer()
    run_id = uuid4()
    retriever: Any = service.retriever()
    retriever.invoke("q", {"callbacks": [tracer]}, run_id=run_id)
    assert tracer.runs[0].id == run_id


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_token_function_is_asked_again_after_a_401(ask: Ask, service: Recorder, kind: str) -> None:
    """A rotated token is fetched once more when the service refuses the old one, in every entry point."""
    tokens = iter(["old", "new", "newest"])

    def token() -> str:
        return next(tokens)

    async def atoken() -> str:
        return next(tokens)

    def answer(request: httpx.Request) -> httpx.Response:
        fresh = request.headers["authorization"] == "Bearer new"
        return reply({"documents": [WIRE]}) if fresh else reply({}, 401)

    service.answer = answer
    retriever = service.retriever(api_key=token if kind == "sync" else atoken)
    assert len(ask(retriever, "q")) == 1
    assert len(ask(retriever, "q")) == 1
    assert [one.headers["authorization"] for one in service.requests] == ["Bearer old", "Bearer new", "Bearer new"]


@pytest.mark.parametrize("world", ["sync", "async"])
def test_a_batch_asks_for_the_token_once(service: Recorder, world: str) -> None:
    """64 calls that begin together ask the function once between them."""
    asked: list[int] = []

    async def token() -> str:
        asked.append(1)
        for _ in range(100):
            await asyncio.sleep(0)
        return "t"

    retriever = service.retriever(api_key=token)
    answers = retriever.batch(["q"] * 64) if world == "sync" else in_loop(lambda: retriever.abatch(["q"] * 64))
    assert [len(answer) for answer in answers] == [1] * 64
    assert asked == [1]


def test_a_token_that_stays_refused_fails(ask: Ask, service: Recorder) -> None:
    """After the second 401 the error is raised; a fixed token is not sent twice."""
    service.answer = lambda _: reply({}, 401)
    with pytest.raises(UnauthorizedError):
        ask(service.retriever(api_key=lambda: "t"), "q")
    assert len(service.requests) == 2
    with pytest.raises(UnauthorizedError):
        ask(service.retriever(), "q")
    assert len(service.requests) == 3
