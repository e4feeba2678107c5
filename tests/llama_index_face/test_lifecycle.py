"""Copies, pickles, loops, threads, forks and closing; and what handlers of LlamaIndex's instrumentation hear."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.events.retrieval import RetrievalEndEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore
from llama_index_instrumentation import get_dispatcher

from llama_index_face.conftest import TOKEN, Scripted
from rage_retrievers import ConfigurationError, Pipeline, Retry, ServerError, default_pipeline
from rage_retrievers._flow import WireRequest, WireResponse
from rage_retrievers.llama_index import (
    ContextPostprocessor,
    VectorizeQuery,
    VectorizeRetrievalEvent,
    VectorizeRetrievalFailedEvent,
    VectorizeRetriever,
    research_tool,
    retrieval_tool,
)
from rage_retrievers.observability import Metrics
from rage_retrievers.resilience import Cache

Connect = Callable[..., VectorizeRetriever]
QUESTION = "How do bees tell where flowers are?"


def test_the_token_is_nowhere(connect: Connect) -> None:
    """No repr, pickle, attribute dump or error of a retriever shows it."""
    retriever = connect()
    retriever.retrieve(QUESTION)
    shown = [repr(retriever), str(retriever), repr(vars(retriever)), pickle.dumps(retriever).decode("latin-1")]
    shown.append(pickle.dumps(copy.deepcopy(retriever)).decode("latin-1"))
    assert not [text for text in shown if TOKEN in text]


def test_a_pickle_reads_the_token_again(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is unpickled, the token comes from the environment; without one, the error says so."""
    written = pickle.dumps(connect(similarity_top_k=1, mode="hybrid"))
    assert "not connected" in repr(pickle.loads(written))
    with pytest.raises(ConfigurationError, match="VECTORIZE_API_KEY"):
        pickle.loads(written).retrieve(QUESTION)
    monkeypatch.setenv("VECTORIZE_API_KEY", "another-token")
    nodes = pickle.loads(written).retrieve(QUESTION)
    assert [("Honey bees" in node.text) for node in nodes] == [True]


def test_who_listens_here_is_not_pickled(connect: Connect) -> None:
    """Callbacks belong to their process."""
    debug = LlamaDebugHandler(print_trace_on_end=False)
    debug.lock = threading.Lock()  # type: ignore[attr-defined]  # which has no pickle
    twin = pickle.loads(pickle.dumps(connect(callback_manager=CallbackManager([debug]))))
    assert twin.callback_manager.handlers == []


def test_own_clients_are_not_pickled(connect: Connect) -> None:
    """A pickle would lose them in silence, so it is refused."""
    with httpx.Client() as client, pytest.raises(TypeError, match="http_client"):
        pickle.dumps(connect(http_client=client))


def test_listeners_that_live_in_a_process_are_not_pickled(connect: Connect) -> None:
    """The error names the listener and the settings that switch it on elsewhere."""
    with pytest.raises(TypeError, match=r"Metrics among its listeners.*RAGE_ENABLE_METRICS"):
        pickle.dumps(connect(listeners=[Metrics()]))


async def test_own_clients_are_used_and_left_open(scripted: Scripted) -> None:
    """The caller's httpx clients send the requests, and closing the retriever does not close them."""
    seen: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.path)
        return httpx.Response(200, stream=httpx.ByteStream(b'{"documents": []}'))

    transport = httpx.MockTransport(respond)
    with httpx.Client(transport=transport) as client:
        async with httpx.AsyncClient(transport=transport) as async_client:
            options: dict[str, Any] = {"http_client": client, "async_http_client": async_client}
            async with VectorizeRetriever("t", organization="o", pipeline_id="p", **options) as retriever:
                blocking = await asyncio.to_thread(retriever.retrieve, "What?")
                assert blocking == await retriever.aretrieve("What?") == []
            assert (client.is_closed, async_client.is_closed) == (False, False)
    assert seen == ["/v1/org/o/pipelines/p/retrieval"] * 2


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda retriever: retriever.with_options()])
def test_copies_share_the_connection_and_close_alone(connect: Connect, again: Callable[[Any], Any]) -> None:
    """A copy works at once, over the same link; closing it leaves the first one open."""
    first = connect(similarity_top_k=1)
    twin = again(first)
    assert twin._link is first._link
    twin.similarity_top_k = 2
    assert (len(first.retrieve(QUESTION)), len(twin.retrieve(QUESTION))) == (1, 2)
    twin.close()
    assert len(first.retrieve(QUESTION)) == 1


