"""LlamaIndex's own events and spans: left out where nobody hears of them, whole where anybody does."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.schema import IndexNode, NodeWithScore, QueryBundle
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.event_handlers import BaseEventHandler, NullEventHandler
from llama_index_instrumentation.span import SimpleSpan
from llama_index_instrumentation.span_handlers import BaseSpanHandler, NullSpanHandler
from pydantic import PrivateAttr

from llama_index_face.conftest import Scripted
from rage_retrievers import ServerError
from rage_retrievers.llama_index import VectorizeRetriever

Ask = Callable[[VectorizeRetriever, str], list[NodeWithScore]]
DISPATCHERS = ("root", BaseRetriever.__module__, "rage_retrievers.llama_index.events")


class Events(BaseEventHandler):
    """Keeps the names of the events."""

    _names: list[str] = PrivateAttr(default_factory=list)

    @classmethod
    def class_name(cls) -> str:
        return "Events"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        self._names.append(type(event).__name__)


class Spans(BaseSpanHandler[SimpleSpan]):
    """Keeps the names of the spans."""

    _names: list[str] = PrivateAttr(default_factory=list)

    def new_span(self, id_: str, bound_args: inspect.BoundArguments, **_: Any) -> SimpleSpan:  # type: ignore[override]
        self._names.append(id_.partition("-")[0])
        return SimpleSpan(id_=id_)

    def prepare_to_exit_span(self, id_: str, *_: Any, **__: Any) -> SimpleSpan | None:
        return self.open_spans.get(id_)

    def prepare_to_drop_span(self, id_: str, *_: Any, **__: Any) -> SimpleSpan | None:
        return self.open_spans.get(id_)


@pytest.fixture(params=["retrieve", "aretrieve"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Asks in either world."""
    if request.param == "retrieve":
        return lambda retriever, question: retriever.retrieve(question)
    return lambda retriever, question: asyncio.run(retriever.aretrieve(question))


@pytest.fixture
def llama_indexs_own(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The questions that went through LlamaIndex's own `retrieve`, with its events and spans."""
    asked: list[str] = []
    blocking, native = BaseRetriever.retrieve, BaseRetriever.aretrieve

    def retrieve(self: BaseRetriever, question: Any) -> list[NodeWithScore]:
        asked.append(question)
        return blocking(self, question)

    async def aretrieve(self: BaseRetriever, question: Any) -> list[NodeWithScore]:
        asked.append(question)
        return await native(self, question)

    monkeypatch.setattr(BaseRetriever, "retrieve", retrieve)
    monkeypatch.setattr(BaseRetriever, "aretrieve", aretrieve)
    return asked


@pytest.fixture(params=DISPATCHERS)
def dispatcher(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One of those that an event or a span of a retrieval passes, as it was again afterwards."""
    found = get_dispatcher() if request.param == "root" else get_dispatcher(request.param)
    events, spans = list(found.event_handlers), list(found.span_handlers)
    yield found
    found.event_handlers, found.span_handlers = events, spans


def test_nothing_is_announced_to_nobody(scripted: Scripted, ask: Ask, llama_indexs_own: list[str]) -> None:
    """Without a listener, and with handlers that do nothing, a question costs no event, no span and no callback."""
    retriever = scripted.retriever()
    nodes = ask(retriever, "What?")
    assert [node.node_id for node in nodes] == ["file-1", "file-2", "file-3"]
    root = get_dispatcher()
    root.add_event_handler(NullEventHandler())
    root.add_span_handler(NullSpanHandler())
    try:
        assert ask(retriever, "What?") == nodes
    finally:
        root.event_handlers.pop()
        root.span_handlers.pop()
    assert llama_indexs_own == []


def test_a_failure_is_one_all_the_same(scripted: Scripted, ask: Ask, llama_indexs_own: list[str]) -> None:
    """What nobody hears of is raised as what somebody does."""
    scripted.status = 503
    with pytest.raises(ServerError):
        ask(scripted.retriever(), "What?")
    assert llama_indexs_own == []


def test_a_handler_of_events_hears_of_the_next_retrieval(
    scripted: Scripted, ask: Ask, dispatcher: Any, llama_indexs_own: list[str]
) -> None:
    """Wherever it is put, and also after the retriever was first asked."""
    retriever, handler = scripted.retriever(), Events()
    ask(retriever, "before")
    dispatcher.add_event_handler(handler)
    ask(retriever, "What?")
    assert llama_indexs_own == ["What?"]
    assert handler._names


def test_a_handler_of_spans_sees_one_span(scripted: Scripted, ask: Ask, llama_indexs_own: list[str]) -> None:
    """One for the method that was called, and no second one for the method it overrides."""
    root, handler = get_dispatcher(), Spans()
    root.add_span_handler(handler)
    try:
        ask(scripted.retriever(), "What?")
    finally:
        root.span_handlers.remove(handler)
    assert llama_indexs_own == ["What?"]
    # LlamaIndex gives the blocking hook, which is abstract, a span as well.
    assert handler._names in (
        ["VectorizeRetriever.retrieve", "VectorizeRetriever._retrieve"],
        ["VectorizeRetriever.aretrieve"],
    )


def test_a_callback_hears(scripted: Scripted, ask: Ask, llama_indexs_own: list[str]) -> None:
    """The older way to listen."""
    debug = LlamaDebugHandler(print_trace_on_end=False)
    ask(scripted.retriever(callback_manager=CallbackManager([debug])), "What?")
    assert llama_indexs_own == ["What?"]
    assert [pair[0].payload for pair in debug.get_event_pairs()]


def test_a_subclass_that_overrides_the_hook_gets_all_of_it(
    scripted: Scripted, ask: Ask, llama_indexs_own: list[str]
) -> None:
    """Its hook may hand the question on to another retriever, so LlamaIndex's own method is around it."""

    class Own(VectorizeRetriever):
        def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            return super()._retrieve(QueryBundle(f"{query_bundle.query_str} And why?"))

        async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            return await super()._aretrieve(QueryBundle(f"{query_bundle.query_str} And why?"))

    ask(scripted.retriever(Own), "What?")
    assert llama_indexs_own == ["What?"]
    assert [body["question"] for body in scripted.bodies] == ["What? And why?"]


def test_nodes_of_a_subclass_may_lead_to_other_retrievers(scripted: Scripted, ask: Ask) -> None:
    """LlamaIndex asks those that they lead to."""
    leading = [NodeWithScore(node=IndexNode(text="", index_id="i", obj=scripted.retriever()), score=1.0)]

    class Own(VectorizeRetriever):
        def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            return leading

        async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            return leading

    assert [node.node_id for node in ask(scripted.retriever(Own), "What?")] == ["file-1", "file-2", "file-3"]
