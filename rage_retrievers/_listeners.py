"""The listeners that the settings ask for."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from .observability.events import Listener
from .observability.secrets import register_secret

if TYPE_CHECKING:
    from .observability.audit import Audit
    from .observability.metrics import Metrics
    from .settings import VectorizeSettings


def listeners_of(settings: VectorizeSettings) -> tuple[Listener, ...]:
    """A log where a level or `debug` was set, the process's metrics, an audit trail, spans; each only where wanted."""
    chosen: list[Listener] = []
    if settings.debug or settings.log_texts or "log_level" in settings.model_fields_set:
        from .observability.logs import EventLog

        level = "DEBUG" if settings.debug else settings.log_level
        chosen.append(EventLog(level=level, show_texts=settings.log_texts, max_text=settings.log_max_text))
    if settings.enable_metrics:
        metrics = process_metrics()
        metrics.max_pipelines = settings.metrics_max_pipelines
        chosen.append(metrics)
    if settings.enable_audit_log:
        chosen.append(_audit(settings))
    if settings.enable_tracing:
        from .observability.tracing import Tracing

        documents, question = settings.trace_documents, settings.trace_question
        chosen.append(Tracing(documents=documents, question=question, http_spans=settings.trace_requests))
    return tuple(chosen)


def _audit(settings: VectorizeSettings) -> Audit:
    from .observability.audit import Audit, to_file

    own: dict[str, Any] = {"required": settings.audit_required}
    if settings.audit_file is not None:
        own["sink"] = to_file(settings.audit_file)
    if settings.audit_key is not None:
        key = settings.audit_key.get_secret_value()
        register_secret(key)
        own["key"] = key.encode()
    return Audit(**own)


@cache
def process_metrics() -> Metrics:
    """The counts of every client of this process whose settings enable metrics."""
    from .observability.metrics import Metrics

    return Metrics()
