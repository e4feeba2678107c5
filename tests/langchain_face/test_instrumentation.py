"""What the OpenTelemetry instrumentations of LangChain show of a retrieval: id, score, top_k, and how it came about."""

from __future__ import annotations

from typing import Any

import pytest
from instrumented import seen

MODULES = ("openinference.instrumentation.langchain", "opentelemetry.instrumentation.langchain")

_ASKED = """
    import asyncio, importlib, json
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from rage_retrievers.langchain import VectorizeRetriever
    from rage_retrievers.observability import Tracing
    from rage_retrievers.testing import FaultServer, answer, fail_then, status

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    found = vars(importlib.import_module("{module}"))
    (instrumentor,) = (one for name, one in found.items() if name in ("LangChainInstrumentor", "LangchainInstrumentor"))
    instrumentor().instrument(tracer_provider=provider)
    with FaultServer(fail_then(1, status(503), answer(documents=2))) as server:
        retriever = VectorizeRetriever(
            api_key="planted-token", base_url=server.url, organization="o", pipeline_id="p", k=7,
            listeners={listeners},
        )
        documents = (retriever | (lambda found: found)).invoke("What?")
        asyncio.run(retriever.ainvoke("What?"))
        retriever.batch(["What?", "Why?"])
    spans = [
        [span.name, span.context.span_id, span.parent and span.parent.span_id, dict(span.attributes)]
        for span in exporter.get_finished_spans()
    ]
    print(json.dumps([[[one.id, one.metadata["score"]] for one in documents], spans]))
"""


def of_retrievals(spans: list[Any]) -> list[Any]:
    """Those that stand for a retrieval, whoever made them."""
    return [span for span in spans if "VectorizeRetriever" in span[0] or span[0].startswith("retrieval ")]


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("listeners", ["[]", "[Tracing(provider)]"], ids=["alone", "with Tracing"])
def test_instrumentations_show_id_and_score(module: str, listeners: str) -> None:
    """Of each document, in both worlds and in a batch; one span a retrieval, and no token in any."""
    (documents, spans), _ = seen(module, _ASKED.format(module=module, listeners=listeners))
    retrievals = of_retrievals(spans)
    assert len(retrievals) == 4
    assert len(documents) == 2
    for _, _, _, attributes in retrievals:
        for document_id, score in documents:
            assert document_id in str(attributes)
            assert f'"score": {score}' in str(attributes)


@pytest.mark.parametrize("module", MODULES)
def test_tracing_tells_their_span_how_the_answer_came_about(module: str) -> None:
    """With Tracing, provider, pipeline, top_k and attempts are on it, and the requests are its children."""
    (_, spans), _ = seen(module, _ASKED.format(module=module, listeners="[Tracing(provider)]"))
    retrievals = of_retrievals(spans)
    for _, _, _, attributes in retrievals:
        assert attributes["gen_ai.provider.name"] == "vectorize.io"
        assert attributes["gen_ai.data_source.id"] == "p"
        assert attributes["gen_ai.retrieval.top_k"] == 7
        assert attributes["rage.documents"] == 2
    by_id = {span[1]: span for span in retrievals}
    requests = [by_id[span[2]][1] for span in spans if span[0] == "POST"]
    assert sorted(span[3]["rage.attempts"] for span in retrievals) == [1, 1, 1, 2]
    assert [requests.count(one) for one in by_id] == [span[3]["rage.attempts"] for span in by_id.values()]
