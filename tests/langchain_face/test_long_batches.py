"""A blocking batch with more questions than places is asked from one event loop, and nobody can tell by its answers."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import Callable
from contextvars import Context
from typing import Any

import httpx
import pytest
from blockbuster import BlockBuster
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.runnables import RunnableConfig

from rage_retrievers import ConfigurationError, F, RageError, ServerError
from rage_retrievers._flow import WireRequest, WireResponse
from rage_retrievers.engines import Engines
from rage_retrievers.langchain import VectorizeRetriever
from rage_retrievers.resilience import Bulkhead, Pipeline
from rage_retrievers.scope import scope
from rage_retrievers.testing import FaultServer, answer

from .test_scope import _asked_in_a_graph

QUESTIONS = [f"q{number}" for number in range(200)]


class Echo:
    """Two engines that answer with the question; in asyncio they tell how many calls are under way at once."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.blocking: list[str] = []
        self.threads: set[int] = set()
        self.most = self.under_way = self.cancelled = 0
        self.before: Callable[[str], object] = lambda question: None

    def _reply(self, question: str) -> WireResponse:
        status = 503 if "bad" in question else 200
        return WireResponse(status, {}, json.dumps({"documents": [{"text": question}]}).encode())

    def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
        self.blocking.append(json.loads(request.body)["question"])
        return self._reply(self.blocking[-1])

    def close(self) -> None: ...

    @property
    def asynchronous(self) -> Any:
        """The twin for asyncio."""
        return _AsyncEcho(self)

    def retriever(self, kind: type[VectorizeRetriever] = VectorizeRetriever, **options: Any) -> VectorizeRetriever:
        """One that asks these engines, with nothing but a bulkhead around a call."""
        engines = Engines("echo", lambda: self, lambda: self.asynchronous)
        given: Any = {"resilience": Pipeline([Bulkhead(limit=8)]), "engine": engines, **options}
        return kind(api_key="t", organization="o", pipeline_id="p", **given)


class _AsyncEcho:
    def __init__(self, echo: Echo) -> None:
        self._echo = echo

    async def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
        echo, question = self._echo, json.loads(request.body)["question"]
        echo.asked.append(question)
        echo.threads.add(threading.get_ident())
        echo.under_way += 1
        echo.most = max(echo.most, echo.under_way)
        try:
            echo.before(question)
            for _ in range(3):
                await asyncio.sleep(0)
            if question == "waits":
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            echo.cancelled += 1
            raise
        finally:
            echo.under_way -= 1
        return echo._reply(question)

    async def aclose(self) -> None: ...


@pytest.fixture
def echo() -> Echo:
    return Echo()


def texts(found: list[list[Document]]) -> list[str]:
    return [documents[0].page_content for documents in found]


@pytest.mark.parametrize(
    ("config", "expected"),
    [(None, 8), ({"max_concurrency": 5}, 5), ([{"max_concurrency": 3}] * 200, 3)],
)
def test_order_and_bound(echo: Echo, config: Any, expected: int) -> None:
    """Answers come in the order of the questions, as many at once as bulkhead or config admit, in one thread."""
    assert texts(echo.retriever().batch(QUESTIONS, config)) == QUESTIONS
    assert (sorted(echo.asked), echo.blocking, echo.most) == (sorted(QUESTIONS), [], expected)
    assert len(echo.threads) == 1
    assert threading.get_ident() not in echo.threads


def test_a_batch_with_a_place_for_each_question_uses_the_connections_that_are_open(echo: Echo) -> None:
    """Threads use the connections of the calls before; a loop would open as many as there are questions."""
    assert texts(echo.retriever().batch(QUESTIONS[:8])) == QUESTIONS[:8]
    assert (sorted(echo.blocking), echo.asked) == (QUESTIONS[:8], [])


class Heard(BaseCallbackHandler):
    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.ended = 0

    def on_retriever_end(self, *_: Any, **__: Any) -> None:
        self.threads.add(threading.get_ident())
        self.ended += 1


@pytest.mark.parametrize("in_list", [False, True])
def test_callbacks_hear_every_run_in_langchains_threads(echo: Echo, in_list: bool) -> None:
    """Where a run is heard of, be it the last one's alone, LangChain makes them all."""
    heard = Heard()
    config: Any = [{}] * 199 + [{"callbacks": [heard]}] if in_list else {"callbacks": [heard]}
    assert texts(echo.retriever().batch(QUESTIONS, config)) == QUESTIONS
    assert (heard.ended, echo.asked) == (1 if in_list else 200, [])


def test_a_runs_own_keyword_makes_runs(echo: Echo) -> None:
    """`verbose` is for LangChain's runs, and so it makes them."""
    own: Any = {"verbose": True}
    assert texts(echo.retriever().batch(QUESTIONS, **own)) == QUESTIONS
    assert (len(echo.blocking), echo.asked) == (200, [])


def test_whoever_brings_a_client_or_overrides_the_hook_keeps_the_threads(echo: Echo) -> None:
    """The caller's own client is for blocking code, and so may a subclass be."""

    class Own(VectorizeRetriever):
        pass

    assert texts(echo.retriever(Own).batch(QUESTIONS)) == QUESTIONS
    assert (len(echo.blocking), echo.asked) == (200, [])
    answers = httpx.MockTransport(lambda request: httpx.Response(200, json={"documents": []}))
    with httpx.Client(transport=answers) as own:
        options: Any = {"api_key": "t", "organization": "o", "pipeline_id": "p", "http_client": own}
        assert VectorizeRetriever(**options).batch(QUESTIONS) == [[]] * 200


