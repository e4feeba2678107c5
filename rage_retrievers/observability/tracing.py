"""Traces through the OpenTelemetry API (extra `otel`): a `retrieval` span a call, an HTTP client span a request.

Names follow OpenTelemetry's GenAI and HTTP conventions. Nothing is computed for a span that does not record. No span
is made where instrumentation is suppressed, nor inside a retrieval span that a framework's instrumentation has opened;
HTTP libraries' own instrumentations make none inside ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import Token
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from ..errors import ConfigurationError
from ..models import Retrieval, Target
from .correlation import correlation_id, framework_span
from .events import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    CacheHit,
    CallCompleted,
    CallStarted,
    CircuitChanged,
    Degraded,
    Event,
    Headers,
    Hedged,
    Rejected,
    RetryScheduled,
)
from .redaction import DEFAULT_REDACTOR, Redactor, check_redactor

try:
    from opentelemetry.context import (
        _SUPPRESS_HTTP_INSTRUMENTATION_KEY,
        _SUPPRESS_INSTRUMENTATION_KEY,
        Context,
        attach,
        detach,
        get_current,
        set_value,
    )
    from opentelemetry.trace import (
        DEFAULT_TRACE_STATE,
        INVALID_SPAN,
        Span,
        SpanKind,
        Status,
        StatusCode,
        Tracer,
        TracerProvider,
        get_current_span,
        get_tracer,
        set_span_in_context,
    )
except ImportError:
    raise ConfigurationError("Tracing needs the extra: pip install 'rage-retrievers[otel]'.") from None

OPERATION: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
DATA_SOURCE: Final = "gen_ai.data_source.id"
TOP_K: Final = "gen_ai.retrieval.top_k"
QUESTION: Final = "gen_ai.retrieval.query.text"
DOCUMENTS: Final = "gen_ai.retrieval.documents"
ERROR_TYPE: Final = "error.type"
ADDRESS: Final = "server.address"
PORT: Final = "server.port"
METHOD: Final = "http.request.method"
RESEND_COUNT: Final = "http.request.resend_count"
STATUS_CODE: Final = "http.response.status_code"
URL: Final = "url.full"
RERANK: Final = "rage.rerank"
ATTEMPTS: Final = "rage.attempts"
DOCUMENT_COUNT: Final = "rage.documents"
CORRELATION: Final = "rage.correlation_id"
STALE: Final = "rage.stale"
DEGRADED: Final = "rage.degraded"

PROVIDER = "vectorize.io"
_MOST_OPEN = 10_000
# The key that the GenAI instrumentations of the OpenTelemetry world agree on; it is not in the API.
_SUPPRESS_LANGUAGE_MODEL = "suppress_language_model_instrumentation"


@dataclass(slots=True)
class _Open:
    """A call under way: its span, or the one around it, and the spans of its requests."""

    span: Span
    context: Context
    owned: bool
    attempts: dict[int, Span]


@dataclass(slots=True)
class Tracing:
    """Tells a tracer of every call and every request.

    `documents=True` adds ids and scores of the documents, `question=True` the redacted question. `http_spans=False`
    leaves the requests to an instrumentation of the HTTP library.
    """

    provider: TracerProvider | None = None
    documents: bool = False
    question: bool = False
    http_spans: bool = True
    redactor: Redactor = DEFAULT_REDACTOR
    _tracer: Tracer = field(init=False, repr=False)
    _open: dict[str, _Open] = field(default_factory=dict, init=False, repr=False)
    _known: dict[tuple[Any, ...], tuple[str, dict[str, Any]]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not (self.provider is None or hasattr(self.provider, "get_tracer")):
            raise ConfigurationError(
                f"Tracing's provider cannot be of type {type(self.provider).__name__}; give an OpenTelemetry "
                "TracerProvider, or nothing for the application's own."
            )
        check_redactor("Tracing", self.redactor)
        self._tracer = get_tracer("rage_retrievers", tracer_provider=self.provider)

    def on_event(self, event: Event, /) -> None:
        """Open, tell or close the span that the event is about."""
        kind = type(event)
        if kind is CallStarted:
            self._start(event)  # type: ignore[arg-type]  # the line above says so
            return
        call = self._open.get(event.call_id)
        if call is not None:
            _DEEDS.get(kind, Tracing._mark)(self, call, event)

    def _mark(self, call: _Open, event: Event) -> None:
        """Keep what a policy did on the span of the call."""
        if call.span.is_recording():
            call.span.add_event(event.name, point(event))

    def _start(self, event: CallStarted) -> None:
        context = get_current()
        if context.get(_SUPPRESS_INSTRUMENTATION_KEY):
            return
        around = _retrieval_around(context) if event.query is not None else None
        if around is None and context.get(_SUPPRESS_LANGUAGE_MODEL):
            return
        name, place = self._place(event.operation, event.target)
        attributes, query = {**place, CORRELATION: correlation_id.get() or event.call_id}, event.query
        if query is not None:
            attributes[TOP_K], attributes[RERANK] = query.num_results, query.rerank
        if around is None:
            span = self._tracer.start_span(name, context, SpanKind.CLIENT, attributes)
        else:
            span = around
            del attributes[OPERATION]  # what a framework calls the operation is its own affair
            if span.is_recording():
                span.set_attributes(attributes)
        if self.question and query is not None and span.is_recording():
            span.set_attribute(QUESTION, self.redactor.text(query.question))
        if len(self._open) >= _MOST_OPEN:
            self._abandon_oldest()
        self._open[event.call_id] = _Open(span, set_span_in_context(span, context), around is None, {})

    def _abandon_oldest(self) -> None:
        """Calls abandoned without an end must not pile up."""
        oldest = self._open.pop(next(iter(self._open)))
        if oldest.owned:
            oldest.span.end()

    def _place(self, operation: str, target: Target) -> tuple[str, dict[str, Any]]:
        """The name of a call's span and what a sampler may know of it; worked out once, redacted."""
        key = (operation, target, self.redactor.secrets.version)
        known = self._known.get(key)
        if known is None:
            shown = "retrieval" if operation == "retrieve" else operation
            source = self.redactor.identifier(target.pipeline_id)
            attributes = {OPERATION: shown, PROVIDER_NAME: PROVIDER, DATA_SOURCE: source, **_server(target.base_url)}
            known = self._remember(key, (f"{shown} {source}", attributes))
        return known

    def _request(self, event: AttemptStarted) -> tuple[str, dict[str, Any]]:
        """The name and the attributes of a request's span; worked out once, redacted."""
        key = (event.method, event.url or event.target.base_url, self.redactor.secrets.version)
        known = self._known.get(key)
        if known is None:
            method, url, _ = key
            shown = self.redactor.identifier(url.partition("?")[0])
            known = self._remember(key, (method, {METHOD: method, URL: shown, **_server(url)}))
        return known

    def _remember(self, key: tuple[Any, ...], value: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        if len(self._known) >= _MOST_OPEN:
            self._known.clear()
        self._known[key] = value
        return value

    def _start_attempt(self, call: _Open, event: AttemptStarted) -> None:
        if not self.http_spans or not call.span.is_recording() or call.context.get(_SUPPRESS_HTTP_INSTRUMENTATION_KEY):
            return
        method, attributes = self._request(event)
        if event.attempt > 1:
            attributes = {**attributes, RESEND_COUNT: event.attempt - 1}
        call.attempts[event.attempt] = self._tracer.start_span(method, call.context, SpanKind.CLIENT, attributes)

    def _end_attempt(self, call: _Open, event: AttemptSucceeded | AttemptFailed) -> None:
        span = call.attempts.pop(event.attempt, None)
        if span is None:
            return
        if isinstance(event, AttemptSucceeded):
            span.set_attribute(STATUS_CODE, event.status)
        else:
            status = getattr(event.error, "status", None)
            if status is not None:
                span.set_attribute(STATUS_CODE, status)
            self._fail(span, event.error, str(status) if status is not None else None)
        span.end()

    def _fail(self, span: Span, error: BaseException, kind: str | None = None) -> None:
        span.set_attribute(ERROR_TYPE, kind or type(error).__name__)
        span.set_status(Status(StatusCode.ERROR, self.redactor.text(str(error))))

    def _end(self, call: _Open, event: CallCompleted) -> None:
        self._open.pop(event.call_id, None)
        for attempt in call.attempts.values():  # cancelled, or the loser of a hedge
            attempt.set_attribute(ERROR_TYPE, "cancelled")
            attempt.end()
        span = call.span
        if span.is_recording():
            # One by one: a mapping of them costs as much as three before the first.
            span.set_attribute(ATTEMPTS, event.attempts)
            if event.retrieval is not None:
                self._found(span, event.retrieval)
            if call.owned and event.error is not None:
                self._fail(span, event.error)
        if call.owned:
            span.end()

    def _found(self, span: Span, retrieval: Retrieval) -> None:
        span.set_attribute(DOCUMENT_COUNT, len(retrieval.documents))
        ordered_by, _, _, stale, degraded = retrieval.facts
        if stale:
            span.set_attribute(STALE, True)
        if degraded is not None:
            span.set_attribute(DEGRADED, degraded)
        if self.documents:
            ids = self.redactor.identifiers(document.id or "" for document in retrieval.documents)
            scores = (document.score(ordered_by) for document in retrieval.documents)
            documents = [{"id": name, "score": score} for name, score in zip(ids, scores, strict=True)]
            span.set_attribute(DOCUMENTS, json.dumps(documents))

    def sending(self, event: AttemptStarted) -> AbstractContextManager[Headers]:
        """While a request is under way its span is the current one; gives the W3C trace context as headers."""
        call = self._open.get(event.call_id)
        if call is None:
            return nullcontext(())
        span = call.attempts.get(event.attempt) if call.attempts else None
        if span is None:
            return _Current(call.context, call.span)
        context = set_value(_SUPPRESS_HTTP_INSTRUMENTATION_KEY, True, set_span_in_context(span, call.context))
        return _Current(context, span)


_DEEDS: Final[Mapping[type[Event], Callable[[Tracing, _Open, Any], None]]] = {
    AttemptStarted: Tracing._start_attempt,
    AttemptSucceeded: Tracing._end_attempt,
    AttemptFailed: Tracing._end_attempt,
    CallCompleted: Tracing._end,
}


class _Current:
    """Makes a context the current one; its value is the context of the span in it as headers."""

    __slots__ = ("_context", "_span", "_token")

    def __init__(self, context: Context, span: Span) -> None:
        self._context = context
        self._span = span
        self._token: Token[Context] | None = None

    def __enter__(self) -> Headers:
        self._token = attach(self._context)
        return trace_headers(self._span)

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            detach(self._token)


def trace_headers(span: Span) -> Headers:
    """`traceparent` and `tracestate` of a span; baggage stays here, as it belongs to the application.

    Written here, because the API's propagator takes three times as long for the same two headers.
    """
    trace_id, span_id, _, flags, state, is_valid = span.get_span_context()
    if not is_valid:
        return ()
    # Through bytes and a table: `:032x` alone takes longer than all of this.
    ids = f"{trace_id.to_bytes(16, 'big').hex()}-{span_id.to_bytes(8, 'big').hex()}"
    parent = ("traceparent", f"00-{ids}-{_FLAGS[flags & 0xFF]}")
    if state is DEFAULT_TRACE_STATE or not state:
        return (parent,)
    return (parent, ("tracestate", state.to_header()))


_FLAGS = tuple(f"{flags:02x}" for flags in range(256))


def _retrieval_around(context: Context) -> Span | None:
    """The span that a framework's instrumentation has opened for this retrieval, if there is one."""
    given = framework_span.get()
    if given is not None and isinstance(given, Span):
        return given
    current = get_current_span(context) if context else INVALID_SPAN
    return current if current is not INVALID_SPAN and _is_retrieval(current) else None


_OPERATIONS = ("retrieval", "vector_db_retrieve")
_LLAMA_INDEX = ("openinference.instrumentation.llama_index", "opentelemetry.instrumentation.llamaindex")
_RETRIEVER_RUN = re.compile(r"\._?a?retrieve$|Retriever\.(?:task|workflow)$").search


def _is_retrieval(span: Span) -> bool:
    """Whether the span stands for a retrieval, by the marks that the frameworks' instrumentations leave.

    Those of LlamaIndex set their marks at the end, so while it lasts the span is known by its maker and its name.
    """
    attributes = getattr(span, "attributes", None) or {}
    if attributes.get(OPERATION) in _OPERATIONS or attributes.get("openinference.span.kind") == "RETRIEVER":
        return True
    maker = getattr(getattr(span, "instrumentation_scope", None), "name", "")
    return maker in _LLAMA_INDEX and _RETRIEVER_RUN(getattr(span, "name", "")) is not None


@lru_cache(maxsize=1_024)
def _server(url: str) -> Mapping[str, Any]:
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return {}
    found: dict[str, Any] = {}
    if parts.hostname:
        found[ADDRESS] = parts.hostname
    if port is not None:
        found[PORT] = port
    return found


def point(event: Event) -> dict[str, Any]:
    """What the call's span keeps of a policy's event."""
    match event:
        case RetryScheduled():
            return {"attempt": event.attempt, "pause": event.pause, ERROR_TYPE: type(event.error).__name__}
        case CircuitChanged():
            return {"before": event.before, "after": event.after}
        case Rejected():
            return {"policy": event.policy, ERROR_TYPE: type(event.error).__name__}
        case Hedged():
            return {"delay": event.delay}
        case CacheHit():
            return {"age": event.age, "stale": event.stale}
        case Degraded():
            return {"fallback": event.fallback, ERROR_TYPE: type(event.error).__name__}
        case _:
            return {}
