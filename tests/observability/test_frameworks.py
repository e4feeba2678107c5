"""Inside a framework's run: its id is the correlation id, and its instrumentation's span is not doubled.

The instrumentations are imitated as those of OpenInference and OpenLLMetry do it: where they keep the span, what it is
called, and which marks it has while it lasts.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.span import SimpleSpan
from llama_index_instrumentation.span_handlers import BaseSpanHandler
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span, set_span_in_context
from pydantic import PrivateAttr

from rage_retrievers import Pipeline, Retry, ServerError
from rage_retrievers.langchain import VectorizeRetriever as LangChainRetriever
from rage_retrievers.llama_index import VectorizeRetriever as LlamaIndexRetriever
from rage_retrievers.observability import Tracing, correlation
from rage_retrievers.testing import FaultServer, answer, status

Ask = Callable[[Any], object]
LANGCHAIN: dict[str, Ask] = {
    "invoke": lambda retriever: retriever.invoke("?"),
    "ainvoke": lambda retriever: asyncio.run(retriever.ainvoke("?")),
}
LLAMA_INDEX: dict[str, Ask] = {
    "retrieve": lambda retriever: retriever.retrieve("?"),
    "aretrieve": lambda retriever: asyncio.run(retriever.aretrieve("?")),
}


class Traced:
    """A service, a tracer that keeps its spans, and what a retriever needs of both."""

    def __init__(self, server: FaultServer) -> None:
        self.server = server
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.options: Any = {
            "base_url": server.url,
            "api_key": "any",
            "organization": "o",
            "pipeline_id": "aip-1",
            "listeners": [Tracing(self.provider)],
        }

    def spans(self) -> list[ReadableSpan]:
        """In the order in which they started."""
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def ids(self) -> list[str]:
        """The correlation ids that the service was sent."""
        return [request.headers["x-request-id"] for request in self.server.requests]


@pytest.fixture
def traced() -> Iterator[Traced]:
    with FaultServer([status(503), answer()]) as server:
        yield Traced(server)


class Runs(BaseCallbackHandler):
    """Keeps the ids of the retrievers' runs; with a tracer, their spans too, as OpenInference does."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self.ids: list[str] = []
        self.spans: dict[Any, Span] = {}
        self.provider = provider

    def on_retriever_start(self, *_: Any, run_id: Any, **__: Any) -> None:
        self.ids.append(str(run_id))
        if self.provider is not None:
            self.spans[run_id] = self.provider.get_tracer("openinference").start_span("VectorizeRetriever")

    def on_retriever_end(self, *_: Any, run_id: Any, **__: Any) -> None:
        if run_id in self.spans:
            self.spans.pop(run_id).end()

    def get_span(self, run_id: Any) -> Span | None:
        return self.spans.get(run_id)


class SpanHandler(BaseSpanHandler[SimpleSpan]):
    """Opens a span for each of LlamaIndex's and makes it current; named by `name`, marked when it ends."""

    _opened: dict[str, tuple[Span, Any]] = PrivateAttr(default_factory=dict)
    _maker: Any = PrivateAttr()
    _name: Any = PrivateAttr()

    def new_span(self, id_: str, bound_args: inspect.BoundArguments, **_: Any) -> SimpleSpan:  # type: ignore[override]
        span = self._maker.start_span(self._name(id_))
        self._opened[id_] = span, otel_context.attach(set_span_in_context(span))
        return SimpleSpan(id_=id_)

    def _close(self, id_: str) -> SimpleSpan | None:
        span, token = self._opened.pop(id_)
        otel_context.detach(token)
        span.set_attribute("openinference.span.kind", "RETRIEVER")
        span.end()
        return self.open_spans.get(id_)

    def prepare_to_exit_span(self, id_: str, *_: Any, **__: Any) -> SimpleSpan | None:
        return self._close(id_)

    def prepare_to_drop_span(self, id_: str, *_: Any, **__: Any) -> SimpleSpan | None:
        return self._close(id_)


@pytest.fixture
def llama_index_spans(traced: Traced) -> Iterator[Callable[[str, Callable[[str], str]], SpanHandler]]:
    """Puts a span handler on LlamaIndex's root dispatcher for one test."""
    root = get_dispatcher()
    before = list(root.span_handlers)

    def add(maker: str, name: Callable[[str], str]) -> SpanHandler:
        handler = SpanHandler()
        handler._maker, handler._name = traced.provider.get_tracer(maker), name
        root.add_span_handler(handler)
        return handler

    yield add
    root.span_handlers = before