def test_errors_are_returned_in_their_places(echo: Echo) -> None:
    """With `return_exceptions`, the others are answered all the same."""
    found: list[Any] = echo.retriever().batch(["a", "bad", *QUESTIONS], return_exceptions=True)
    assert isinstance(found[1], ServerError)
    assert texts(found[:1] + found[2:]) == ["a", *QUESTIONS]


def test_the_first_question_is_asked_before_the_last_worker_begins(echo: Echo) -> None:
    """Or its answer would wait until every other connection is open."""
    tasks: list[int] = []
    echo.before = lambda question: tasks.append(len(asyncio.all_tasks()))
    echo.retriever().batch(QUESTIONS)
    assert tasks[0] < 8 <= max(tasks)


def test_a_retriever_closed_meanwhile_asks_no_more(echo: Echo) -> None:
    """What is under way is answered; the questions after it are refused, each in its place."""
    retriever = echo.retriever()
    echo.before = lambda question: retriever.close() if question == "q20" else None
    found: list[Any] = retriever.batch(QUESTIONS, return_exceptions=True)
    refused = [place for place, one in enumerate(found) if isinstance(one, ConfigurationError)]
    assert refused == list(range(len(echo.asked), len(QUESTIONS)))
    assert 21 <= len(echo.asked) <= 21 + 8


def test_the_first_error_ends_the_batch(echo: Echo) -> None:
    """Nothing is asked after it, and what is under way is cancelled."""
    with pytest.raises(ServerError):
        echo.retriever().batch(["waits", "bad", *QUESTIONS])
    assert len(echo.asked) < 50
    assert (echo.under_way, echo.cancelled) == (0, 8 - 1)


@pytest.mark.parametrize("bad", [{"k": 0}, {"filters": 7}])
def test_a_value_that_cannot_be_used_is_told(echo: Echo, bad: Any) -> None:
    """As without a loop: raised, or returned for each question."""
    with pytest.raises(RageError):
        echo.retriever().batch(QUESTIONS, **bad)
    found: list[Any] = echo.retriever().batch(QUESTIONS, return_exceptions=True, **bad)
    assert all(isinstance(one, RageError) for one in found)
    assert echo.asked == []


def test_the_scope_and_the_options_hold_in_the_loop(echo: Echo) -> None:
    """What holds for the caller holds for each question."""
    bodies: list[Any] = []
    asynchronous = echo.asynchronous.send

    class Keeps(_AsyncEcho):
        async def send(self, request: WireRequest, timeout: float, max_bytes: int) -> WireResponse:
            bodies.append((request.url, json.loads(request.body)["numResults"]))
            reply: WireResponse = await asynchronous(request, timeout, max_bytes)
            return reply

    retriever = echo.retriever(engine=Engines("keeps", lambda: echo, lambda: Keeps(echo)))
    with scope(pipeline_id="elsewhere"):
        retriever.batch(QUESTIONS, k=3)
    assert {(url.rpartition("/pipelines/")[2], count) for url, count in bodies} == {("elsewhere/retrieval", 3)}


def test_a_langgraph_runtime_bounds_a_long_batch(echo: Echo) -> None:
    """That of the node around it holds in the loop; one that the config alone brings, in LangChain's threads."""
    retriever = echo.retriever(runtime_filters=lambda context: F("tenant") == context.tenant)
    with pytest.raises(ConfigurationError, match="outside of one"):
        retriever.batch(QUESTIONS)

    def node(_: Any, config: RunnableConfig) -> Any:
        assert texts(retriever.batch(QUESTIONS)) == QUESTIONS
        assert (len(echo.asked), len(echo.blocking)) == (200, 0)
        assert texts(Context().run(retriever.batch, QUESTIONS, config)) == QUESTIONS
        assert (len(echo.asked), len(echo.blocking)) == (200, 200)
        return {}

    _asked_in_a_graph(node, "sync")


def test_ctrl_c_cancels_the_batch(echo: Echo) -> None:
    """The caller is let go without an answer, and nothing goes on behind its back."""

    def press(question: str) -> None:
        if question == "q20":
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    echo.before = press
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            echo.retriever().batch(["waits"] * 7 + QUESTIONS)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (echo.under_way, echo.cancelled >= 7) == (0, True)


def test_a_batch_within_a_running_loop(echo: Echo, nothing_blocks: BlockBuster) -> None:
    """As in a notebook's cell, whose loop runs in this thread, and waits."""
    nothing_blocks.deactivate()

    async def cell() -> list[list[Document]]:
        return echo.retriever().batch(QUESTIONS)

    assert texts(asyncio.run(cell())) == QUESTIONS


@pytest.mark.parametrize("engine", ["httpx", "httptools"])
def test_connections_are_used_again_within_the_batch_and_closed_after_it(engine: str) -> None:
    """Over real HTTP: as many connections as places, and none of them is left open."""
    if engine == "httptools":
        pytest.importorskip("httptools")
    with FaultServer(answer()) as server:
        options: Any = {"api_key": "t", "organization": "o", "pipeline_id": "p", "base_url": server.url}
        found = VectorizeRetriever(**options, engine=engine).batch(QUESTIONS, {"max_concurrency": 4})
        assert len(found) == len(server.requests) == 200
        assert server.connections <= 4
        assert server.wait_until_idle()