def test_a_deep_copy_shares_no_value_with_the_first(scripted: Scripted) -> None:
    """What is changed inside of one of them, neither sees in the other's questions."""
    given = [{"tenant": ["a"]}]
    first = scripted.retriever(metadata_filters=given)
    twin = copy.deepcopy(first)
    given[0]["tenant"][:] = ["c"]
    twin.retrieve("What?")
    given[0]["tenant"][:] = ["a"]
    twin.metadata_filters[0]["tenant"][:] = ["b"]  # type: ignore[index]
    first.retrieve("What?")
    twin.num_results = 2  # which reads the values again
    twin.retrieve("What?")
    assert [body["metadata-filters"] for body in scripted.bodies] == [[{"tenant": [t]}] for t in ("a", "a", "b")]


def test_options_of_a_copy_are_its_own(scripted: Scripted) -> None:
    """with_options changes what it names, a token included, and nothing else."""
    first = scripted.retriever(num_results=4, metadata_filters=[{"year": [2024]}])
    first.with_options(similarity_top_k=2, api_key="another-token").retrieve("What?")
    first.retrieve("What?")
    assert [body["numResults"] for body in scripted.bodies] == [2, 4]
    assert [body["metadata-filters"] for body in scripted.bodies] == [[{"year": [2024]}]] * 2
    assert dict(scripted.requests[0].headers)["authorization"] == "Bearer another-token"


async def test_a_closed_retriever_says_so(scripted: Scripted) -> None:
    """After close or aclose, a call is an error that says what to do."""
    with scripted.retriever() as one:
        one.retrieve("What?")
    async with scripted.retriever() as two:
        await two.aretrieve("What?")
    with pytest.raises(ConfigurationError, match="closed"):
        one.retrieve("What?")
    with pytest.raises(ConfigurationError, match="closed"):
        await two.aretrieve("What?")
    assert scripted.closed == ["blocking", "blocking", "asyncio"]


def test_one_retriever_serves_loops_one_after_the_other(connect: Connect) -> None:
    """A connection belongs to its loop, the retriever to none."""
    retriever = connect(similarity_top_k=1)

    async def ask() -> int:
        nodes = await retriever.aretrieve(QUESTION)
        await retriever.with_options().aclose()
        return len(nodes)

    assert [asyncio.run(ask()) for _ in range(3)] == [1, 1, 1]


def test_one_retriever_serves_many_threads(connect: Connect) -> None:
    """Threads ask at once and each gets its own answer."""
    retriever = connect(similarity_top_k=1)
    questions = [QUESTION, "two stroke engine crankshaft"] * 8
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda q: retriever.retrieve(q)[0].metadata["source"], questions))
    assert answers == ["bees.txt", "engines.txt"] * 8


async def test_many_calls_at_once_in_one_loop(connect: Connect) -> None:
    """Calls in one loop run together, over HTTP, without a blocking call."""
    retriever = connect(similarity_top_k=1)
    await retriever.aretrieve(QUESTION)
    answers = await asyncio.gather(*(retriever.aretrieve(QUESTION) for _ in range(16)))
    assert {nodes[0].metadata["source"] for nodes in answers} == {"bees.txt"}
    await retriever.aclose()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_opens_connections_of_its_own(connect: Connect) -> None:
    """After a fork, parent and child both get answers."""
    retriever = connect(similarity_top_k=1)
    assert retriever.retrieve(QUESTION)[0].metadata["source"] == "bees.txt"
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=_put, args=(retriever, answers))
    child.start()
    child.join(20)
    assert child.exitcode == 0
    assert answers.get() == retriever.retrieve(QUESTION)[0].metadata["source"] == "bees.txt"


def _put(retriever: VectorizeRetriever, answers: Any) -> None:
    answers.put(retriever.retrieve(QUESTION)[0].metadata["source"])


# Instrumentation


class Heard(BaseEventHandler):
    """Keeps what it hears."""

    events: list[BaseEvent] = []  # noqa: RUF012  # pydantic copies it

    @classmethod
    def class_name(cls) -> str:
        return "Heard"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        self.events.append(event)

    def facts(self) -> list[VectorizeRetrievalEvent]:
        """The events of ours."""
        return [event for event in self.events if isinstance(event, VectorizeRetrievalEvent)]

    def failures(self) -> list[VectorizeRetrievalFailedEvent]:
        """Those of retrievals that failed."""
        return [event for event in self.events if isinstance(event, VectorizeRetrievalFailedEvent)]


