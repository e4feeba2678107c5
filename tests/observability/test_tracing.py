"""Spans after OpenTelemetry's conventions: one for the call, one for each request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from rage_retrievers.errors import ConfigurationError, UnauthorizedError
from rage_retrievers.observability import AttemptStarted, Event, Tracing, correlation
from rage_retrievers.observability import tracing as module
from rage_retrievers.observability.events import sending
from rage_retrievers.observability.redaction import Redactor

from .conftest import ANSWER, TARGET, URL, Story


class Traced:
    """A tracer that keeps its spans."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(**options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def spans(self) -> Sequence[ReadableSpan]:
        """In the order in which they started."""
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)


@pytest.fixture
def traced() -> Traced:
    return Traced()


def test_a_call_is_a_retrieval_span_with_a_client_span_for_each_request(traced: Traced) -> None:
    """Names, kinds, parents and every attribute, pinned: dashboards are built on them."""
    with correlation("request-7"):
        Story((Tracing(traced.provider),)).answered_at_second()
    call, first, second = traced.spans()
    assert (call.name, call.kind) == ("retrieval aip-1", SpanKind.CLIENT)
    assert dict(call.attributes or {}) == {
        "gen_ai.operation.name": "retrieval",
        "gen_ai.provider.name": "vectorize.io",
        "gen_ai.data_source.id": "aip-1",
        "gen_ai.retrieval.top_k": 3,
        "server.address": "api.vectorize.io",
        "server.port": 443,
        "rage.correlation_id": "request-7",
        "rage.rerank": False,
        "rage.attempts": 2,
        "rage.documents": 2,
    }
    assert [event.name for event in call.events] == ["circuit.changed", "retry.scheduled"]
    assert call.context is not None
    for request in (first, second):
        assert (request.name, request.kind) == ("POST", SpanKind.CLIENT)
        assert request.parent is not None
        assert request.parent.span_id == call.context.span_id
    assert dict(first.attributes or {}) == {
        "http.request.method": "POST",
        "url.full": URL,
        "server.address": "api.vectorize.io",
        "server.port": 443,
        "http.response.status_code": 503,
        "error.type": "503",
    }
    assert first.status.status_code is StatusCode.ERROR
    assert dict(second.attributes or {}) == {
        "http.request.method": "POST",
        "url.full": URL,
        "server.address": "api.vectorize.io",
        "server.port": 443,
        "http.request.resend_count": 1,
        "http.response.status_code": 200,
    }


def test_question_and_documents_are_told_when_asked_for(traced: Traced) -> None:
    """The question redacted; ids and the scores that ordered the list; never a passage."""
    Story((Tracing(traced.provider, documents=True, question=True),)).end()
    Story((Tracing(traced.provider, documents=True, question=True),)).answered()
    attributes = traced.spans()[0].attributes or {}
    assert attributes["gen_ai.retrieval.query.text"] == "Who is [email]?"
    documents = json.loads(str(attributes["gen_ai.retrieval.documents"]))
    assert documents == [{"id": "doc-1", "score": 0.9}, {"id": "doc-2", "score": 0.8}]
    assert "programs" not in str(attributes)


def test_a_failed_call_has_status_and_type_without_the_services_secrets(traced: Traced) -> None:
    """`error.type` is the class for the call and the status for the request; the words are redacted."""
    error = UnauthorizedError("HTTP 401: Bearer abc123def456 of ada@example.org", status=401)
    Story((Tracing(traced.provider),)).failed(error)
    call, request = traced.spans()
    assert (call.attributes or {})["error.type"] == "UnauthorizedError"
    assert (call.attributes or {})["rage.attempts"] == 1
    assert (request.attributes or {})["error.type"] == "401"
    assert call.status.description == "HTTP 401: Bearer [redacted] of [email]"
    assert not [event for span in (call, request) for event in span.events if event.name == "exception"]


def test_a_cancelled_call_ends_its_spans(traced: Traced) -> None:
    """Nothing is left open: not the call's span, nor that of the request that was cut off."""
    tracing = Tracing(traced.provider)
    story = Story((tracing,))
    story.start()
    story.tell(AttemptStarted("call-1", TARGET, 1, "POST", URL))
    story.end(error=asyncio.CancelledError())
    call, request = traced.spans()
    assert (request.attributes or {})["error.type"] == "cancelled"
    assert (call.attributes or {})["error.type"] == "CancelledError"
    assert not tracing._open


