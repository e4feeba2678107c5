"""What happens inside a call, told as typed events to whoever listens.

A listener is any object with `on_event(event)`. Nobody listening costs nothing; a listener that raises never breaks a
call: its error is logged under `rage_retrievers` and the call goes on. `EventLog`, `Audit`, `Metrics` and `Tracing` are
listeners; each is imported when it is first asked for.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from .correlation import correlation, correlation_id
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
    Hedged,
    Listener,
    Rejected,
    RetryScheduled,
)

if TYPE_CHECKING:
    from .audit import Audit
    from .logs import EventLog, configure_logging
    from .metrics import Metrics
    from .redaction import Redactor
    from .secrets import register_secret
    from .tracing import Tracing

__all__ = [
    "AttemptFailed",
    "AttemptStarted",
    "AttemptSucceeded",
    "Audit",
    "CacheHit",
    "CallCompleted",
    "CallStarted",
    "CircuitChanged",
    "Degraded",
    "Event",
    "EventLog",
    "Hedged",
    "Listener",
    "Metrics",
    "Redactor",
    "Rejected",
    "RetryScheduled",
    "Tracing",
    "configure_logging",
    "correlation",
    "correlation_id",
    "register_secret",
]

_LAZY = {
    "Audit": "audit",
    "EventLog": "logs",
    "Metrics": "metrics",
    "Redactor": "redaction",
    "Tracing": "tracing",
    "configure_logging": "logs",
    "register_secret": "secrets",
}

logging.getLogger("rage_retrievers").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value
