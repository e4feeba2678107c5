"""The listeners that the settings ask for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from .observability.events import Listener

if TYPE_CHECKING:
    from .observability.metrics import Metrics
    from .settings import VectorizeSettings


def listeners_of(settings: VectorizeSettings) -> tuple[Listener, ...]:
    """A log where a level or `debug` was set, the process's metrics, an audit trail; each only where it is wanted."""
    chosen: list[Listener] = []
    if settings.debug or "log_level" in settings.model_fields_set:
        from .observability.logs import EventLog

        chosen.append(EventLog())
    if settings.enable_metrics:
        chosen.append(process_metrics())
    if settings.enable_audit_log:
        from .observability.audit import Audit

        chosen.append(Audit(who=_who))
    return tuple(chosen)


@cache
def process_metrics() -> Metrics:
    """The counts of every client of this process whose settings enable metrics."""
    from .observability.metrics import Metrics

    return Metrics()


def _who() -> Mapping[str, object]:
    """The labels of the scope of the call: user, tenant, whatever the application says."""
    from .scope import current_scope

    return current_scope().labels
