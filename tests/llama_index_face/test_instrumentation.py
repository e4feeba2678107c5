"""What tracers of LlamaIndex show of a retrieval: id, score, top_k, and how the answer came about."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from instrumented import seen
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llama_index_face.conftest import Scripted
from rage_retrievers import EmptyAnswer, Pipeline, Retry, ServerError, default_pipeline
from rage_retrievers.observability import enclosing, tracing
from rage_retrievers.resilience import Cache, CircuitBreaker, Degrade


class Traced:
    """A tracer, and the spans that it has finished."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = provider.get_tracer("test")

    def attributes(self, name: str) -> list[dict[str, Any]]:
        """Those of each span of the name."""
        spans: tuple[ReadableSpan, ...] = self.exporter.get_finished_spans()
        return [dict(span.attributes or {}) for span in spans if span.name == name]


@pytest.fixture
def traced() -> Traced:
    """A tracer, made before a loop runs."""
    return Traced()


def test_the_span_around_a_retrieval_is_told_how_the_answer_came_about(scripted: Scripted, traced: Traced) -> None:
    """Provider, pipeline, top_k, attempts and the cache, in blocking code and in asyncio."""
    pytest.importorskip("cachetools")
    pipeline = default_pipeline().with_policies(Retry(attempts=2, base=0.001), Cache(ttl=60))
    retriever = scripted.retriever(similarity_top_k=7, resilience=pipeline)
    scripted.failures = 1
    with traced.tracer.start_as_current_span("VectorizeRetriever.retrieve"):
        retriever.retrieve("What?")
    with traced.tracer.start_as_current_span("VectorizeRetriever.aretrieve"):
        asyncio.run(retriever.aretrieve("What?"))
    known = {
        "gen_ai.provider.name": "vectorize.io",
        "gen_ai.data_source.id": "aip-1",
        "gen_ai.retrieval.top_k": 7,
        "rage.documents": 3,
    }
    assert traced.attributes("VectorizeRetriever.retrieve") == [{**known, "rage.attempts": 2}]
    assert traced.attributes("VectorizeRetriever.aretrieve") == [{**known, "rage.attempts": 0, "rage.cached": True}]


def test_the_span_around_a_retrieval_is_told_of_a_fallback(scripted: Scripted, traced: Traced) -> None:
    """An answer that a fallback gave is marked as such."""
    scripted.status = 503
    pipeline = default_pipeline().with_policies(Retry(attempts=1), Degrade((EmptyAnswer(),)))
    with traced.tracer.start_as_current_span("VectorizeRetriever.retrieve"):
        assert scripted.retriever(resilience=pipeline).retrieve("What?") == []
    (told,) = traced.attributes("VectorizeRetriever.retrieve")
    assert told["rage.degraded"] == EmptyAnswer().name
    assert "rage.cached" not in told


def test_a_fallback_without_a_request_is_no_answer_of_a_cache(scripted: Scripted, traced: Traced) -> None:
    """While the circuit is open, nothing is sent."""
    scripted.status = 503
    retriever = scripted.retriever(resilience=Pipeline([Degrade((EmptyAnswer(),)), CircuitBreaker(in_a_row=1)]))
    for _ in range(2):
        with traced.tracer.start_as_current_span("VectorizeRetriever.retrieve"):
            assert retriever.retrieve("What?") == []
    told = traced.attributes("VectorizeRetriever.retrieve")[1]
    assert (told["rage.attempts"], told["rage.degraded"]) == (0, EmptyAnswer().name)
    assert "rage.cached" not in told


def test_an_interruption_is_no_failure_of_the_retrieval(scripted: Scripted, traced: Traced) -> None:
    """Ctrl-C goes its way, and the span is told nothing."""

    def interrupted(_: object) -> Any:
        raise KeyboardInterrupt

    scripted.respond = interrupted
    with traced.tracer.start_as_current_span("VectorizeRetriever.retrieve"), pytest.raises(KeyboardInterrupt):
        scripted.retriever().retrieve("What?")
    assert traced.attributes("VectorizeRetriever.retrieve") == [{}]


def test_the_span_around_a_failed_retrieval_is_told_the_requests_sent(scripted: Scripted, traced: Traced) -> None:
    """Provider, pipeline, top_k, attempts and the error's type, in blocking code and in asyncio."""
    scripted.status = 503
    retriever = scripted.retriever(similarity_top_k=7, resilience=Pipeline([Retry(attempts=2, base=0.001)]))
    with traced.tracer.start_as_current_span("VectorizeRetriever.retrieve"), pytest.raises(ServerError):
        retriever.retrieve("What?")
    with traced.tracer.start_as_current_span("VectorizeRetriever.aretrieve"), pytest.raises(ServerError):
        asyncio.run(retriever.aretrieve("What?"))
    for name in ("VectorizeRetriever.retrieve", "VectorizeRetriever.aretrieve"):
        assert traced.attributes(name) == [
            {
                "gen_ai.provider.name": "vectorize.io",
                "gen_ai.data_source.id": "aip-1",
                "gen_ai.retrieval.top_k": 7,
                "rage.attempts": 2,
                "error.type": "ServerError",
            }
        ]


def test_a_span_of_somebody_else_is_left_alone(scripted: Scripted, traced: Traced) -> None:
    """The application's own span around a retrieval gets no attributes of ours."""
    with traced.tracer.start_as_current_span("GET /ask"):
        scripted.retriever().retrieve("What?")
    assert traced.attributes("GET /ask") == [{}]


@pytest.mark.parametrize("name", sorted(set(enclosing.__all__) - {"CACHED", "enclosing_span", "span_told"}))
def test_both_kinds_of_span_name_a_fact_alike(name: str) -> None:
    """What is told to a framework's span has the names that our own spans use."""
    assert getattr(enclosing, name) == getattr(tracing, name)


_ASKED = """
    import asyncio, json, sys, types
    sys.modules.setdefault("llama_index.llms", types.ModuleType("llama_index.llms"))  # one of them needs the name
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from {module} import LlamaIndexInstrumentor
    from rage_retrievers.llama_index import VectorizeRetriever
    from rage_retrievers.testing import FaultServer, answer

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    LlamaIndexInstrumentor().instrument(tracer_provider=provider)
    with FaultServer(answer(documents=2)) as server:
        retriever = VectorizeRetriever(
            "planted-token", base_url=server.url, organization="o", pipeline_id="p", similarity_top_k=7
        )
        nodes = retriever.retrieve("What?")
        asyncio.run(retriever.aretrieve("What?"))
    spans = [dict(span.attributes) for span in exporter.get_finished_spans()]
    print(json.dumps([[[node.node_id, node.score] for node in nodes], spans]))
"""


@pytest.mark.parametrize(
    "module", ["openinference.instrumentation.llama_index", "opentelemetry.instrumentation.llamaindex"]
)
def test_instrumentations_show_id_score_and_top_k(module: str) -> None:
    """OpenInference's and OpenTelemetry's, in both worlds, on one span, without a warning and without the token."""
    (nodes, spans), said = seen(module, _ASKED.format(module=module))
    assert "Unhandled event" not in said
    told = [span for span in spans if span.get("gen_ai.retrieval.top_k") == 7]
    assert len(told) == 2
    for span in told:
        for node_id, score in nodes:
            assert node_id in str(span)
            assert str(score) in str(span)
