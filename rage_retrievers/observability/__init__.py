"""What happens inside a call, told as typed events to whoever listens.

A listener is any object with `on_event(event)`. Nobody listening costs nothing; a listener that raises never breaks a
call: its error is logged under `rage_retrievers` and the call goes on.
"""

from __future__ import annotations

from .events import (
    AttemptFailed,
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

__all__ = [
    "AttemptFailed",
    "CacheHit",
    "CallCompleted",
    "CallStarted",
    "CircuitChanged",
    "Degraded",
    "Event",
    "Hedged",
    "Listener",
    "Rejected",
    "RetryScheduled",
]