def test_the_trace_context_goes_with_each_request(traced: Traced) -> None:
    """`traceparent` names the span of that very request; the application's baggage does not leave."""
    from opentelemetry import baggage

    token = otel_context.attach(baggage.set_baggage("customer", "ada"))
    story = Story((Tracing(traced.provider),))
    story.start()
    headers = [dict(story.attempt(number)) for number in (1, 2)]
    story.end()
    otel_context.detach(token)
    spans = {span.context.span_id: span for span in traced.spans() if span.context is not None}
    for header in headers:
        version, trace_id, span_id, flags = header["traceparent"].split("-")
        assert (version, int(flags, 16) & 1) == ("00", 1)
        span = spans[int(span_id, 16)]
        assert span.name == "POST"
        assert span.context is not None
        assert span.context.trace_id == int(trace_id, 16)
    assert [set(header) for header in headers] == [{"traceparent"}] * 2


@pytest.mark.parametrize(
    "context",
    [
        SpanContext(1, 2, is_remote=False),
        SpanContext(2**128 - 1, 2**64 - 1, is_remote=True, trace_flags=TraceFlags(3)),
        SpanContext(1, 2, is_remote=True, trace_state=TraceState([("vendor", "a"), ("other", "b")])),
        SpanContext(1, 2, is_remote=True, trace_state=TraceState()),
        SpanContext(0, 0, is_remote=False),
    ],
    ids=["not sampled", "sampled, random", "with a state", "with an empty state", "invalid"],
)
def test_the_headers_are_those_of_the_apis_propagator(context: SpanContext) -> None:
    """They are written here for speed alone."""
    span, carrier = NonRecordingSpan(context), dict[str, str]()
    TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(span, otel_context.Context()))
    assert dict(module.trace_headers(span)) == carrier


def test_spans_are_children_of_the_applications(traced: Traced) -> None:
    """The call joins the trace it is made in."""
    with traced.provider.get_tracer("app").start_as_current_span("chain") as chain:
        Story((Tracing(traced.provider),)).answered()
    call = next(span for span in traced.spans() if span.name == "retrieval aip-1")
    assert call.parent is not None
    assert call.parent.span_id == chain.get_span_context().span_id


def test_the_http_librarys_instrumentation_is_silent_inside_a_request(traced: Traced) -> None:
    """While a request is sent its span is current and HTTP instrumentation is suppressed; then all is as before."""
    tracing = Tracing(traced.provider)
    story = Story((tracing,))
    story.start()
    request = AttemptStarted("call-1", TARGET, 1, "POST", URL)
    story.tell(request)
    with sending((tracing,), request):
        assert trace.get_current_span() is tracing._open["call-1"].attempts[1]
        assert otel_context.get_value(otel_context._SUPPRESS_HTTP_INSTRUMENTATION_KEY)
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert not otel_context.get_value(otel_context._SUPPRESS_HTTP_INSTRUMENTATION_KEY)


def test_requests_can_be_left_to_the_http_librarys_instrumentation(traced: Traced) -> None:
    """`http_spans=False`: the call's span is current while sending, and nothing is suppressed."""
    tracing = Tracing(traced.provider, http_spans=False)
    story = Story((tracing,))
    story.start()
    request = AttemptStarted("call-1", TARGET, 1, "POST", URL)
    with sending((tracing,), request) as headers:
        assert trace.get_current_span() is tracing._open["call-1"].span
        assert not otel_context.get_value(otel_context._SUPPRESS_HTTP_INSTRUMENTATION_KEY)
        assert [name for name, _ in headers] == ["traceparent"]
    story.end()
    assert [span.name for span in traced.spans()] == ["retrieval aip-1"]