@pytest.fixture
def heard() -> Iterator[Heard]:
    """A handler at the root of LlamaIndex's dispatchers."""
    root = get_dispatcher()
    handler = Heard()
    root.event_handlers.append(handler)
    yield handler
    root.event_handlers.remove(handler)


async def test_handlers_hear_the_facts_of_each_retrieval(scripted: Scripted, heard: Heard) -> None:
    """Provider, pipeline, top_k, attempts and the judgements of the list, in the span of the retrieval."""
    scripted.answer.update(average_relevancy=0.5, ndcg=1)
    retriever = scripted.retriever(similarity_top_k=7, rerank=True)
    retriever.retrieve("a private question")
    await retriever.aretrieve("a private question")
    one, two = heard.facts()
    for event in (one, two):
        assert (event.provider, event.organization, event.pipeline_id) == ("vectorize", "org-1", "aip-1")
        assert (event.top_k, event.documents, event.attempts, event.ordered_by) == (7, 3, 1, "relevancy")
        assert (event.average_relevancy, event.ndcg, event.stale, event.degraded) == (0.5, 1.0, False, None)
        assert (event.span_id or "").startswith("VectorizeRetriever")
    assert not [event for event in (one, two) if "private" in str(event) or TOKEN in str(event)]


def test_handlers_hear_which_pipeline_was_asked(
    scripted: Scripted, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a query goes to another one than its retriever's, and for how many where the environment says so."""
    monkeypatch.setenv("RAGE_NUM_RESULTS", "9")
    query = VectorizeQuery("What?", organization="org-2", pipeline_id="aip-2", num_results=2)
    for asked in (query, "What?"):
        scripted.retriever().retrieve(asked)
    told = [(event.organization, event.pipeline_id, event.top_k) for event in heard.facts()]
    assert told == [("org-2", "aip-2", 2), ("org-1", "aip-1", 9)]


def test_handlers_hear_of_retries_and_of_the_cache(scripted: Scripted, heard: Heard) -> None:
    """attempts counts every request; an answer from the cache needs none."""
    pytest.importorskip("cachetools")
    pipeline = default_pipeline().with_policies(Retry(attempts=2, base=0.001), Cache(ttl=60))
    retriever = scripted.retriever(resilience=pipeline)
    scripted.failures = 1
    retriever.retrieve("What?")
    retriever.retrieve("What?")
    assert [(event.attempts, event.from_cache) for event in heard.facts()] == [(2, False), (0, True)]


def test_handlers_hear_of_an_old_answer_in_an_outage(scripted: Scripted, heard: Heard) -> None:
    """With the time that the call took, which is the answer's own."""
    pytest.importorskip("cachetools")
    pipeline = Pipeline([Cache(ttl=1e-9, stale_for=600)])
    retriever = scripted.retriever(resilience=pipeline)
    nodes = [retriever.retrieve("What?")]
    scripted.status = 503
    nodes.append(retriever.retrieve("What?"))
    assert [event.stale for event in heard.facts()] == [False, True]
    assert [event.elapsed for event in heard.facts()] == [one.retrieval.elapsed for one in nodes]  # type: ignore[attr-defined]


def test_handlers_hear_of_a_retrieval_that_failed(scripted: Scripted, heard: Heard) -> None:
    """With the error's type and the requests sent, in the span of the retrieval; and no event of an answer."""
    scripted.status = 503
    retriever = scripted.retriever(similarity_top_k=7, resilience=Pipeline([Retry(attempts=2, base=0.001)]))
    with pytest.raises(ServerError) as first:
        retriever.retrieve("a private question")
    with pytest.raises(ServerError) as second:
        asyncio.run(retriever.aretrieve("a private question"))
    assert (first.value.attempts, second.value.attempts, len(scripted.requests)) == (2, 2, 4)
    assert heard.facts() == []
    for event in heard.failures():
        assert (event.provider, event.organization, event.pipeline_id) == ("vectorize", "org-1", "aip-1")
        assert (event.top_k, event.attempts, event.error_type) == (7, 2, "ServerError")
        assert (event.span_id or "").startswith("VectorizeRetriever")
        assert "private" not in str(event)
        assert TOKEN not in str(event)
    assert len(heard.failures()) == 2


def test_llama_indexs_own_events_show_ids_and_scores(scripted: Scripted, heard: Heard) -> None:
    """RetrievalEndEvent, which instrumentations read, holds the nodes with id and score; callbacks hear, too."""
    debug = LlamaDebugHandler(print_trace_on_end=False)
    scripted.retriever(callback_manager=CallbackManager([debug])).retrieve("What?")
    (ended,) = [event for event in heard.events if isinstance(event, RetrievalEndEvent)]
    assert [(node.node_id, node.score) for node in ended.nodes] == [
        ("file-1", 0.69),
        ("file-2", 0.68),
        ("file-3", 0.67),
    ]
    assert TOKEN not in str(ended.model_dump())
    assert len(debug.get_event_pairs()) > 0


# Tools


async def test_the_retrieval_tool_answers_in_a_prompts_words(scripted: Scripted) -> None:
    """A model reads the passages between delimiters; the nodes are the raw output; the schema has one argument."""
    tool = retrieval_tool(scripted.retriever())
    assert list(tool.metadata.get_parameters_dict()["properties"]) == ["query"]
    for output in (tool.call(query="Which?"), await tool.acall(query="Which?")):
        assert '<document index="1" source="report.pdf">\nPassage 1.\n</document>' in output.content
        assert [node.node_id for node in output.raw_output] == ["file-1", "file-2", "file-3"]
    assert [body["question"] for body in scripted.bodies] == ["Which?", "Which?"]


def test_a_tool_that_finds_nothing_says_so() -> None:
    """An empty answer is a sentence, so that a model does not make one up."""
    assert retrieval_tool(Scripted().retriever())(query="Which?").content == "Nothing was found."


@pytest.mark.parametrize("given", [5, None, "local:./docs", VectorizeRetriever])
def test_what_cannot_be_asked_is_refused_when_a_tool_is_made(given: Any) -> None:
    """Not by the first search of an agent."""
    for make in (retrieval_tool, research_tool):
        with pytest.raises(ConfigurationError, match=r"^retriever is .*; give a VectorizeRetriever"):
            make(given)


@pytest.mark.parametrize("given", [5, ContextPostprocessor(), [str.upper]])
def test_postprocessors_that_are_none_are_refused(given: Any) -> None:
    """One alone as well, which Python would take for a list of its fields."""
    with pytest.raises(ConfigurationError, match="node_postprocessors needs a list"):
        retrieval_tool(Scripted().retriever(), node_postprocessors=given)


async def test_a_tools_postprocessors_are_told_the_question(scripted: Scripted) -> None:
    """Each in its own world's way, as in a query engine."""
    told: list[tuple[str, str]] = []

    class Told(BaseNodePostprocessor):
        def _postprocess_nodes(self, nodes: list[NodeWithScore], query_bundle: Any = None) -> list[NodeWithScore]:
            told.append(("blocking", query_bundle.query_str))
            return nodes[:1]

        async def _apostprocess_nodes(self, nodes: list[NodeWithScore], query_bundle: Any = None) -> Any:
            told.append(("asyncio", query_bundle.query_str))
            return nodes[:1]

    tool = retrieval_tool(scripted.retriever(), node_postprocessors=[Told()])
    assert len(tool(query="Which?").raw_output) == len((await tool.acall(query="Which?")).raw_output) == 1
    assert told == [("blocking", "Which?"), ("asyncio", "Which?")]


def test_a_research_that_cannot_be_done_is_refused_when_its_tool_is_made() -> None:
    """As LangChain's is."""
    with pytest.raises(ConfigurationError, match="poll_every = 0"):
        research_tool(Scripted().retriever(), poll_every=0)


async def test_the_research_tool_gives_the_report() -> None:
    """A deep research is started and polled until its report is there, in both worlds."""

    def answer(request: WireRequest) -> WireResponse:
        body = b'{"researchId": "r-1"}' if request.method == "POST" else b'{"ready": true, "data": %s}' % _DONE
        return WireResponse(200, {"content-type": "application/json"}, body)

    service = Scripted()
    service.respond = answer
    tool = research_tool(service.retriever(), poll_every=0.01, web_search=True)
    assert tool(query="Why?").content == "# Because"
    assert (await tool.acall(query="Why?")).content == "# Because"
    assert [body["webSearch"] for body in service.bodies if body] == [True, True]


_DONE = b'{"success": true, "markdown": "# Because"}'