def assert_requests_are_children(spans: list[ReadableSpan]) -> None:
    """The two requests are children of the framework's innermost span, which knows what only the call knows."""
    *around, first, second = spans
    assert [span.name for span in (first, second)] == ["POST", "POST"]
    inner = around[-1]
    assert inner.context is not None
    assert {span.parent.span_id for span in (first, second) if span.parent} == {inner.context.span_id}
    assert inner.attributes is not None
    told = {
        name: inner.attributes[name] for name in ("gen_ai.data_source.id", "gen_ai.retrieval.top_k", "rage.attempts")
    }
    assert told == {"gen_ai.data_source.id": "aip-1", "gen_ai.retrieval.top_k": 5, "rage.attempts": 2}
    assert [event.name for event in inner.events] == ["retry.scheduled"]


@pytest.mark.parametrize("ask", LANGCHAIN.values(), ids=LANGCHAIN)
def test_langchain_run_gives_the_correlation_id(traced: Traced, ask: Ask) -> None:
    """Without an id of the application's, every request of a run carries the run's id."""
    runs = Runs()
    retriever = LangChainRetriever(**traced.options).with_config(callbacks=[runs])
    ask(retriever)
    assert traced.ids() == [*runs.ids, *runs.ids]


@pytest.mark.parametrize(
    ("retriever", "ask"),
    [(LangChainRetriever, one) for one in LANGCHAIN.values()]
    + [(LlamaIndexRetriever, one) for one in LLAMA_INDEX.values()],
)
def test_a_failed_retrievals_span_counts_its_requests(retriever: Any, ask: Ask) -> None:
    """The span of the call has the attempts of the error, which are the requests that were sent."""
    with FaultServer(status(503)) as server:
        traced = Traced(server)
        with pytest.raises(ServerError) as caught:
            ask(retriever(**traced.options, resilience=Pipeline([Retry(attempts=2, base=0.001)])))
    span, *requests = traced.spans()
    told = span.attributes or {}
    assert told["rage.attempts"] == caught.value.attempts == len(requests) == len(server.requests) == 2
    assert told["error.type"] == "ServerError"


@pytest.mark.parametrize("ask", LLAMA_INDEX.values(), ids=LLAMA_INDEX)
def test_llama_index_run_gives_the_correlation_id(
    traced: Traced, ask: Ask, llama_index_spans: Callable[[str, Callable[[str], str]], SpanHandler]
) -> None:
    """Without an id of the application's, it is the id by which LlamaIndex's own events name the span they hear of."""
    names: list[str] = []

    def name(id_: str) -> str:
        names.append(id_)
        return id_

    llama_index_spans("test", name)
    ask(LlamaIndexRetriever(**traced.options))
    first, second = traced.ids()
    assert first == second
    assert first in names


@pytest.mark.parametrize(
    ("retriever", "ask"),
    [(LangChainRetriever, one) for one in LANGCHAIN.values()]
    + [(LlamaIndexRetriever, one) for one in LLAMA_INDEX.values()],
)
def test_the_applications_id_wins_over_the_frameworks(traced: Traced, retriever: Any, ask: Ask) -> None:
    """An incoming X-Request-ID ties together more than one run does."""
    with correlation("req-7"):
        ask(retriever(**traced.options))
    assert traced.ids() == ["req-7", "req-7"]


@pytest.mark.parametrize("ask", LANGCHAIN.values(), ids=LANGCHAIN)
def test_a_span_kept_by_langchains_callbacks_is_not_doubled(traced: Traced, ask: Ask) -> None:
    """OpenInference keeps the run's span in its callback alone; it is found there, and there is no second one."""
    ask(LangChainRetriever(**traced.options).with_config(callbacks=[Runs(traced.provider)]))
    assert [span.name for span in traced.spans()] == ["VectorizeRetriever", "POST", "POST"]
    assert_requests_are_children(traced.spans())


def test_a_strangers_get_span_breaks_nothing(traced: Traced) -> None:
    """A callback whose `get_span` is something else altogether leaves the retrieval its own span."""

    class Odd(BaseCallbackHandler):
        def get_span(self) -> None:
            raise AssertionError

    LangChainRetriever(**traced.options).with_config(callbacks=[Odd()]).invoke("?")
    assert [span.name for span in traced.spans()] == ["retrieval aip-1", "POST", "POST"]


@pytest.mark.parametrize("ask", LLAMA_INDEX.values(), ids=LLAMA_INDEX)
@pytest.mark.parametrize(
    ("maker", "name"),
    [
        ("openinference.instrumentation.llama_index", lambda id_: id_.partition("-")[0]),
        ("opentelemetry.instrumentation.llamaindex", lambda id_: f"{id_.partition('.')[0]}.task"),
    ],
    ids=["openinference", "openllmetry"],
)
def test_a_span_of_llama_indexs_instrumentations_is_not_doubled(
    traced: Traced, llama_index_spans: Any, maker: str, name: Callable[[str], str], ask: Ask
) -> None:
    """They mark their spans only at the end, so they are known by their makers and names."""
    llama_index_spans(maker, name)
    ask(LlamaIndexRetriever(**traced.options))
    spans = traced.spans()
    assert all(span.name.startswith(("VectorizeRetriever.", "POST")) for span in spans)
    assert_requests_are_children(spans)