@pytest.mark.parametrize(
    "key",
    [otel_context._SUPPRESS_INSTRUMENTATION_KEY, "suppress_language_model_instrumentation"],
    ids=["all", "of language models"],  # the first key is another one in each process
)
def test_no_span_where_instrumentation_is_suppressed(traced: Traced, key: str) -> None:
    """A framework that traces the call itself says so with these keys; then no header is added either."""
    token = otel_context.attach(otel_context.set_value(key, True))
    story = Story((Tracing(traced.provider),))
    story.start()
    assert story.attempt(1) == ()
    story.end()
    otel_context.detach(token)
    assert traced.spans() == []


@pytest.mark.parametrize(
    "mark",
    [
        {"gen_ai.operation.name": "retrieval"},
        {"gen_ai.operation.name": "vector_db_retrieve"},
        {"openinference.span.kind": "RETRIEVER"},
    ],
    ids=str,
)
def test_a_retrieval_span_of_a_framework_is_not_doubled(traced: Traced, mark: dict[str, str]) -> None:
    """Inside a framework's span for this very retrieval there is no second one; requests become its children."""
    with traced.provider.get_tracer("framework").start_as_current_span("retriever", attributes=mark) as around:
        Story((Tracing(traced.provider),)).answered()
        assert around.is_recording()
    outer, request = traced.spans()
    assert (outer.name, request.name) == ("retriever", "POST")
    assert request.parent is not None
    assert outer.context is not None
    assert request.parent.span_id == outer.context.span_id


def test_a_framework_s_span_that_has_ended_is_left_alone(traced: Traced, caplog: pytest.LogCaptureFixture) -> None:
    """As in work that outlives its run: nothing is set on it, and no one is warned of that."""
    with traced.provider.get_tracer("framework").start_as_current_span(
        "retriever", attributes={"gen_ai.operation.name": "retrieval"}
    ) as around:
        around.end()
        Story((Tracing(traced.provider),)).answered()
    assert [(span.name, len(span.attributes or {})) for span in traced.spans()] == [("retriever", 1)]
    assert not [record for record in caplog.records if "Setting attribute" in record.getMessage()]


def test_nothing_is_computed_for_a_span_that_does_not_record() -> None:
    """Sampled out: no request span, no redaction, no documents; the decision not to sample still goes along."""

    class Counting(Redactor):
        calls = 0

        def text(self, text: str) -> str:
            Counting.calls += 1
            return super().text(text)

        def identifiers(self, texts: Any) -> list[str]:
            Counting.calls += 1
            return super().identifiers(texts)

    traced = Traced(sampler=ALWAYS_OFF)
    story = Story((Tracing(traced.provider, documents=True, question=True, redactor=Counting()),))
    story.start()
    headers = dict(story.attempt(1))
    story.attempt(2, UnauthorizedError("no", status=401))
    story.end(ANSWER)
    assert int(headers["traceparent"][-2:], 16) & 1 == 0
    assert Counting.calls == 0
    assert traced.spans() == []


def test_calls_that_never_end_do_not_pile_up(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans of calls whose flow was abandoned are ended when too many are open."""
    monkeypatch.setattr(module, "_MOST_OPEN", 3)
    tracing = Tracing(traced.provider)
    for number in range(5):
        Story((tracing,), call_id=f"call-{number}").start()
    assert list(tracing._open) == ["call-2", "call-3", "call-4"]
    assert len(traced.spans()) == 2


def test_an_unknown_event_is_kept_by_its_name(traced: Traced) -> None:
    """Events of the user's own land on the span of their call."""

    class Mine(Event):
        name = "mine"

    story = Story((Tracing(traced.provider),))
    story.start()
    story.tell(Mine("call-1", TARGET))
    story.end()
    assert [event.name for event in traced.spans()[0].events] == ["mine"]


@pytest.mark.parametrize("provider", [5, "http://collector:4318", trace.get_tracer("mine")])
def test_what_makes_no_tracers_is_refused_when_tracing_is_made(provider: Any) -> None:
    """An exporter's address or a tracer in the place of the provider: one line says what to give."""
    with pytest.raises(ConfigurationError, match="give an OpenTelemetry TracerProvider, or nothing") as refused:
        Tracing(provider)
    assert type(provider).__name__ in str(refused.value)
    assert "\n" not in str(refused.value)
