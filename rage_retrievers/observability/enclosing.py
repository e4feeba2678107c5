"""What the span around a retrieval is told, where a framework's own OpenTelemetry instrumentation has opened one.

Such an instrumentation knows questions and passages, but nothing of how they came about. Nothing here loads
OpenTelemetry: where the application has not, no span is open.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from opentelemetry.trace import Span

__all__ = [
    "ATTEMPTS",
    "CACHED",
    "DATA_SOURCE",
    "DEGRADED",
    "DOCUMENT_COUNT",
    "ERROR_TYPE",
    "PROVIDER",
    "PROVIDER_NAME",
    "STALE",
    "TOP_K",
    "enclosing_span",
    "span_told",
]

# As `tracing` has them, which cannot be imported without OpenTelemetry; a test holds them together.
PROVIDER_NAME: Final = "gen_ai.provider.name"
DATA_SOURCE: Final = "gen_ai.data_source.id"
TOP_K: Final = "gen_ai.retrieval.top_k"
ATTEMPTS: Final = "rage.attempts"
DOCUMENT_COUNT: Final = "rage.documents"
STALE: Final = "rage.stale"
DEGRADED: Final = "rage.degraded"
CACHED: Final = "rage.cached"
ERROR_TYPE: Final = "error.type"

PROVIDER: Final = "vectorize.io"


def enclosing_span(owner: str) -> Span | None:
    """The current span, if it records and was opened for a class of this name."""
    if "opentelemetry.trace" not in sys.modules:
        return None
    from opentelemetry.trace import get_current_span

    span = get_current_span()
    return span if span.is_recording() and str(getattr(span, "name", "")).startswith(f"{owner}.") else None


@contextmanager
def span_told(span: Span, facts: Mapping[str, str | int | bool]) -> Iterator[None]:
    """Put the facts on the span.

    What is done inside is not instrumented: OpenInference warns of each event that it does not know.
    """
    from opentelemetry import context

    span.set_attributes(facts)
    token = context.attach(context.set_value(context._SUPPRESS_INSTRUMENTATION_KEY, True))
    try:
        yield
    finally:
        context.detach(token)
